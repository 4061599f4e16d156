"""Semantic segmentation: a picture in, a class for every pixel out. Mean intersection over union."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.data.config import AugmentConfig, DataConfig
from saccade.data.dense import MapDataset, map_values
from saccade.data.dense_augment import IGNORED, build_dense_augmentation
from saccade.data.layout import Part, find_maps, list_pictures
from saccade.errors import ConfigError, DataError
from saccade.extras import require
from saccade.files.pictures import open_picture
from saccade.tasks.base import Batch, Exported, LossContext, Metrics, Net, TaskData
from saccade.tasks.dense.draw import draw_map
from saccade.tasks.dense.exported import PaddedFile
from saccade.tasks.dense.nets.segmenter import Segmenter
from saccade.tasks.dense.task import DenseTask, file_size, save_picture, shortest, split_indices
from saccade.weights.card import Card

SCANNED = 200
"""Class maps that are read to find the classes when no file names them."""


class Segment(DenseTask):
    """A class of `card.labels` for every pixel."""

    name = "segment"
    main_metric = "miou"
    metric_names: ClassVar = {
        "miou": "Mean IoU %",
        "macc": "Mean class accuracy %",
        "aacc": "Pixel accuracy %",
    }
    kind = "segment"
    default_head = "semantic_fpn"
    default_size = 512
    rest = "the output has a logit a class for every pixel; what remains is to cut the padding and take the largest"
    free_outputs: ClassVar[Mapping[int, str]] = {2: "height", 3: "width"}

    def open(
        self, data: DataConfig, augment: AugmentConfig, card: Card, *, seed: int, train: bool = True
    ) -> TaskData:
        """Open pictures with class maps.

        Args:
            data: `source` (and `val`): a folder in one of the layouts of `data.layout`, or `scenes`.
            augment: Its `geometry`, mirrors and `photometric`.
            card: Its labels, when it has any, fix the number and names of the classes.
            seed: Of the split, when one is made.
            train: False: open only validation pictures.

        Raises:
            DataError: No such data, or data that cannot be used.
        """
        self.complete(card)
        if not data.source:
            raise DataError(
                "no data was given; name a folder of pictures and class maps, or scenes, with --data"
            )
        where = self.place(data.source)
        parts, names, ade = find_maps(where)
        pairs = {side: _pairs(part, where) for side, part in parts.items()}
        notes = [note for _, _, lines in pairs.values() for note in lines]
        if data.val:
            other, _, _ = find_maps(self.place(data.val))
            chosen = other.get("val") or other.get("all") or other["train"]
            pairs["val"] = _pairs(chosen, data.val)
        whole = pairs.get("train") or pairs.get("all") or pairs["val"]
        ignored = (*data.ignored, 0) if ade else data.ignored
        names = [name for value, name in enumerate(names, start=int(ade)) if value not in ignored]
        if card.labels and names and names != card.labels:
            raise DataError(
                f"{where}: its {len(names)} classes ({names[0]}, ...) are not the model's {len(card.labels)} "
                f"({card.labels[0]}, ...), in the same order"
            )
        levels, said = find_levels(whole[1], ignored, len(card.labels or names))
        notes += said
        names = list(card.labels) or names or [f"class {value}" for value in levels]
        sizes = np.array([_size(path) for path in whole[0][:50]])
        preprocess = self._preprocess(card, data, sizes)

        def dataset(files: tuple[list[Path], list[Path]], **options: Any) -> MapDataset:
            options |= {"where": where, "levels": levels, "ignored": ignored, "max_pixels": data.max_pixels}
            return MapDataset(files[0], files[1], names, preprocess, **options)

        if "val" in pairs:
            learned, held = whole[:2], pairs["val"][:2]
        else:
            if not 0 < data.val_fraction < 1 or len(whole[0]) < 2:
                raise ConfigError(
                    f"data.val_fraction is {data.val_fraction:g} of {len(whole[0])} pictures; name data.val"
                )
            kept, out = split_indices(len(whole[0]), data.val_fraction, seed)
            learned, held = (tuple([files[i] for i in side] for files in whole[:2]) for side in (kept, out))
            notes.append(f"validation: {len(out)} of {len(whole[0])} pictures kept back (seed {seed})")
        val = dataset(held)  # pyright: ignore[reportArgumentType]
        if not train:
            return TaskData(None, val, names, preprocess.to_dict(), notes)
        change = build_dense_augmentation(augment, preprocess)
        return TaskData(dataset(learned, augment=change), val, names, preprocess.to_dict(), notes)  # pyright: ignore

    def open_held_out(self, data: DataConfig, card: Card, *, seed: int, kept_back: bool) -> TaskData:
        """Open pictures with class maps to judge weights by."""
        if not kept_back:  # all of a folder that is not divided
            data = dataclasses.replace(data, val=data.source)
        return self.open(data, AugmentConfig(), card, seed=seed, train=False)

    def loss(self, model: nn.Module, batch: Batch, context: LossContext) -> dict[str, Tensor]:
        """Sum the head's losses."""
        parts: dict[str, Tensor] = model(batch["image"], batch["size"], batch["targets"])
        return {"loss": torch.stack(list(parts.values())).sum(), **parts}

    def exportable(self, model: nn.Module) -> nn.Module:
        """Return logits at the pictures' size."""
        assert isinstance(model, Segmenter)
        return model.export_form()

    def exported(self, session: Exported, card: Card) -> Net:
        """Return what cuts the padding off the logits of a file."""
        return PaddedFile(session, lambda outputs, ran, shown: outputs[:, :, : shown[0], : shown[1]].clone())

    def compare(self, got: Tensor, want: Tensor) -> tuple[int, int]:
        """Count the pixels, and those of another class."""
        return want[:, 0].numel(), int((got.argmax(1) != want.argmax(1)).sum())

    def metrics(self, card: Card) -> SegmentMetrics:
        """Make an empty accumulator."""
        return SegmentMetrics(card.labels)

    def rows(self, outputs: Tensor, batch: Batch, card: Card, settings: Any) -> list[dict[str, Any]]:
        """Turn logits into rows: the picture's size, its map, and the share that each class covers above 0.1 %."""
        rows = []
        for number, name in enumerate(batch["name"]):
            height, width = file_size(batch, number)
            classes = self._map(outputs, batch, number)
            shares = torch.bincount(classes.flatten(), minlength=len(card.labels)) / classes.numel()
            named = zip(card.labels, shortest(shares), strict=True)
            row: dict[str, Any] = {"name": name, "height": height, "width": width}
            if "file" in batch:  # what `write` calls it
                row["map"] = f"maps/{batch['file'][number]}.png"
            row["shares"] = {label: share for label, share in named if share > 0.001}
            rows.append(row)
        return rows

    def write(self, outputs: Tensor, batch: Batch, card: Card, settings: Any, folder: Path) -> None:
        """Write the class map of every picture into maps/, and the picture tinted by it into drawn/."""
        for number, name in enumerate(batch["file"]):
            classes = self._map(outputs, batch, number)
            kind = "uint8" if len(card.labels) < 255 else "uint16"
            save_picture(Image.fromarray(classes.numpy().astype(kind)), folder / "maps" / f"{name}.png")
            if settings.draw:
                drawn = draw_map(Image.fromarray(batch["pixels"][number]), classes, card.labels)
                save_picture(drawn, folder / "drawn" / f"{name}.png")

    def _map(self, outputs: Tensor, batch: Batch, number: int) -> Tensor:
        """Decide every pixel of a sample's file."""
        height, width = batch["size"][number].tolist()
        return class_map(outputs[number], (height, width), file_size(batch, number))


