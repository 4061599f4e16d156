"""Which way does one object head at the end, as an hour of the clock?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from saccade.kinematics.directions import mirror_hour, read_hours
from saccade.kinematics.kinds.base import (
    UNPARSABLE,
    Candidate,
    Histogram,
    Kind,
    Parsed,
    Pool,
    Search,
    heading_may_be_asked,
    nothing_in,
)
from saccade.kinematics.kinds.scores import AnswerScore, clock_error
from saccade.kinematics.labels import TrackLabel
from saccade.kinematics.settings import DEFAULT, Settings
from saccade.kinematics.wording import digits
from saccade.kinematics.wordings import Wordings, one_form

if TYPE_CHECKING:
    from saccade.kinematics.questions import Plan
    from saccade.kinematics.schema import Question


class MovementDirection(Kind):
    """Hour of the last step; the first heading is 12 o'clock."""

    name = "movement_direction"
    in_mean = True
    error_unit = "clock hours"
    wordings = Wordings(
        one_form(
            "{clock} Which way is the object in the {c} box heading when the clip ends?",
            "Where does the {c}-boxed object head at the end? {clock}",
            "{clock} To which hour does the {c} one point its motion last?",
            "At the end of the clip, in which clock direction does the thing marked {c} move? {clock}",
            "{clock} Give the final heading of the object framed in {c} as an hour.",
            "Look at the last movement of the object in the {c} box. {clock} What hour is it?",
            "{clock} Toward what o'clock does whatever is in the {c} box go as the video stops?",
            "Name the clock hour of the {c}-marked object's heading at the end. {clock}",
            "{clock} The {c} box's object has turned, or not: what hour does it head to finally?",
            "As the clip closes, what is the course of the object outlined in {c}, as a clock hour? {clock}",
        ),
        (
            "When the clip ends it heads to {v} o'clock.",
            "Its final heading is {v} o'clock.",
            "The object in the {c} box ends up moving toward {v} o'clock.",
            "At the end it goes in the direction of {v} o'clock.",
        ),
        unit="o'clock",
    )

    def candidates(self, search: Search) -> Iterator[Candidate]:
        """Ask where the last step moves."""
        hour = search.labels[0].end_clock
        if heading_may_be_asked(search) and hour is not None:
            yield Candidate(self.name, search.tracks, hour)

    def balanced(self, pool: Pool, plan: Plan, left_out: Counter[str]) -> Pool:
        """Keep every hour to its share."""
        hours = Counter(item[0].value for item in pool)
        allowed = most_of_each(list(hours.values()), plan.max_hour_share)
        taken: Counter[int] = Counter()
        kept = []
        for item in pool:
            hour = item[0].value
            if taken[hour] < allowed:
                taken[hour] += 1
                kept.append(item)
            else:
                left_out[f"{self.name}: too many of {hour} o'clock"] += 1
        return super().balanced(kept, plan, left_out)

    def wrong(self, value: Any, record: Mapping[str, Any]) -> str | None:
        """Expect an hour."""
        return None if isinstance(value, int) and 1 <= value <= 12 else "an hour from 1 to 12"

    def parse(self, words: str, context: Mapping[str, Any]) -> Parsed:
        """Read a clock hour, an angle, or a direction in words, which is coarse."""
        words = digits(words)
        found = read_hours(words)
        if found is None:
            return nothing_in(words)
        hours, exact = found
        if not hours:
            return UNPARSABLE
        return Parsed("ok", hour=hours[0]) if exact else Parsed("coarse", hours=hours)

    def score(self, truth: Any, prediction: Any, settings: Settings = DEFAULT) -> AnswerScore:
        """Only the hour itself is right."""
        if prediction is None:
            return AnswerScore(False)
        return AnswerScore(int(prediction) == int(truth), clock_error(int(truth), int(prediction)))

    def score_coarse(self, truth: Any, parsed: Parsed, lenient: bool) -> AnswerScore:
        """Words that hold the hour are right to the lenient; the error is that of the nearest."""
        hours = parsed.hours or ()
        nearest = min((clock_error(int(truth), hour) for hour in hours), default=None)
        return AnswerScore(lenient and int(truth) in hours, nearest)

    def answer_of_one(self, question: Question, label: TrackLabel, settings: Settings) -> str | None:
        """Say the hour of the last step that moves."""
        hours = [hour for hour in label.step_clocks or () if hour is not None]
        return f"{hours[-1]} o'clock" if hours else None

    def mirrored(self, question: Question) -> Any:
        """Hours go round the other way."""
        return mirror_hour(question.value)

    def summary(self, values: Sequence[Any]) -> str:
        """Name the three most frequent hours."""
        hours = Counter(values).most_common(3)
        return ", ".join(f"{hour} o'clock {100 * n / len(values):.0f} %" for hour, n in hours)

    def histogram(self, values: Sequence[Any]) -> Histogram | None:
        """Count hours from behind over left, ahead and right."""
        hours, order = Counter(values), (*range(7, 13), *range(1, 7))
        title = "Which way at the end: left, straight on, right"
        return Histogram(
            title, [str(hour) for hour in order], [hours[hour] for hour in order], "hours", " o'clock"
        )


def most_of_each(counts: Sequence[int], share: float) -> int:
    """Return the largest number, at least 1, so that nothing cut to it is more than a share of all that is left."""
    least, most = 1, max(counts, default=1)
    while least < most:
        middle = (least + most + 1) // 2
        if middle <= share * sum(min(count, middle) for count in counts) + 1e-9:
            least = middle
        else:
            most = middle - 1
    return least
