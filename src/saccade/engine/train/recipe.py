"""A recipe: every setting of a training run, typed and checked. Defaults suit fine-tuning a small folder.

Precedence: the defaults below < a shipped recipe (by name) < a file < flags. Settings that nobody set (None; `null`
in YAML, `null` or `auto` in a flag) and those at -1 that say so in their comment are filled in from the data by
`train.adapt` or by the task, and the recipe in the run folder holds what was filled in. A 0 that somebody wrote is
never taken for "automatic": it is refused where nothing can be done with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from saccade import settings
from saccade.data.config import AugmentConfig, DataConfig
from saccade.errors import ConfigError, did_you_mean
from saccade.files import parse_yaml, read_yaml, within
from saccade.tasks import get_task
from saccade.trust import Stored, check_place
from saccade.weights import Card

T = TypeVar("T")
Beta = Annotated[float, within(0, below=1)]
"""Share of the past that an average of AdamW keeps."""


@dataclass
class ModelConfig:
    """Which network, and what it starts from."""

    name: str = "shvit_s1"
    """One of `saccade models`, or timm/NAME."""
    options: dict = field(default_factory=dict)
    """Further arguments of `create_model`, such as {distilled: true}."""
    head: str = ""
    """Of dense tasks: mask_rcnn, retinanet, semantic_fpn and others; empty: the task's own."""
    head_options: dict = field(default_factory=dict)
    """Options of that head, such as {norm_eval: true}."""
    pretrained: Literal["auto", "yes", "no"] = "auto"
    """Published ImageNet weights: yes, no, or auto (use them when they can be had, else say so and go on)."""
    weights: str = ""
    """File or run folder to start from instead; a head with another number of classes starts fresh."""
    preprocess: dict = field(default_factory=dict)
    """Fields of the evaluation transform that differ from the model's own, such as {crop_pct: 1.0}."""


@dataclass
class OptimConfig:
    """AdamW, which parameters it moves and how far."""

    lr: Annotated[float, within(1e-12, 100)] | None = None
    """Peak learning rate; unset: 1e-3 from scratch, 3e-4 from trained weights, for a global batch of 64."""
    lr_batch: Annotated[int, within(0)] = 0
    """Multiply `lr` by global batch / lr_batch (512 in the SHViT recipe); 0: never."""
    weight_decay: Annotated[float, within(0, 10)] = 0.05
    no_decay: Literal["1d", "1d_bias", "model", "none"] = "model"
    """Not decayed: 1d (vectors), 1d_bias (vectors and names ending in .bias), model (as the model's own
    published recipe, else 1d_bias), none."""
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    eps: Annotated[float, within(1e-20, 1)] = 1e-8
    layer_decay: Annotated[float, within(0.001, 1)] = 1.0
    """Factor of the learning rate from each layer to the one below it, in (0, 1]; 1: the same everywhere."""
    clip: Literal["none", "norm", "agc"] = "norm"
    """Gradient clipping: none, norm (global norm at most clip_value), agc (each unit against its weights)."""
    clip_value: Annotated[float, within(1e-08)] = 1.0
    freeze: tuple[str, ...] = ()
    """Do not train: parameters whose names start so, or `backbone` for all but the heads."""


@dataclass
class ScheduleConfig:
    """How long, and the learning rate over that time."""

    epochs: Annotated[int, within(1, 1_000_000)] | None = None
    """Unset: from the number of images, for 6000 steps from random weights (20 to 150 epochs) or 2500 from trained
    ones (8 to 40 epochs)."""
    steps: Annotated[int, within(0)] = 0
    """Length in steps of the optimiser in place of `epochs`; 0: count epochs."""
    shape: Literal["cosine", "step", "poly"] = "cosine"
    """From the peak down: cosine, step (times `gamma` at each of `milestones`) or poly (a power of what is left)."""
    milestones: tuple[float, ...] = ()
    """Epochs, ascending, after which the rate of shape step falls."""
    gamma: Annotated[float, within(0, 1)] = 0.1
    power: Annotated[float, within(0.01, 10)] = 0.9
    """Exponent of shape poly."""
    warmup_epochs: Annotated[float, within(-1, 1_000_000)] = -1.0
    """Linear rise from warmup_lr; -1: 5 % of the epochs."""
    warmup_lr: Annotated[float, within(0, 100)] = 1e-6
    """Learning rate at the start of the warm-up, never scaled by batch."""
    min_lr: Annotated[float, within(0, 100)] = 1e-5
    """Floor of the cosine or power, never scaled by batch."""
    cooldown_epochs: Annotated[int, within(0, 1_000_000)] = 0
    """Epochs run at the floor after the cosine."""
    per: Literal["iteration", "epoch"] = "iteration"
    """Change the rate every iteration or every epoch."""
    warmup_prefix: bool = True
    """The cosine starts after the warm-up and is that much shorter; false: it runs below the warm-up, unseen."""
    late: bool = False
    """Run each unit at the rate of the one before, as the SHViT code does: epochs 0 and 1 are both at warmup_lr."""


