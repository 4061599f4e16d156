"""Networks that say when a number inside them is not finite, where their outputs alone would hide it."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor, nn


class FiniteParts(nn.Module):
    """Runs a detector or segmenter and looks at the layers of its neck and head.

    A detector drops boxes whose score is NaN without a word. A picture with such a number gets logits of NaN, or one
    detection of NaN.

    Args:
        net: In evaluation mode.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self._seen = threading.local()
        for name, module in net.named_modules():
            if name.startswith(("neck", "head")) and not list(module.children()):
                module.register_forward_hook(self._look)

    def forward(self, images: Tensor) -> Any:
        """Map pictures (B, C, H, W) to what the network gives."""
        self._seen.finite = torch.ones(len(images), dtype=torch.bool)
        try:
            found = self.net(images)
        except (RuntimeError, IndexError, AssertionError):
            if self._seen.finite.all():
                raise
            # Where nothing is a number, a second stage has no regions to look at.
            return [_marked() if not good else _nothing() for good in self._seen.finite]
        for place in (~self._seen.finite).nonzero()[:, 0].tolist():
            if isinstance(found, Tensor):
                found[place] = torch.nan
            else:
                found[place] = _marked()
        return found

    def _look(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """Mark the pictures of outputs that are not finite; all of them where rows are regions of any picture."""
        if not isinstance(output, Tensor) or not output.is_floating_point():
            return
        if torch.isfinite(output).all():
            return
        finite = self._seen.finite
        if len(output) == len(finite) and output.ndim == 4:
            finite &= torch.isfinite(output.flatten(1)).all(1).cpu()
        else:
            finite[:] = False


def _nothing() -> dict[str, Tensor]:
    """Make the detections of a picture without any."""
    return {"boxes": torch.empty(0, 4), "scores": torch.empty(0), "labels": torch.empty(0, dtype=torch.int64)}


def _marked() -> dict[str, Tensor]:
    """Make the one detection of a picture that gives no numbers."""
    return {
        "boxes": torch.full((1, 4), torch.nan),
        "scores": torch.full((1,), torch.nan),
        "labels": torch.zeros(1, dtype=torch.int64),
    }
