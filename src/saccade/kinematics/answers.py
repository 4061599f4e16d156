"""Read a model's answer: a number with its unit, a clock hour, an interval, a choice. No network, always the same.

The published way of reading answers is not known. Here every answer is `ok`, `coarse` (a direction in words, which
stands for several hours), a `refusal`, or `unparsable`; a hedge followed by a number is an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from saccade.kinematics.kinds import MULTI_STEP, TASKS, kind_of
from saccade.kinematics.kinds.base import LARGEST, UNPARSABLE, Parsed
from saccade.kinematics.wording import plain

__all__ = ["LARGEST", "MAX_TEXT", "MULTI_STEP", "TASKS", "UNPARSABLE", "Parsed", "parse_answer"]

MAX_TEXT = 6_000
"""Characters of an answer that are read, its last ones: a conclusion stands at the end."""


def parse_answer(task: str, text: Any, context: Mapping[str, Any] | None = None) -> Parsed:
    """Read an answer.

    Args:
        task: Name of a kind of question, see `kinds.KINDS`.
        text: The answer; anything but a text is unparsable.
        context: What reading it needs: `duration_s` (timestamps), `options` {name: [aliases]} and `asks` "more" or
            "less" (comparisons of two), `polarity` "same" or "different" (yes-no questions about directions).

    Raises:
        ConfigError: No such task, or a comparison without options.
    """
    kind = kind_of(task)
    context = kind.checked(context or {})
    return kind.parse(plain(text[-MAX_TEXT:]), context) if isinstance(text, str) else UNPARSABLE
