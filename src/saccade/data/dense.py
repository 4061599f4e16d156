"""Samples of dense tasks: pictures with objects (`ObjectDataset`) or class maps (`MapDataset`), and their batches.

A sample is a dictionary with the keys of `ImageDataset`, and:

    size     (2,) int64: height and width of the resized picture inside the padded batch
    target   of objects: boxes (n, 4) float32 in its pixels, labels (n,), masks (n, H, W) uint8; training only
             of class maps: (H, W) int64, 255 where nothing counts
    truth    what marking needs, in the coordinates of the file (see `ObjectDataset.truth`); evaluation only
    file_size  (height, width) of the file; evaluation and prediction
    pixels   (height, width, 3) uint8: the upright picture, to draw on; prediction only
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors

from saccade.data.coco import CocoIndex
from saccade.data.dataset import TolerantDataset, seeded
from saccade.data.decode import MAX_PIXELS, Encoded, decode_rgb
from saccade.data.dense_augment import IGNORED
from saccade.data.outlines import masks_of, run_lengths
from saccade.data.source import Source
from saccade.data.whole import WholePreprocess
from saccade.errors import DataError
from saccade.files.pictures import decoding, open_picture

Augmentation = Callable[[dict[str, Any]], dict[str, Any]]
LEAST_BOX = 1.0
"""Boxes that augmentation leaves narrower than so many pixels are dropped."""


class DenseDataset(TolerantDataset):
    """Pictures with something drawn on them."""

    advice = "; put the files right or take them out of the annotations"

    def __init__(
        self,
        preprocess: WholePreprocess,
        *,
        augment: Augmentation | None = None,
        max_pixels: int = MAX_PIXELS,
    ):
        self.preprocess, self.augment, self.max_pixels = preprocess, augment, max_pixels

    groups: np.ndarray | None = None
    """(length,) int64: samples of one group have alike aspects and are batched together in training."""

    @abc.abstractmethod
    def source(self, index: int) -> Encoded:
        """Return the picture of a sample."""

    @abc.abstractmethod
    def parts(self, index: int, size: tuple[int, int]) -> dict[str, Any]:
        """Return what lies on the picture as tv_tensors, in the file's pixels; `size` is its height and width.

        Raises:
            DataError: It does not fit the picture.
        """

    @abc.abstractmethod
    def truth(self, index: int, size: tuple[int, int]) -> Any:
        """Return what marking needs."""

    @abc.abstractmethod
    def finish(self, sample: dict[str, Any]) -> Any:
        """Turn the augmented parts into the target."""

    def make(self, index: int, seed: int) -> dict[str, Any]:
        """Decode and transform a picture with what lies on it.

        Raises:
            DataError: The picture or what belongs to it cannot be read.
        """
        if self.augment is None:
            image, size = self.preprocess.fast(self.source(index), max_pixels=self.max_pixels)
            return {"image": image, "truth": self.truth(index, size), "file_size": size}
        pixels = decode_rgb(self.source(index), max_pixels=self.max_pixels)
        parts = self.parts(index, (pixels.shape[0], pixels.shape[1]))
        parts["image"] = tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1).contiguous())
        with seeded(seed):
            changed = self.augment(parts)
        image = self.preprocess.normalise(changed["image"].as_subclass(Tensor))
        return {"image": image, "target": self.finish(changed)}


class ObjectDataset(DenseDataset):
    """Pictures with boxes, and masks when wanted."""

    def __init__(self, index: CocoIndex, preprocess: WholePreprocess, *, masks: bool, **options: Any):
        """Join an index and a transform.

        Args:
            index: From `read_coco`.
            preprocess: The evaluation transform.
            masks: Whether to draw masks.
            **options: As of `DenseDataset`.
        """
        super().__init__(preprocess, **options)
        self.content, self.masks = index, masks
        self.names, self.where = index.names, index.where
        self.groups = (index.sizes[:, 1] >= index.sizes[:, 0]).astype(np.int64)
        self.labels = index.labels

    def source(self, index: int) -> Path:
        """Return the picture's file."""
        return self.content.files[index]

    def parts(self, index: int, size: tuple[int, int]) -> dict[str, Any]:
        """Return boxes, labels and masks of what is to be learned: crowds are left out."""
        self._check(index, size)
        found = self.content.annotations[index]
        learned = ~found.crowd
        parts: dict[str, Any] = {
            "boxes": tv_tensors.BoundingBoxes(found.boxes[learned], format="XYXY", canvas_size=size),  # pyright: ignore
            "labels": torch.from_numpy(found.labels[learned]),
        }
        if self.masks:
            parts["masks"] = tv_tensors.Mask(torch.from_numpy(masks_of(found, size)[learned]))
        return parts

    def truth(self, index: int, size: tuple[int, int]) -> dict[str, Any]:
        """Return size, boxes, labels, crowd, areas and run lengths in the file's pixels."""
        self._check(index, size)
        found = self.content.annotations[index]
        truth: dict[str, Any] = {
            "size": size,
            "boxes": found.boxes,
            "labels": found.labels,
            "crowd": found.crowd,
        }
        truth |= {"areas": found.areas, "id": self.content.ids[index]}
        if self.masks:
            truth["runs"] = [run_lengths(shape, size) for shape in found.shapes]
        return truth

    def finish(self, sample: dict[str, Any]) -> dict[str, Tensor]:
        """Cut boxes to the picture and drop what is left of objects outside it."""
        height, width = sample["image"].shape[-2:]
        boxes = sample["boxes"].as_subclass(Tensor).clone()
        boxes[:, 0::2] = boxes[:, 0::2].clamp(0, width)
        boxes[:, 1::2] = boxes[:, 1::2].clamp(0, height)
        kept = ((boxes[:, 2:] - boxes[:, :2]) >= LEAST_BOX).all(1)
        target = {"boxes": boxes[kept].float(), "labels": sample["labels"][kept]}
        if self.masks:
            target["masks"] = sample["masks"].as_subclass(Tensor)[kept]
        return target

    def _check(self, index: int, size: tuple[int, int]) -> None:
        """Refuse a picture whose size is not what the annotations were made on."""
        claimed = tuple(int(side) for side in self.content.sizes[index])
        if claimed != tuple(size):
            raise DataError(
                f"{self.names[index]}: the picture is {size[1]} x {size[0]} pixels, but its annotations were made on "
                f"{claimed[1]} x {claimed[0]}"
            )


