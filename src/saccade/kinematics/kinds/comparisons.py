"""Kinds that compare a number of two objects: which of them has more, or less, of it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from saccade.kinematics.choices import check_options, read_choice
from saccade.kinematics.kinds.base import Candidate, Deal, Kind, Parsed, Search, Settled, nothing_in
from saccade.kinematics.labels import Finding, TrackLabel
from saccade.kinematics.settings import Settings

if TYPE_CHECKING:
    from saccade.kinematics.schema import Question


class MoreOrLess(Kind):
    """The answer is the colour of one of two boxes."""

    things = 2
    in_mean = True

    compare: ClassVar[Callable[..., Finding]]
    """Says which has more, by one of two names."""

    @abstractmethod
    def of(self, label: TrackLabel) -> float | None:
        """What is compared."""

    def candidates(self, search: Search) -> Iterator[Candidate]:
        """Ask where the difference is beyond doubt."""
        found = self.compare(search.labels[0], search.labels[1], ("0", "1"), search.settings)
        if found.status == "ok":
            yield Candidate(self.name, search.tracks, int(found.answer or 0))

    def settle(
        self, candidate: Candidate, deal: Deal, polarity: str | None, colours: tuple[str, str], extra: int
    ) -> Settled:
        """Let the coin choose the colour that is right; the colours of the objects follow from it."""
        right = candidate.value if polarity == "more" else 1 - candidate.value
        first = deal.swap if right == 0 else 1 - deal.swap
        return Settled((colours[first], colours[1 - first]), colours[deal.swap])

    def wrong(self, value: Any, record: Mapping[str, Any]) -> str | None:
        """Expect one of the options, by default the colours of the boxes."""
        names = list(check_options(record.get("options") or [thing["colour"] for thing in record["objects"]]))
        return None if value in names else f"one of at least two options, and they are {names}"

    def checked(self, context: Mapping[str, Any]) -> Mapping[str, Any]:
        """Check the options."""
        return {**context, "options": check_options(context.get("options"))}

    def parse(self, words: str, context: Mapping[str, Any]) -> Parsed:
        """Read which option is meant."""
        choice = read_choice(words, context["options"], str(context.get("asks") or "more"))
        return Parsed("ok", choice=choice) if choice else nothing_in(words)

    def answer_of(
        self, question: Question, labels: Mapping[str, TrackLabel | None], settings: Settings
    ) -> str | None:
        """Compare the labels, however near they are."""
        found = {colour: self.of(label) or 0.0 for colour, label in labels.items() if label is not None}
        if len(found) < 2:
            return None
        pick = max if question.polarity != "less" else min
        return f"the {pick(found, key=lambda colour: found[colour])} one"

    def recoloured(self, question: Question, colours: Mapping[str, str], polarity: str | None) -> Any:
        """The winner keeps winning in its new colour; asked the other way round, the other one is right."""
        winner = question.value
        if polarity != question.polarity:
            winner = next(colour for colour in colours if colour != winner)
        return colours[winner]
