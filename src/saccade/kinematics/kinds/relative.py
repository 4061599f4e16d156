"""Kinds that ask for a number, which is right within a relative band."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from saccade.kinematics.kinds.base import (
    LARGEST,
    UNPARSABLE,
    Candidate,
    Histogram,
    Kind,
    Parsed,
    Search,
    nothing_in,
)
from saccade.kinematics.kinds.scores import AnswerScore, best_constant
from saccade.kinematics.labels import SLACK, TrackLabel
from saccade.kinematics.quantities import Quantity, find, find_bare, has_other_units
from saccade.kinematics.settings import DEFAULT, Settings
from saccade.kinematics.units import SECONDS
from saccade.kinematics.wording import digits

if TYPE_CHECKING:
    from saccade.kinematics.schema import Question

TOLERANCES = np.arange(10, 0, -1) * 0.05
"""Relative errors of the mean relative accuracy: 0.50, 0.45 ... 0.05 (VSI-Bench)."""

_STILL = re.compile(
    r"\b(?:stationary|motionless|immobile|parked|at rest|standing still|stands still|stays still|remains still|"
    r"not (?:be )?(?:mov\w+|travel\w*)|(?:isn't|wasn't|aren't) moving|(?:doesn't|didn't|don't) move|no movement|"
    r"no motion|never moves|never moved)\b"
)
CONCLUSION = re.compile(r"\b(?:total|overall|altogether|therefore|thus|hence|so|answer is)\b|=")


class Relative(Kind):
    """A number that is not negative."""

    metrics: ClassVar[tuple[str, ...]] = ("mra",)

    quantity: ClassVar[str]
    """What is read: length, speed or time."""
    field: ClassVar[str]
    """Of `Parsed`."""
    per: ClassVar[float] = 1
    """Metres, km/h or seconds of one unit of the field."""

    def read(self, words: str) -> float | None:
        """Find the number that an answer means, in digits."""
        return read_quantity(words, self.quantity)

    def parse(self, words: str, context: Mapping[str, Any]) -> Parsed:
        """Read a number with its unit, or a bare one."""
        words = digits(words)
        value = self.read(words)
        if value is None:
            return nothing_in(words)
        found: dict[str, Any] = {self.field: value / self.per}
        return UNPARSABLE if abs(value) > LARGEST else Parsed("ok", **found)

    def wrong(self, value: Any, record: Mapping[str, Any]) -> str | None:
        """Expect a number of at least 0."""
        right = isinstance(value, int | float) and value >= 0
        return None if right else "a number that is not negative"

    def score(self, truth: Any, prediction: Any, settings: Settings = DEFAULT) -> AnswerScore:
        """Score by the relative error; the band is closed."""
        if prediction is None:
            return AnswerScore(False, mra=0.0)
        error, size = abs(float(prediction) - float(truth)), abs(float(truth))
        near = error <= TOLERANCES * size + SLACK
        return AnswerScore(error <= settings.band * size + SLACK, error, mra=float(near.mean()))

    def constant(self, values: Sequence[Any], settings: Settings) -> Any:
        """Fit the number that lies within the band of the most truths."""
        return best_constant(values, settings.band)[0]


class Measured(Relative):
    """What the label of one object says by itself."""

    in_mean = True
    title: ClassVar[str]
    """Of the chart."""
    said: ClassVar[str]
    """Unit of a short answer."""

    @abstractmethod
    def of(self, label: TrackLabel) -> float | None:
        """What is asked for."""

    def candidates(self, search: Search) -> Iterator[Candidate]:
        """Ask about every object."""
        value = self.of(search.labels[0])
        assert value is not None
        yield Candidate(self.name, search.tracks, round(value, 2))

    def answer_of_one(self, question: Question, label: TrackLabel, settings: Settings) -> str | None:
        """Say the number of the label."""
        return f"{self.of(label):.2f} {self.said}"

    def summary(self, values: Sequence[Any]) -> str:
        """Give the median and where nine of ten lie."""
        low, middle, high = np.percentile(np.asarray(values, np.float64), (5, 50, 95))
        return f"{middle:.1f} {self.wordings.unit}, nine of ten from {low:.1f} to {high:.1f}"

    def histogram(self, values: Sequence[Any]) -> Histogram | None:
        """Count in fifteen steps up to where 99 of 100 lie; what is more counts to the last."""
        found = np.asarray(values, np.float64)
        edges = np.linspace(0, float(np.percentile(found, 99)) + 1e-6, 16)
        counts, _ = np.histogram(np.minimum(found, edges[-1]), edges)
        labels = [f"{edge:.0f}" for edge in edges[:-1]]
        return Histogram(self.title, labels, counts.tolist(), self.title, f" {self.wordings.unit}")


def read_quantity(words: str, unit: str) -> float | None:
    """Find the quantity that an answer means.

    Args:
        words: From `wording.digits`.
        unit: length, speed or time. A bare number is in metres, km/h or hours.

    Returns:
        Metres, km/h or seconds; None where nothing or something else is measured.
    """
    speeds, rest = find(words, "speed")
    lengths, rest = find(rest, "length")
    times, rest = find(rest, "time")
    found = {"speed": speeds, "length": lengths, "time": times}[unit]
    if found:
        return _meant(words, found).value
    if unit != "time" and _stands_still(words):
        return 0.0
    if speeds or lengths or times or has_other_units(words):
        return None
    bare = find_bare(rest)
    if len(bare) != 1:
        return None
    return bare[0].value * (SECONDS["h"] if unit == "time" else 1)


def _meant(words: str, found: list[Quantity]) -> Quantity:
    """Of several quantities, choose the one after the last word that concludes, or else the first."""
    if len(found) > 1 and (ends := list(CONCLUSION.finditer(words))):
        last = ends[-1].start()
        after = [quantity for quantity in found if quantity.start > last]
        return after[0] if after else found[-1]
    return found[0]


def _stands_still(words: str) -> bool:
    """Whether the answer says that the object does not move, rather than asks it."""
    return any(
        not re.search(r"\b(?:if|whether|not|isn't|wasn't)\s+(?:\w+\s+){0,5}$", words[: match.start()])
        for match in _STILL.finditer(words)
    )
