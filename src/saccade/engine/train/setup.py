"""Everything a run needs before its first step: device, data, network, optimiser, schedule."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType, gather_object
from torch import nn

from saccade.data.config import DataConfig
from saccade.data.dataset import SampleKey
from saccade.data.loader import build_loader
from saccade.data.sampler import EpochSampler, OrderedSampler
from saccade.engine.train.adapt import adapt, without_augmentation
from saccade.engine.train.distill import build_teacher
from saccade.engine.train.ema import Ema
from saccade.engine.train.log import Log
from saccade.engine.train.optim import build_optimizer, freeze
from saccade.engine.train.recipe import Recipe, chosen_value
from saccade.engine.train.schedule import Schedule, make_schedule, peak_lr
from saccade.errors import ConfigError, SaccadeError, WeightsError
from saccade.files import writing
from saccade.nn.modules import Headed, Recomputing
from saccade.tasks import Task, get_task
from saccade.tasks.base import Batch, TaskData
from saccade.tasks.open import card_of_source, load_model
from saccade.weights import Card, Source
from saccade.zoo.loading import load_weights
from saccade.zoo.registry import FOREIGN

SMALLEST_CHANNELS_LAST = 32
"""Up to this size the last maps are 1 x 1, and there torch 2.15's CPU kernel for the gradient of a channels-last
bfloat16 depthwise convolution with stride 2 returns what happens to lie in memory (seen as NaN or 5e6)."""


@dataclass
class Session:
    """The parts of one run, in the hands of the loop."""

    recipe: Recipe
    """Resolved: nothing automatic is left."""
    accelerator: Accelerator
    task: Task
    card: Card
    data: TaskData
    train_loader: Iterable[Batch]
    val_loader: Iterable[Batch]
    sampler: EpochSampler | FixedBatch
    model: nn.Module
    """As it trains: wrapped for several processes and mixed precision."""
    plain: nn.Module
    """The same network without wrapping."""
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    ema: Ema | None
    teacher: nn.Module | None

    @property
    def sharded(self) -> bool:
        """Whether parameters are spread over processes (FSDP)."""
        return self.accelerator.distributed_type == DistributedType.FSDP

    def gather(self, value: Any) -> list[Any]:
        """Return everybody's `value` in the order of processes; pickled, but only between our own."""
        return gather_object([value]) if self.accelerator.num_processes > 1 else [value]

    def share_buffers(self) -> None:
        """Give every process the first one's batch statistics, so that all evaluate the same network."""
        if self.accelerator.num_processes == 1 or self.sharded:
            return
        for module in (self.plain, self.ema.module if self.ema is not None else None):
            for buffer in module.buffers() if module is not None else ():
                torch.distributed.broadcast(buffer, 0)


class FixedBatch:
    """One batch of an epoch, again and again: for overfitting."""

    def __init__(self, sampler: EpochSampler):
        self.keys: list[SampleKey] = next(iter(sampler))
        self.steps = sampler.steps
        self.start_step = 0

    def __len__(self) -> int:
        return self.steps - self.start_step

    def __iter__(self):
        return iter([self.keys] * len(self))

    def set_epoch(self, epoch: int, start_step: int = 0) -> None:
        """Begin at `start_step`; every epoch is alike."""
        self.start_step = start_step


