"""The task interface: all that differs between classification, detection, radar and language.

The engine (train, evaluate, predict, explain, export, verify, bench, serve) knows only this. A task says which data
it reads, how a network runs on a batch, how outputs become losses, metrics, rows and pictures, and what leaves in a
file. Batches are dictionaries; the keys below are common to all tasks, the rest belongs to the task:

    image    (batch, channels, height, width) float32, normalised: the first input of the network (not of `answer`)
    index    (batch,) int64: position of each sample in its data set
    name     list of str: what to call each sample
    skipped  list of (name, reason): samples of this batch that could not be read (already left out or replaced)
    file     list of str, when a prediction is written: a plain name of its own for each sample, without ending
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from saccade.errors import ConfigError
from saccade.page import plain, table
from saccade.shown import markdown

if TYPE_CHECKING:
    from PIL import Image

    from saccade.data.config import AugmentConfig, DataConfig
    from saccade.tasks.evaluation import Evaluation
    from saccade.weights.card import Card

Batch = dict[str, Any]
Net = Callable[..., Any]
"""A module, or a session of a runtime: what `Task.run` calls."""


class Samples(Protocol):
    """Samples in a fixed order."""

    names: Sequence[str]
    """What to call each."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: int, /) -> dict[str, Any]:
        """Make a sample; `DataError` where it cannot be read."""
        ...


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
    plain: Any = None
    """The samples of `train` under the evaluation transform, where a task has them."""


class Metrics(abc.ABC):
    """Gathers outputs over a data set and says how good they are."""

    @abc.abstractmethod
    def update(self, outputs: Any, batch: Batch) -> None:
        """Take in one batch of outputs (on any device)."""

    @abc.abstractmethod
    def merge(self, others: list[Any]) -> None:
        """Take in what other processes gathered (each was pickled between our own processes)."""

    @abc.abstractmethod
    def compute(self) -> dict[str, float]:
        """Return the metrics by name; every value a plain float."""

    def summary(self) -> dict[str, float]:
        """Return what an evaluation shows, in its order: `compute`, and what training has no time for."""
        return self.compute()

    def intervals(self, *, seed: int = 0) -> dict[str, tuple[float, float]]:
        """Return 95 % intervals of the metrics that have one."""
        return {}

    def per_class(self) -> list[dict[str, Any]]:
        """Return one row for each class, for a table; empty where there are no classes."""
        return []

    def hits(self) -> np.ndarray:
        """Return (samples,) whether each came out right, in order; empty where that has no meaning."""
        return np.zeros(0, bool)


class Gallery(Protocol):
    """Keeps samples of an evaluation for its page."""

    def look(self, batch: Batch, outputs: Any) -> None:
        """Take in a batch and what the network gave for it."""
        ...


@dataclass
class PredictSettings:
    """What a task can be asked when it predicts; a subclass adds its own fields, each a flag of `saccade predict`."""


@dataclass
class Section:
    """A part of the evaluation page."""

    title: str
    html: str
    """Made of the pieces of `saccade.page`; everything from outside is escaped already."""
    text: str = ""
    """Its short form in Markdown; empty: it has none."""


@dataclass
class ExportForm:
    """What of a network leaves in a file."""

    module: nn.Module
    """In evaluation mode: maps the inputs to the outputs, all of them tensors."""
    inputs: dict[str, Tensor]
    """Example inputs by name, float32, in the order of the module's arguments; the first axis is the batch."""
    outputs: tuple[str, ...]
    """Names of the outputs."""
    free: dict[str, dict[int, str]] = field(default_factory=dict)
    """Axes of inputs and outputs that may vary: name -> axis -> what it is called (batch, height, width, ...)."""
    step: int = 1
    """Free heights and widths are multiples of this."""
    rest: str = ""
    """What remains to be done outside the file, in words, for the manifest."""


class Exported(abc.ABC):
    """A network's file opened in a runtime: what `Task.run` gets in place of a module."""

    card: Card
    size: tuple[int, int] | None
    """(height, width) that the file takes; None: any."""

    @abc.abstractmethod
    def __call__(self, *inputs: Tensor) -> Any:
        """Run the file: tensors on the CPU in the order of the form's inputs, its outputs back (one: itself)."""


