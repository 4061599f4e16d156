"""What detection and segmentation share: whole pictures, networks of a backbone and a head, padded batches."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from saccade.data.builtin import BUILTIN
from saccade.data.config import DataConfig
from saccade.data.dense import PictureDataset, collate_dense
from saccade.data.scenes import SIDE, scenes_folder
from saccade.data.whole import WholePreprocess
from saccade.errors import ConfigError, DataError, did_you_mean
from saccade.files import replacing, within
from saccade.tasks.base import Batch, ExportForm, Net, PredictSettings, Samples, Task, unnamed
from saccade.tasks.classify.task import open_pictures
from saccade.tasks.dense.exported import LEAST
from saccade.tasks.dense.exported import STEP as STEP_OF_FILES
from saccade.tasks.dense.nets import HEADS, build_dense
from saccade.tasks.dense.nets.keymap import identify_mmdet, is_mmdet
from saccade.tasks.dense.nets.network import DenseNet
from saccade.tasks.dense.watch import FiniteParts
from saccade.weights.card import Card

SCENES = "scenes"
STEP = 32
LONG_SIDE = 5 / 3
"""Longest side over the shorter one that a network is given."""


@dataclass
class DenseSettings(PredictSettings):
    """What a detector or segmenter can be asked."""

    draw: bool = True
    """Draw what was found onto each picture, in drawn/."""
    max_pixels: Annotated[int, within(1)] = DataConfig.max_pixels
    """Larger pictures are skipped."""


class DenseTask(Task):
    """A task whose network is a backbone with a head of one kind."""

    size_from_data = True
    text_lists = True
    predict_batch = 1  # pictures of different shapes would be padded to the largest
    into_folder = True
    predict_settings: ClassVar[type[PredictSettings]] = DenseSettings
    kind: ClassVar[str]
    """Of its heads in `HEADS`."""
    default_head: ClassVar[str]
    default_size: ClassVar[int]
    """Shorter side in pixels that pictures are brought to unless they are smaller."""
    rest: ClassVar[str]
    """What remains to be done outside of an exported file."""
    free_outputs: ClassVar[Mapping[int, str]]
    """Axes of the output, behind the batch, that follow the pictures' size."""
    unsupported: ClassVar[Mapping[str, str]] = {
        "explain": "maps of evidence are drawn for classifiers of pictures"
    }

    def shipped_recipe(self, data: str, model: str | None) -> str:
        """The built-in scenes need less than photographs."""
        return f"{'scenes_' if data == 'scenes' else ''}{self.name}{'' if data == 'scenes' else '_small'}"

    def complete(self, card: Card) -> None:
        """Fill in the default head and refuse one of another kind.

        Raises:
            ConfigError: Unknown head, or one that does something else.
        """
        card.head = card.head or self.default_head
        fitting = [name for name, head in HEADS.items() if head.kind == self.kind]
        if card.head not in fitting:
            near = did_you_mean(card.head, fitting) or f"; expected one of {', '.join(fitting)}"
            raise ConfigError(f"task {self.name} has no head {card.head!r}{near}")

    def preprocess(self, card: Card) -> dict[str, Any]:
        """Return the fields of a `WholePreprocess`."""
        return self._preprocess(card).to_dict()

    def _preprocess(
        self, card: Card, data: DataConfig | None = None, sizes: np.ndarray | None = None
    ) -> WholePreprocess:
        """Settle the size: asked for, else the card's, else the pictures' own up to the task's."""
        values = dict(card.preprocess)
        if data is not None and (data.size or "size" not in values):
            size = data.size or self.default_size
            if not data.size and data.source == SCENES:
                size = SIDE
            elif not data.size and sizes is not None and len(sizes):
                usual = float(np.median(sizes.min(1)))
                size = min(size, max(STEP, round(usual / STEP) * STEP))
            values |= {"size": size, "max_size": max(size, data.max_size or round(size * LONG_SIDE))}
        if "size" not in values:
            values |= {"size": self.default_size, "max_size": round(self.default_size * LONG_SIDE)}
        return WholePreprocess.from_dict(values)

    def place(self, spec: str) -> str:
        """Return the folder that a place of data means: the built-in scenes are drawn when first used."""
        name = spec.removeprefix("builtin:")
        if name in BUILTIN and not Path(spec).exists():
            raise DataError(
                f"{spec} holds classes of whole pictures; the built-in data of {self.name} is {SCENES}"
            )
        if name != SCENES and spec and not Path(spec).exists():
            raise DataError(f"{spec}: no such file or folder; the built-in data of {self.name} is {SCENES}")
        return str(scenes_folder()) if name == SCENES else spec

    def collate(self, samples: list[dict[str, Any]]) -> Batch:
        """Join samples into a padded batch; see `collate_dense`."""
        return collate_dense(samples, WholePreprocess())

    def build(self, card: Card, *, pretrained: bool = False) -> nn.Module:
        """Make the network with a fresh head, and a fresh or published backbone."""
        self.complete(card)
        return build_dense(
            card.model,
            card.head,
            card.num_classes,
            in_chans=card.in_chans,
            options=card.options,
            pretrained=pretrained,
            **card.head_options,
        )

    def recognise(self, state: Mapping[str, Tensor], where: str) -> Card | None:
        """Recognise checkpoints of mmdet and mmseg.

        Raises:
            WeightsError: One of theirs, of a network that is none of ours.
        """
        if not is_mmdet(state):
            return None
        card = identify_mmdet(state, where)
        return card if card.task == self.name else None

    def adopt(self, model: nn.Module, old: nn.Module, found: Card) -> None:
        """Take over the backbone of a classifier, or of a detector or segmenter.

        Raises:
            ConfigError: Weights of something else.
        """
        from saccade.zoo.loading import load_weights

        if found.head:
            old = old.backbone  # pyright: ignore[reportAssignmentType]
        elif found.task != "classify":
            raise ConfigError(
                f"weights for the task {found.task} cannot start a network for {self.name}; "
                "pass a classifier's, or leave --weights out"
            )
        backbone: Any = model.backbone
        wanted = backbone.state_dict()
        kept = {name: value for name, value in old.state_dict().items() if name in wanted}
        missing = [name for name in wanted if name not in kept and not name.startswith("norm")]
        if len(missing) > len(wanted) // 2:
            raise ConfigError(f"these weights share no layers with the backbone of {found.model}")
        load_weights(backbone, {**wanted, **kept})

    def sized(self, card: Card, size: int = 0) -> Card:
        """Return a card whose evaluation transform is complete, with another shorter side when `size` is set."""
        whole = self._preprocess(card)
        if size:
            whole = dataclasses.replace(whole, size=size, max_size=max(size, round(size * LONG_SIDE)))
        return dataclasses.replace(card, preprocess=whole.to_dict())

    def open_inputs(self, where: str, card: Card, settings: Any) -> Samples:
        """Open a folder (searched to the bottom), one picture, a table, shards, or scenes."""
        place = str(scenes_folder() / "images" / "val") if where == SCENES else where
        return PictureDataset(
            open_pictures(place), self._preprocess(card), max_pixels=settings.max_pixels, keep=settings.draw
        )

    def from_pictures(self, pictures: Sequence[Image.Image], card: Card) -> Batch | None:
        """Bring pictures through the evaluation transform of a card and pad them."""
        if card.in_chans != 3:
            return None
        whole = self._preprocess(card)
        found = [whole.fast(picture) for picture in pictures]
        sizes = torch.tensor([image.shape[1:] for image, _ in found], dtype=torch.int64)
        batch = {"image": whole.pad([image for image, _ in found]), "size": sizes, **unnamed(len(found))}
        return batch | {"file_size": [size for _, size in found]}

    def watched(self, net: nn.Module) -> nn.Module:
        """Look at the layers of neck and head: a detector drops boxes whose score is NaN without a word."""
        return FiniteParts(net)

    def example(self, card: Card, *, batch: int = 1, seed: int = 0) -> tuple[Tensor, ...]:
        """Make normalised noise, (batch, 3, size, size), both sides multiples of 64."""
        return (noise(card, -(-self._preprocess(card).size // STEP_OF_FILES) * STEP_OF_FILES, batch, seed),)

    def export_form(self, model: nn.Module, card: Card, *, dynamic: bool = False) -> ExportForm:
        """Return what every picture has in common; see `exportable`. A file of fixed size takes the largest picture.

        Raises:
            ConfigError: A network whose second stage depends on what its first one finds.
        """
        whole = self._preprocess(card)
        steps = -(-(whole.size if dynamic else whole.max_size) // STEP_OF_FILES)
        side = max(LEAST, steps * STEP_OF_FILES) if dynamic else steps * STEP_OF_FILES
        free = {name: {0: "batch"} for name in ("image", "output")}
        if dynamic:
            free["image"] |= {2: "height", 3: "width"}
            free["output"] |= self.free_outputs
        return ExportForm(
            self.exportable(model),
            {"image": noise(card, side, 2, 0)},
            ("output",),
            free,
            step=STEP_OF_FILES,
            rest=self.rest,
        )

    @abc.abstractmethod
    def exportable(self, model: nn.Module) -> nn.Module:
        """Return a copy of the part of a network that maps a batch of pictures to one tensor."""

    def compared(self, net: Net, inputs: tuple[Tensor, ...]) -> list[Tensor]:
        """Run a network whole and return the maps that its head stands on; which boxes it keeps, rounding decides."""
        assert isinstance(net, DenseNet)
        net(*inputs)
        return net.levels(*inputs)


def noise(card: Card, side: int, batch: int, seed: int) -> Tensor:
    """Make normal noise (batch, in_chans, side, side)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, card.in_chans, side, side, generator=generator)


def split_indices(count: int, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide the numbers 0 to count - 1 at random: (training, validation), each sorted."""
    order = np.random.default_rng([seed, count]).permutation(count)
    kept = max(1, round(count * fraction))
    return np.sort(order[kept:]), np.sort(order[:kept])


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a PNG in one piece."""
    with replacing(path) as temporary:
        picture.save(temporary, "PNG", compress_level=3)


def file_size(batch: Batch, number: int) -> tuple[int, int]:
    """Return height and width of a sample's file; of plain tensors, of what the network saw."""
    height, width = batch["file_size"][number] if "file_size" in batch else batch["size"][number].tolist()
    return height, width


def shortest(values: Tensor) -> list[float]:
    """Give float32 numbers the fewest digits that restore them, as files hold them: 0.1, not 0.10000000149."""
    return [float(str(value)) for value in values.float().numpy()]
