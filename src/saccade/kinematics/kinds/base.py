"""What a kind of question has to say for itself. `Kind` holds what most of them share.

A kind is an object without state: how its questions arise from labels, in which words they are asked, how an answer
is read and scored, and what the constant, the variants and a geometry tool make of it. `saccade.kinematics.kinds`
lists them; nothing outside of that folder knows one by name.
"""

from __future__ import annotations

import dataclasses
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from saccade.kinematics.kinds.scores import AnswerScore
from saccade.kinematics.labels import TrackLabel
from saccade.kinematics.settings import DEFAULT, Settings
from saccade.kinematics.wordings import Wordings

if TYPE_CHECKING:
    from saccade.kinematics.questions import Plan
    from saccade.kinematics.schema import Question, Track

LARGEST = 1e12
"""Metres, km/h, seconds or times: nothing on a video is more. As an answer it would be the whole of a mean error."""

_REFUSAL = re.compile(
    r"\b(?:can\s?not|can't|cant|could\s?n[o']?t|could not|unable to|not able to|impossible to|not possible to|"
    r"(?:hard|difficult|tough) to)\s+(?:\w+\s+){0,3}?(?:tell|determine|say|see|estimate|measure|know|judge|answer|"
    r"calculate|compute|provide|infer|give|assess|assist|help|identify|find|discern|perceive|conclude|view|watch|"
    r"be (?:determined|estimated|measured|known|told|answered|inferred|computed|calculated|seen))\b"
    r"|\b(?:not enough|insufficient|no|lack of|lacking) (?:\w+ )?(?:information|context|evidence|data)\b"
    r"|\b(?:do not|don't|does not|doesn't) (?:know|have (?:enough|access|the ability|sufficient))\b"
    r"|\b(?:unknown|unclear|undetermined|indeterminate|undeterminable|unanswerable|unsure|uncertain)\b"
    r"|\bnot (?:sure|certain|clear|known|determinable|visible|provided|possible)\b|\bno way (?:to|of)\b|\bno idea\b"
    r"|\b(?:sorry|apologi[sz]e|as an ai)\b|^n/?a\b"
)


@dataclass(frozen=True)
class Parsed:
    """What an answer says."""

    status: str
    """ok, coarse, refusal or unparsable."""
    value_m: float | None = None
    value_kmh: float | None = None
    value_h: float | None = None
    value_ratio: float | None = None
    hour: int | None = None
    hours: tuple[int, ...] | None = None
    interval_s: tuple[float, float] | None = None
    choice: str | None = None
    """Name of an option, or tie."""
    relation: str | None = None
    """same or different."""

    @property
    def value(self) -> Any:
        """The one thing that was found, or None."""
        names = (field.name for field in dataclasses.fields(self) if field.name != "status")
        return next((found for name in names if (found := getattr(self, name)) is not None), None)

    def to_dict(self) -> dict[str, Any]:
        """Return what was found as plain values."""
        found = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


UNPARSABLE = Parsed("unparsable")
REFUSAL = Parsed("refusal")


def is_refusal(words: str) -> bool:
    """Whether a text says that it does not answer."""
    return _REFUSAL.search(words) is not None


def nothing_in(words: str) -> Parsed:
    """Tell a refusal from an answer that could not be read."""
    return REFUSAL if is_refusal(words) else UNPARSABLE


@dataclass(frozen=True)
class Search:
    """Objects about which something may be asked, as many as `Kind.things`."""

    tracks: tuple[Track, ...]
    labels: tuple[TrackLabel, ...]
    """Of them; their status is ok."""
    random: np.random.Generator
    """Chooses windows and hours."""
    settings: Settings
    max_share: float
    """An interval that fills more of the object's run is not asked for."""


SPORTS_SOURCES = ("egoexo4d",)
"""Headings of one object are not asked here: paths on a field are too tangled."""


def heading_may_be_asked(search: Search) -> bool:
    """Whether the heading of one object is a fair question."""
    return search.tracks[0].source not in SPORTS_SOURCES and search.labels[0].step_clocks is not None


@dataclass(frozen=True)
class Candidate:
    """One question that could be asked, before its colours and words are chosen."""

    task: str
    tracks: tuple[Track, ...]
    value: Any
    """As in the record; for comparisons of two, the index of the winner; None where it is not known yet."""
    window_s: tuple[float, float] | None = None
    clock: int | None = None
    speed_kmh: float | None = None


Pool = Sequence[tuple[Candidate, float]]
"""Candidates, each with the length of its clip in seconds."""


@dataclass(frozen=True)
class Deal:
    """What is free to choose about a question: three coins."""

    swap: int
    """Which object gets the first colour."""
    order: int
    """Which colour is named first."""
    polarity: int


@dataclass(frozen=True)
class Settled:
    """What the coins made of a candidate."""

    painted: tuple[str, ...]
    """Colour of each of its objects."""
    value: Any
    known: tuple[str, ...] = ()
    """Further parts of the template's name, for `Kind.known_words`."""


