"""The evaluation transform: one object that evaluation, prediction, export and bundles all apply.

`Preprocess.reference` is the definition, equal to the last bit to timm's and torchvision's evaluation
transform on a Pillow image. `Preprocess.fast` computes the same from file contents about three times faster:
the pixels stay 8 bits wide from the JPEG decoder through torch's antialiased resize, which stops where the crop ends,
and one pass makes the normalised floats. Its resize rounds differently from Pillow's in about one value of 300,
by one level of 255 (0.018 in normalised units with ImageNet's statistics), and by two levels in one of a million.

Scaled JPEG decoding makes photographs of 4000 x 3000 twice as fast to prepare, but on sharp edges it differs from
Pillow by up to 7 levels even where 3 times the needed resolution is left (2 levels on smooth pictures); so it is
there, but only on request.

Shapes: C channels, S the side of the square output.
"""

import dataclasses
import functools
import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from saccade.data.decode import MAX_PIXELS, Encoded, decode_rgb, load_rgb
from saccade.errors import ConfigError, DataError, did_you_mean
from saccade.files import convert

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
MODES = ("crop", "squash")
LARGEST = 1e6
"""Of mean and std, which are near 1 for values in [0, 1]."""
MAX_SIDE = 1 << 16
"""Pixels of the shorter side after the resize."""
TORCH_LEAST = 4
"""Pictures and outputs with a shorter side go to Pillow: torch fails an internal check on 1 x 1 results."""
MAX_RESIZED = 1 << 26
"""Most pixels of a resized picture (or four times a square one's, if more): long pictures grow with the resize."""
SCALED_MARGIN = 2.5
"""Scaled JPEG decoding leaves at least so many times the size that the resize needs; see `Preprocess.fast`."""


