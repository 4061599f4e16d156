"""How fast is one object on average?"""

from __future__ import annotations

from saccade.kinematics.kinds.relative import Measured
from saccade.kinematics.labels import TrackLabel
from saccade.kinematics.wordings import Wordings, one_form


class TravelingSpeed(Measured):
    """Average over the run, stops included, in km/h."""

    name = "traveling_speed"
    error_unit = "km/h"
    quantity, field = "speed", "value_kmh"
    title, said = "Average speed", "km/h"
    wordings = Wordings(
        one_form(
            "On average, how quickly does the {c}-boxed object go, in km/h?",
            "Mean speed of the object marked {c}?",
            "What is the average speed of whatever the {c} box encloses, in kilometres per hour?",
            "How fast does the object in the {c} box travel on average?",
            "Give the {c}-marked object's average speed over the clip in km/h.",
            "At what mean speed, stops included, does the object outlined in {c} move?",
            "Averaged over the time it is shown, how many km/h does the {c}-boxed object make?",
            "Estimate how fast the thing inside the {c} frame is going, as an average in km/h.",
            "A radar gun follows the {c} box through the clip: what average would it report in km/h?",
            "Divide way by time for the object in the {c} rectangle: which speed in km/h comes out?",
        ),
        (
            "On average it goes {v:.2f} km/h.",
            "Its mean speed is {v:.2f} km/h.",
            "The object in the {c} box travels at {v:.2f} km/h on average.",
            "About {v:.2f} km/h.",
        ),
        unit="km/h",
    )

    def of(self, label: TrackLabel) -> float | None:
        """km/h."""
        return label.speed_kmh
