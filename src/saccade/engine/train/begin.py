"""From what somebody asks for to a run: flags or Python arguments to a recipe, a folder, and where it goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saccade import settings
from saccade.engine.train.recipe import Recipe, build_recipe, check_unchanged, load_recipe
from saccade.errors import ConfigError, did_you_mean
from saccade.trust import trusting
from saccade.zoo.registry import FOREIGN

if TYPE_CHECKING:
    from saccade.engine.train.loop import TrainResult

SHORT = {
    "data": "data.source",
    "val": "data.val",
    "mix": "data.mix",
    "labels": "data.labels",
    "pictures": "data.pictures",
    "batch": "data.batch",
    "size": "data.size",
    "frames": "data.frames",
    "model": "model.name",
    "head": "model.head",
    "weights": "model.weights",
    "freeze": "optim.freeze",
    "epochs": "schedule.epochs",
    "distill": "loss.distill",
    "device": "run.device",
    "threads": "run.threads",
    "seed": "run.seed",
}
"""Short names of settings, as flags and as arguments of `train`."""
KNOWN = (*(name for name, _ in settings.leaves(Recipe())), *SHORT)
"""Every name that a setting of a recipe goes by."""


@dataclass(frozen=True)
class RunPlan:
    """A run before its first step."""

    recipe: Recipe
    folder: Path
    resume: bool | str
    """Go on from the newest checkpoint, or from that of this name."""


def train(
    data: str | Path | None = None,
    *,
    model: str | None = None,
    task: str | None = None,
    out: str | Path | None = None,
    recipe: str = "",
    config: str | Path = "",
    resume: str | Path | None = None,
    log: Callable[[str], None] | None = None,
    allow_pipe: bool = False,
    allow_address: bool = False,
    trust_remote_code: bool = False,
    **values: Any,
) -> TrainResult:
    """Train or fine-tune a model, as `saccade train` does; prints nothing.

    Example: `saccade.train("photos/", model="shvit_s1", out="runs/photos", epochs=20, optim={"lr": 1e-3})`

    Args:
        data: Where the samples are: a folder, a table, shards, or a built-in name such as digits.
        model: Name of `saccade.list_models()`, or timm/NAME.
        task: classify unless the recipe says otherwise; detect, segment, video, restore, answer.
        out: Run folder to make; runs/DATA-MODEL when left out.
        recipe: Shipped recipe; the task's own for small data when left out.
        config: Recipe file (YAML), over the shipped recipe.
        resume: Run folder to go on with, or one of its folders checkpoints/STEP, to go back to that.
        log: Takes lines about what is chosen and how it goes; they are dropped when left out.
        allow_pipe: Run a command that `data` or `val` is (pipe:...).
        allow_address: Fetch addresses and hub ids that stand in a recipe file or run folder.
        trust_remote_code: Run code that comes with a base of the task answer.
        values: Settings: by a short name (`epochs=20`, `batch=64`, `weights="runs/a"`, all of `SHORT`), by group
            (`optim={"lr": 1e-3}`), or by dotted name (`**{"optim.lr": 1e-3}`).

    Returns:
        A `TrainResult`: metrics and place of the best weights, how long it took and why it ended.

    Raises:
        ConfigError: A setting that does not exist (the nearest one is offered), of another type or out of range.
        SaccadeError: Data or weights that cannot be used; another process that writes there; a full disk.
    """
    flags = dotted({"data": data, "model": model, "task": task, **values})
    plan = plan_run(flags, recipe=recipe, config=config, resume=resume, out=out)
    with trusting(code=trust_remote_code):
        return carry_out(
            plan, log=log or _drop, quiet=True, allow_pipe=allow_pipe, allow_address=allow_address
        )


def dotted(values: Mapping[str, Any]) -> dict[str, Any]:
    """Name settings by group and field; those that are None were not given.

    Args:
        values: By short or dotted name, or by group, as mappings.

    Raises:
        ConfigError: A name that no setting has, or one that comes twice.
    """
    found: dict[str, Any] = {}
    groups = {name.partition(".")[0] for name in KNOWN if "." in name}
    for name, value in values.items():
        if value is None:
            continue
        value = str(value) if isinstance(value, Path) else value
        if name in groups and isinstance(value, Mapping):
            inner = {f"{name}.{key}": entry for key, entry in value.items()}
        else:
            inner = {SHORT.get(name, name): value}
        for full, entry in inner.items():
            if full not in KNOWN:
                raise ConfigError(f"unknown setting {full}{did_you_mean(full, [*KNOWN, *groups])}")
            if full in found:
                raise ConfigError(f"{full} is given twice, as {found[full]!r} and {entry!r}; give it once")
            found[full] = entry
    return found


def plan_run(
    flags: Mapping[str, Any],
    *,
    recipe: str = "",
    config: str | Path = "",
    resume: str | Path | None = None,
    out: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    task: str = "",
) -> RunPlan:
    """Resolve a run: the recipe that suits, what was asked for over it, and the folder.

    Args:
        flags: Settings by dotted name, as text or values.
        recipe: Shipped recipe; the task's own when left out and there is no `config`.
        config: Recipe file.
        resume: Run folder, or one of its checkpoints.
        out: Run folder to make.
        options: Over the recipe's `model.options`.
        task: What the recipe has to be for; empty: anything.

    Raises:
        ConfigError: Settings that cannot be right, or that change what a resumed run learns.
    """
    from saccade.tasks import get_task

    if resume is not None:
        if recipe or config or out or options:
            raise ConfigError(
                "--resume goes on with a run as it was begun; leave out --recipe, --config, --out and what is tuned"
            )
        return _go_on(Path(resume), flags)
    wanted = str(flags.get("task", task or Recipe().task))
    shipped = recipe
    if not recipe and not config:
        source, name = flags.get("data.source"), flags.get("model.name")
        shipped = get_task(wanted).shipped_recipe(str(source or ""), None if name is None else str(name))
    plan, chosen = build_recipe(shipped, config, flags)
    if task and plan.task != task:
        raise ConfigError(f"the recipe is for the task {plan.task}; expected one for {task}")
    plan.model.options = {**plan.model.options, **(options or {})}
    if "model.weights" in flags:
        _start_from(plan, chosen, flags)
    if not recipe:
        get_task(plan.task).suit_machine(plan, chosen if config else flags.keys())
    return RunPlan(plan, Path(out) if out else free_folder(plan.data.source, plan.model.name), False)


def carry_out(
    plan: RunPlan,
    *,
    log: Callable[[str], None] | None = None,
    quiet: bool = False,
    allow_pipe: bool = False,
    allow_address: bool = False,
) -> TrainResult:
    """Train as planned; the arguments are those of `engine.train.loop.train`.

    Raises:
        ConfigError: Nothing to train on.
    """
    if not plan.recipe.data.source:
        raise ConfigError(
            "nothing to train on; say where the data is with --data, such as a folder of class folders, or digits"
        )
    from saccade.engine.train.loop import train as run

    return run(
        plan.recipe, plan.folder, resume=plan.resume, log=log, quiet=quiet,
        allow_pipe=allow_pipe, allow_address=allow_address,
    )  # fmt: skip


def resolve(
    plan: RunPlan, log: Callable[[str], None], *, allow_pipe: bool = False, allow_address: bool = False
) -> None:
    """Fill in every automatic setting of a plan, in place, by building all that its run would begin with.

    Args:
        plan: Planned. A run to go on with has been filled in before, and without data there is nothing to go by.
        log: Takes lines about what is chosen.
        allow_pipe: As for `train`.
        allow_address: As for `train`.

    Raises:
        SaccadeError: What the run itself would be refused for: data, weights, settings, device.
    """
    from saccade.engine.train.recipe import check_places
    from saccade.engine.train.setup import build_session

    recipe = plan.recipe
    if plan.resume or not recipe.data.source:
        return
    with trusting(pipe=allow_pipe, address=allow_address):
        check_places(recipe)
        session = build_session(recipe, log)
    recipe.data.size = session.card.preprocess["size"]
    recipe.run.device = session.accelerator.device.type  # pyright: ignore[reportAttributeAccessIssue]
    log(f"{session.schedule.num_epochs} epochs of {session.schedule.steps_per_epoch} steps")


def free_folder(source: str, model: str) -> Path:
    """Return runs/DATA-MODEL, with a number behind it when that is taken."""
    stem = Path(source.rstrip("/")).stem or "data"
    name = model.replace("/", "-") if model.startswith(FOREIGN) else Path(model).name
    base = Path("runs") / f"{stem}-{name}"
    folder, number = base, 2
    while folder.exists():
        folder, number = base.with_name(f"{base.name}-{number}"), number + 1
    return folder


def _go_on(place: Path, flags: Mapping[str, Any]) -> RunPlan:
    """Take a run up again with harmless changes."""
    from saccade.engine.train.checkpoint import split_checkpoint

    folder, name = split_checkpoint(place)
    if not (folder / "recipe.yaml").is_file():
        raise ConfigError(
            f"{folder}: no recipe.yaml here; expected the folder of a run begun by `saccade train`"
        )
    return RunPlan(check_unchanged(load_recipe(folder / "recipe.yaml"), flags, folder), folder, name or True)


def _start_from(plan: Recipe, chosen: set[str], flags: Mapping[str, Any]) -> None:
    """Take the model from weights to start from, unless somebody named one."""
    if "model.name" not in chosen:
        from saccade.tasks.open import load_model

        _, card = load_model(plan.model.weights)
        plan.model.name, plan.model.options = card.model, card.options
        if card.task == plan.task:
            plan.model.head = plan.model.head or card.head
            plan.model.head_options = plan.model.head_options or card.head_options
    if "model.pretrained" not in flags:
        plan.model.pretrained = "no"


def _drop(line: str) -> None:
    """Take a line for nobody."""
