"""Our own wordings: ten questions a task, of which two are kept from training, and four answers or more.

In questions, {c} is the colour of a box, {c1} and {c2} the colours in the order they are named, {h} an hour, {a} and
{b} seconds, {clock} and {ground} the conventions below. Comparisons have two forms each, for both things that can be
asked. In answers, {v} is a value, {w} the right colour, {o} the other one.
"""

from __future__ import annotations

from dataclasses import dataclass

HELD_OUT = 2
"""The last wordings of each task, kept from training for the test of paraphrases."""
CLOCK = "Take its first heading as 12 o'clock and count hours clockwise, seen from above."
"""The convention, in every question about an hour."""
GROUND = "Judge by where each gets to over the ground, not in the picture."


@dataclass(frozen=True)
class Wordings:
    """The texts of one task."""

    questions: tuple[tuple[str, ...], ...]
    """Each with one form for every polarity."""
    answers: tuple[str, ...]
    polarities: tuple[str | None, ...] = (None,)
    unit: str | None = None


def _one(*texts: str) -> tuple[tuple[str, ...], ...]:
    return tuple((text,) for text in texts)


def _more_or_less(*texts: str, pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[str, ...], ...]:
    """Make both forms of texts in which {0} and the like stand for a pair of words."""
    return tuple(
        tuple(
            text.replace("{x}", pairs[0][side]).replace("{y}", pairs[1][side]).replace("{z}", pairs[2][side])
            for side in (0, 1)
        )
        for text in texts
    )


WORDINGS: dict[str, Wordings] = {
    "traveled_distance": Wordings(
        _one(
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
    ),
    "traveling_speed": Wordings(
        _one(
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
    ),
    "movement_direction": Wordings(
        _one(
            "{clock} Which way is the object in the {c} box heading when the clip ends?",
            "Where does the {c}-boxed object head at the end? {clock}",
            "{clock} To which hour does the {c} one point its motion last?",
            "At the end of the clip, in which clock direction does the thing marked {c} move? {clock}",
            "{clock} Give the final heading of the object framed in {c} as an hour.",
            "Look at the last movement of the object in the {c} box. {clock} What hour is it?",
            "{clock} Toward what o'clock does whatever is in the {c} box go as the video stops?",
            "Name the clock hour of the {c}-marked object's heading at the end. {clock}",
            "{clock} The {c} box's object has turned, or not: what hour does it head to finally?",
            "As the clip closes, what is the course of the object outlined in {c}, as a clock hour? {clock}",
        ),
        (
            "When the clip ends it heads to {h} o'clock.",
            "Its final heading is {h} o'clock.",
            "The object in the {c} box ends up moving toward {h} o'clock.",
            "At the end it goes in the direction of {h} o'clock.",
        ),
        unit="o'clock",
    ),
    "direction_timestamp": Wordings(
        _one(
            "{clock} During which seconds does the object in the {c} box head to {h} o'clock?",
            "When does the {c}-boxed object move toward {h} o'clock? {clock} Answer in seconds.",
            "{clock} From what second to what second is the {c} one bound for {h} o'clock?",
            "Give the time span in which the thing marked {c} heads to {h} o'clock. {clock}",
            "{clock} In which interval does whatever the {c} box holds go to {h} o'clock?",
            "Between which times does the object framed in {c} travel toward {h} o'clock? {clock}",
            "{clock} State the start and the end of the {c}-marked object's {h} o'clock motion.",
            "At what seconds does the object in the {c} rectangle start and stop heading to {h} o'clock? {clock}",
            "{clock} Which stretch of the clip shows the {c}-boxed object on a {h} o'clock course?",
            "Mark on the clock of the video when the object outlined in {c} goes to {h} o'clock. {clock}",
        ),
        (
            "From {a:.1f} to {b:.1f} seconds.",
            "It heads that way from {a:.1f} s to {b:.1f} s.",
            "Between {a:.1f} and {b:.1f} seconds.",
            "The {c}-boxed object does so from {a:.1f} to {b:.1f} seconds.",
        ),
        unit="s",
    ),
    "distance_comparison": Wordings(
        _more_or_less(
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
            "The {w} one.",
            "It is the object in the {w} box.",
            "The {w}-boxed object.",
            "That is the {w} one, not the {o} one.",
        ),
        ("more", "less"),
    ),
    "speed_comparison": Wordings(
        _more_or_less(
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
            "The {w} one.",
            "It is the object in the {w} box.",
            "The {w}-boxed object, on average.",
            "That is the {w} one, not the {o} one.",
        ),
        ("more", "less"),
    ),
    "direction_comparison": Wordings(
        _more_or_less(
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
    ),
    "travel_time": Wordings(
        _one(
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
    ),
    "speed_ratio": Wordings(
        _one(
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
    ),
}
"""Texts by task."""

ROUTES = (
    ("by road from New York to Los Angeles", 4490.0),
    ("by road from Madrid to Barcelona", 620.0),
    ("by road from Sydney to Melbourne", 880.0),
    ("along a marathon course", 42.195),
    ("once around the Earth at the equator", 40075.0),
)
"""Ways to cover, kilometres; marked within the band of 25 %, which is wider than what road maps differ by."""
THINGS = (
    ("an airliner at cruising speed", 900.0),
    ("a high-speed train at 300 km/h", 300.0),
    ("sound in air", 1235.0),
    ("a sprinting cheetah", 100.0),
)
"""Speeds to compare with, km/h."""
