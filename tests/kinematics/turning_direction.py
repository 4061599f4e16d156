"""A tenth kind of question, as somebody would add it: does an object turn left, right, or go straight on?"""

import re
from collections import Counter

from saccade.kinematics.directions import mirror_hour
from saccade.kinematics.kinds.base import Candidate, Kind, Parsed, nothing_in
from saccade.kinematics.wordings import Wordings, one_form

SIDES = ("left", "right", "straight")


def side_of(hour: int) -> str:
    """Side that a clock hour lies on, 6 o'clock with the left."""
    return "straight" if hour == 12 else "right" if hour < 6 else "left"


class TurningDirection(Kind):
    """One of three words."""

    name = "turning_direction"
    wordings = Wordings(
        one_form(*(f"{text} does the object in the {{c}} box turn: left, right or straight on?" for text in (
            "Which way", "At the end, where", "Seen from above, which way", "Over the clip, to which side",
            "All in all, which way", "By the end, to which side", "From its first heading, where",
            "Whereto", "In the end, whereto", "To which side",
        ))),
        ("It turns {v}.", "To the {v}.", "The {c} one goes {v}.", "{v}"),
    )  # fmt: skip

    def candidates(self, search):
        if search.labels[0].end_clock is not None:
            yield Candidate(self.name, search.tracks, side_of(search.labels[0].end_clock))

    def wrong(self, value, record):
        return None if value in SIDES else "left, right or straight"

    def parse(self, words, context):
        found = re.findall(rf"\b(?:{'|'.join(SIDES)})\b", words)
        return Parsed("ok", choice=found[-1]) if found else nothing_in(words)

    def answer_of_one(self, question, label, settings):
        return None if label.end_clock is None else f"It turns {side_of(label.end_clock)}."

    def mirrored(self, question):
        hours = {"left": 9, "right": 3, "straight": 12}
        return side_of(mirror_hour(hours[question.value]))

    def summary(self, values):
        return f"straight on for {100 * Counter(values)['straight'] / len(values):.0f} %"
