"""The evaluation transform of dense tasks: the whole picture, its aspect kept, padded to fit the network's strides.

Unlike `Preprocess`, nothing is cut away and the size differs from picture to picture: the shorter side is brought to
`size` unless the longer one would pass `max_size`. What is added on the right and at the bottom is zero after the
normalisation, so coordinates of the resized picture stay valid in the padded one.

Shape legend: C channels, H and W of the resized picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from saccade.data.decode import MAX_PIXELS, Encoded, decode_rgb
from saccade.data.preprocess import IMAGENET_MEAN, IMAGENET_STD, Fields
from saccade.errors import ConfigError


@dataclass(frozen=True)
class WholePreprocess(Fields):
    """How a picture becomes a dense network's input."""

    size: int = 800
    """Shorter side in pixels."""
    max_size: int = 1333
    """The longer side is at most this."""
    divisor: int = 32
    """Batches are padded so that both sides are multiples of this."""
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ConfigError: A value out of range.
        """
        object.__setattr__(self, "mean", tuple(float(value) for value in self.mean))
        object.__setattr__(self, "std", tuple(float(value) for value in self.std))
        whole = all(isinstance(value, int) for value in (self.size, self.max_size, self.divisor))
        if not whole or not 16 <= self.size <= self.max_size <= 16384 or not 1 <= self.divisor <= 1024:
            raise ConfigError(
                f"preprocess.size {self.size} and max_size {self.max_size} should be whole numbers of pixels with "
                f"16 <= size <= max_size <= 16384, and divisor {self.divisor} in 1..1024"
            )
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ConfigError("preprocess.mean and preprocess.std should have three values, std positive")

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Height and width after the resize; sides are rounded to the nearest pixel and at least 1."""
        scale = min(self.size / min(height, width), self.max_size / max(height, width))
        return max(1, round(height * scale)), max(1, round(width * scale))

    def resize(self, pixels: np.ndarray) -> Tensor:
        """Resize upright pixels (h, w, 3) uint8, bilinear and antialiased: (3, H, W) uint8."""
        image = torch.from_numpy(pixels).permute(2, 0, 1)
        size = self.resized(*pixels.shape[:2])
        if size == pixels.shape[:2]:
            return image.contiguous()
        grown = F.interpolate(image[None].float(), size, mode="bilinear", antialias=True, align_corners=False)
        return grown[0].round_().clamp_(0, 255).to(torch.uint8)

    def normalise(self, image: Tensor) -> Tensor:
        """Turn (3, H, W) uint8 into float32 under mean and std."""
        mean = torch.tensor(self.mean).view(3, 1, 1) * 255
        return (image.float() - mean) / (torch.tensor(self.std).view(3, 1, 1) * 255)

    def denormalise(self, image: Tensor) -> Tensor:
        """Turn what `normalise` gave back into uint8."""
        scaled = image * torch.tensor(self.std).view(3, 1, 1) + torch.tensor(self.mean).view(3, 1, 1)
        return (scaled * 255).round().clamp(0, 255).to(torch.uint8)

    def fast(self, source: Encoded, *, max_pixels: int = MAX_PIXELS) -> tuple[Tensor, tuple[int, int]]:
        """Read a file: its input (3, H, W) float32, not padded, and its own height and width.

        Raises:
            DataError: Not a picture, damaged, or too large.
        """
        pixels = decode_rgb(source, max_pixels=max_pixels)
        return self.normalise(self.resize(pixels)), (pixels.shape[0], pixels.shape[1])

    def pad(self, images: list[Tensor]) -> Tensor:
        """Join pictures (3, H, W) of different sizes into (batch, 3, height, width), zeros to the right and below."""
        height, width = (
            -(-max(image.shape[axis] for image in images) // self.divisor) * self.divisor for axis in (1, 2)
        )
        batch = images[0].new_zeros(len(images), 3, height, width)
        for row, image in zip(batch, images, strict=True):
            row[:, : image.shape[1], : image.shape[2]] = image
        return batch
