"""How many hours would one object need for a known way?"""

from __future__ import annotations

from saccade.kinematics.kinds.multi_step import MultiStep
from saccade.kinematics.units import SECONDS
from saccade.kinematics.wordings import Wordings, one_form


class TravelTime(MultiStep):
    """Kilometres over km/h: hours."""

    name = "travel_time"
    error_unit = "h"
    quantity, field, per = "time", "value_h", SECONDS["h"]
    fact, said = "route", "hours"
    # Kilometres; the band of 25 % is wider than what road maps differ by.
    facts = (
        ("by road from New York to Los Angeles", 4490.0),
        ("by road from Madrid to Barcelona", 620.0),
        ("by road from Sydney to Melbourne", 880.0),
        ("along a marathon course", 42.195),
        ("once around the Earth at the equator", 40075.0),
    )
    wordings = Wordings(
        one_form(
            "Going on at its average speed, how many hours would the object in the {c} box need {route}?",
            "If the {c}-boxed object kept its mean speed, how long would it take {route}, in hours?",
            "How many hours would a trip {route} last at the average speed of the thing marked {c}?",
            "Suppose the object framed in {c} never slowed from its average: how many hours {route}?",
            "At the pace it shows here, how many hours does the {c} one need {route}?",
            "Take the average speed of whatever is in the {c} box: how many hours does it need {route}?",
            "With the {c}-marked object's mean speed, what is the time {route} in hours?",
            "In hours, how long is the way {route} for something as fast as the {c}-boxed object?",
            "The object outlined in {c} sets out {route} at its average speed: after how many hours does it arrive?",
            "Work out the hours that the {c} box's object would be on its way {route} at constant average speed.",
        ),
        (
            "At {s:.2f} km/h the {k:,.0f} km take {v:.2f} hours.",
            "It goes {s:.2f} km/h, so {k:,.0f} km take it {v:.2f} hours.",
            "The way is about {k:,.0f} km; at {s:.2f} km/h that is {v:.2f} hours.",
            "About {v:.2f} hours.",
        ),
        unit="h",
    )