@dataclass
class LossConfig:
    """What is minimised."""

    kind: Literal["cross_entropy", "bce"] = "cross_entropy"
    """Of classifiers: cross_entropy, or bce, a yes or no for each class (mean over batch and classes, as timm's)."""
    target_threshold: Annotated[float, within(0, 0.999)] = 0.0
    """Of bce: mixed and smoothed targets above it count as 1 and others as 0; 0: they are taken as they are."""
    label_smoothing: Annotated[float, within(0, 0.999)] = 0.1
    distill: Literal["none", "hard", "soft"] = "none"
    """none, hard (teacher's answer as label) or soft (KL to the teacher's shares, mean over the batch, times
    distill_tau ** 2)."""
    teacher: str = ""
    """timm/NAME (published weights are fetched), a run folder or a weights file."""
    distill_alpha: Annotated[float, within(0, 1)] = 0.5
    """Share of the teacher in the loss; the labels have the rest."""
    distill_tau: Annotated[float, within(0.001, 1000)] = 1.0
    """Temperature of both networks' logits in soft distillation."""
    mesa: Annotated[float, within(0, 100)] = 0.0
    """Weight of self-distillation from the running average of the weights."""
    mesa_start: Annotated[float, within(0, 1)] = 0.25
    """Fraction of the epochs after which it begins."""


@dataclass
class EmaConfig:
    """Running average of the weights."""

    decay: Annotated[float, within(0, 0.999999999)] = 0.998
    """Share kept at each step; 0: no average."""
    warmup: bool = True
    """Keep at most (1 + n) / (10 + n) at step n, so that short runs are not averaged with their random start."""


@dataclass
class RunConfig:
    """How the run is carried out."""

    seed: Annotated[int, within(0, 2**32 - 1)] = 0
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """auto, cpu, cuda or mps."""
    threads: Annotated[int, within(1, 4096)] | None = None
    """Threads of torch on the CPU; unset: leave as it is."""
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    """float32, bf16 or fp16 (autocast; fp16 with a loss scaler)."""
    accumulate: Annotated[int, within(1, 100_000)] = 1
    """Batches added up for one step of the optimiser."""
    channels_last: bool = True
    """Store pictures and filters with channels innermost, which convolutions on most devices prefer."""
    recompute: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    sync_bn: bool = False
    """Share batch statistics over processes (CUDA only)."""
    save_minutes: Annotated[float, within(0)] = 5.0
    """Save the full state so often within an epoch; 0: only at epoch ends."""
    save_steps: Annotated[int, within(0)] = 0
    """Save also every so many steps; 0: never."""
    keep: Annotated[int, within(1, 1000)] = 2
    """Full states kept; with 2 there is one to go back to when the newest is damaged."""
    patience: Annotated[int, within(-1)] = 0
    """Stop after so many epochs without a better main metric; 0: never; -1: a quarter of the epochs, at least 10."""
    target: Annotated[float, within(0, 1)] = 0.0
    """Stop as soon as the main metric reaches this; 0: never."""
    eval_every: Annotated[int, within(1)] = 1
    """Epochs between evaluations; the last is always evaluated."""
    max_steps: Annotated[int, within(0)] = 0
    """End after so many steps, for trials; 0: no limit."""
    overfit: bool = False
    """Train on one batch over and over, without augmentation: a check that the network can learn at all."""
    log_every: Annotated[int, within(1)] = 20
    """Steps between log lines."""
    tensorboard: bool = False


