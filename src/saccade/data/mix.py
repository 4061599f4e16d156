"""Mixup and cutmix of a whole batch, as a pure function of the batch and a seed.

Follows timm's convention (`timm.data.Mixup`, mode "batch"): one ratio for the batch, sample i is mixed with sample
n-1-i, cutmix corrects its ratio to the area that the clipped box really has, and labels are smoothed before they are
mixed. Papers: mixup, Zhang et al., ICLR 2018 (arXiv 1710.09412); cutmix, Yun et al., ICCV 2019 (arXiv 1905.04899).
Differs from timm: odd batches are allowed (the middle sample meets itself), and the draws come from a generator of
their own instead of NumPy's global one.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from saccade.data.config import AugmentConfig
from saccade.errors import ConfigError


def mix_batch(
    batch: dict[str, Any], config: AugmentConfig, *, num_classes: int, label_smoothing: float = 0.0, seed: int
) -> dict[str, Any]:
    """Mix a batch with itself.

    Args:
        batch: `image` (batch, channels, height, width) float and `label` (batch,) int64; not changed.
        config: The fields mixup, cutmix, mix_prob and mix_switch.
        num_classes: Length of the soft targets.
        label_smoothing: In [0, 1): the true class gets 1 - s + s / num_classes, the others s / num_classes.
        seed: Decides everything; equal seeds give equal batches.

    Returns:
        A new dictionary with `image` mixed and `target` (batch, num_classes) float32 added. The targets
        are there (smoothed one-hot) even when nothing is mixed, so that the loss need not know.

    Raises:
        ConfigError: A negative strength, a probability outside [0, 1], or a label beyond `num_classes`.
    """
    for name in ("mixup", "cutmix"):
        if not 0 <= getattr(config, name) < math.inf:
            raise ConfigError(f"augment.{name} should be 0 (off) or more, not {getattr(config, name)}")
    for name in ("mix_prob", "mix_switch"):
        if not 0 <= getattr(config, name) <= 1:
            raise ConfigError(f"augment.{name} should be in [0, 1], not {getattr(config, name)}")
    images, labels = batch["image"], batch["label"]
    soft = soft_targets(labels, num_classes, label_smoothing)
    ratio, cut = _draw(config, np.random.default_rng(seed), images.shape[-2:])
    if ratio < 1:
        other = images.flip(0)
        if cut is None:
            images = images * ratio + other * (1 - ratio)
        else:
            images = images.clone()
            images[..., cut[0], cut[1]] = other[..., cut[0], cut[1]]
        soft = soft * ratio + soft.flip(0) * (1 - ratio)
    return batch | {"image": images, "target": soft}


def soft_targets(labels: Tensor, num_classes: int, smoothing: float = 0.0) -> Tensor:
    """Write labels as smoothed one-hot rows.

    Args:
        labels: (batch,) int64 in 0..num_classes-1.
        num_classes: Number of columns.
        smoothing: In [0, 1).

    Returns:
        (batch, num_classes) float32 on the device of `labels`; every row sums to 1.

    Raises:
        ConfigError: A label out of range, or a smoothing out of range.
    """
    if not 0 <= smoothing < 1:
        raise ConfigError(f"label_smoothing should be in [0, 1), not {smoothing}")
    if labels.numel() and (int(labels.min()) < 0 or int(labels.max()) >= num_classes):
        raise ConfigError(
            f"labels should be in 0..{num_classes - 1}; found {int(labels.min())}..{int(labels.max())}"
        )
    off = smoothing / num_classes
    rows = torch.full((len(labels), num_classes), off, device=labels.device)
    return rows.scatter_(1, labels.view(-1, 1), 1 - smoothing + off)


def _draw(
    config: AugmentConfig, draws: np.random.Generator, size: tuple[int, int]
) -> tuple[float, tuple[slice, slice] | None]:
    """Draw the share that a sample keeps of itself, and for cutmix the box that it does not keep."""
    if not (config.mixup or config.cutmix) or draws.random() >= config.mix_prob:
        return 1.0, None
    use_cutmix = config.cutmix > 0 and (config.mixup == 0 or draws.random() < config.mix_switch)
    strength = config.cutmix if use_cutmix else config.mixup
    ratio = float(draws.beta(strength, strength))
    if not use_cutmix:
        return ratio, None
    height, width = size
    side = math.sqrt(1 - ratio)
    rows = _interval(int(draws.integers(height)), int(height * side), height)
    columns = _interval(int(draws.integers(width)), int(width * side), width)
    area = (rows.stop - rows.start) * (columns.stop - columns.start)
    return 1 - area / (height * width), (rows, columns)


def _interval(centre: int, length: int, limit: int) -> slice:
    """An interval about a centre, clipped to 0..limit."""
    return slice(max(0, centre - length // 2), min(limit, centre + (length + 1) // 2))
