"""Kinds in which an object's speed is a step on the way to something that everybody knows, such as a road."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from saccade.kinematics.kinds.base import Candidate, Deal, Search, Settled
from saccade.kinematics.kinds.relative import Relative
from saccade.kinematics.labels import TrackLabel
from saccade.kinematics.settings import Settings

if TYPE_CHECKING:
    from saccade.kinematics.schema import Question


class MultiStep(Relative):
    """A known number divided by the object's average speed."""

    multi_step = True
    facts: ClassVar[tuple[tuple[str, float], ...]]
    """What everybody knows: its words, and kilometres or km/h."""
    fact: ClassVar[str]
    """What the texts call its words."""
    said: ClassVar[str]
    """Unit of a short answer."""

    def candidates(self, search: Search) -> Iterator[Candidate]:
        """Ask about every object with a speed; the fact is chosen later, and with it the value."""
        speed = round(search.labels[0].speed_kmh or 0.0, 2)
        if speed > 0:
            yield Candidate(self.name, search.tracks, None, speed_kmh=speed)

    def settle(
        self, candidate: Candidate, deal: Deal, polarity: str | None, colours: tuple[str, str], extra: int
    ) -> Settled:
        """Choose a fact."""
        assert candidate.speed_kmh
        place = extra % len(self.facts)
        value = float(f"{self.facts[place][1] / candidate.speed_kmh:.6g}")
        return Settled((colours[deal.swap],), value, (f"k{place}",))

    def known_words(self, known: Sequence[str]) -> dict[str, Any]:
        """Return the words and the number of the fact; those of none where the name ends early."""
        words, number = self.facts[int(known[0][1:])] if known else ("", 0.0)
        return {self.fact: words, "k": number}

    def speed_of(self, question: Question) -> float | None:
        """Divide the fact by the answer."""
        return self._number(question) / float(question.value)

    def answer_of_one(self, question: Question, label: TrackLabel, settings: Settings) -> str | None:
        """Divide the fact by the speed of the label."""
        if not label.speed_kmh or not question.template_id:
            return None
        return f"{self._number(question) / label.speed_kmh:.4g} {self.said}"

    def _number(self, question: Question) -> float:
        """Kilometres or km/h of a question's fact, which its template names."""
        return self.facts[int((question.template_id or "").rpartition("/k")[2])][1]
