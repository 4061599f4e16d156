"""Outputs that are not finite: an error of the weights, or, for a few pictures, a reason to leave those out by name.

Damaged weights, or sound ones that overflow in a lower precision, give NaN for every picture, and a NaN has a largest
class like any other row. So nothing is written before a picture that went wrong was told from weights that are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    """

    def __init__(self, weights: str, probe: Callable[[], Any]) -> None:
        self._weights, self._probe = weights, probe
        self._proved = False
        self._good = self._bad = 0

    def keep(self, batch: Batch, outputs: Any, first: int) -> tuple[Batch, Any]:
        """Move samples whose outputs are not finite to `skipped`, in the order of their positions.

        Args:
            batch: As of a task's `collate`; `index` holds positions.
            outputs: (samples, ...), several such by name, or a list of one entry a sample.
            first: Position of the first sample that the batch covers, unreadable ones included.

        Raises:
            WeightsError: The network gives such outputs for anything, or has given nothing else.
        """
        finite = finite_rows(outputs)
        count = len(finite)
        good = int(finite.sum())
        self._good, self._bad = self._good + good, self._bad + count - good
        if good == count:
            return batch, outputs
        if not self._proved:
            self._proved = bool(finite_rows(self._probe()).all())
        if not self._proved or (not self._good and self._bad > 1):
            raise WeightsError(not_finite(self._weights))
        reasons = dict.fromkeys((~finite).nonzero()[:, 0].tolist(), REASON)
        return leave_out(batch, outputs, reasons, first)


def finite_rows(outputs: Any) -> Tensor:
    """Say for each sample of outputs, as `FiniteOutputs.keep` takes them, whether all its numbers are finite."""
    if isinstance(outputs, Tensor):
        return torch.isfinite(outputs.flatten(1)).all(1) if len(outputs) else torch.ones(0, dtype=torch.bool)
    if isinstance(outputs, Mapping):
        return torch.stack([finite_rows(value) for value in outputs.values()]).all(0)
    return torch.tensor([_is_finite(one) for one in outputs], dtype=torch.bool)


def _is_finite(value: Any) -> bool:
    """Look at every number of one sample's outputs."""
    if isinstance(value, Tensor):
        return bool(torch.isfinite(value).all())
    if isinstance(value, Mapping):
        return all(_is_finite(part) for part in value.values())
    return True


def not_finite(weights: str) -> str:
    """Say that weights give no numbers, and what to do."""
    return (
        f"{weights}: the network's outputs are not finite (NaN or infinite), so the weights are damaged or overflow "
        "in this precision; use an earlier checkpoint, or --precision float32"
    )


def leave_out(
    batch: Batch, outputs: Any, reasons: Mapping[int, str], first: int | None = None
) -> tuple[Batch, Any]:
    """Leave samples out of a batch and its outputs and list them under `skipped`, in the order of their positions.

    Args:
        batch: As of a task's `collate`.
        outputs: As of `FiniteOutputs.keep`.
        reasons: By row of the batch.
        first: As there; None: the batch's own `first`.
    """
    rows, places = len(batch["index"]), batch["index"].tolist()
    begin: int = batch["first"] if first is None else first
    covered = range(begin, begin + rows + len(batch["skipped"]))
    skipped = dict(zip(sorted(set(covered) - set(places)), batch["skipped"], strict=True))
    skipped |= {places[row]: (batch["name"][row], reason) for row, reason in reasons.items()}
    kept, found = pick(batch, outputs, [row for row in range(rows) if row not in reasons])
    kept["skipped"] = [skipped[place] for place in sorted(skipped)]
    return kept, found


def pick(batch: Batch, outputs: Any, rows: list[int]) -> tuple[Batch, Any]:
    """Return only some rows of a batch, and of its outputs."""
    count, kept = len(batch["index"]), dict(batch)
    for key, value in batch.items():
        if isinstance(value, Tensor) and count and len(value) >= count:
            # Several views a sample lie next to each other.
            kept[key] = value.unflatten(0, (count, -1))[rows].flatten(0, 1)
        elif isinstance(value, list) and key != "skipped" and len(value) == count:
            kept[key] = [value[row] for row in rows]
    kept.pop("in_file", None)  # numbered by row
    return kept, _rows_of(outputs, rows)


def _rows_of(outputs: Any, rows: list[int]) -> Any:
    if isinstance(outputs, Mapping):
        return {name: _rows_of(value, rows) for name, value in outputs.items()}
    return outputs[rows] if isinstance(outputs, Tensor) else [outputs[row] for row in rows]


def settled(outputs: Any) -> Any:
    """Bring outputs to the CPU, in float32 where they are numbers of a network."""
    if isinstance(outputs, Tensor):
        return outputs.float().cpu() if outputs.is_floating_point() else outputs.cpu()
    if isinstance(outputs, Mapping):
        return {name: settled(value) for name, value in outputs.items()}
    return [settled(one) for one in outputs] if isinstance(outputs, list) else outputs
