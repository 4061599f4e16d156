"""The task interface: all that differs between classification, detection, radar and language.

`train`, `evaluate`, `predict`, `explain`, `export` and `bench` know only this. A task says which data it
reads, how a batch becomes a loss, how outputs become marks and rows, and what an example input looks like.
Batches are dictionaries; the keys below are common to all tasks, the rest belongs to the task:

    image   (batch, channels, height, width) float32, normalised: the first input of the network (not of `answer`)
    index   (batch,) int64: position of each sample in its data set
    name    list of str: what to call each sample in reports
    broken  list of (name, reason): samples of this batch that could not be read (already left out or replaced)
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from saccade.errors import ConfigError

if TYPE_CHECKING:
    from saccade.data.config import AugmentConfig, DataConfig
    from saccade.weights.card import Card

Batch = dict[str, Any]


@dataclass
class TaskData:
    """The two sides of a task's data and what a network must know of them."""

    train: Any
    """Training samples, augmented; None when only `val` was asked for."""
    val: Any
    """Validation samples under the evaluation transform, in a fixed order."""
    labels: list[str]
    """Class names in the order of the outputs; empty where a task has none."""
    preprocess: dict[str, Any]
    """The evaluation transform as a dictionary, for the card."""
    notes: list[str] = field(default_factory=list)
    """Lines worth telling the user: how the split was made, what was left out."""


class Marks(abc.ABC):
    """Gathers outputs over a data set and says how good they are."""

    @abc.abstractmethod
    def update(self, outputs: Any, batch: Batch) -> None:
        """Take in one batch of outputs (on any device)."""

    @abc.abstractmethod
    def merge(self, others: list[Marks]) -> None:
        """Take in what other processes gathered (each was pickled between our own processes)."""

    @abc.abstractmethod
    def compute(self) -> dict[str, float]:
        """Return the marks by name; every value a plain float."""


class Task(abc.ABC):
    """What differs between tasks, and nothing else. Stateless but for its configuration."""

    name: ClassVar[str]
    main_mark: ClassVar[str]
    """Which entry of `Marks.compute()` picks the best checkpoint (larger is better)."""

    size_from_data: ClassVar[bool] = False
    """Whether `open` chooses the size of the pictures by looking at them, unless a card or the user says it."""

    distils: ClassVar[bool] = False
    """Whether its loss can learn from a teacher (`LossContext.teacher`)."""

    channels_last: ClassVar[bool] = True
    """Whether its networks take single pictures, which may lie in memory with channels innermost."""

    def show_mark(self, value: float) -> str:
        """Print the main mark for people; a share in per cent unless the task says otherwise."""
        return f"{100 * value:.2f} %"

    @abc.abstractmethod
    def preprocess(self, card: Card) -> dict[str, Any]:
        """Return the evaluation transform of a card, else the default of its model; `size` is always there."""

    @abc.abstractmethod
    def open(
        self, data: DataConfig, augment: AugmentConfig, card: Card, *, seed: int, train: bool = True
    ) -> TaskData:
        """Find and split the data. `card` names the model, and its labels when they are already fixed."""

    @abc.abstractmethod
    def collate(self, samples: list[dict[str, Any]]) -> Batch:
        """Join samples of a data set into one batch."""

    @abc.abstractmethod
    def build_model(self, card: Card, *, pretrained: bool = False) -> nn.Module:
        """Make the network a card describes, with fresh weights, or as far as there are any with published ones.

        Raises:
            WeightsError: Published weights were asked for and cannot be had.
        """

    def complete(self, card: Card) -> None:
        """Fill in what a card leaves open before its network exists, and refuse what cannot be.

        Raises:
            ConfigError: A head where the task has none.
        """
        if card.head or card.head_options:
            raise ConfigError(
                f"model.head is {card.head or card.head_options}, but task {self.name} has no heads"
            )

    def takes(self, found: Card, card: Card) -> bool:
        """Whether weights of a network `found` can start the network `card`."""
        return found.model == card.model

    def adopt(self, model: nn.Module, old: nn.Module, found: Card) -> None:
        """Take over what a network of another task can give to a fresh one.

        Raises:
            ConfigError: It can give nothing.
        """
        raise ConfigError(f"the weights are for the task {found.task}; expected {self.name}")

    @abc.abstractmethod
    def mix(self, batch: Batch, augment: AugmentConfig, card: Card, *, seed: int) -> Batch:
        """Apply augmentation that needs the whole batch (mixup); a pure function of batch and seed."""

    @abc.abstractmethod
    def loss(self, model: nn.Module, batch: Batch, context: LossContext) -> dict[str, Tensor]:
        """Run the network and return at least {"loss": scalar}; further entries are logged."""

    def outputs(self, model: Callable[..., Any], batch: Batch, device: torch.device | str) -> Any:
        """Run the network on a batch, for marks and rows."""
        return model(batch["image"].to(device, non_blocking=True))

    @abc.abstractmethod
    def marks(self, card: Card) -> Marks:
        """Make an empty accumulator."""

    @abc.abstractmethod
    def rows(self, outputs: Any, batch: Batch, card: Card) -> list[dict[str, Any]]:
        """Turn outputs into one flat row a sample, for tables, CSV and JSON lines."""

    @abc.abstractmethod
    def example_inputs(self, card: Card, *, batch: int = 1, seed: int = 0) -> tuple[Tensor, ...]:
        """Make inputs of the right shape for export, verification and benchmarks."""


@dataclass
class LossContext:
    """What a loss may know besides the batch."""

    progress: float
    """Fraction of the whole training done, in [0, 1]."""
    label_smoothing: float = 0.0
    teacher: nn.Module | None = None
    """Maps the batch's inputs to answers in the order of the student's classes; frozen, on the batch's device."""
    distill: str = "none"
    """none, soft or hard."""
    distill_alpha: float = 0.5
    distill_tau: float = 1.0
    ema: Callable[[Tensor], Any] | None = None
    """The network with the running average of the weights, when one is kept."""
    mesa: float = 0.0
    """Weight of the self-distillation term from `ema` (MESA); 0: off."""
    mesa_start: float = 0.25
    """Progress at which MESA begins."""
