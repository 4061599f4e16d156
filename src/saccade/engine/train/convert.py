"""Convert a vision transformer to its STViT form, fine-tune it, and say what that cost and gained.

The steps, each left in the run folder so that a stopped run goes on where it was:

    base/                    when the base does not know these classes: it is fine-tuned first, same recipe
    start.safetensors        when the base came by name with a weights file, these, from which it is fine-tuned
    base.safetensors         a base that came by name, so that the teacher does not move
    converted.safetensors    the STViT form before any training
    recipe.yaml ...          the fine-tuning: an ordinary run folder, its weights are best.safetensors
    comparison.json, report.html, report.md

Chang et al., CVPR 2023, arXiv 2303.08685, train from scratch; converting trained weights is ours.
"""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from saccade.data.config import read_split, same_place
from saccade.data.opening import is_divided, open_pair
from saccade.engine.bench.cost import count_macs, count_params
from saccade.engine.train.log import Log
from saccade.engine.train.loop import Interrupted, train, train_held
from saccade.engine.train.recipe import (
    PLACES,
    Recipe,
    build_recipe,
    load_recipe,
    mark_places,
    unset_old_zeros,
)
from saccade.engine.train.setup import alone, build_accelerator, is_first_process
from saccade.errors import ConfigError, WeightsError
from saccade.files import convert as checked
from saccade.files import read_yaml, write_text
from saccade.nn.modules import Headed
from saccade.settings import leaves, to_plain
from saccade.tasks import get_task
from saccade.tasks.open import load_model
from saccade.trust import Stored, check_place
from saccade.weights import Card, Source, read_weights
from saccade.zoo.loading import save_weights
from saccade.zoo.registry import create_model, list_models
from saccade.zoo.sparse import sparsify

PLAN = "sparsify.yaml"
CONVERTED = "converted.safetensors"
START = "start.safetensors"
"""A base by name with the weights of a file, which is fine-tuned first."""
BASE = "base.safetensors"
UNTRAINED = "its classifier is not trained"
"""`Card.origin` of a base that has no accuracy on the data."""


@dataclass
class ConvertPlan:
    """All that a conversion run was asked for; `sparsify.yaml` in its folder."""

    base: str
    """timm name (with or without `timm/`), run folder or weights file."""
    weights: str = ""
    """Weights file for a base given by name; empty: the published ones."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further arguments of `saccade.sparsify`."""
    teacher: str = "self"
    """self (the unmodified base), none, or a source as for `loss.teacher`."""
    base_epochs: int | None = None
    """Epochs of fine-tuning the base, when that is needed; unset: as the recipe says."""
    recipe: Recipe = field(default_factory=Recipe)
    """Of the fine-tuning; model and teacher are filled in."""


@dataclass
class Base:
    """The network to be converted."""

    model: nn.Module
    card: Card
    source: str
    """Run folder or weights file that holds it; empty for published weights."""
    trained: bool


def check_plan(plan: ConvertPlan) -> ConvertPlan:
    """Refuse what cannot work before anything is read or written; returns the plan.

    Raises:
        ConfigError: Settings that exclude each other.
    """
    if not get_task(plan.recipe.task).sparsifies:
        raise ConfigError(
            f"saccade sparsify fine-tunes classifiers; the recipe's task is {plan.recipe.task!r}"
        )
    if plan.recipe.model.weights:
        raise ConfigError("model.weights follows from the base; give a weights file with --weights")
    for place in (plan.base, plan.weights, plan.teacher):
        check_place(place)
    if not plan.teacher:
        raise ConfigError(
            "--teacher is empty; choose self, none, a run folder, a weights file or a model name"
        )
    if plan.base_epochs is not None and plan.base_epochs < 1:
        raise ConfigError(
            f"--base-epochs is {plan.base_epochs} but should be at least 1; leave it out to have it chosen"
        )
    return plan


