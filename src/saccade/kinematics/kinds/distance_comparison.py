"""Which of two objects goes farther, or less far?"""

from __future__ import annotations

from saccade.kinematics.kinds.comparisons import MoreOrLess
from saccade.kinematics.labels import TrackLabel
from saccade.kinematics.pairs import compare_distance
from saccade.kinematics.wordings import Wordings, two_forms


class DistanceComparison(MoreOrLess):
    """Path lengths, each over the object's own run."""

    name = "distance_comparison"
    compare = staticmethod(compare_distance)
    wordings = Wordings(
        two_forms(
            "Of the {c1} and the {c2} object, which covers {x} ground?",
            "Which box's object travels the {y} path, {c1} or {c2}?",
            "Compare the {c1}-boxed and the {c2}-boxed object: which one moves {x} metres?",
            "Does the object in the {c1} box or the one in the {c2} box go the {y} way?",
            "{c1} or {c2}: whose object puts {x} distance behind it?",
            "Between the things marked {c1} and {c2}, which has the {y} track over the clip?",
            "Which of the two, {c1} or {c2}, travels {x} in total?",
            "Look at the {c1} and {c2} boxes: name the one whose object goes the {z} distance.",
            "Two objects move, one framed in {c1} and one in {c2}; which covers {x} road?",
            "If both left a line on the ground, {c1} and {c2}, whose line would be {y}?",
            pairs=(("more", "less"), ("longer", "shorter"), ("greater", "smaller")),
        ),
        (
            "The {v} one.",
            "It is the object in the {v} box.",
            "The {v}-boxed object.",
            "That is the {v} one, not the {o} one.",
        ),
        ("more", "less"),
    )

    def of(self, label: TrackLabel) -> float | None:
        """Metres."""
        return label.distance_m
