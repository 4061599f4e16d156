"""Outputs that are not finite: an error of the weights, or, for a few pictures, a reason to leave those out by name.

Damaged weights, or sound ones that overflow in a lower precision, give NaN for every picture, and a NaN has a largest
class like any other row. So nothing is written before a picture that went wrong was told from weights that are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from saccade.errors import WeightsError
from saccade.tasks.base import Batch

REASON = "the network's output for it is not finite (NaN or infinite)"


class FiniteOutputs:
    """Looks at every batch of outputs.

    Args:
        weights: What they are called, for the message.
        probe: Runs the network on noise; called once, when the first output is not finite.
        logs: Outputs may be logs of probabilities, and that of 0 is no fault.
    """

    def __init__(self, weights: str, probe: Callable[[], Tensor], *, logs: bool = False) -> None:
        self._weights, self._probe, self._logs = weights, probe, logs
        self._proved = False
        self._good = self._bad = 0

    def keep(self, batch: Batch, outputs: Tensor, first: int) -> tuple[Batch, Tensor]:
        """Move samples whose outputs are not finite to `skipped`, in the order of their positions.

        Args:
            batch: As of a task's `collate`; `index` holds positions.
            outputs: (samples, ...).
            first: Position of the first sample that the batch covers, unreadable ones included.

        Raises:
            WeightsError: The network gives such outputs for anything, or has given nothing else.
        """
        finite = finite_rows(outputs.clamp_min(torch.finfo(outputs.dtype).min) if self._logs else outputs)
        count = len(finite)
        good = int(finite.sum())
        self._good, self._bad = self._good + good, self._bad + count - good
        if good == count:
            return batch, outputs
        if not self._proved:
            self._proved = bool(torch.isfinite(self._probe()).all())
        if not self._proved or (not self._good and self._bad > 1):
            raise WeightsError(not_finite(self._weights))
        return _without(batch, finite, first), outputs[finite]


def finite_rows(outputs: Tensor) -> Tensor:
    """Say for each sample of (samples, ...) whether all its outputs are finite."""
    return torch.isfinite(outputs.flatten(1)).all(1) if len(outputs) else torch.ones(0, dtype=torch.bool)


def not_finite(weights: str) -> str:
    """Say that weights give no numbers, and what to do."""
    return (
        f"{weights}: the network's outputs are not finite (NaN or infinite), so the weights are damaged or overflow "
        "in this precision; use an earlier checkpoint, or --precision float32"
    )


def _without(batch: Batch, keep: Tensor, first: int) -> Batch:
    """Leave samples out of a batch and list them under `skipped`."""
    rows, places = len(keep), batch["index"].tolist()
    covered = range(first, first + rows + len(batch["skipped"]))
    skipped = dict(zip(sorted(set(covered) - set(places)), batch["skipped"], strict=True))
    skipped |= {
        place: (name, REASON)
        for place, name, good in zip(places, batch["name"], keep.tolist(), strict=True)
        if not good
    }
    kept: dict[str, Any] = dict(batch)
    for key, value in batch.items():
        if isinstance(value, Tensor) and len(value) >= rows:  # several views a sample lie next to each other
            kept[key] = value.unflatten(0, (rows, -1))[keep].flatten(0, 1)
    kept["name"] = [name for name, good in zip(batch["name"], keep.tolist(), strict=True) if good]
    kept["skipped"] = [skipped[place] for place in sorted(skipped)]
    return kept
