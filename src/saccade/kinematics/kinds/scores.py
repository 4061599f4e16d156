"""How far an answer is from the truth, and the constant that is nearest to many truths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from saccade.kinematics.settings import DEFAULT


@dataclass(frozen=True)
class AnswerScore:
    """The score of one answer."""

    correct: bool
    error: float | None = None
    """Metres, km/h, hours or times; for directions, clock hours on the circle. None for what was not understood."""
    iou: float | None = None
    """Overlap of intervals; 0 for what was not understood."""
    mra: float | None = None
    """Mean relative accuracy, 0 to 1; 0 for what was not understood."""


def clock_error(one: int, two: int) -> int:
    """Hours between two clock hours, the shorter way round: 0 to 6."""
    apart = (one - two) % 12
    return min(apart, 12 - apart)


def interval_iou(one: Any, two: Any) -> float:
    """Overlap of two intervals over their union; 0 for one that ends before it starts."""
    (start, stop), (other_start, other_stop) = one, two
    if stop < start or other_stop < other_start:
        return 0.0
    shared = max(0.0, min(stop, other_stop) - max(start, other_start))
    union = (stop - start) + (other_stop - other_start) - shared
    return float(shared / union) if union > 0 else 0.0


def best_constant(truths: Sequence[float] | np.ndarray, band: float = DEFAULT.band) -> tuple[float, float]:
    """Find the one number within the band of the most truths.

    Args:
        truths: Not empty, not negative.
        band: Relative, closed.

    Returns:
        The number and the share of truths it hits. Of equally good ones, the middle of the first stretch of them.
    """
    truth = np.sort(np.asarray(truths, np.float64))
    # A constant hits every truth g with (1 - band) g <= constant <= (1 + band) g: count along the line.
    low, high = (1 - band) * truth, (1 + band) * truth
    ends = np.sort(np.concatenate([low, high]))
    hits = np.searchsorted(np.sort(low), ends, side="right") - np.searchsorted(
        np.sort(high), ends, side="left"
    )
    best = int(np.argmax(hits))
    following = ends[min(best + 1, len(ends) - 1)]
    middle = (ends[best] + following) / 2
    inside = ((low <= middle) & (middle <= high)).sum()
    value = middle if inside >= hits[best] else ends[best]
    return float(value), float(hits[best] / len(truth))
