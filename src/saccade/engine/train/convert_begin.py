"""From what somebody asks of `saccade sparsify` to a plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from saccade.engine.train.begin import free_folder
from saccade.engine.train.convert import ConvertPlan, adopt_split, load_plan
from saccade.engine.train.recipe import build_recipe, check_unchanged, read_recipe
from saccade.errors import ConfigError
from saccade.files import within
from saccade.settings import make


@dataclass
class SparseOptions:
    """How a transformer is made sparse; what is unset follows from the network (`saccade.sparsify`)."""

    tokens: int = 16
    """Semantic tokens, a square number; for a Swin, of each window."""
    recover: bool | None = None
    """Give image tokens back after each group of blocks (STViT-R), for dense tasks."""
    head: Literal["keep", "mean"] | None = None
    """keep the class token and classifier, or mean over tokens with a classifier that has to learn that."""
    pooling: str | None = None
    """How centres are made: max, window or offset."""
    image_blocks: int | None = None
    """Blocks before semantic tokens are made."""
    stgm_blocks: int | None = None
    """Blocks that make them."""
    units: int | None = None
    """With `recover`: groups of blocks, each with its own semantic tokens."""


@dataclass
class PlanOptions:
    """What a conversion needs beside the recipe of its fine-tuning."""

    teacher: str = "self"
    """self (the unmodified base), none, or a run folder, weights file or model name."""
    base_epochs: Annotated[int, within(1)] | None = None
    """Passes for the base, when it has to be fine-tuned first."""
    recipe: str = ""
    """Shipped recipe; sparsify_small when left out."""
    config: str = ""
    """Recipe file (YAML), over the shipped recipe."""
    seconds: Annotated[float, within(0)] = 5.0
    """For each of latency and throughput."""


OPTIONS = tuple(field.name for kind in (SparseOptions, PlanOptions) for field in fields(kind))
"""Names of both."""


def plan_conversion(
    base: str | None,
    given: Mapping[str, Any],
    flags: Mapping[str, Any],
    *,
    weights: str = "",
    resume: Path | None = None,
    out: Path | None = None,
    log: Callable[[str], None],
) -> tuple[ConvertPlan, Path, PlanOptions]:
    """Resolve a conversion.

    Args:
        base: timm name, run folder or weights file.
        given: Fields of `SparseOptions` and `PlanOptions`, as text or values.
        flags: Settings of the fine-tuning's recipe by dotted name.
        weights: Weights file for a base given by name.
        resume: Folder of a conversion to go on with.
        out: Folder to make.
        log: Takes lines for the user.

    Returns:
        The plan, its folder, and what was given.

    Raises:
        ConfigError: Settings that cannot be right, or that change what a resumed conversion learns.
    """
    names = {field.name for field in fields(SparseOptions)}
    how = make(PlanOptions, {name: value for name, value in given.items() if name not in names}, "")
    if resume is not None:
        if base or weights or how.recipe or how.config or out:
            raise ConfigError(
                "--resume goes on with a conversion as it was begun; leave out the base, --weights, --recipe, "
                "--config and --out"
            )
        plan = load_plan(resume)
        plan.recipe = check_unchanged(plan.recipe, flags, resume)
        return plan, resume, how
    if not base:
        raise ConfigError("nothing to convert; name a ViT or Swin of timm, a run folder or a weights file")
    sparse = make(SparseOptions, {name: value for name, value in given.items() if name in names}, "")
    options = {name: value for name in names if (value := getattr(sparse, name)) is not None}
    data = str(flags.get("data.source") or "")
    built, chosen = build_recipe(
        how.recipe or ("" if how.config else "sparsify_small"),
        how.config,
        builtin_settings(data, how.recipe) | dict(flags),
    )
    ordered = {field.name: options[field.name] for field in fields(SparseOptions) if field.name in options}
    plan = ConvertPlan(base, weights, ordered, how.teacher, how.base_epochs, built)
    if data:
        for line in adopt_split(plan, chosen & flags.keys()):
            log(line)
    return plan, out or free_folder(data or "converted", f"stvit-{Path(base).name}"), how


def builtin_settings(data: str, recipe: str) -> dict[str, Any]:
    """Return what built-in data needs that photographs do not: the whole picture; digits are not mirrored."""
    name = data.removeprefix("builtin:")
    if recipe or name not in ("digits", "shapes"):
        return {}
    found: dict[str, Any] = {"model.preprocess": {"crop_pct": 1.0}, "data.workers": 0}
    if name == "digits":
        return found | {f"augment.{key}": value for key, value in read_recipe("digits")["augment"].items()}
    return found | {"augment.scale": (1.0, 1.0), "augment.ratio": (1.0, 1.0), "augment.vflip": 0.5}