@dataclass(frozen=True)
class Fields:
    """A data class of plain values and tuples of them, which a card holds as JSON."""

    def to_dict(self) -> dict[str, Any]:
        """Write the fields as JSON values, for a card."""
        values = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Read what `to_dict` wrote; fields that are left out take their defaults.

        Raises:
            ConfigError: An unknown field, or a value that is out of range or of the wrong kind.
        """
        if not isinstance(values, dict):
            raise ConfigError(f"preprocess should be a mapping of fields, not {type(values).__name__}")
        names = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in names:
                raise ConfigError(f"preprocess has no field {name!r}{did_you_mean(str(name), names)}")
        # One number for all channels is allowed where a list is written.
        listed = {
            name: [value] if name in ("mean", "std") and _is_number(value) else value
            for name, value in values.items()
        }
        return convert(listed, cls, where="preprocess", error=ConfigError)


@dataclass(frozen=True)
class Preprocess(Fields):
    """How a picture becomes a network's input: resize, crop the centre, normalise."""

    size: int = 224
    """Side S of the square input, in pixels."""
    crop_pct: float = 0.875
    """Share of the resized picture that the crop keeps along the shorter side, in (0, 1]."""
    interpolation: str = "bicubic"
    """Resize filter: bicubic, bilinear, lanczos or nearest."""
    mean: tuple[float, ...] = IMAGENET_MEAN
    """Subtracted from values in [0, 1], per channel: three for colour, one for grey."""
    std: tuple[float, ...] = IMAGENET_STD
    """Divisor after the mean, per channel."""
    mode: str = "crop"
    """crop: keep the aspect ratio and cut the centre; squash: stretch to a square, then cut the centre."""

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ConfigError: A field is of the wrong kind or out of range.
        """
        object.__setattr__(self, "mean", _floats("mean", self.mean))
        object.__setattr__(self, "std", _floats("std", self.std))
        if isinstance(self.size, bool) or not isinstance(self.size, int) or not 1 <= self.size <= 16384:
            raise ConfigError(
                f"preprocess.size should be a whole number of pixels in 1..16384, not {self.size!r}"
            )
        if not _is_number(self.crop_pct) or not self.crop_pct >= 1e-6 or not 0 < self.crop_pct <= 1:
            raise ConfigError(f"preprocess.crop_pct should be in (0, 1], not {self.crop_pct!r}")
        if not isinstance(self.interpolation, str) or self.interpolation not in INTERPOLATIONS:
            near = did_you_mean(str(self.interpolation), INTERPOLATIONS)
            raise ConfigError(f"preprocess.interpolation {self.interpolation!r} is unknown{near}")
        if self.mode not in MODES:
            raise ConfigError(
                f"preprocess.mode {self.mode!r} is unknown{did_you_mean(str(self.mode), MODES)}"
            )
        if len(self.mean) not in (1, 3) or len(self.std) != len(self.mean):
            raise ConfigError(
                "preprocess.mean and preprocess.std should both have three values, or one for grey"
            )
        if min(self.std) <= 0:
            raise ConfigError("preprocess.std should be positive")
        if max(map(abs, self.mean)) > LARGEST or not 1 / LARGEST <= min(self.std) <= max(self.std) <= LARGEST:
            raise ConfigError(
                f"preprocess.mean or preprocess.std is beyond {LARGEST:g}; expected values near 1"
            )
        if self.resize_to > MAX_SIDE:
            raise ConfigError(
                f"preprocess.size {self.size} and crop_pct {self.crop_pct:g} resize to {self.resize_to:g} pixels; "
                f"expected at most {MAX_SIDE}"
            )

    @property
    def channels(self) -> int:
        """Channels C of the output: 3 colour, 1 grey."""
        return len(self.mean)

    @property
    def resize_to(self) -> int:
        """Length of the shorter side after the resize (both sides when squashing), in pixels."""
        return math.floor(self.size / self.crop_pct)

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Size after the resize.

        Args:
            width: Of the upright picture, in pixels.
            height: Likewise.

        Returns:
            (width, height) in pixels; the longer side is rounded down, as torchvision does.

        Raises:
            DataError: The picture is so long that too many pixels would come out.
        """
        side = self.resize_to
        if self.mode == "squash":
            return side, side
        longer = int(side * max(width, height) / min(width, height))
        if side * longer > max(MAX_RESIZED, 4 * side**2):
            raise DataError(
                f"{width} x {height} pixels would become {side} x {longer} in the resize, more than the "
                f"{MAX_RESIZED} allowed; cut the picture into pieces"
            )
        return (side, longer) if width <= height else (longer, side)

    def reference(self, picture: Image.Image) -> Tensor:
        """Apply the transform to a Pillow image exactly as timm's and torchvision's evaluation transforms do.

        Args:
            picture: Any mode; converted to RGB (or grey) by the rules of `saccade.data.decode` first.

        Returns:
            (C, S, S) float32, normalised.

        Raises:
            DataError: The picture cannot be decoded or converted.
        """
        picture = load_rgb(picture, max_pixels=2**62)
        if self.channels == 1:
            picture = picture.convert("L")
        return self.normalise(self._crop(self._resize_by_pillow(picture)))

    def pixels(self, source: Encoded, *, max_pixels: int = MAX_PIXELS, scaled: bool = False) -> Tensor:
        """Decode, resize and crop, the fast way; all but the normalisation.

        Args:
            source: File contents, a path, or a Pillow image.
            max_pixels: Refuse larger pictures by their header, before decoding.
            scaled: As in `fast`.

        Returns:
            (C, S, S) uint8, a view into a larger buffer, in no promised memory order.

        Raises:
            DataError: Not an image, damaged, truncated or too large.
        """
        shrink_to = None
        if scaled:
            # Both stored sides at least this long, whichever way up the picture is.
            side = math.ceil(SCALED_MARGIN * self.resize_to)
            shrink_to = (side, side)
        array = decode_rgb(source, max_pixels=max_pixels, grey=self.channels == 1, shrink_to=shrink_to)
        height, width = array.shape[:2]
        new_width, new_height = self.resized(width, height)
        if (new_width, new_height) == (width, height):
            image = torch.from_numpy(array).permute(2, 0, 1)
        elif self.interpolation in ("bicubic", "bilinear") and min(self.size, height, width) >= TORCH_LEAST:
            left, top = self._corner(new_width, new_height)
            keep = (left + self.size, top + self.size)
            image = _resize_by_torch(array, (new_width, new_height), keep, self.interpolation)
            return image[:, top : top + self.size, left : left + self.size]
        else:
            picture = Image.fromarray(array if self.channels == 3 else array[..., 0])
            image = self._resize_by_pillow(picture)
        return self._crop(image)

    def fast(self, source: Encoded, *, max_pixels: int = MAX_PIXELS, scaled: bool = False) -> Tensor:
        """Make a network's input from file contents, at full speed.

        Args:
            source: File contents, a path, or a Pillow image.
            max_pixels: Refuse larger pictures by their header, before decoding.
            scaled: Decode big JPEG pictures at 1/2, 1/4 or 1/8 scale where 2.5 times the size that the
                resize needs is left. Faster by 1.5 to 2.3 times at 4000 x 3000, mean difference from
                Pillow 0.2 levels of 255, at most 2 on smooth pictures, up to 7 at sharp edges.

        Returns:
            (C, S, S) float32, normalised, contiguous; within one level of 255 of `reference` (two in
            one value of a million) unless `scaled`.

        Raises:
            DataError: Not an image, damaged, truncated or too large.
        """
        image = self.pixels(source, max_pixels=max_pixels, scaled=scaled)
        mean, factor = self._level_statistics
        return torch.empty(image.shape).copy_(image).sub_(mean).mul_(factor)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Normalise uint8 pixels as the reference does.

        Args:
            pixels: (..., C, height, width) uint8.

        Returns:
            The same shape, float32.
        """
        mean, std = self._statistics
        values = pixels.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
        return values.sub_(mean.to(values.device)).div_(std.to(values.device))

    def denormalise(self, images: Tensor) -> Tensor:
        """Undo the normalisation, for pictures.

        Args:
            images: (..., C, height, width) float.

        Returns:
            The same shape, uint8.
        """
        mean, std = self._statistics
        values = images.float() * std.to(images.device) + mean.to(images.device)
        return (values * 255).round_().clamp_(0, 255).to(torch.uint8)

    @functools.cached_property
    def _statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and std as (C, 1, 1) float32, for values in [0, 1]."""
        return torch.tensor(self.mean).view(-1, 1, 1), torch.tensor(self.std).view(-1, 1, 1)

    @functools.cached_property
    def _level_statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and the reciprocal of std as (C, 1, 1) float32, for values in [0, 255]."""
        mean, std = self._statistics
        return mean * 255, (std * 255).reciprocal()

    def _resize_by_pillow(self, picture: Image.Image) -> Tensor:
        """Resize as torchvision does a Pillow image: (C, height, width) uint8."""
        size = self.resized(*picture.size)
        if size != picture.size:
            picture = picture.resize(size, INTERPOLATIONS[self.interpolation])
        array = np.array(picture)
        return torch.from_numpy(array if array.ndim == 3 else array[..., None]).permute(2, 0, 1)

    def _crop(self, image: Tensor) -> Tensor:
        """Cut the centre: (C, height, width) to (C, S, S), a view."""
        left, top = self._corner(image.shape[2], image.shape[1])
        return image[:, top : top + self.size, left : left + self.size]

    def _corner(self, width: int, height: int) -> tuple[int, int]:
        """Top left corner (left, top) of the crop, rounded as torchvision does."""
        return round((width - self.size) / 2), round((height - self.size) / 2)


def _resize_by_torch(
    array: np.ndarray, size: tuple[int, int], keep: tuple[int, int], interpolation: str
) -> Tensor:
    """Resize pixels with antialiasing, up to where the crop ends.

    Args:
        array: (height, width, C) uint8.
        size: (width, height) of the whole result.
        keep: (width, height) of its top left part that is needed.
        interpolation: bicubic or bilinear.

    Returns:
        (C, keep height or more, keep width or more) uint8, equal to that part of the whole result; often planar
        in memory.
    """
    # A batch axis of stride 0, as NumPy makes it, lets torch read the interleaved pixels as they are and write
    # planes: with its own batch axis it would write interleaved, and the conversion would take 3 times as long.
    batch = torch.from_numpy(array[None]).permute(0, 3, 1, 2)
    (width, height), (old_height, old_width) = size, array.shape[:2]
    # Both Pillow and torch resize one axis after the other and round in between, so the order shows: up to 5
    # levels at saturated edges. torch takes rows first; Pillow takes columns first when they lose more than twice
    # as much (found by trying; tests compare with Pillow). Two calls then also are the faster way.
    lost_rows, lost_columns = old_height - height, old_width - width
    if lost_rows > 0 and lost_rows > 2 * lost_columns:
        batch = F.interpolate(batch, (height, old_width), mode=interpolation, antialias=True)
        old_height = height
    # The operator behind `interpolate` takes the scale apart from the size, and so can stop early. (It cannot start
    # late: that would need a shift by a fraction of a pixel.)
    operator = getattr(torch.ops.aten, f"_upsample_{interpolation}2d_aa").default
    # It takes an axis whose length does not change for one that is not resized, whatever the scale says.
    rows = keep[1] if keep[1] != old_height else height
    columns = keep[0] if keep[0] != old_width else width
    return operator(batch, (rows, columns), False, height / old_height, width / old_width)[0]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _floats(name: str, values: Any) -> tuple[float, ...]:
    """Check a sequence of finite numbers and make it a tuple."""
    if isinstance(values, int | float):
        values = (values,)
    try:
        result = tuple(float(value) for value in values)
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(f"preprocess.{name} should be a list of numbers, not {values!r}") from None
    if not all(math.isfinite(value) for value in result):
        raise ConfigError(f"preprocess.{name} should hold finite numbers, not {values!r}")
    return result
