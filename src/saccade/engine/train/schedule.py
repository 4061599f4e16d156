"""The learning rate as a pure function of the step: nothing to save, nothing to get out of step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from saccade.engine.train.recipe import ScheduleConfig, chosen_value
from saccade.errors import ConfigError


@dataclass(frozen=True)
class Schedule:
    """Cosine, steps or a power, with linear warm-up; the cosine also with floor and cooldown."""

    config: ScheduleConfig
    """Resolved: `epochs` set, `warmup_epochs` not negative."""
    peak: float
    """Learning rate at the top."""
    steps_per_epoch: int

    @property
    def epochs(self) -> int:
        """Epochs before the cooldown."""
        return chosen_value(self.config.epochs)

    @property
    def num_epochs(self) -> int:
        """Epochs run in all, cooldown included."""
        return self.epochs + self.config.cooldown_epochs

    @property
    def num_steps(self) -> int:
        """Steps run in all."""
        return self.config.steps or self.num_epochs * self.steps_per_epoch

    def progress(self, step: int) -> float:
        """Fraction of the epochs before the cooldown that is done at the start of `step`, in [0, 1]."""
        return min(1.0, step / (self.config.steps or self.epochs * self.steps_per_epoch))

    def lr(self, step: int) -> float:
        """Learning rate of `step`, counted from 0.

        Time is measured in iterations or whole epochs (`per`), shifted back by one unit when `late`.
        """
        config = self.config
        unit = self.steps_per_epoch if config.per == "epoch" else 1
        now = step // unit
        if config.late:
            now = max(0, now - 1)
        whole = (config.steps or self.epochs * self.steps_per_epoch) / unit
        warmup = config.warmup_epochs * self.steps_per_epoch / unit
        if now < warmup:
            return config.warmup_lr + (self.peak - config.warmup_lr) * now / warmup
        if config.shape == "step":
            passed = sum(step >= round(epoch * self.steps_per_epoch) for epoch in config.milestones)
            return self.peak * config.gamma**passed
        if config.warmup_prefix:
            now, whole = now - warmup, whole - warmup
        if now >= whole:
            return config.min_lr
        if config.shape == "poly":
            return config.min_lr + (self.peak - config.min_lr) * (1 - now / whole) ** config.power
        return config.min_lr + 0.5 * (self.peak - config.min_lr) * (1 + math.cos(math.pi * now / whole))


def peak_lr(lr: float, lr_batch: int, global_batch: int) -> float:
    """Scale a base learning rate by the global batch: lr * global_batch / lr_batch, or `lr` when that is 0."""
    return lr * global_batch / lr_batch if lr_batch else lr


def make_schedule(config: ScheduleConfig, peak: float, steps_per_epoch: int) -> Schedule:
    """Make a schedule and check that it can run.

    Raises:
        ConfigError: No epochs, or a warm-up longer than the run.
    """
    if config.epochs is None or config.epochs < 1 or steps_per_epoch < 1:
        raise ConfigError(
            f"schedule.epochs is {config.epochs or 0}; a run needs at least 1 epoch of at least 1 step"
        )
    if not 0 <= config.warmup_epochs <= config.epochs:
        raise ConfigError(
            f"schedule.warmup_epochs is {config.warmup_epochs:g} but should be between 0 and {config.epochs}"
        )
    return Schedule(config, peak, steps_per_epoch)
