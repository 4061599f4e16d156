"""Files of detectors and segmenters, called as their networks are: any picture in, what the network gives out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from saccade.errors import ConfigError
from saccade.tasks.base import Exported

STEP = 64
"""Sides of the pictures of a file of free size are multiples of this: the coarsest stride of our backbones."""
LEAST = 3 * STEP
"""Sides of such pictures are at least this: below, the coarsest map has a single cell."""
Size = tuple[int, int]


class PaddedFile:
    """Pads pictures to what a file takes, and finishes what it gives.

    Args:
        session: The opened file.
        finish: Turns outputs, the (height, width) that was run and the pictures' own into what the network gives.
    """

    def __init__(self, session: Exported, finish: Callable[[Tensor, Size, Size], Any]) -> None:
        self._session, self._finish = session, finish

    def __call__(self, images: Tensor) -> Any:
        """Run pictures (B, C, H, W).

        Raises:
            ConfigError: They are larger than the file takes.
        """
        height, width = images.shape[2:]
        fitting = self._session.size or (free_side(height), free_side(width))
        if height > fitting[0] or width > fitting[1]:
            raise ConfigError(
                f"this bundle takes pictures of {fitting[1]} x {fitting[0]} pixels, not {width} x {height}; "
                "export it with --dynamic"
            )
        padded = images.new_zeros(*images.shape[:2], *fitting)
        padded[:, :, :height, :width] = images
        return self._finish(self._session(padded), fitting, (height, width))


def free_side(side: int) -> int:
    """Round a side up to what a file of free size takes."""
    return max(LEAST, -(-side // STEP) * STEP)
