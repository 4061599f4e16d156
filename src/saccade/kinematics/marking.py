"""Is one answer right: closed bands for distances and speeds, exact hours, overlap of intervals, exact choices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from saccade.errors import ConfigError, did_you_mean
from saccade.kinematics.answers import MULTI_STEP, TASKS, Parsed
from saccade.kinematics.labels import SLACK
from saccade.kinematics.settings import DEFAULT, Settings

RELATIVE = ("traveled_distance", "traveling_speed", *MULTI_STEP)
"""Tasks that are right within a relative band."""
TOLERANCES = np.arange(10, 0, -1) * 0.05
"""Relative errors of the mean relative accuracy: 0.50, 0.45 ... 0.05 (VSI-Bench)."""


@dataclass(frozen=True)
class Mark:
    """The mark of one answer."""

    correct: bool
    error: float | None = None
    """Metres, km/h, hours or times; for directions, clock hours on the circle. None for what was not understood."""
    iou: float | None = None
    """Overlap of intervals; 0 for what was not understood."""
    mra: float | None = None
    """Mean relative accuracy, 0 to 1; 0 for what was not understood."""


def mark(task: str, truth: Any, prediction: Any, settings: Settings = DEFAULT) -> Mark:
    """Mark one value.

    Args:
        task: One of the seven tasks, or a multi-step one.
        truth: Metres, km/h, hour 1 to 12, [start, end], a choice, or same / different.
        prediction: Of the same kind; None for an answer that was not understood, which is wrong.
        settings: band and min_iou are used.

    Raises:
        ConfigError: No such task.
    """
    if task not in TASKS and task not in MULTI_STEP:
        raise ConfigError(f"no task {task!r}{did_you_mean(task, (*TASKS, *MULTI_STEP))}")
    if task in RELATIVE:
        if prediction is None:
            return Mark(False, mra=0.0)
        error = abs(float(prediction) - float(truth))
        near = error <= TOLERANCES * abs(float(truth)) + SLACK
        return Mark(error <= settings.band * abs(float(truth)) + SLACK, error, mra=float(near.mean()))
    if task == "movement_direction":
        if prediction is None:
            return Mark(False)
        return Mark(int(prediction) == int(truth), clock_error(int(truth), int(prediction)))
    if task == "direction_timestamp":
        if prediction is None:
            return Mark(False, iou=0.0)
        overlap = interval_iou(truth, prediction)
        return Mark(overlap >= settings.min_iou - SLACK, iou=overlap)
    return Mark(prediction is not None and prediction == truth)


def mark_parsed(
    task: str, truth: Any, parsed: Parsed, settings: Settings = DEFAULT, *, lenient: bool = False
) -> Mark:
    """Mark a parsed answer.

    Args:
        task: Its task.
        truth: As for `mark`.
        parsed: From `parse_answer`.
        settings: As for `mark`.
        lenient: Count a direction in words, such as "forward and right", when the true hour is among its hours.
    """
    if parsed.status == "coarse":
        hours = parsed.hours or ()
        nearest = min((clock_error(int(truth), hour) for hour in hours), default=None)
        return Mark(lenient and int(truth) in hours, nearest)
    return mark(task, truth, parsed.value if parsed.status == "ok" else None, settings)


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
