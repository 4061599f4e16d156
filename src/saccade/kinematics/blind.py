"""The best answers that look at nothing: a constant, or the most frequent choice, fitted on the training split."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from saccade.kinematics.kinds import kind_of
from saccade.kinematics.kinds.scores import best_constant
from saccade.kinematics.records import Question
from saccade.kinematics.settings import DEFAULT, Settings

__all__ = ["best_constant", "fit_blind"]


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
    return {task: kind_of(task).constant(values, settings) for task, values in truths.items()}
