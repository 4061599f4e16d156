"""How training pictures of dense tasks are changed, with boxes, masks and class maps kept in step.

Built on torchvision's transforms v2. The geometries:

    fixed        the evaluation size (1333 x 800 in the 1x recipes)
    multi_scale  the shorter side is drawn from 0.6 to 1 times `size` in steps of 32 (480 to 800)
    detr         as multi_scale, or, half of the time, first a crop of 384 to 600 pixels from a picture whose shorter
                 side was 400, 500 or 600 (Carion et al., ECCV 2020; the Swin detection recipe)
    jitter       large-scale jitter: scale 0.1 to 2 times, then a crop of `size` x `size` (Ghiasi et al., CVPR 2021)
    crop         scale 0.5 to 2 times, then a crop of `size` x `size` (the usual recipe of ADE20K and Cityscapes)

Everything is drawn from torch's global generator, which the data set seeds for each sample.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from saccade.data.config import AugmentConfig
from saccade.data.whole import WholePreprocess
from saccade.errors import ConfigError, did_you_mean

GEOMETRIES = ("fixed", "multi_scale", "detr", "jitter", "crop")
STEP = 32
IGNORED = 255
"""Class number that counts neither in the loss nor in the metrics."""
Sample = dict[str, Any]


@dataclass
class SizedCrop:
    """A crop whose sides are drawn anew, of everything in the sample."""

    low: int
    high: int

    def __call__(self, sample: Sample) -> Sample:
        """Crop a sample."""
        height, width = sample["image"].shape[-2:]
        sides = [
            int(torch.randint(min(self.low, side), min(self.high, side) + 1, ())) for side in (height, width)
        ]
        top, left = (
            int(torch.randint(0, side - cut + 1, ()))
            for side, cut in zip((height, width), sides, strict=True)
        )
        return _everything(sample, lambda part: TF.crop(part, top, left, *sides))


@dataclass
class ScaledCrop:
    """Scale by a factor drawn from a range, then crop a square of `size`, padded where the picture is smaller."""

    size: int
    factors: tuple[float, float]

    def __call__(self, sample: Sample) -> Sample:
        """Scale and crop a sample."""
        height, width = sample["image"].shape[-2:]
        factor = float(torch.empty(()).uniform_(*self.factors)) * self.size / min(height, width)
        sides = [max(1, round(side * factor)) for side in (height, width)]
        sample = _everything(sample, lambda part: _resize(part, sides))
        # A class map is cropped again, a few times, where one class fills three quarters of the crop.
        for attempt in range(10):
            top, left = (int(torch.randint(0, max(0, side - self.size) + 1, ())) for side in sides)
            cut = _everything(sample, lambda part, at=(top, left): _crop(part, *at, self.size))
            if attempt == 9 or "target" not in cut or not _one_class(cut["target"]):
                return cut
        raise AssertionError


def _one_class(target: torch.Tensor) -> bool:
    """Whether a single class covers more than three quarters of what counts in a class map."""
    counts = torch.bincount(target[target != IGNORED].flatten().long())
    return bool(len(counts)) and float(counts.max()) > 0.75 * float(counts.sum())


def _crop(part: torch.Tensor, top: int, left: int, size: int) -> torch.Tensor:
    """Crop a square and fill what is missing: black in pictures, `IGNORED` in class maps."""
    height, width = part.shape[-2:] if not isinstance(part, tv_tensors.BoundingBoxes) else part.canvas_size
    part = TF.crop(part, top, left, min(size, height), min(size, width))
    missing = [0, 0, max(0, size - width), max(0, size - height)]
    fill = IGNORED if isinstance(part, tv_tensors.Mask) and part.ndim == 2 else 0
    return TF.pad(part, missing, fill=fill) if any(missing) else part


def _resize(part: torch.Tensor, sides: list[int]) -> torch.Tensor:
    """Resize a picture smoothly, masks and class maps to the nearest pixel."""
    return TF.resize(part, sides, antialias=True)


def _everything(sample: Sample, change: Callable[[Any], Any]) -> Sample:
    """Apply a change to the picture and all that lies on it."""
    return {
        name: change(part) if isinstance(part, tv_tensors.TVTensor) else part for name, part in sample.items()
    }


def _shortest(size: int, longest: int) -> Callable[[Sample], Sample]:
    """Resize the shorter side."""

    def change(sample: Sample) -> Sample:
        height, width = sample["image"].shape[-2:]
        sides = list(WholePreprocess(size=size, max_size=max(size, longest)).resized(height, width))
        return _everything(sample, lambda part: _resize(part, sides))

    return change


def build_dense_augmentation(
    config: AugmentConfig, preprocess: WholePreprocess
) -> Callable[[Sample], Sample]:
    """Make the training transform: geometry, mirror, colours. Normalisation and padding come later.

    A sample holds `image` (tv_tensors.Image, uint8) and any of `boxes` (tv_tensors.BoundingBoxes, with `labels`),
    `masks` (tv_tensors.Mask (n, H, W)) and `target` (tv_tensors.Mask (H, W), a class map).

    Raises:
        ConfigError: Unknown geometry.
    """
    size, longest = preprocess.size, preprocess.max_size
    if config.geometry not in GEOMETRIES:
        raise ConfigError(
            f"augment.geometry {config.geometry!r} is unknown{did_you_mean(config.geometry, GEOMETRIES)}"
        )
    scales = [max(STEP, round(size * share / 100 / STEP) * STEP) for share in range(60, 101, 4)]
    steps = [_shortest(scale, longest) for scale in dict.fromkeys(scales)]
    share = size / 800
    first = [_shortest(max(STEP, round(side * share)), longest) for side in (400, 500, 600)]
    cut = SizedCrop(max(STEP, round(384 * share)), max(STEP, round(600 * share)))
    fixed, jitter, crop = _shortest(size, longest), ScaledCrop(size, (0.1, 2.0)), ScaledCrop(size, (0.5, 2.0))
    colours = v2.RandomPhotometricDistort(
        brightness=(0.875, 1.125), contrast=(0.5, 1.5), saturation=(0.5, 1.5)
    )

    def change(sample: Sample) -> Sample:
        if config.geometry == "fixed":
            sample = fixed(sample)
        elif config.geometry == "jitter":
            sample = jitter(sample)
        elif config.geometry == "crop":
            sample = crop(sample)
        else:
            if config.geometry == "detr" and bool(torch.rand(()) < 0.5):
                sample = cut(_one_of(first)(sample))
            sample = _one_of(steps)(sample)
        if bool(torch.rand(()) < config.hflip):
            sample = _everything(sample, TF.horizontal_flip)
        if bool(torch.rand(()) < config.vflip):
            sample = _everything(sample, TF.vertical_flip)
        if config.photometric:
            sample["image"] = colours(sample["image"])
        return sample

    return change


def _one_of(choices: list[Callable[[Sample], Sample]]) -> Callable[[Sample], Sample]:
    """Draw one."""
    return choices[int(torch.randint(len(choices), ()))]