class MapDataset(DenseDataset):
    """Pictures with class maps."""

    def __init__(
        self,
        pictures: list[Path],
        maps: list[Path],
        labels: list[str],
        preprocess: WholePreprocess,
        *,
        where: str,
        levels: Sequence[int] = (),
        ignored: Sequence[int] = (),
        **options: Any,
    ):
        """Join pictures and maps.

        Args:
            pictures: Files.
            maps: One PNG of class numbers each.
            labels: Class names.
            preprocess: The evaluation transform.
            where: What the user called this.
            levels: As of `read_map`; empty: the numbers of the labels.
            ignored: As of `read_map`.
            **options: As of `DenseDataset`.
        """
        super().__init__(preprocess, **options)
        self.pictures, self.maps, self.labels = pictures, maps, labels
        self.names, self.where = [path.name for path in pictures], where
        self.levels, self.ignored = levels or range(len(labels)), ignored

    def source(self, index: int) -> Path:
        """Return the picture's file."""
        return self.pictures[index]

    def truth(self, index: int, size: tuple[int, int]) -> Tensor:
        """Return the class map (height, width) int64 at the file's own size."""
        return torch.from_numpy(read_map(self.maps[index], size, self.levels, self.ignored))

    def parts(self, index: int, size: tuple[int, int]) -> dict[str, Any]:
        """Return the class map."""
        return {"target": tv_tensors.Mask(self.truth(index, size))}

    def finish(self, sample: dict[str, Any]) -> Tensor:
        """Return the class map (H, W) int64."""
        return sample["target"].as_subclass(Tensor).long()


class PictureDataset(TolerantDataset):
    """Whole pictures of which nothing is known, to predict on."""

    def __init__(self, source: Source, preprocess: WholePreprocess, *, max_pixels: int, keep: bool):
        """Join pictures and a transform.

        Args:
            source: Where the pictures come from.
            preprocess: The evaluation transform.
            max_pixels: Larger pictures count as skipped.
            keep: Whether samples carry their pixels, to draw on.
        """
        self.content, self.preprocess, self.max_pixels, self.keep = source, preprocess, max_pixels, keep
        self.names, self.where, self.notes = source.names, source.where, source.notes

    def make(self, index: int, seed: int) -> dict[str, Any]:
        """Decode and transform a picture.

        Raises:
            DataError: It cannot be read.
        """
        with decoding(self.names[index]):
            pixels = decode_rgb(self.content.read(index), max_pixels=self.max_pixels)
            image = self.preprocess.normalise(self.preprocess.resize(pixels))
        sample = {"image": image, "file_size": (pixels.shape[0], pixels.shape[1])}
        return sample | ({"pixels": pixels} if self.keep else {})