MAX_GROWN = 1 << 28
"""Numbers that logits at a file's size hold at a time: 1 GiB."""


def class_map(logits: Tensor, shown: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Decide every pixel of a file.

    Args:
        logits: (classes, H, W) of the padded batch.
        shown: Height and width of the resized picture in it.
        size: Height and width of the file.

    Returns:
        (height, width) int64 class numbers.
    """
    cut = logits[None, :, : shown[0], : shown[1]].float()
    if tuple(shown) == tuple(size):
        return cut[0].argmax(0)
    step = max(1, MAX_GROWN // (size[0] * size[1]))
    if step >= cut.shape[1]:
        return F.interpolate(cut, size, mode="bilinear", align_corners=False)[0].argmax(0)
    # Some classes at a time: all of them at the size of a large file would not fit into memory.
    best = torch.full(size, -torch.inf, device=cut.device)
    numbers = torch.zeros(size, dtype=torch.int64, device=cut.device)
    for first in range(0, cut.shape[1], step):
        grown = F.interpolate(cut[:, first : first + step], size, mode="bilinear", align_corners=False)
        value, number = grown[0].max(0)
        better = value > best
        best[better] = value[better]
        numbers[better] = number[better] + first
    return numbers


class SegmentMetrics(Metrics):
    """A confusion matrix over pixels, at the files' own sizes."""

    def __init__(self, labels: list[str]) -> None:
        self.labels = list(labels)
        self.confusion = np.zeros((len(labels), len(labels)), np.int64)
        self.seen: set[int] = set()

    def update(self, outputs: Tensor, batch: Batch) -> None:
        """Take in logits (batch, classes, H, W)."""
        metrics: Any = require("torchmetrics.functional.classification", "dense", "to score class maps")
        for number, truth in enumerate(batch["truth"]):
            high, wide = (int(side) for side in batch["size"][number])
            answers = class_map(outputs[number], (high, wide), (truth.shape[0], truth.shape[1])).cpu()
            counts = metrics.multiclass_confusion_matrix(
                answers, truth, num_classes=len(self.labels), ignore_index=IGNORED
            )
            self.confusion += counts.numpy().astype(np.int64)
            self.seen.add(int(batch["index"][number]))

    def merge(self, others: list[Metrics]) -> None:
        """Add what other processes saw."""
        for other in others:
            assert isinstance(other, SegmentMetrics)
            self.confusion += other.confusion
            self.seen |= other.seen

    def compute(self) -> dict[str, float]:
        """Return miou, macc (mean accuracy over classes that occur), aacc (over pixels) and the count of pictures."""
        if not self.seen:
            return {"count": 0.0}
        rows = self.per_class()
        present = [row for row in rows if row["iou"] is not None]
        accuracies = [row["accuracy"] for row in rows if row["accuracy"] is not None]
        total = max(1, int(self.confusion.sum()))
        return {
            "miou": float(np.mean([row["iou"] for row in present])) if present else 0.0,
            "macc": float(np.mean(accuracies)) if accuracies else 0.0,
            "aacc": float(np.trace(self.confusion)) / total,
            "count": float(len(self.seen)),
        }

    def per_class(self) -> list[dict[str, Any]]:
        """Return one row a class: its share of the pixels, iou and accuracy (None: it does not occur)."""
        hits = np.diag(self.confusion)
        truth, answers = self.confusion.sum(1), self.confusion.sum(0)
        union = truth + answers - hits
        total = max(1, int(truth.sum()))
        return [
            {
                "label": label,
                "pixels": float(truth[i] / total),
                "iou": float(hits[i] / union[i]) if union[i] else None,
                "accuracy": float(hits[i] / truth[i]) if truth[i] else None,
            }
            for i, label in enumerate(self.labels)
        ]


def _pairs(part: Part, where: str) -> tuple[list[Path], list[Path], list[str]]:
    """Pair pictures with class maps by name; pictures without one are left out and counted."""
    maps = {_stem(path): path for path in sorted(part.annotations.rglob("*.png")) if _is_map(path)}
    pictures = [path for folder in part.pictures for path in list_pictures(folder)]
    both = [(path, maps[_stem(path)]) for path in pictures if _stem(path) in maps]
    if not both:
        raise DataError(
            f"{where}: no picture in {part.pictures[0]} has a class map of its name in {part.annotations}"
        )
    notes = [f"{part.annotations}: {len(both)} pictures with class maps"]
    if missing := len(pictures) - len(both):
        notes.append(f"{missing} pictures are left out because they have no class map")
    return [picture for picture, _ in both], [path for _, path in both], notes


ENDS = (
    "_gtFine_labelTrainIds",
    "_gtFine_labelIds",
    "_leftImg8bit",
    "_mask",
    "_label",
    "_labels",
    "_seg",
    "_L",
)
"""What tools put behind the name of a picture or of its map."""
LEAST_STEP = 8
"""Values that lie so far apart, and are not 0, 1, 2, ..., are levels of grey and no class numbers."""


def _stem(path: Path) -> str:
    """Name of a picture or map without its ending and what a tool put behind it."""
    return next((path.stem.removesuffix(end) for end in ENDS if path.stem.endswith(end)), path.stem)


def _is_map(path: Path) -> bool:
    """Whether a PNG is a class map: of Cityscapes' four a picture, that of the numbers to train on."""
    return "_gtFine_" not in path.stem or path.stem.endswith("_gtFine_labelTrainIds")


def find_levels(
    maps: list[Path], ignored: Sequence[int], num_classes: int
) -> tuple[tuple[int, ...], list[str]]:
    """Find which values of class maps stand for class 0, 1, ....

    Evenly spread levels from 0 to 255, as of masks of 0 and 255 or of 0, 128 and 255, are classes in rising order,
    and so are values at least `LEAST_STEP` apart; else, and where some are ignored, the values are class numbers and
    255 counts for nothing.

    Args:
        maps: Files, of which up to `SCANNED`, evenly spread, are read.
        ignored: Values that count for nothing, beside 255.
        num_classes: Of the names known; 0: none.

    Returns:
        (Values in rising order; what to say.)

    Raises:
        DataError: More levels than names, or not one file that is a class map.
    """
    if ignored and num_classes:
        return _numbers(num_classes, ignored), []
    found: set[int] = set()
    wrong: list[DataError] = []
    for path in maps[:: max(1, len(maps) // SCANNED)]:
        try:
            found |= set(np.unique(map_values(path)).tolist()) - {65_535}
        except DataError as error:  # one of many is left out by name when its turn comes
            wrong.append(error)
    if wrong and not found:
        raise wrong[0]
    values = sorted(found)
    spread = len(values) > 1 and all(
        abs(value - 255 * place / (len(values) - 1)) <= 1 for place, value in enumerate(values)
    )
    classes = values if spread else [value for value in values if value not in (IGNORED, *ignored)]
    gaps = [after - before for before, after in itertools.pairwise(classes)]
    numbered = bool(num_classes) and max(found - {IGNORED}, default=0) < num_classes != len(classes)
    if ignored:
        return tuple(value for value in range(max(classes, default=0) + 1) if value not in ignored), []
    if numbered or not gaps or (min(gaps) < LEAST_STEP and not spread):
        return tuple(range(num_classes or max(classes, default=0) + 1)), []
    if num_classes and len(classes) != num_classes:
        listed = ", ".join(map(str, classes))
        raise DataError(
            f"{maps[0].parent}: the class maps have the {len(classes)} values {listed}, which are "
            f"no numbers of the {num_classes} classes; write the class numbers 0 to {num_classes - 1}"
        )
    listed = ", ".join(f"{value} is class {place}" for place, value in enumerate(classes))
    return tuple(classes), [f"the class maps hold levels of grey: {listed}"]


def _numbers(count: int, ignored: Sequence[int]) -> tuple[int, ...]:
    """First `count` whole numbers that are not ignored."""
    return tuple(itertools.islice((value for value in itertools.count() if value not in ignored), count))


def _size(path: Path) -> tuple[int, int]:
    """Height and width of a picture file by its header; of a damaged one, what changes nothing."""
    try:
        with open_picture(path) as picture:
            return picture.height, picture.width
    except DataError:  # it is reported when it is read
        return 512, 512