@dataclass
class Recipe:
    """All of it."""

    task: str = Card.task
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=lambda: DataConfig(batch=None))
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    ema: EmaConfig = field(default_factory=EmaConfig)
    run: RunConfig = field(default_factory=lambda: RunConfig(patience=-1))


AUTOMATIC = tuple(name for name, value in settings.leaves(Recipe()) if value is None)
"""Settings that are chosen from the data, the network or the machine when nobody sets them."""

_ALWAYS_WRITTEN = (
    ("data", "size"),
    ("data", "batch"),
    ("optim", "lr"),
    ("schedule", "epochs"),
    ("run", "threads"),
)
"""Of the automatic settings, those that the recipe of every run has held since the first."""

FREE_ON_RESUME = (
    "data.workers",
    "run.device",
    "run.save_minutes",
    "run.save_steps",
    "run.keep",
    "run.log_every",
    "run.tensorboard",
)
"""Settings that do not change what is learned, so a resumed run may change them."""


PLACES = {
    "data.source": "--data",
    "data.val": "--data.val",
    "data.mix": "--data.mix",
    "data.labels": "--data.labels",
    "data.pictures": "--data.pictures",
    "model.weights": "--weights",
    "loss.teacher": "--loss.teacher",
}
"""Settings that name a place to read or fetch, and how they are typed."""


def check_places(recipe: Recipe) -> None:
    """Refuse commands and addresses that came from a file, and name the paths of files that lie elsewhere.

    Raises:
        ConfigError: A place that the caller did not give the word for; see `saccade.trust`.
    """
    known = dict(settings.leaves(recipe))
    for name in (*PLACES, "model.name"):
        if isinstance(known[name], Stored):
            check_place(known[name])


def mark_places(recipe: Recipe, names: Iterable[str], where: str) -> None:
    """Mark the places among some settings as read from the file `where`."""
    flags = PLACES | dict(get_task(recipe.task).place_flags)
    known = dict(settings.leaves(recipe))
    for name in flags.keys() & set(names):
        group, _, last = name.partition(".")
        if known[name]:
            setattr(getattr(recipe, group), last, Stored(known[name], where, name, flags[name]))


def check_recipe(recipe: Recipe) -> Recipe:
    """Hold every setting to its annotation, refuse those that exclude each other; return the recipe.

    Raises:
        ConfigError: One sentence that names the setting.
    """
    known = dict(settings.leaves(settings.check(recipe)))
    for name in ("augment.scale", "augment.ratio"):
        if not 0 < known[name][0] <= known[name][1]:
            raise ConfigError(f"{name} is {known[name]} but should be two numbers, 0 < low <= high")
    if known["augment.scale"][1] > 1:
        raise ConfigError("augment.scale is a share of the picture's area and cannot be above 1")
    if recipe.loss.distill != "none" and not recipe.loss.teacher:
        raise ConfigError("loss.distill is set without a teacher; set loss.teacher, such as timm/regnety_160")
    if recipe.loss.mesa and not recipe.ema.decay:
        raise ConfigError("loss.mesa needs the running average of the weights; set ema.decay above 0")
    if recipe.schedule.epochs and recipe.schedule.warmup_epochs > recipe.schedule.epochs:
        raise ConfigError(
            f"schedule.warmup_epochs ({recipe.schedule.warmup_epochs:g}) is longer than the "
            f"whole run ({recipe.schedule.epochs} epochs)"
        )
    milestones = list(recipe.schedule.milestones)
    if recipe.schedule.shape == "step" and not (
        milestones and milestones == sorted(milestones) and milestones[0] > 0
    ):
        raise ConfigError(
            f"schedule.milestones is {milestones}; shape step needs ascending epochs, such as [8, 11]"
        )
    if recipe.model.weights and recipe.model.pretrained == "yes":
        raise ConfigError(
            "model.weights and model.pretrained=yes exclude each other; choose one to start from"
        )
    return recipe


def chosen_value(value: T | None) -> T:
    """Return an automatic setting of a recipe that `train.adapt` has resolved."""
    assert value is not None
    return value


