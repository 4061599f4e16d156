"""Is one answer right: closed bands for distances and speeds, exact hours, overlap of intervals, exact choices."""

from __future__ import annotations

from typing import Any

from saccade.kinematics.kinds import kind_of
from saccade.kinematics.kinds.base import Parsed
from saccade.kinematics.kinds.scores import AnswerScore, clock_error, interval_iou
from saccade.kinematics.settings import DEFAULT, Settings

__all__ = ["AnswerScore", "clock_error", "interval_iou", "score_answer", "score_parsed"]


def score_answer(task: str, truth: Any, prediction: Any, settings: Settings = DEFAULT) -> AnswerScore:
    """Score one value.

    Args:
        task: Name of a kind of question, see `kinds.KINDS`.
        truth: Metres, km/h, hour 1 to 12, [start, end], a choice, or same / different.
        prediction: Of the same kind; None for an answer that was not understood, which is wrong.
        settings: band and min_iou are used.

    Raises:
        ConfigError: No such task.
    """
    return kind_of(task).score(truth, prediction, settings)


def score_parsed(
    task: str, truth: Any, parsed: Parsed, settings: Settings = DEFAULT, *, lenient: bool = False
) -> AnswerScore:
    """Score a parsed answer.

    Args:
        task: Its task.
        truth: As for `score_answer`.
        parsed: From `parse_answer`.
        settings: As for `score_answer`.
        lenient: Count a direction in words, such as "forward and right", when the true hour is among its hours.
    """
    if parsed.status == "coarse":
        return kind_of(task).score_coarse(truth, parsed, lenient)
    return score_answer(task, truth, parsed.value if parsed.status == "ok" else None, settings)
