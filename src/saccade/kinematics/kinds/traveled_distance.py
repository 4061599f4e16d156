"""How far does one object travel?"""

from __future__ import annotations

from saccade.kinematics.kinds.relative import Measured
from saccade.kinematics.labels import TrackLabel
from saccade.kinematics.wordings import Wordings, one_form


class TraveledDistance(Measured):
    """Length of the path, in metres."""

    name = "traveled_distance"
    error_unit = "m"
    quantity, field = "length", "value_m"
    title, said = "Distance travelled", "meters"
    wordings = Wordings(
        one_form(
            "Over this clip, what path length does the object in the {c} box cover?",
            "Give the ground covered by the thing marked {c}, in metres.",
            "How many metres does the {c}-boxed object travel in the clip?",
            "From start to finish, how far does whatever is inside the {c} box move?",
            "Estimate the length of the path taken by the object with the {c} frame.",
            "What distance does the object outlined in {c} put behind it?",
            "In metres, how long is the way that the {c}-marked object goes?",
            "Follow the {c} box: what total distance does its object travel?",
            "How much ground does the object within the {c} rectangle cover while we watch?",
            "If you measured the track of the {c}-boxed object with a tape, how many metres would it show?",
        ),
        (
            "It covers {v:.2f} meters.",
            "The {c}-boxed object moves along {v:.2f} m.",
            "Its path is {v:.2f} meters long.",
            "The object in the {c} box travels {v:.2f} meters over the clip.",
        ),
        unit="m",
    )

    def of(self, label: TrackLabel) -> float | None:
        """Metres."""
        return label.distance_m
