"""The best answers that look at nothing: a constant, or the most frequent choice, fitted on the training split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from saccade.kinematics.marking import RELATIVE, interval_iou
from saccade.kinematics.records import Question
from saccade.kinematics.settings import DEFAULT, Settings

_MAX_INTERVALS = 400
"""Intervals among which the best constant one is looked for."""


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


def fit_blind(questions: Iterable[Question], settings: Settings = DEFAULT) -> dict[str, Any]:
    """Fit one answer for each task.

    For comparisons that is the colour, and whether things head the same way; a set that is balanced makes it a coin.

    Args:
        questions: Of the training split; never of the benchmark.
        settings: band and min_iou are used.

    Returns:
        {task: value}.
    """
    truths: dict[str, list[Any]] = {}
    for question in questions:
        truths.setdefault(question.task, []).append(question.value)
    found: dict[str, Any] = {}
    for task, values in truths.items():
        if task in RELATIVE:
            found[task] = best_constant(values, settings.band)[0]
        elif task == "direction_timestamp":
            tried = values[:: max(1, len(values) // _MAX_INTERVALS)]
            hits = [sum(interval_iou(value, guess) >= settings.min_iou for value in tried) for guess in tried]
            found[task] = tried[int(np.argmax(hits))]
        else:
            found[task] = Counter(values).most_common(1)[0][0]
    return found