@dataclass(frozen=True)
class Histogram:
    """How the answers of a kind are spread, for a chart."""

    title: str
    labels: list[str]
    counts: list[int]
    name: str
    """What the chart counts, for those who listen to it."""
    unit: str


class Kind(ABC):
    """One kind of question."""

    name: ClassVar[str]
    """Of the task, in every record."""
    wordings: ClassVar[Wordings]
    things: ClassVar[int] = 1
    """Objects that a question is about: 1 or 2."""
    in_mean: ClassVar[bool] = False
    """Whether it is one of the seven of the published benchmark, over which the mean is taken."""
    multi_step: ClassVar[bool] = False
    """Whether the object's speed is a step on the way."""
    metrics: ClassVar[tuple[str, ...]] = ()
    """What is averaged beside the accuracy: iou, mra."""
    error_unit: ClassVar[str | None] = None
    """Of the mean absolute error."""
    sides: ClassVar[int] = 1
    """Neighbours in a balanced pool that are each dealt coins of their own."""

    # From labels to questions.

    @abstractmethod
    def candidates(self, search: Search) -> Iterator[Candidate]:
        """Yield what could be asked about objects that may be asked about."""

    def balanced(self, pool: Pool, plan: Plan, left_out: Counter[str]) -> Pool:
        """Choose so many of each answer as balance and the plan allow; what goes is counted by reason."""
        if plan.per_task is not None and len(pool) > plan.per_task:
            left_out[f"{self.name}: enough of this task"] += len(pool) - plan.per_task
            return pool[: plan.per_task]
        return pool

    def settle(
        self, candidate: Candidate, deal: Deal, polarity: str | None, colours: tuple[str, str], extra: int
    ) -> Settled:
        """Choose the colours of the objects, and with them the answer; `extra` is a number to choose more by."""
        if self.things == 2:
            return Settled((colours[deal.swap], colours[1 - deal.swap]), candidate.value)
        return Settled((colours[deal.swap],), candidate.value)

    def known_words(self, known: Sequence[str]) -> dict[str, Any]:
        """Words that further parts of a template's name stand for.

        Raises:
            ValueError: A part that says nothing, as all do where a kind has none.
        """
        if known:
            raise ValueError(known)
        return {}

    def answer_words(self, value: Any, colours: tuple[str, str], polarity: str | None) -> dict[str, Any]:
        """Words of the reference answer; colours are in the order they are named in the question."""
        return {"v": value, "o": colours[1] if value == colours[0] else colours[0]}

    def speed_of(self, question: Question) -> float | None:
        """Average speed in km/h that the reference answer names, from a question of ours."""
        return None

    @abstractmethod
    def wrong(self, value: Any, record: Mapping[str, Any]) -> str | None:
        """Say what the value of a record was expected to be; None for one that is right.

        Raises:
            ConfigError: The record's options are no options.
        """

    # From answers to scores.

    def checked(self, context: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a context with what reading needs.

        Raises:
            ConfigError: It is missing.
        """
        return context

    @abstractmethod
    def parse(self, words: str, context: Mapping[str, Any]) -> Parsed:
        """Read an answer that `wording.plain` has prepared."""

    def score(self, truth: Any, prediction: Any, settings: Settings = DEFAULT) -> AnswerScore:
        """Score one value; None is an answer that was not understood."""
        return AnswerScore(prediction is not None and prediction == truth)

    def score_coarse(self, truth: Any, parsed: Parsed, lenient: bool) -> AnswerScore:
        """Score an answer that stands for several values."""
        return AnswerScore(False)

    def constant(self, values: Sequence[Any], settings: Settings) -> Any:
        """Fit the best answer that looks at nothing to the truths of a training split."""
        return Counter(values).most_common(1)[0][0]

    def answer_of(
        self, question: Question, labels: Mapping[str, TrackLabel | None], settings: Settings
    ) -> str | None:
        """Answer from measured labels by colour, as a geometry tool does; None where they do not tell."""
        first = next(iter(labels.values()))
        return None if first is None else self.answer_of_one(question, first, settings)

    def answer_of_one(self, question: Question, label: TrackLabel, settings: Settings) -> str | None:
        """Answer from the label of the one object that a question is about."""
        return None

    # The same truth shown differently.

    def mirrored(self, question: Question) -> Any:
        """Value when the video is flipped left to right."""
        return question.value

    def recoloured(self, question: Question, colours: Mapping[str, str], polarity: str | None) -> Any:
        """Value when the boxes get other colours, {old: new}, or something else is asked for."""
        return question.value

    # The report.

    def summary(self, values: Sequence[Any]) -> str:
        """Describe how the answers are spread; empty where there is nothing to say."""
        return ""

    def histogram(self, values: Sequence[Any]) -> Histogram | None:
        """Count the answers for a chart; None where a kind has none."""
        return None
