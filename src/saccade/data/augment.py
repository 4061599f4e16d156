"""The training transform, built from timm's and torchvision's parts."""

import functools
import math
import re
from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from timm.data.auto_augment import rand_augment_transform
from timm.data.random_erasing import RandomErasing
from timm.data.transforms import RandomResizedCropAndInterpolation
from torch import Tensor
from torchvision import transforms

from saccade.data.config import AugmentConfig
from saccade.data.dataset import Augmentation
from saccade.data.preprocess import INTERPOLATIONS, Preprocess
from saccade.errors import ConfigError, did_you_mean

_RAND_KEYS = ("m", "n", "p", "mstd", "mmax", "inc")


def build_augmentation(config: AugmentConfig, preprocess: Preprocess) -> Augmentation:
    """Build the training transform.

    In timm's order: random resized crop; mirror images; three-augment; RandAugment; colour jitter (left out, as in
    timm, when RandAugment is on); normalisation with the statistics of `preprocess`; random erasing with noise.
    Mixup and cutmix need the whole batch and are in `saccade.data.mix`.

    Three-augment (Touvron et al., DeiT III, ECCV 2022, section 3.2) is one of grey scale, solarisation
    and Gaussian blur, each equally likely; it is usually followed by `color_jitter` 0.3.

    Args:
        config: What to do.
        preprocess: Size, mean and std.

    Returns:
        From an RGB Pillow picture to (C, S, S) float32. All draws come from the global generators of
        Python, NumPy and torch, so seed those (see `saccade.data.dataset.seeded`).

    Raises:
        ConfigError: A value out of range, or a RandAugment text that timm would misread.
    """
    _check(config)
    steps: list = [
        RandomResizedCropAndInterpolation(
            preprocess.size,
            scale=tuple(config.scale),
            ratio=tuple(config.ratio),
            interpolation=config.interpolation,
        )
    ]
    if config.scale[0] >= 1:
        # A crop of the whole area still cuts to the aspect range; whole pictures are what (1, 1) promises.
        steps = [Squash(preprocess.size, config.interpolation)]
    if config.hflip:
        steps.append(transforms.RandomHorizontalFlip(config.hflip))
    if config.vflip:
        steps.append(transforms.RandomVerticalFlip(config.vflip))
    if config.three_augment:
        steps.append(
            transforms.RandomChoice(
                [
                    transforms.Grayscale(3),
                    transforms.RandomSolarize(128, p=1.0),
                    transforms.GaussianBlur(5, sigma=(0.1, 2.0)),
                ]
            )
        )
    if config.rand_augment:
        options: dict = {
            "translate_const": int(preprocess.size * 0.45),
            "img_mean": tuple(min(255, round(255 * value)) for value in (preprocess.mean * 3)[:3]),
        }
        if config.interpolation != "random":
            options["interpolation"] = INTERPOLATIONS[config.interpolation]
        steps.append(_allow_zero_bits(rand_augment_transform(config.rand_augment, options)))
    elif config.color_jitter:
        steps.append(transforms.ColorJitter(*(config.color_jitter,) * 3))
    if preprocess.channels == 1:
        steps.append(transforms.Grayscale(1))
    steps += [transforms.PILToTensor(), preprocess.normalise]
    if config.random_erasing:
        steps.append(RandomErasing(config.random_erasing, mode="pixel", max_count=1, device="cpu"))
    return Compose(steps)


class Compose:
    """Apply steps one after the other."""

    def __init__(self, steps: list):
        self.steps = steps

    def __call__(self, picture: Any) -> Tensor:
        """Transform one picture."""
        for step in self.steps:
            picture = step(picture)
        return picture


class Squash:
    """Resize the whole picture to a square."""

    def __init__(self, size: int, interpolation: str):
        self.size, self.interpolation = size, interpolation

    def __call__(self, picture: Image.Image) -> Image.Image:
        """Resize one picture; "random" draws one of two filters."""
        name = self.interpolation
        if name == "random":
            name = ("bilinear", "bicubic")[int(torch.randint(2, ()))]
        return picture.resize((self.size, self.size), INTERPOLATIONS[name])


def _allow_zero_bits(randaugment: Any) -> Any:
    """Let posterise keep no bits at all, which makes a black picture.

    At full strength timm 1.0 asks for zero bits; Pillow gave black for that until it began to refuse it in
    version 13. The published recipes were trained with black.
    """
    for op in randaugment.ops:
        if "Posterize" in op.name:
            op.aug_fn = functools.partial(_posterise, op.aug_fn)
    return randaugment


def _posterise(
    inner: Callable[..., Image.Image], picture: Image.Image, bits: int, **options: Any
) -> Image.Image:
    """Call timm's function, or make a black picture when no bits are left."""
    return inner(picture, bits, **options) if bits >= 1 else Image.new(picture.mode, picture.size)


def _check(config: AugmentConfig) -> None:
    """Refuse values out of range.

    Raises:
        ConfigError: Naming the field.
    """
    for name in ("hflip", "vflip", "random_erasing"):
        if not 0 <= getattr(config, name) <= 1:
            raise ConfigError(
                f"augment.{name} should be a probability in [0, 1], not {getattr(config, name)}"
            )
    low, high = config.scale
    if not 0 < low <= high <= 1:
        raise ConfigError(
            f"augment.scale should be two shares of the area, 0 < low <= high <= 1, not {config.scale}"
        )
    low, high = config.ratio
    if not 0 < low <= high < math.inf:
        raise ConfigError(
            f"augment.ratio should be two positive aspect ratios, low <= high, not {config.ratio}"
        )
    if config.interpolation not in ("bicubic", "bilinear", "random"):
        near = did_you_mean(config.interpolation, ("bicubic", "bilinear", "random"))
        raise ConfigError(f"augment.interpolation {config.interpolation!r} is unknown{near}")
    if not 0 <= config.color_jitter <= 1:
        raise ConfigError(f"augment.color_jitter should be in [0, 1], not {config.color_jitter}")
    if config.rand_augment:
        _check_rand_augment(config.rand_augment)


def _check_rand_augment(text: str) -> None:
    """Check timm's RandAugment text; timm itself skips pieces that it does not understand.

    Raises:
        ConfigError: Naming the piece.
    """
    first, *pieces = text.split("-")
    if first not in ("rand", "randaugment"):
        raise ConfigError(f"augment.rand_augment {text!r} should start with rand, as in rand-m9-mstd0.5-inc1")
    for piece in pieces:
        match = re.fullmatch(r"([a-z]+)(\d+(?:\.\d+)?)", piece)
        if match is None or match[1] not in _RAND_KEYS:
            raise ConfigError(
                f"augment.rand_augment: piece {piece!r} of {text!r} is unknown, as in rand-m9-mstd0.5-inc1"
            )