def open_base(plan: ConvertPlan, log: Log) -> Base:
    """Build the network to be converted, with its weights.

    Args:
        plan: Its `base`, `weights`, and of the recipe `model` and `data.size`, which is filled in when the model's
            options say it.
        log: Takes lines for the user.

    Raises:
        ConfigError: No such model, one that is no timm model, or settings that do not go with a file.
        WeightsError: Weights that do not fit, or were demanded and cannot be had.
    """
    recipe, path, asked = plan.recipe, Path(plan.base), Source(plan.base)
    if asked.model and not plan.weights:
        plan = dataclasses.replace(plan, base=asked.model, weights=asked)
    if path.is_file() or path.is_dir():
        if plan.weights:
            raise ConfigError(f"{plan.base} has its own weights; leave --weights out, or name a timm model")
        model, card = load_model(path)
        _check_timm(card.model, plan.base)
        size = int(card.preprocess.get("size", 0))
        if recipe.data.size and size and recipe.data.size != size:
            raise ConfigError(
                f"{plan.base} takes pictures of {size} pixels, not {recipe.data.size}; leave --size out, "
                "or train the base at that size first"
            )
        return Base(model, card, plan.base, True)
    plain = plan.base.removeprefix("timm/")
    _check_timm(plan.base if plan.base in list_models() else f"timm/{plain}", plan.base)
    options = dict(recipe.model.options)
    if recipe.data.size:
        options.setdefault("img_size", recipe.data.size)
    card = Card(f"timm/{plain}", options)
    recipe.data.size = recipe.data.size or int(options.get("img_size", 0))
    sized = get_task(recipe.task).sized(card, recipe.data.size)
    card.preprocess = {**sized.preprocess, **recipe.model.preprocess}
    torch.manual_seed(recipe.run.seed)
    if plan.weights:
        given = Source(plan.weights)
        asked = Source(given.weights, model=card.model, labels=given.labels, raw=given.raw)
        model, found = load_model(asked, options)
        if found.options != options and recipe.data.size:
            raise ConfigError(
                f"{plan.weights} has the options {found.options} and not {options}; leave --size out"
            )
        preprocess = found.preprocess or card.preprocess
        return Base(model, dataclasses.replace(found, preprocess=preprocess), "", True)
    trained = recipe.model.pretrained != "no"
    if trained:
        try:
            model = create_model(card.model, pretrained=True, **options).eval()
            card.num_classes = int(getattr(model, "num_classes", 1000))
            return Base(model, card, "", True)
        except WeightsError as error:
            if recipe.model.pretrained == "yes" or not recipe.data.source:
                raise
            log(f"starting from random weights: {error}")
    return Base(create_model(card.model, **options).eval(), card, "", False)


def adopt_split(plan: ConvertPlan, chosen: set[str]) -> list[str]:
    """Divide the data as the base's own run did, so that nothing it learned from is held out now.

    Args:
        plan: Its recipe's `data.val_fraction` and `run.seed` are filled in where the base is a run folder that was
            trained on a part of the same data.
        chosen: Dotted names that the user set.

    Returns:
        Lines for the user.

    Raises:
        ConfigError: The user set one of them to another value.
    """
    found, data = read_split(plan.base), plan.recipe.data
    if found is None or data.val or found[0].val or not same_place(data.source, found[0].source):
        return []
    if is_divided(data.source):
        return []
    wanted = {"data.val_fraction": found[0].val_fraction, "run.seed": found[1]}
    have = dict(leaves(plan.recipe))
    for name, value in wanted.items():
        if name in chosen and have[name] != value:
            raise ConfigError(
                f"{plan.base} was trained on a part of {data.source} divided with {name} {value:g}; with "
                f"{have[name]:g} it would be judged on images that it learned, so leave the flag out"
            )
    data.val_fraction, plan.recipe.run.seed = found[0].val_fraction, found[1]
    return [
        f"{data.source} is divided as it was for {plan.base} (seed {found[1]}), so both keep the same images back"
    ]


def convert(base: Base, options: Mapping[str, Any]) -> tuple[nn.Module, Card]:
    """Turn a base into its STViT form.

    Args:
        base: Its network is left as it is.
        options: Further arguments of `saccade.sparsify`.

    Returns:
        The converted network in evaluation mode, and its card: named `stvit/NAME`, so that `load_model` and every
        command rebuild it.

    Raises:
        ConfigError: A model or options that `saccade.sparsify` refuses.
    """
    model = sparsify(base.model, **options)
    name = base.card.model.removeprefix("timm/")
    card = dataclasses.replace(
        base.card,
        model=f"stvit/{name}",
        options={**base.card.options, **options},
        origin=f"converted from {base.source or base.card.model}",
        numbers={},
    )
    return model.eval(), card


def convert_only(plan: ConvertPlan, folder: Path | str, log: Log) -> Path:
    """Convert without data: write the base and its STViT form into a folder.

    Returns:
        The converted weights file. It needs fine-tuning.

    Raises:
        SaccadeError: As `open_base` and `convert`.
    """
    folder = Path(folder)
    base = open_base(check_plan(plan), log)
    model, card = convert(base, plan.options)
    with alone(folder, "sparsify"):
        save_weights(base.model, folder / BASE, base.card)
        save_weights(model, folder / CONVERTED, card)
    return folder / CONVERTED