def build_session(recipe: Recipe, log: Log, *, card: Card | None = None) -> Session:
    """Build the parts of a run and fill in the recipe's automatic settings, in place.

    Args:
        recipe: Checked.
        log: Takes lines for the user.
        card: Of the checkpoint whose tensors will replace all weights; None: a fresh start.

    Raises:
        SaccadeError: Data, weights, device or settings that cannot be used.
    """
    accelerator = build_accelerator(recipe)
    task = get_task(recipe.task)
    if recipe.run.overfit:
        without_augmentation(recipe)
    fresh = card is None
    card = plan_model(recipe, task) if card is None else card
    if not fresh:
        task.check_stored(card, "the checkpoint")
    with accelerator.main_process_first():
        data = task.open(recipe.data, recipe.augment, card, seed=recipe.run.seed)
    if data.train is None or len(data.train) == 0:
        raise ConfigError(f"data.source {recipe.data.source!r} has no training images")
    for note in data.notes:
        log(note)
    card.labels, card.num_classes, card.preprocess = data.labels, len(data.labels), data.preprocess
    torch.manual_seed(recipe.run.seed)
    with accelerator.main_process_first():
        plain, trained = build_network(recipe, task, card, log) if fresh else (task.build(card), True)
    num_images = len(data.train)
    for line in adapt(recipe, num_images, trained=trained, num_processes=accelerator.num_processes):
        log(line)
    torch.set_num_threads(chosen_value(recipe.run.threads))
    train_loader, val_loader, sampler = build_loaders(recipe, task, data, accelerator)
    if recipe.schedule.steps:
        recipe.schedule.epochs = -(-recipe.schedule.steps // max(1, sampler.steps // recipe.run.accumulate))
    if recipe.run.recompute:
        if not isinstance(plain, Recomputing):
            raise ConfigError(f"run.recompute: {recipe.model.name} cannot recompute its activations")
        plain.set_grad_checkpointing(True)
    freeze(plain, recipe.optim.freeze)
    on_cpu, half = accelerator.device.type == "cpu", recipe.run.precision != "float32"
    if not task.channels_last or (on_cpu and half and card.preprocess["size"] <= SMALLEST_CHANNELS_LAST):
        recipe.run.channels_last = False
    if recipe.run.channels_last:
        plain = plain.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    if recipe.run.sync_bn and accelerator.device.type == "cuda":
        plain = nn.SyncBatchNorm.convert_sync_batchnorm(plain)
    plain = plain.to(accelerator.device)
    ema = Ema(plain, recipe.ema) if recipe.ema.decay else None
    teacher = None
    if recipe.loss.distill != "none":
        with accelerator.main_process_first():
            teacher = build_teacher(recipe.loss.teacher, card, accelerator.device, log)
    sharded = accelerator.distributed_type == DistributedType.FSDP
    check_sharded(recipe, sharded)
    global_batch = chosen_value(recipe.data.batch) * accelerator.num_processes * recipe.run.accumulate
    schedule = make_schedule(
        recipe.schedule,
        peak_lr(chosen_value(recipe.optim.lr), recipe.optim.lr_batch, global_batch),
        max(1, sampler.steps // recipe.run.accumulate),
    )
    # The fused kernel takes the loss scale itself, which would undo our own unscaling before clipping.
    fused = (
        recipe.run.precision != "fp16" and not sharded and accelerator.device.type in ("cpu", "cuda", "mps")
    )
    optimizer = build_optimizer(plain, recipe.optim, fused=fused)
    model, wrapped = accelerator.prepare(plain, optimizer)
    if sharded:
        plain = accelerator.unwrap_model(model)
    return Session(
        recipe,
        accelerator,
        task,
        card,
        data,
        train_loader,
        val_loader,
        sampler,
        model,
        plain,
        wrapped,
        schedule,
        ema,
        teacher,
    )


def is_first_process() -> bool:
    """Whether this process speaks and writes for all, as the launchers say before they have met."""
    return int(os.environ.get("RANK", "0")) == 0


def alone(folder: Path | str, job: str) -> AbstractContextManager[None]:
    """Hold the lock of a run folder; of several processes of one run the first one holds it for all."""
    return writing(folder, job) if is_first_process() else nullcontext()


def build_accelerator(recipe: Recipe) -> Accelerator:
    """Join the other processes, if any, and choose device and precision.

    Raises:
        ConfigError: A device that this machine does not have.
        SaccadeError: The port that the processes meet on is in use.
    """
    device = recipe.run.device
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("run.device is cuda but torch sees no CUDA device; leave --device out or use cpu")
    if device == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("run.device is mps but torch sees none; leave --device out or use cpu")
    if PartialState._shared_state.get("_num_processes", 1) == 1 and not torch.distributed.is_initialized():
        # An earlier run in this process may have fixed another device or precision.
        AcceleratorState._reset_state(True)
    precision = {"float32": "no"}.get(recipe.run.precision, recipe.run.precision)
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if several and (device == "cpu" or (device == "auto" and not torch.accelerator.is_available())):
        # Without this, processes on a CPU would not meet: each would train alone, into the same folder.
        os.environ.setdefault("ACCELERATE_USE_CPU", "true")
    try:
        return Accelerator(
            cpu=device == "cpu",
            mixed_precision=precision,
            kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)],
        )
    except (RuntimeError, OSError) as error:
        text = str(error)
        if getattr(error, "errno", None) == errno.EADDRINUSE or "EADDRINUSE" in text or "in use" in text:
            raise SaccadeError(
                "the port that the training processes meet on is in use; give another one to the launcher, "
                "such as: accelerate launch --main_process_port 29501 ..."
            ) from None
        raise


def _start(recipe: Recipe) -> tuple[nn.Module, Card]:
    """Open the weights to start from; of a file that does not say so itself, they are of the recipe's model."""
    asked = Source(recipe.model.weights)
    if not asked.model and recipe.model.name.startswith(FOREIGN) and card_of_source(asked) is None:
        asked = Source(asked, model=recipe.model.name)
    return load_model(asked, recipe.model.options)


