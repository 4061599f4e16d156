"""Which of two objects is faster, or slower, on average?"""

from __future__ import annotations

from saccade.kinematics.kinds.comparisons import MoreOrLess
from saccade.kinematics.labels import TrackLabel
from saccade.kinematics.pairs import compare_speed
from saccade.kinematics.wordings import Wordings, two_forms


class SpeedComparison(MoreOrLess):
    """Average speeds."""

    name = "speed_comparison"
    compare = staticmethod(compare_speed)
    wordings = Wordings(
        two_forms(
            "Which is {x}, the {c1} or the {c2} object?",
            "On average, does the object in the {c1} box or the one in the {c2} box go {x}?",
            "Of the {c1}-boxed and the {c2}-boxed object, which has the {y} mean speed?",
            "{c1} or {c2}: whose object is {z}?",
            "Compare average speeds: is the thing marked {c1} or the thing marked {c2} {x}?",
            "Name the {z} of the two objects, {c1} or {c2}.",
            "Between the {c1} and {c2} boxes, which holds the object with the {y} average speed?",
            "Which of the objects framed in {c1} and {c2} moves {x} on average?",
            "A speedometer rides on each, {c1} and {c2}: which would show the {y} average?",
            "Judge the pace of the {c1} and the {c2} one: which goes {x}?",
            pairs=(("faster", "slower"), ("higher", "lower"), ("quicker", "slower")),
        ),
        (
            "The {v} one.",
            "It is the object in the {v} box.",
            "The {v}-boxed object, on average.",
            "That is the {v} one, not the {o} one.",
        ),
        ("more", "less"),
    )

    def of(self, label: TrackLabel) -> float | None:
        """km/h."""
        return label.speed_kmh
