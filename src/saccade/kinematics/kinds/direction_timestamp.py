"""From when to when does one object head to an hour of the clock?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from saccade.kinematics.directions import read_interval
from saccade.kinematics.kinds.base import (
    LARGEST,
    UNPARSABLE,
    Candidate,
    Kind,
    Parsed,
    Search,
    heading_may_be_asked,
    nothing_in,
)
from saccade.kinematics.kinds.scores import AnswerScore, interval_iou
from saccade.kinematics.labels import SLACK, TrackLabel, direction_interval
from saccade.kinematics.settings import DEFAULT, LONGEST_S, Settings
from saccade.kinematics.wording import digits
from saccade.kinematics.wordings import Wordings, one_form

if TYPE_CHECKING:
    from saccade.kinematics.schema import Question

_MAX_INTERVALS = 400
"""Intervals among which the best constant one is looked for."""


class DirectionTimestamp(Kind):
    """[start, end] in seconds of the one stretch."""

    name = "direction_timestamp"
    in_mean = True
    metrics = ("iou",)
    wordings = Wordings(
        one_form(
            "{clock} During which seconds does the object in the {c} box head to {h} o'clock?",
            "When does the {c}-boxed object move toward {h} o'clock? {clock} Answer in seconds.",
            "{clock} From what second to what second is the {c} one bound for {h} o'clock?",
            "Give the time span in which the thing marked {c} heads to {h} o'clock. {clock}",
            "{clock} In which interval does whatever the {c} box holds go to {h} o'clock?",
            "Between which times does the object framed in {c} travel toward {h} o'clock? {clock}",
            "{clock} State the start and the end of the {c}-marked object's {h} o'clock motion.",
            "At what seconds does the object in the {c} rectangle start and stop heading to {h} o'clock? {clock}",
            "{clock} Which stretch of the clip shows the {c}-boxed object on a {h} o'clock course?",
            "Mark on the clock of the video when the object outlined in {c} goes to {h} o'clock. {clock}",
        ),
        (
            "From {v[0]:.1f} to {v[1]:.1f} seconds.",
            "It heads that way from {v[0]:.1f} s to {v[1]:.1f} s.",
            "Between {v[0]:.1f} and {v[1]:.1f} seconds.",
            "The {c}-boxed object does so from {v[0]:.1f} to {v[1]:.1f} seconds.",
        ),
        unit="s",
    )

    def candidates(self, search: Search) -> Iterator[Candidate]:
        """Ask for one hour of those that have one stretch, long enough and not too long."""
        label = search.labels[0]
        if not heading_may_be_asked(search):
            return
        longest = search.max_share * (label.duration_s or 0.0)
        hours = sorted({hour for hour in label.step_clocks or () if hour is not None})
        search.random.shuffle(hours)
        for hour in hours:
            found = direction_interval(label, hour, search.settings)
            if found.interval_s and found.interval_s[1] - found.interval_s[0] <= longest:
                yield Candidate(self.name, search.tracks, list(found.interval_s), clock=hour)
                return

    def wrong(self, value: Any, record: Mapping[str, Any]) -> str | None:
        """Expect two seconds."""
        right = isinstance(value, list) and len(value) == 2 and all(isinstance(x, int | float) for x in value)
        right = right and -LONGEST_S <= value[0] < value[1] <= LONGEST_S
        return None if right else "[start, end] in seconds with start < end"

    def parse(self, words: str, context: Mapping[str, Any]) -> Parsed:
        """Read an interval; "until the end" needs the clip's length."""
        words = digits(words)
        duration = context.get("duration_s")
        interval = read_interval(words, None if duration is None else float(duration))
        if interval is None:
            return nothing_in(words)
        return Parsed("ok", interval_s=interval) if max(map(abs, interval)) <= LARGEST else UNPARSABLE

    def score(self, truth: Any, prediction: Any, settings: Settings = DEFAULT) -> AnswerScore:
        """An overlap that is large enough is right."""
        if prediction is None:
            return AnswerScore(False, iou=0.0)
        overlap = interval_iou(truth, prediction)
        return AnswerScore(overlap >= settings.min_iou - SLACK, iou=overlap)

    def constant(self, values: Sequence[Any], settings: Settings) -> Any:
        """Choose the interval that fits the most others."""
        tried = values[:: max(1, len(values) // _MAX_INTERVALS)]
        hits = [sum(interval_iou(value, guess) >= settings.min_iou for value in tried) for guess in tried]
        return tried[int(np.argmax(hits))]

    def answer_of_one(self, question: Question, label: TrackLabel, settings: Settings) -> str | None:
        """Say the stretch of the label, the longest where there are several."""
        found = direction_interval(label, int(question.clock or 12), settings)
        spans = [found.interval_s] if found.interval_s else list(found.runs)
        best = max(spans, key=lambda span: span[1] - span[0], default=None)
        return None if best is None else f"from {best[0]:.1f} to {best[1]:.1f} seconds"

    def summary(self, values: Sequence[Any]) -> str:
        """Give the median length."""
        return f"{np.median([end - start for start, end in values]):.1f} s long, the middle one"