def sparsify_and_tune(
    plan: ConvertPlan, folder: Path | str, *, resume: bool = False, log: Log = print
) -> Base:
    """Convert a base, fine-tune it with a teacher, and leave an ordinary run folder.

    When the base's classifier does not fit the data (other classes, or no trained weights) and the teacher is the
    base itself, the base is fine-tuned on the data first, by the same recipe: a teacher has to know the classes,
    and an accuracy "before" needs one. With another teacher, or none, the conversion takes the base as it is and
    its classifier starts fresh.

    Args:
        plan: What to do.
        folder: Run folder; made when absent.
        resume: Go on with the folder's run; `plan` as `load_plan` read it.
        log: Takes lines for the user.

    Returns:
        The base that the result is compared with; its `trained` is False when it has no accuracy on this data.

    Raises:
        SaccadeError: Data, settings or weights that cannot be used.
        KeyboardInterrupt: Ctrl-C or SIGTERM; everything was saved and `resume` goes on.
    """
    folder = Path(folder)
    log = log if is_first_process() else lambda line: None
    check_plan(plan)
    with alone(folder, "sparsify"):
        return _sparsify_held(plan, folder, log, resume=resume)


def _sparsify_held(plan: ConvertPlan, folder: Path, log: Log, *, resume: bool) -> Base:
    """As `sparsify_and_tune`, in a folder whose lock is held."""
    first = is_first_process()
    if not resume and first and ((folder / PLAN).exists() or (folder / "recipe.yaml").exists()):
        raise ConfigError(
            f"{folder} holds a run already; go on with --resume {folder}, or choose another --out"
        )
    try:
        base = _prepare_base(plan, folder, log, resume=resume)
        if first and not (folder / CONVERTED).is_file():
            model, card = convert(base, plan.options)
            save_weights(model, folder / CONVERTED, card)
            log(_cost_line(base, model))
        _wait(plan)
        _tune(plan, base, folder, log)
    except Interrupted:
        log(f"the whole conversion goes on with: saccade sparsify --resume {folder}")
        raise
    return base


def plan_text(plan: ConvertPlan) -> str:
    """Write a plan as YAML, every setting."""
    values = {f.name: getattr(plan, f.name) for f in dataclasses.fields(plan)}
    values |= {name: str(value) for name, value in values.items() if isinstance(value, str)}
    return yaml.safe_dump(values | {"recipe": to_plain(plan.recipe)}, sort_keys=False, allow_unicode=True)


def load_plan(folder: Path | str) -> ConvertPlan:
    """Read `sparsify.yaml` back.

    Raises:
        ConfigError: Not the folder of a conversion run.
    """
    path = Path(folder) / PLAN
    if not path.is_file():
        raise ConfigError(
            f"{folder}: no {PLAN} here; expected the folder of a run begun by `saccade sparsify`"
        )
    values = read_yaml(path, error=ConfigError)
    names = {f.name for f in dataclasses.fields(ConvertPlan)}
    if not isinstance(values, dict) or set(values) != names or not isinstance(values["recipe"], dict):
        raise ConfigError(f"{path}: damaged; expected the entries {', '.join(sorted(names))}")
    flags: dict[str, Any] = {}
    for group, part in unset_old_zeros(values.pop("recipe")).items():
        flags |= (
            {f"{group}.{name}": v for name, v in part.items()} if isinstance(part, dict) else {group: part}
        )
    known = dict(leaves(Recipe()))
    recipe, _ = build_recipe(flags={name: value for name, value in flags.items() if name in known})
    values["base_epochs"] = values.get("base_epochs") or None  # an earlier Saccade wrote 0
    plan = checked(values, ConvertPlan, where=str(path), error=ConfigError)
    mark_places(recipe, PLACES, str(path))
    for name in ("base", "weights", "teacher"):
        setattr(plan, name, Stored(getattr(plan, name), path, name))
    plan.recipe = recipe
    return plan


def _check_timm(model: str, given: str) -> None:
    """Refuse networks of ours: only timm's transformers are converted."""
    if not model.startswith("timm/"):
        raise ConfigError(
            f"{given} is {model}, which is not a transformer of timm; saccade sparsify converts timm's ViT and Swin "
            "families, such as deit_small_patch16_224 (stvit_* models are sparse already: use saccade train)"
        )


