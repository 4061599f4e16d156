"""Do two objects head the same way for a while?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from saccade.kinematics.choices import read_relation
from saccade.kinematics.kinds.base import Candidate, Kind, Parsed, Pool, Search, is_refusal, nothing_in
from saccade.kinematics.labels import TrackLabel
from saccade.kinematics.pairs import compare_direction
from saccade.kinematics.settings import Settings
from saccade.kinematics.wordings import Wordings, two_forms

if TYPE_CHECKING:
    from saccade.kinematics.questions import Plan
    from saccade.kinematics.schema import Question

_WINDOWS = 8
"""Windows that are tried."""


class DirectionComparison(Kind):
    """same or different, by where each gets to over the ground within a window."""

    name = "direction_comparison"
    things = 2
    in_mean = True
    # Yes and no are balanced when polarity is, within each relation.
    sides = 2
    wordings = Wordings(
        two_forms(
            "Between {a:.1f} s and {b:.1f} s, do the {c1} and the {c2} object head {x}? {ground}",
            "From {a:.1f} to {b:.1f} seconds, are the objects in the {c1} and {c2} boxes moving {y}? {ground}",
            "{ground} Do the things marked {c1} and {c2} travel {y} from {a:.1f} s to {b:.1f} s?",
            "Look at {a:.1f} to {b:.1f} seconds: do {c1} and {c2} go {x}? {ground}",
            "{ground} Is it true that the {c1}-boxed and {c2}-boxed objects move {y} between {a:.1f} and {b:.1f} s?",
            "Within {a:.1f}-{b:.1f} s, would you say that {c1} and {c2} are bound {z}? {ground}",
            "Do the two framed objects, {c1} and {c2}, move {y} during {a:.1f} to {b:.1f} s? {ground}",
            "{ground} In the window {a:.1f} s to {b:.1f} s, do the {c1} and {c2} ones head {x}?",
            "Compare headings of {c1} and {c2} from {a:.1f} to {b:.1f} s: do they go {x}? {ground}",
            "{ground} Seen from above, do {c1} and {c2} move {y} from second {a:.1f} to second {b:.1f}?",
            pairs=(
                ("the same way", "different ways"),
                ("in the same direction", "in different directions"),
                ("for the same side", "for different sides"),
            ),
        ),
        (
            "They head {r}.",
            "{yes}, they head {r}.",
            "The {c1} and the {c2} object move {r}.",
            "{yes}. They go {r}.",
        ),
        ("same", "different"),
    )

    def candidates(self, search: Search) -> Iterator[Candidate]:
        """Ask about the first of some windows in which the answer is beyond doubt."""
        settings, random = search.settings, search.random
        start = max(float(label.times[0]) for label in search.labels)
        stop = min(float(label.times[-1]) for label in search.labels)
        times = np.round(np.arange(start, stop + 1e-6, settings.dt), 6)
        least = max(1, int(np.ceil(settings.dir_run_min_s / settings.dt)))
        if len(times) <= least:
            return
        for _ in range(_WINDOWS):
            first = int(random.integers(0, len(times) - least))
            last = int(random.integers(first + least, len(times)))
            window = float(times[first]), float(times[last])
            found = compare_direction(search.labels[0], search.labels[1], window, settings)
            if found.status == "ok" and found.answer:
                yield Candidate(self.name, search.tracks, found.answer, window)
                return

    def balanced(self, pool: Pool, plan: Plan, left_out: Counter[str]) -> Pool:
        """Take as many of one answer as of the other; neighbours are opposites."""
        sides = [[item for item in pool if item[0].value == value] for value in self.wordings.polarities]
        least = min(len(side) for side in sides)
        least = min(least, (plan.per_task or 2 * least) // 2)
        chosen = [item for pair in zip(sides[0][:least], sides[1][:least], strict=True) for item in pair]
        left_out[f"{self.name}: more of one answer than of the other"] += len(pool) - len(chosen)
        return chosen

    def answer_words(self, value: Any, colours: tuple[str, str], polarity: str | None) -> dict[str, Any]:
        """Name the relation, and whether that is a yes."""
        return {
            "r": "the same way" if value == "same" else "different ways",
            "yes": "Yes" if value == polarity else "No",
        }

    def wrong(self, value: Any, record: Mapping[str, Any]) -> str | None:
        """Expect a relation."""
        return None if value in ("same", "different") else "same or different"

    def parse(self, words: str, context: Mapping[str, Any]) -> Parsed:
        """Read the relation; a no in a refusal is none."""
        relation = read_relation(words, str(context.get("polarity") or "same"))
        if relation is None or (relation[1] and is_refusal(words)):
            return nothing_in(words)
        return Parsed("ok", relation=relation[0])

    def answer_of(
        self, question: Question, labels: Mapping[str, TrackLabel | None], settings: Settings
    ) -> str | None:
        """Say what is nearer to the angle between the labels' ways."""
        one, two = labels.values()
        if one is None or two is None or question.window_s is None:
            return None
        window = float(question.window_s[0]), float(question.window_s[1])
        angle = compare_direction(one, two, window, settings).angle_deg
        middle = (settings.same_max_deg + settings.diff_min_deg) / 2
        return None if angle is None else "the same way" if angle <= middle else "different ways"

    def summary(self, values: Sequence[Any]) -> str:
        """Give the share of same."""
        return f"same {100 * np.mean([value == 'same' for value in values]):.0f} %"