def map_values(path: Path) -> np.ndarray:
    """Read the numbers of a grey or palette PNG as they are: (height, width) int64.

    Raises:
        DataError: Not such a file.
    """
    with decoding(str(path), "class map"), open_picture(path) as picture:
        if picture.mode not in ("L", "P", "I", "I;16", "1"):
            raise DataError(
                f"{path}: a class map is a grey or palette PNG of class numbers, not of mode {picture.mode}"
            )
        return np.array(picture).astype(np.int64)


def read_map(
    path: Path, size: tuple[int, int], levels: Sequence[int], ignored: Sequence[int] = ()
) -> np.ndarray:
    """Read a PNG of class numbers: (height, width) int64, 255 where nothing counts.

    Args:
        path: An 8- or 16-bit grey or palette PNG.
        size: Height and width that it must have; zeros: any.
        levels: Values that stand for class 0, 1, ..., in [0, 65535]: 0, 1, ... themselves, 1, 2, ... of ADE20K, or 0
            and 255 of a mask.
        ignored: Values that count for nothing; 255 and 65535 do so too where they are no level.

    Raises:
        DataError: Not such a file, of another size, or with other values.
    """
    values = map_values(path)
    if any(size) and values.shape != tuple(size):
        raise DataError(
            f"{path}: the class map is {values.shape[1]} x {values.shape[0]} pixels, "
            f"its picture {size[1]} x {size[0]}"
        )
    classes = np.full(65_536, -1, np.int64)
    classes[[IGNORED, 65_535, *ignored]] = IGNORED
    classes[list(levels)] = np.arange(len(levels))
    found = np.where((values >= 0) & (values < len(classes)), classes[values.clip(0, len(classes) - 1)], -1)
    if (strange := values[found < 0]).size:
        expected = (
            f"{levels[0]} to {levels[-1]} of the {len(levels)} classes"
            if levels[-1] - levels[0] < len(levels)
            else ", ".join(map(str, levels))
        )
        raise DataError(
            f"{path}: value {strange.max()} is no class; expected {expected}, and 255 or what --data.ignored names "
            "where nothing counts"
        )
    return found


def collate_dense(samples: Sequence[dict[str, Any]], preprocess: WholePreprocess) -> dict[str, Any]:
    """Join samples into a batch, leaving out those without a picture.

    Returns:
        image (batch, 3, height, width) float32, size and index as tensors, name and unreadable as lists, and
        where samples have them `targets` (a list; of class maps (batch, height, width) int64) and the lists `truth`,
        `file_size` and `pixels`.
    """
    whole = [sample for sample in samples if sample["image"].ndim == 3]
    images = [sample["image"] for sample in whole]
    batch: dict[str, Any] = {
        "image": preprocess.pad(images)
        if images
        else torch.empty(0, 3, preprocess.divisor, preprocess.divisor),
        "size": torch.tensor([image.shape[1:] for image in images], dtype=torch.int64).reshape(-1, 2),
        "index": torch.tensor([sample["index"] for sample in whole], dtype=torch.int64),
        "name": [sample["name"] for sample in whole],
        "skipped": [entry for sample in samples for entry in sample["skipped"]],
    }
    height, width = batch["image"].shape[2:]
    targets = [sample["target"] for sample in whole if "target" in sample]
    if targets and isinstance(targets[0], Tensor):
        padded = torch.full((len(targets), height, width), IGNORED, dtype=torch.int64)
        for row, target in zip(padded, targets, strict=True):
            row[: target.shape[0], : target.shape[1]] = target
        batch["targets"] = padded
    elif targets:
        for target in targets:
            if "masks" in target:
                masks = target["masks"].new_zeros(len(target["masks"]), height, width)
                masks[:, : target["masks"].shape[1], : target["masks"].shape[2]] = target["masks"]
                target["masks"] = masks
        batch["targets"] = targets
    for key in ("truth", "file_size", "pixels"):
        if whole and key in whole[0]:
            batch[key] = [sample[key] for sample in whole]
    return batch