def plan_model(recipe: Recipe, task: Task) -> Card:
    """Describe the network before it exists: name, options and evaluation transform.

    Returns:
        The card, still without labels.

    Raises:
        ConfigError: Weights of another model, or options that are not the model's to take.
    """
    start = Card(
        model=recipe.model.name,
        options=dict(recipe.model.options),
        task=recipe.task,
        head=recipe.model.head,
        head_options=dict(recipe.model.head_options),
    )
    task.complete(start)
    if recipe.model.weights:
        _, found = _start(recipe)
        if not task.takes(found, start):
            raise ConfigError(
                f"{recipe.model.weights} holds {found.model} and model.name is {recipe.model.name}; "
                f"train with --model {found.model}, or leave --weights out"
            )
        if found.task == start.task:
            start.preprocess = found.preprocess
        start.in_chans = found.in_chans
    for name in ("num_classes", "in_chans", "pretrained", "features_only", "out_indices"):
        if name in recipe.model.options:
            raise ConfigError(
                f"model.options has {name}, which follows from the data or has a setting of its own"
            )
    usual = start.preprocess if task.size_from_data else task.preprocess(start)
    start.preprocess = {**usual, **recipe.model.preprocess}
    return start


def build_network(recipe: Recipe, task: Task, card: Card, log: Log) -> tuple[nn.Module, bool]:
    """Build the network with the weights it starts from.

    Returns:
        The network, and whether it starts from trained weights.

    Raises:
        WeightsError: Weights that were asked for and cannot be had.
    """
    source = recipe.model.weights
    if source:
        old, found = _start(recipe)
        if found.task != recipe.task:
            model = task.build(card)
            task.adopt(model, old, found)
            log(f"{source} gives the backbone; the rest starts fresh")
            return model, True
        same = found.num_classes == card.num_classes and (not found.labels or found.labels == card.labels)
        if (found.options, found.head, found.head_options) == (card.options, card.head, card.head_options):
            if not same:
                log(f"{source} knows {found.num_classes} other classes; the classifier starts fresh")
                assert isinstance(old, Headed)
                old.reset_classifier(card.num_classes)
            return old.train(), True
        model = task.build(card)
        if not same:
            assert isinstance(old, Headed)
            old.reset_classifier(card.num_classes)
            fresh_head = {k: v for k, v in model.state_dict().items() if k.startswith("head")}
            old.load_state_dict(
                {**old.state_dict(), **{k: v for k, v in fresh_head.items() if k in old.state_dict()}}
            )
        load_weights(model, old.state_dict(), strict=False)
        return model, True
    if recipe.model.pretrained != "no":
        try:
            return task.build(card, pretrained=True), True
        except WeightsError as error:
            if recipe.model.pretrained == "yes":
                raise
            log(f"starting from random weights: {error}")
    return task.build(card), False


def build_loaders(
    recipe: Recipe, task: Task, data: TaskData, accelerator: Accelerator
) -> tuple[Iterable[Batch], Iterable[Batch], Any]:
    """Make both loaders and the sampler that says where an epoch begins."""
    rank, world = accelerator.process_index, accelerator.num_processes
    config: DataConfig = recipe.data
    batch = chosen_value(config.batch)
    pin = accelerator.device.type == "cuda"
    sampler: Any = EpochSampler(
        len(data.train),
        seed=recipe.run.seed,
        batch=batch,
        rank=rank,
        world=world,
        repeats=config.repeats,
        groups=getattr(data.train, "groups", None),
    )
    if recipe.run.overfit:
        sampler = FixedBatch(sampler)
    assert data.train is not None
    ordered = OrderedSampler(len(data.val), batch=2 * batch, rank=rank, world=world)
    train = build_loader(data.train, sampler, workers=config.workers, collate=task.collate, pin_memory=pin)
    val = build_loader(data.val, ordered, workers=config.workers, collate=task.collate, pin_memory=pin)
    return train, val, sampler


def check_sharded(recipe: Recipe, sharded: bool) -> None:
    """Refuse what needs whole parameters when they are spread over processes.

    Raises:
        ConfigError: The average of the weights or adaptive clipping together with FSDP, or FSDP where
            Accelerate has none (it would go on without a word).
    """
    if not sharded:
        if os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true":
            raise ConfigError("FSDP was asked for, but it needs several GPU processes; leave --use_fsdp out")
        return
    if recipe.ema.decay:
        raise ConfigError("the average of the weights needs them whole; with FSDP pass --ema.decay 0")
    if recipe.optim.clip == "agc":
        raise ConfigError("adaptive clipping needs whole parameters; with FSDP pass --optim.clip norm")


class AutocastCopy(nn.Module):
    """The running average under the run's precision, as the loss and the metrics see it."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        assert session.ema is not None
        self.module, self.accelerator = session.ema.module, session.accelerator

    def forward(self, *inputs: torch.Tensor) -> Any:
        """Run the average."""
        with self.accelerator.autocast():
            return self.module(*inputs)


def describe(session: Session) -> dict[str, Any]:
    """Log in plain values what is about to be trained, for env.json and the first line."""
    return {
        "model": session.card.model,
        "classes": session.card.num_classes,
        "size": session.card.preprocess["size"],
        "parameters": sum(p.numel() for p in session.plain.parameters()),
        "training_images": len(session.data.train),
        "validation_images": len(session.data.val),
        "processes": session.accelerator.num_processes,
        "device": str(session.accelerator.device),
        "precision": session.recipe.run.precision,
        "threads": session.recipe.run.threads,
    }
