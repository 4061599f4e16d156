"""Mixup and cutmix of a whole batch."""

from typing import Any

from saccade.data.config import AugmentConfig


def mix_batch(
    batch: dict[str, Any], config: AugmentConfig, *, num_classes: int, label_smoothing: float = 0.0, seed: int
) -> dict[str, Any]:
    """Mix a batch; adds "target" (batch, num_classes) float32, label smoothing included."""
    raise NotImplementedError