def _prepare_base(plan: ConvertPlan, folder: Path, log: Log, *, resume: bool) -> Base:
    """Bring the base into a form that may be converted and may teach; see `sparsify_and_tune`."""
    own, first = folder / "base", is_first_process()
    if resume and (own / "recipe.yaml").is_file():
        train(load_recipe(own / "recipe.yaml"), own, resume=True, log=log)
        return Base(*load_model(own), str(own), True)
    if resume and (folder / BASE).is_file():
        model, card = load_model(folder / BASE)
        return Base(model, card, str(folder / BASE), card.origin != UNTRAINED)
    base = open_base(plan, log)
    labels = open_pair(plan.recipe.data, seed=plan.recipe.run.seed).labels
    fits = base.trained and base.card.num_classes == len(labels) and base.card.labels in ([], labels)
    if first:
        # Says at once what cannot be converted, before the base costs hours and before anything is written.
        convert(base, plan.options)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / PLAN, plan_text(plan))
    _wait(plan)
    if fits:
        base.card.labels = labels
        if not base.source:
            base.source = str(folder / BASE)
            if first:
                save_weights(base.model, folder / BASE, base.card)
            _wait(plan)
        return base
    theirs = f"the {len(labels)} classes of {plan.recipe.data.source}"
    if plan.teacher == "self":
        why = f"{base.card.num_classes} other classes" if base.trained else "no trained weights"
        log(
            f"{plan.base} has {why}, so it cannot teach {theirs} yet: it is trained on them first, in {own} (to skip "
            "this, give the run folder of a base trained on this data, or --teacher none)"
        )
        if base.trained and not base.source and plan.weights:
            base.source = str(folder / START)
            if first:
                save_weights(base.model, folder / START, base.card)
            _wait(plan)
        train(_base_recipe(plan, base), own, log=log)
        return Base(*load_model(own), str(own), True)
    log(
        f"{plan.base} does not know {theirs}: the classifier starts fresh, and there is no accuracy "
        "before to compare with (--teacher self would fine-tune the base first)"
    )
    torch.manual_seed(plan.recipe.run.seed)
    assert isinstance(base.model, Headed)
    base.model.reset_classifier(len(labels))
    card = dataclasses.replace(
        base.card, num_classes=len(labels), labels=labels, origin=UNTRAINED, numbers={}
    )
    if first:
        save_weights(base.model, folder / BASE, card)
    _wait(plan)
    return Base(base.model, card, str(folder / BASE), False)


def _base_recipe(plan: ConvertPlan, base: Base) -> Recipe:
    """Make the recipe by which the base is fine-tuned: that of the conversion without a teacher."""
    recipe = copy.deepcopy(plan.recipe)
    recipe.model.name, recipe.model.options = base.card.model, dict(base.card.options)
    recipe.model.weights = base.source
    if base.source or not base.trained:
        recipe.model.pretrained = "no"
    recipe.loss.distill, recipe.loss.teacher = "none", ""
    recipe.schedule.epochs = plan.base_epochs or recipe.schedule.epochs
    return recipe


def _tune(plan: ConvertPlan, base: Base, folder: Path, log: Log) -> None:
    """Fine-tune the converted network, or go on with that."""
    if (folder / "recipe.yaml").is_file():
        train_held(load_recipe(folder / "recipe.yaml"), folder, resume=True, log=log)
        return
    recipe = copy.deepcopy(plan.recipe)
    _, card = read_weights(folder / CONVERTED)
    assert card is not None
    recipe.model.name, recipe.model.options = card.model, dict(card.options)
    recipe.model.weights, recipe.model.pretrained = str(folder / CONVERTED), "no"
    if plan.teacher == "none":
        recipe.loss.distill, recipe.loss.teacher = "none", ""
    else:
        recipe.loss.distill = "soft" if recipe.loss.distill == "none" else recipe.loss.distill
        recipe.loss.teacher = base.source if plan.teacher == "self" else plan.teacher
    train_held(recipe, folder, log=log)


def _cost_line(base: Base, model: nn.Module) -> str:
    """Log what the conversion saves on paper."""
    size = int(base.card.preprocess.get("size", 0)) or int(getattr(base.model, "default_size", 224))
    size = int(base.card.options.get("img_size", size))
    before, after = (count_macs(m, size, in_chans=base.card.in_chans) for m in (base.model, model))
    return (
        f"converted {base.card.model}: {before / 1e9:.3g} to {after / 1e9:.3g} G multiply-accumulates "
        f"({100 * (after / before - 1):+.1f} %), {count_params(base.model) / 1e6:.2f} to "
        f"{count_params(model) / 1e6:.2f} M parameters"
    )


def _wait(plan: ConvertPlan) -> None:
    """Let the other processes of this run catch up, joining them first as training would."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        build_accelerator(plan.recipe).wait_for_everyone()
