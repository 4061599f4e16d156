"""How many times faster than one object is something that everybody knows?"""

from __future__ import annotations

import re

from saccade.kinematics.kinds.multi_step import MultiStep
from saccade.kinematics.kinds.relative import CONCLUSION
from saccade.kinematics.quantities import find, find_bare
from saccade.kinematics.wordings import Wordings, one_form


class SpeedRatio(MultiStep):
    """km/h over km/h."""

    name = "speed_ratio"
    error_unit = "times"
    field = "value_ratio"
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
        """Find "N times", "Nx", "N to 1", or the only number."""
        number = r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)"
        times = r"(?:times|x\b|fold\b|\u00d7|:\s*1\b|to\s+1\b)"
        if hits := list(re.finditer(rf"(?<![\w.]){number}\s*-?\s*{times}", words)):
            ends = list(CONCLUSION.finditer(words))
            after = [hit for hit in hits if ends and hit.start() > ends[-1].start()]
            return float((after or hits)[0][1])
        _, rest = find(words, "speed")
        bare = find_bare(rest)
        return bare[0].value if len(bare) == 1 else None
