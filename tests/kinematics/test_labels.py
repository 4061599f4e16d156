"""Labels: the worked examples, and what must not change them."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from saccade.errors import ConfigError, ShapeError
from saccade.kinematics.geometry import unit_quaternion, world_points
from saccade.kinematics.labels import direction_interval, hour_at, label_track
from saccade.kinematics.pairs import compare_direction, compare_distance, compare_speed
from saccade.kinematics.settings import Settings, make_settings
from saccade.kinematics.units import METRES, kmh
from saccade.rotations import rotation

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "stkit_kinematics.json").read_text())
CONFIG = make_settings(**GOLDEN["config"])
TRACKS = [example for example in GOLDEN["examples"] if example["kind"] == "kinematics"]
TOLERANCE = {"speed_kmh": 0.05, "speed_mps": 0.02, "end_angle_cw_deg": 0.1, "angle_deg": 0.1}


def close(name, found, expected):
    if isinstance(expected, (str, type(None))) or "clock" in name:
        return found == expected
    if "angle" in name:
        return abs((found - expected + 180) % 360 - 180) <= 0.1
    tolerance = TOLERANCE.get(name, 0.001 if name.endswith("_s") else 0.01)
    return np.allclose(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("example", TRACKS, ids=lambda example: example["id"])
def test_worked_examples(example):
    labels = {}
    for thing in example["objects"]:
        motions = [thing[name] for name in ("sensor_to_ego", "ego_to_world", "T_world_cam") if name in thing]
        points = world_points(thing["points"], *motions, scale=thing.get("scale", 1.0))
        labels[thing["id"]] = label_track(thing["timestamps"], points, settings=CONFIG)
    for name, expected in example["expected"].items():
        found = labels[name].to_dict()
        for key, value in expected.items():
            assert close(key, found[key], value), (name, key, found[key], value)
        if expected["status"] != "ok":
            assert "step_clocks" not in found
    for query in example["queries"]:
        names = query.get("objects")
        if query["type"] == "direction_timestamp":
            found = direction_interval(labels[query["object"]], query["clock"], CONFIG)
        elif query["type"] == "direction_comparison":
            found = compare_direction(labels[names[0]], labels[names[1]], tuple(query["window_s"]), CONFIG)
        else:
            compare = compare_distance if query["type"] == "distance_comparison" else compare_speed
            found = compare(labels[names[0]], labels[names[1]], tuple(names), CONFIG)
        for key, value in query["expected"].items():
            got = getattr(found, key)
            got = [list(run) for run in got] if key == "runs" else got
            assert close(key, got, value), (query, got)
    for key, value in example.get("conversions", {}).items():
        label = labels["red"]
        kind, _, unit = key.partition("_")
        unit = {"knots": "kn", "mps": "m/s"}.get(unit, unit)
        got = label.distance_m / METRES[unit] if kind == "distance" else label.speed_kmh / kmh(1.0, unit)
        assert got == pytest.approx(value, rel=1e-5)


def test_the_published_sum_at_ten_hertz_would_be_longer():
    """K14: what the half-second grid is for."""
    thing = next(example for example in TRACKS if example["id"] == "K14")["objects"][0]
    steps = np.diff(np.array(thing["points"]), axis=0)
    assert np.linalg.norm(steps, axis=1).sum() == pytest.approx(23.98, abs=0.01)


HEADINGS = st.lists(
    st.sampled_from([0, 20, 50, 80, 110, 140, 175, -20, -50, -80, -110, -140]), min_size=4, max_size=20
)


def walk(turns, speed=3.0):
    """Make a track whose steps turn by given degrees from the first step; half a second each."""
    angles = np.radians(np.concatenate([[0.0], turns]))
    steps = speed * np.stack([np.cos(angles), np.sin(angles), 0.1 * np.sin(3 * angles)], 1)
    points = np.concatenate([[[0, 0, 0]], np.cumsum(steps, 0)])
    return 0.5 * np.arange(len(points)), points


@settings(max_examples=60, deadline=None)
@given(
    HEADINGS,
    st.lists(st.floats(-1, 1), min_size=4, max_size=4),
    st.lists(st.floats(-5000, 5000), min_size=3, max_size=3),
    st.floats(-1000, 1000),
)
def test_a_rigid_motion_and_a_shift_of_time_change_nothing(turns, quaternion, shift, later):
    assume(math.hypot(*quaternion) > 0.1)
    turn = rotation(unit_quaternion(quaternion, "test"))
    times, points = walk(turns)
    here = label_track(times, points)
    there = label_track(times + later, points @ turn.T + shift, clip_start_s=later, up=turn[:, 2])
    assert there.status == here.status
    assert there.distance_m == pytest.approx(here.distance_m, rel=1e-9)
    assert there.speed_kmh == pytest.approx(here.speed_kmh, rel=1e-9)
    assert there.step_clocks == here.step_clocks
    for hour in range(1, 13):
        one, two = direction_interval(here, hour), direction_interval(there, hour)
        assert one.status == two.status
        if one.interval_s:
            assert np.allclose(np.add(one.interval_s, later), two.interval_s, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(HEADINGS, st.floats(0.2, 50))
def test_scaling_multiplies_distances_and_leaves_hours(turns, factor):
    times, points = walk(turns)
    here, there = label_track(times, points), label_track(times, factor * points)
    assume(here.status == there.status == "ok")
    assert there.distance_m == pytest.approx(factor * here.distance_m, rel=1e-9)
    assert there.speed_kmh == pytest.approx(factor * here.speed_kmh, rel=1e-9)
    assert there.step_clocks == here.step_clocks


@settings(max_examples=60, deadline=None)
@given(HEADINGS)
def test_a_mirror_mirrors_hours(turns):
    times, points = walk(turns)
    here, there = label_track(times, points), label_track(times, points * (1, -1, 1))
    assume(here.status == "ok")
    assert [hour % 12 for hour in there.step_clocks] == [(12 - hour) % 12 for hour in here.step_clocks]
    assert there.distance_m == pytest.approx(here.distance_m)


@settings(max_examples=40, deadline=None)
@given(HEADINGS, st.randoms(use_true_random=False))
def test_order_repeats_and_broken_rows_change_nothing(turns, random):
    times, points = walk(turns)
    here = label_track(times, points)
    rows = [
        *zip(times, points.tolist(), strict=True),
        (0.25, [None, 1, 2]),
        (math.nan, [1, 1, 1]),
        (0.6, None),
    ]
    random.shuffle(rows)
    rows.append((0.5, [99, 99, 99]))  # the same time again: the first one counts
    there = label_track([time for time, _ in rows], [row for _, row in rows])
    assert there.to_dict() == here.to_dict()


def test_a_denser_straight_track_gives_the_same():
    times = np.arange(0, 4.01, 0.1)
    points = np.stack([8 * times, 0 * times, 0 * times], 1)
    assert label_track(times, points).distance_m == pytest.approx(32)
    assert label_track(times[::5], points[::5]).distance_m == pytest.approx(32)


def test_no_extrapolation_and_no_bridge_over_a_long_hole():
    label = label_track(
        [0.2, 1.2, 2.2, 3.3], [[0, 0, 0], [5, 0, 0], [10, 0, 0], [15, 0, 0]], settings=Settings(min_points=2)
    )
    assert label.times.tolist() == [
        0.5,
        1.0,
        1.5,
        2.0,
    ]  # 0.0 lies before the first sample; 2.2 to 3.3 is too wide


def test_at_most_forty_points_and_the_earliest_of_equal_runs():
    times = np.arange(0, 40, 0.5)
    points = np.stack([times, 0 * times, 0 * times], 1)
    assert label_track(times, points).n_points == 40
    kept = np.ones(len(times), bool)
    kept[5:10] = False
    kept[15:] = False
    label = label_track(times[kept], points[kept])
    assert (label.n_points, label.times[0]) == (5, 0.0)


def test_first_moving_step_is_the_reference():
    steps = np.array([[0, 0, 0], [0.1, 0, 0], [0, 2, 0], [2, 0, 0], [0, 0.1, 3]])
    points = np.concatenate([[[0, 0, 0]], np.cumsum(steps, 0)])
    label = label_track(0.5 * np.arange(6), points)
    assert label.reference_step == 2
    assert label.step_clocks == (None, None, 12, 3, None)
    assert label.direction_status == "stopped_at_end"
    assert label.end_clock is None
    assert [hour_at(label, time) for time in (0.2, 1.2, 1.5, 2.4, 9.0)] == [None, 12, 3, None, None]


def test_a_lift_has_a_way_but_no_direction():
    points = [[0, 0, float(z)] for z in range(8)]
    label = label_track(0.5 * np.arange(8), points)
    assert (label.status, label.direction_status) == ("ok", "no_reference_direction")
    assert direction_interval(label, 12).status == "no_reference_direction"


def test_unsigned_profile_cannot_tell_left_from_right():
    unsigned = Settings(direction_profile="paper_unsigned")
    for side in (1, -1):
        points = [[0, 0, 0], [4, 0, 0], [8, 0, 0], [8, 4 * side, 0], [8, 8 * side, 0]]
        times = 0.5 * np.arange(5)
        assert label_track(times, points, settings=unsigned).end_clock == 3
        assert label_track(times, points).end_clock == (9 if side == 1 else 3)
    waiting = label_track(
        0.5 * np.arange(5), [[0, 0, 0], [0, 0, 0], [4, 0, 0], [8, 0, 0], [12, 0, 0]], settings=unsigned
    )
    assert waiting.direction_status == "no_reference_direction"  # the published formula divides by zero here


def test_why_a_pair_is_not_asked():
    times = 0.5 * np.arange(9)
    fast, slow, parked = (label_track(times, np.outer(times, (speed, 0, 0))) for speed in (10, 9, 0))
    assert compare_distance(fast, slow).status == "ambiguous"
    assert compare_speed(fast, parked).status == "excluded"
    assert compare_direction(fast, parked, (0, 4)).status == "not_moving"
    assert compare_direction(fast, slow, (0, 5)).status == "not_covered"
    assert direction_interval(parked, 12).status == "excluded"
    creeping = label_track(times, np.outer(times, (0.2, 0, 0)))
    assert creeping.status == "static"
    assert compare_direction(fast, creeping, (0, 4)).status == "excluded"
    late = label_track(times, np.outer(times, (5, 0, 0)))
    assert compare_distance(fast, late, ("green", "white")).answer == "green"


def test_a_short_turn_is_too_brief():
    points = [[0, 0, 0], [2, 0, 0], [4, 0, 0], [4, -2, 0], [6, -2, 0]]
    assert direction_interval(label_track(0.5 * np.arange(5), points), 3).status == "too_brief"


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: label_track([0, 1], [[0, 0, 0]]), ShapeError, "timestamps have shape"),
        (lambda: label_track([0], [["a", 0, 0]]), ShapeError, "no numbers"),
        (lambda: label_track([0], [[0, 0, 0]], up=(0, 0, 0)), ConfigError, "not all zero"),
        (lambda: Settings(dt=0), ConfigError, "dt is 0 but should be above 0"),
        (lambda: Settings(static_radius_m=math.nan), ConfigError, "static_radius_m"),
        (lambda: Settings(direction_profile="unsigned"), ConfigError, "paper_unsigned"),
        (lambda: make_settings(min_step=1), ConfigError, "min_step_m"),
        (lambda: direction_interval(label_track([], []), 13), ConfigError, "1 to 12"),
        (
            lambda: compare_direction(label_track([], []), label_track([], []), (2, 1)),
            ConfigError,
            "window_s",
        ),
    ],
)
def test_refusals(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_an_empty_track_is_too_short():
    assert label_track([], []).to_dict() == {"status": "too_short", "n_points": 0}


def test_the_hash_follows_every_setting():
    assert Settings().config_hash == Settings(dt=0.5).config_hash != Settings(dt=0.25).config_hash


@pytest.mark.parametrize(
    ("sigma", "solid", "plane"), [(0.02, 1.76, 1.38), (0.05, 4.40, 3.46), (0.10, 8.80, 6.91)]
)
def test_phantom_path_of_a_still_object(sigma, solid, plane):
    """Jitter adds 2.257 sigma a step in space, 1.772 in the plane; the static rule keeps it from being asked."""
    random = np.random.default_rng(0)
    times = 0.5 * np.arange(40)
    for length, axes in ((solid, (1, 1, 1)), (plane, (1, 1, 0))):
        labels = [label_track(times, sigma * random.normal(size=(40, 3)) * axes) for _ in range(300)]
        assert np.mean([label.distance_m for label in labels]) == pytest.approx(length, rel=0.02)
        assert {label.status for label in labels} == {"static"}