def list_recipes() -> list[str]:
    """List the shipped recipes, sorted."""
    return sorted(
        item.name.removesuffix(".yaml")
        for item in resources.files("saccade.recipes").iterdir()
        if item.name.endswith(".yaml")
    )


def read_recipe(source: str | Path) -> dict[str, Any]:
    """Read a shipped recipe by name, or a YAML file, as plain values (at most 1 MiB).

    Raises:
        ConfigError: No such recipe or file, or not a YAML mapping.
    """
    text, where = str(source), str(source)
    if text.endswith((".yaml", ".yml")) or "/" in text:
        path = Path(text)
        if not path.is_file():
            raise ConfigError(f"{path}: no such recipe file")
        values = read_yaml(path, error=ConfigError)
    else:
        if text not in list_recipes():
            raise ConfigError(f"unknown recipe {text!r}{did_you_mean(text, list_recipes())}")
        content = (resources.files("saccade.recipes") / f"{text}.yaml").read_text(encoding="utf-8")
        values = parse_yaml(content, where=where, error=ConfigError)
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: a recipe is a mapping of settings, not {type(values).__name__}")
    return values


def build_recipe(
    name: str = "", file: str | Path = "", flags: Mapping[str, Any] | None = None
) -> tuple[Recipe, set[str]]:
    """Make a recipe: defaults < shipped recipe `name` < `file` < `flags` (dotted names), and check it.

    Returns:
        The recipe, and the dotted names that somebody set (all but pure defaults).

    Raises:
        ConfigError: Unknown recipe or setting, wrong type, out of range.
    """
    recipe, chosen = Recipe(), set()
    for source in (name, file):
        if source:
            values = unset_old_zeros(read_recipe(source))
            found = set(settings.update(recipe, values, str(source)))
            chosen |= found
            if str(source) not in list_recipes():  # those are our own word
                mark_places(recipe, found, str(source))
    for dotted, value in (flags or {}).items():
        settings.assign(recipe, dotted, value)
        chosen.add(dotted)
    return check_recipe(recipe), chosen


def unset_old_zeros(values: dict[str, Any]) -> dict[str, Any]:
    """Read a whole recipe of an earlier Saccade, which wrote 0 where nobody had set an automatic setting.

    Such a recipe has every group and no null in them; in anything else a 0 was written by hand and stays.

    Args:
        values: Plain values as read from YAML.

    Returns:
        The same, with None for those zeros; `values` itself is left as it is.
    """
    groups = {field.name for field in fields(Recipe)}
    if not groups <= values.keys() or not all(isinstance(values[group], dict) for group in groups - {"task"}):
        return values
    places = [name.split(".") for name in AUTOMATIC]
    present = [values[group][name] for group, name in places if name in values[group]]
    if None in present or not all(name in values[group] for group, name in _ALWAYS_WRITTEN):
        return values
    result = {group: dict(part) if isinstance(part, dict) else part for group, part in values.items()}
    for group, name in places:
        if result[group].get(name) == 0 and not isinstance(result[group][name], bool):
            result[group][name] = None
    return result


def dump_recipe(recipe: Recipe) -> str:
    """Write a recipe as YAML, every setting, in the order of declaration."""
    return settings.dump(recipe)


def load_recipe(path: Path | str) -> Recipe:
    """Read a complete recipe back, as a run folder holds it."""
    return build_recipe(file=path)[0]


def check_unchanged(stored: Recipe, wanted: Mapping[str, Any], run: Path | str) -> Recipe:
    """Apply flags given with `--resume`, refusing those that would change what is learned.

    Returns:
        The stored recipe with the harmless changes.

    Raises:
        ConfigError: A setting differs that must not.
    """
    before = dict(settings.leaves(stored))
    for dotted, value in wanted.items():
        settings.assign(stored, dotted, value)
        now = dict(settings.leaves(stored))[dotted]
        if now != before[dotted] and dotted not in FREE_ON_RESUME:
            was, new = ("automatic" if v is None else repr(v) for v in (before[dotted], now))
            raise ConfigError(
                f"{run} was begun with {dotted} {was} and cannot be resumed with {new}; leave "
                f"the flag out, or start a new run from its weights with --weights {run}"
            )
    return check_recipe(stored)
