"""How many times faster than one object is something that everybody knows?"""

from __future__ import annotations

from saccade.kinematics.kinds.base import Parsed
from saccade.kinematics.kinds.multi_step import MultiStep
from saccade.kinematics.kinds.relative import read_ratio
from saccade.kinematics.wordings import Wordings, one_form


class SpeedRatio(MultiStep):
    """km/h over km/h."""

    name = "speed_ratio"
    error_unit = "times"
    fact, said = "thing", "times"
    # km/h.
    facts = (
        ("an airliner at cruising speed", 900.0),
        ("a high-speed train at 300 km/h", 300.0),
        ("sound in air", 1235.0),
        ("a sprinting cheetah", 100.0),
    )
    wordings = Wordings(
        one_form(
            "How many times faster than the object in the {c} box is {thing}?",
            "By what factor does the speed of {thing} exceed the average speed of the {c}-boxed object?",
            "Divide the speed of {thing} by the mean speed of the thing marked {c}: what do you get?",
            "The object framed in {c} moves at some average speed; how many times as fast is {thing}?",
            "Compared with the {c} one's average speed, how many times the speed is that of {thing}?",
            "What multiple of the {c}-marked object's average speed does {thing} reach?",
            "How many times the mean speed of whatever is in the {c} box does {thing} go?",
            "Give the ratio of the speed of {thing} to that of the {c}-boxed object.",
            "If {thing} passed by, how many times the average speed of the {c} box's object would it have?",
            "State how many times over {thing} outpaces the object outlined in {c}.",
        ),
        (
            "It goes {s:.2f} km/h and {thing} about {k:,.0f} km/h, which is {v:.2f} times as fast.",
            "About {v:.2f} times.",
            "{k:,.0f} km/h against {s:.2f} km/h: {v:.2f} times.",
            "The ratio is {v:.2f} times.",
        ),
        unit="times",
    )

    def read(self, words: str) -> float | None:
        """Times."""
        return read_ratio(words)

    def parsed(self, value: float) -> Parsed:
        """Times."""
        return Parsed("ok", value_ratio=value)