class Task(abc.ABC):
    """What differs between tasks, and nothing else. Stateless but for its configuration."""

    name: ClassVar[str]
    main_metric: ClassVar[str]
    """Which entry of `Metrics.compute()` picks the best checkpoint (larger is better)."""
    predict_settings: ClassVar[type[PredictSettings]] = PredictSettings
    """What can be asked of a prediction."""
    held_out_settings: ClassVar[tuple[str, ...]] = ("size",)
    """Fields of `DataConfig` that an evaluation can be told besides where the data is."""
    samples: ClassVar[str] = "images"
    """What people call its samples."""
    metric_names: ClassVar[Mapping[str, str]] = {}
    """What pages call a metric; one whose name ends in " %" is a share, shown in per cent."""
    unsupported: ClassVar[Mapping[str, str]] = {}
    """What the engine does for other tasks and not for this one: verb (train, evaluate, predict, explain, export,
    bench, check: looking its data over) -> what the user can do instead, the end of a sentence."""

    distils: ClassVar[bool] = False
    """Whether its loss can learn from a teacher (`LossContext.teacher`)."""
    size_from_data: ClassVar[bool] = False
    """Whether `open` chooses the size of the pictures by looking at them, unless a card or the user says it."""
    channels_last: ClassVar[bool] = True
    """Whether its networks take single pictures, which may lie in memory with channels innermost."""
    sparsifies: ClassVar[bool] = False
    """Whether `saccade sparsify` can convert its networks and fine-tune them."""
    labelled_pictures: ClassVar[bool] = False
    """Whether its data are pictures with one label each, which `saccade data check` looks over for doubles too."""
    measured: ClassVar[bool] = False
    """Whether the backend auto means the fastest of a few by measurement, and not PyTorch."""
    predict_batch: ClassVar[int] = 0
    """Samples that `predict` and `evaluate` run at a time unless told otherwise; 0: the fastest of a few sizes."""
    parallel: ClassVar[bool] = True
    """Whether these run a copy of the network on each core, in threads; False: a single one, on all cores."""
    place_flags: ClassVar[Mapping[str, str]] = {}
    """Settings that name a place for this task only, and how they are typed."""
    resizes: ClassVar[bool] = True
    """Whether a prediction brings its inputs to a size."""
    text_lists: ClassVar[bool] = False
    """Whether a text file that is to be predicted on is a list of inputs, and not an input."""
    into_folder: ClassVar[bool] = False
    """Whether a prediction is a folder (rows and pictures) or a single file of rows."""
    phones: ClassVar[bool] = False
    """Whether its networks are known to convert for phones (executorch, litert, coreml) too."""
    agreement: ClassVar[Mapping[str, float]] = {"float32": 0.999, "bf16": 0.98, "int8": 0.95}
    """Share of answers (see `compare`) that a file of each precision must have in common with its network."""
    metric_loss: ClassVar[float] = 0.02
    """How much of the main metric int8 may cost; bf16 half of it, float32 a twentieth where answers say nothing."""

    def refuse(self, verb: str, what: str) -> None:
        """Refuse what this task cannot do, before any work.

        Args:
            verb: A key of `unsupported`.
            what: The network, for the message.

        Raises:
            ConfigError: It cannot.
        """
        if verb in self.unsupported:
            raise ConfigError(
                f"{what} is for the task {self.name}, which cannot {verb}; {self.unsupported[verb]}"
            )

    def shipped_recipe(self, data: str, model: str | None) -> str:
        """Name the shipped recipe that suits when nobody names one.

        Args:
            data: Place of the samples, or a built-in name; may be empty.
            model: What was asked for.
        """
        return "finetune_small"

    def suit_machine(self, recipe: Any, given: Container[str]) -> None:
        """Change what this task needs otherwise on this machine, in a recipe that nobody chose by name.

        Args:
            recipe: Of training; changed in place.
            given: Dotted names of the settings that the user gave, which stay.
        """
        return

    def show_metric(self, value: float) -> str:
        """Print the main metric for people; a share in per cent unless the task says otherwise."""
        return f"{100 * value:.2f} %"

    # -- data and network -------------------------------------------------------------------------

    @abc.abstractmethod
    def preprocess(self, card: Card) -> dict[str, Any]:
        """Return the evaluation transform of a card, else the default of its model; `size` is always there."""

    def sized(self, card: Card, size: int = 0) -> Card:
        """Return a card whose evaluation transform is complete, at `size` pixels when that is set."""
        return dataclasses.replace(
            card, preprocess={**self.preprocess(card), **({"size": size} if size else {})}
        )

    @abc.abstractmethod
    def open(
        self, data: DataConfig, augment: AugmentConfig, card: Card, *, seed: int, train: bool = True
    ) -> TaskData:
        """Find and split the data. `card` names the model, and its labels when they are already fixed."""

    def open_held_out(self, data: DataConfig, card: Card, *, seed: int, kept_back: bool) -> TaskData:
        """Open what to evaluate on, its targets numbered as the network's outputs are.

        Args:
            data: Where: the validation side of `source` where that is divided, else all of it.
            card: Of the weights.
            seed: Of the split that training made.
            kept_back: Training itself kept a part of `source` back, where that is not divided: take that part.
        """
        from saccade.data.config import AugmentConfig

        return self.open(data, AugmentConfig(), card, seed=seed, train=False)

    def open_inputs(self, where: str, card: Card, settings: Any) -> Samples:
        """Open what to predict on: no labels are needed.

        Args:
            where: A place of this task's data, or a single file.
            card: From `sized`.
            settings: Of `predict_settings`.

        Raises:
            DataError: Nothing there.
        """
        raise ConfigError(f"the task {self.name} cannot predict")

    def from_pictures(self, pictures: Sequence[Image.Image], card: Card) -> Batch | None:
        """Make a batch of plain pictures in memory; None where the network takes something else."""
        return None

    def from_memory(self, one: Any, card: Card) -> Batch | None:
        """Make a batch of something of this task's own in memory; None where it is no such thing."""
        return None

    @abc.abstractmethod
    def collate(self, samples: list[dict[str, Any]]) -> Batch:
        """Join samples of a data set into one batch."""

    @abc.abstractmethod
    def build(self, card: Card, *, pretrained: bool = False) -> nn.Module:
        """Make the network a card describes, with fresh weights, or as far as there are any with published ones.

        Raises:
            WeightsError: Published weights were asked for and cannot be had.
        """

    def recognise(self, state: Mapping[str, Tensor], where: str) -> Card | None:
        """Return the card of a checkpoint without one that belongs to this task; None where it does not."""
        return None

    def check_stored(self, card: Card, where: Path | str) -> None:  # noqa: B027 (most cards name nothing else)
        """Check what the card of a file names outside of that file, before a network is built; may mark it in place.

        Args:
            card: As read.
            where: The file.

        Raises:
            ConfigError: A place that takes the user's own word (`saccade.trust`).
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

    # -- training ---------------------------------------------------------------------------------

    def mix(self, batch: Batch, augment: AugmentConfig, card: Card, *, seed: int) -> Batch:
        """Apply augmentation that needs the whole batch (mixup); a pure function of batch and seed."""
        return batch

    @abc.abstractmethod
    def loss(self, model: nn.Module, batch: Batch, context: LossContext) -> dict[str, Tensor]:
        """Run the network and return at least {"loss": scalar}; further entries are logged."""

    # -- outputs ----------------------------------------------------------------------------------

    def run(self, net: Net, batch: Batch) -> Any:
        """Run a network on a batch and finish its outputs: boxes selected, views joined, text generated.

        Args:
            net: A module on any device, or a session of an exported file (`Exported`): the same outputs.
            batch: From `collate`.
        """
        return net(batch["image"].to(device_of(net), non_blocking=True))

    def watched(self, net: nn.Module) -> nn.Module:
        """Return a network that gives NaN for a sample for which numbers inside it are not finite.

        Args:
            net: In evaluation mode.
        """
        return net

    @abc.abstractmethod
    def metrics(self, card: Card) -> Metrics:
        """Make an empty accumulator."""

    @abc.abstractmethod
    def rows(self, outputs: Any, batch: Batch, card: Card, settings: Any) -> list[dict[str, Any]]:
        """Turn outputs into one row for each sample that says everything: what CSV, JSON lines and HTTP carry."""

    def vector_width(self, card: Card) -> int:
        """Return how many raw numbers of a sample go into an .npz; 0: none."""
        return 0

    def vectors(self, outputs: Any) -> Tensor | None:
        """Return (batch, `vector_width`) raw outputs for .npz; None where a task has none."""
        return None

    def write(  # noqa: B027 (most tasks have nothing to write)
        self, outputs: Any, batch: Batch, card: Card, settings: Any, folder: Path
    ) -> None:
        """Write what belongs to a prediction beside its rows: maps, drawings, images.

        Args:
            outputs: From `run`.
            batch: What it ran on; its `file` says what to call what is written about each sample.
            card: Of the weights.
            settings: Of `predict_settings`.
            folder: Of the prediction.
        """

    def embedding(self, model: nn.Module, card: Card) -> nn.Module:
        """Return a network that gives one vector for each sample: its features, without its classifier.

        Raises:
            ConfigError: This task has none.
        """
        raise ConfigError(
            f"{card.model} is for the task {self.name}, whose networks give no vectors; name weights of a classifier"
        )

    def gallery(self, card: Card, keep: int) -> Gallery | None:
        """Return what keeps up to `keep` samples for the evaluation page; None: none is kept."""
        return None

    def report(self, found: Evaluation) -> list[Section]:
        """Return the sections of the evaluation page of this task: a table by class, unless it has more."""
        return class_sections(found.per_class)

    # -- leaving ----------------------------------------------------------------------------------

    @abc.abstractmethod
    def example(self, card: Card, *, batch: int = 1, seed: int = 0) -> tuple[Tensor, ...]:
        """Make inputs of the right shape for export, verification and benchmarks."""

    def exported(self, session: Exported, card: Card) -> Net:
        """Return what `run` calls for an exported file, so that it gives what the module gives.

        Args:
            session: The opened file.
            card: What it is.
        """
        return session

    def export_form(self, model: nn.Module, card: Card, *, dynamic: bool = False) -> ExportForm:
        """Return what of a network leaves in a file: what `example` makes goes in, one tensor comes out.

        Args:
            model: In evaluation mode, folded or not; not changed.
            card: What it is, from `sized`.
            dynamic: Leave height and width free.

        Raises:
            ConfigError: A network that cannot leave, or not with free sizes.
        """
        found = self.example(card, batch=2)
        inputs = {"image" if not n else f"input_{n}": value for n, value in enumerate(found)}
        free = {name: {0: "batch"} for name in (*inputs, "output")}
        if dynamic and (len(found) != 1 or found[0].ndim != 4):
            raise ConfigError(f"{card.model} takes inputs of a fixed size; leave out --dynamic")
        if dynamic:
            free["image"] |= {2: "height", 3: "width"}
        return ExportForm(model, inputs, ("output",), free)

    def compare(self, got: Any, want: Any) -> tuple[int, int]:
        """Compare the answers of two networks to a batch: how many there are, and how many are not the same.

        (0, 0) where outputs are no answers that can be counted.
        """
        return 0, 0

    def compared(self, net: Net, inputs: tuple[Tensor, ...]) -> list[Tensor]:
        """Run a module and return the tensors that any form of it must have in common."""
        found = net(*inputs)
        return [found] if isinstance(found, Tensor) else list(found)


@dataclass
class LossContext:
    """What a loss may know besides the batch."""

    progress: float
    """Fraction of the whole training done, in [0, 1]."""
    kind: str = "cross_entropy"
    target_threshold: float = 0.0
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


def unnamed(count: int) -> Batch:
    """Return what is common to all batches, for samples that have no name."""
    return {"index": torch.arange(count), "name": [str(place) for place in range(count)], "skipped": []}


def device_of(net: Net) -> torch.device:
    """Return where a network takes its inputs: a module's first tensor's device, the CPU for sessions."""
    if isinstance(net, nn.Module):
        for tensor in (*net.parameters(), *net.buffers()):
            return tensor.device
    return torch.device("cpu")


def class_sections(rows: Sequence[Mapping[str, Any]]) -> list[Section]:
    """Return a section with a table by class; none without classes."""
    if not rows:
        return []

    def shown(value: Any) -> str:
        return "-" if value is None else f"{value:.4f}" if isinstance(value, float) else plain(value)

    names = list(rows[0])
    lines = ["| " + " | ".join(markdown(name) for name in names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(markdown(shown(row[name])) for name in names) + " |" for row in rows]
    html = f"<section><h2>Class by class</h2>{table(rows, show=shown)}</section>"
    return [Section("Class by class", html, "\n".join(lines))]
