"""Sets of motion clips: the same from the same plan, whole after a stop, and labelled as the tracks say."""

import math

import numpy as np
import pytest

from motion_demo.samples import MotionSamples, scene_of, targets_of
from motion_demo.sets import FOCALS, HEIGHTS_M, MotionPlan, MotionSet, draw_set, draw_world
from saccade.errors import ConfigError, DataError
from saccade.kinematics.labels import label_track

PLAN = MotionPlan(clips=3, seed=5, size=32, frames=6)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return draw_set(tmp_path_factory.mktemp("motion"), PLAN)


def test_a_set_is_drawn_again_alike_and_may_grow(drawn, tmp_path):
    again = draw_set(tmp_path / "one", MotionPlan(clips=1, seed=5, size=32, frames=6))
    assert np.array_equal(again.images(0), drawn.images(0))
    (tmp_path / "one" / "tracks-00000.jsonl").unlink()  # as if it had been stopped there
    again = draw_set(tmp_path / "one", PLAN)
    assert len(again) == 3
    assert np.array_equal(again.images(2), drawn.images(2))
    with pytest.raises(ConfigError, match="another folder"):
        draw_set(tmp_path / "one", MotionPlan(clips=3, seed=6, size=32, frames=6))


def test_no_rig_of_a_held_out_set_lies_in_a_training_band():
    for rigs, first in (("train", 0), ("new", 1)):
        for number in range(60):
            camera = draw_world(MotionPlan(seed=2, rigs=rigs), number).camera
            for edges, value in ((HEIGHTS_M, camera.height_m), (FOCALS, camera.focal)):
                assert (np.searchsorted(edges, value) - 1) % 2 == first


def test_a_folder_that_is_no_set_is_refused(tmp_path):
    with pytest.raises(DataError, match="no set of motion clips"):
        MotionSet(tmp_path)
    (tmp_path / "set.json").write_text('{"clip": 3}', encoding="utf-8")
    with pytest.raises(DataError, match="no set of motion clips"):
        draw_set(tmp_path, PLAN)
    with pytest.raises(ConfigError, match="did you mean 'full'"):
        MotionPlan(level="ful")


def test_targets_say_what_the_exact_tracks_say(drawn):
    tracks = [track for track in drawn.tracks() if track.clip_id.endswith("0000000")]
    scene = scene_of(tracks)
    found = targets_of(scene, [0, None], PLAN.settings)
    label = label_track(tracks[0].timestamps_s, tracks[0].points, settings=PLAN.settings)
    for number, track in enumerate(drawn.tracks()):
        own = scene_of([track])
        same = label_track(track.timestamps_s, track.points, settings=PLAN.settings)
        said = targets_of(own, [0], PLAN.settings)
        assert float(said["way"][0]) == pytest.approx(same.distance_m, rel=1e-6), number
        assert bool(said["static"][0]) == (same.status == "static")
        hours = [None if hour < 0 else int(hour) or 12 for hour in said["hour"][0]]
        assert hours == list(same.step_clocks or [None] * 5)
    camera = draw_world(PLAN, 0).camera
    assert float(found["way"][0]) == pytest.approx(label.distance_m, rel=1e-6)
    assert found["there"].tolist() == [True, False]
    lengths = np.linalg.norm(np.diff(tracks[0].points[:, :2], axis=0), axis=1)
    assert np.allclose(found["move"][0].norm(dim=-1), lengths, atol=1e-5)
    assert np.allclose(
        found["rig"].numpy(), [math.log(camera.height_m), math.log(camera.focal), camera.pitch], atol=1e-5
    )
    # The camera's own path, from its closed form: a turn to the left is a negative one.
    _, speed, turn = camera.motion.pieces[0]
    assert np.allclose(found["ego"][:, 0], -turn * 0.5, atol=1e-5)
    chord = speed * 0.5 if not turn else 2 * speed / turn * math.sin(turn / 4) * math.cos(turn / 4)
    assert np.allclose(found["ego"][:, 1], chord / camera.height_m, atol=1e-4)


def test_front_and_right_are_those_of_the_first_camera():
    from motion_demo.samples import Scene

    places = np.zeros((1, 6, 3))
    places[0, :, 1] = -np.arange(6)  # along -y
    scene = Scene(
        0.5 * np.arange(6), places, np.full((1, 6, 4), np.nan), np.zeros((6, 2)), np.zeros(6), np.zeros(3)
    )
    found = targets_of(scene, [0, None], PLAN.settings)  # the camera looks along x, so -y is to its right
    assert np.allclose(found["move"][0], [[0, 1]] * 5)
    mirrored = targets_of(scene.mirrored(32), [0, None], PLAN.settings)
    assert np.allclose(mirrored["move"][0], [[0, -1]] * 5)
    backwards = targets_of(scene.reversed(), [0, None], PLAN.settings)
    assert np.allclose(backwards["move"][0], [[0, -1]] * 5)


def test_a_mirror_exchanges_hours_of_left_and_right():
    from motion_demo.samples import Scene

    angle = np.radians(np.linspace(0, 90, 8))
    places = np.stack([10 * np.sin(angle), 10 * (np.cos(angle) - 1), 0 * angle], 1)[None]  # a right turn
    scene = Scene(
        0.5 * np.arange(8), places, np.full((1, 8, 4), np.nan), np.zeros((8, 2)), np.zeros(8), np.zeros(3)
    )
    settings = MotionPlan(frames=8).settings
    right = targets_of(scene, [0, None], settings)["hour"][0]
    left = targets_of(scene.mirrored(32), [0, None], settings)["hour"][0]
    assert right[-1] == 3
    assert ((12 - right) % 12 == left).all()


def test_every_thing_of_a_set_is_judged_once(drawn):
    samples = MotionSamples(drawn, vary=False)
    things = sum(int(samples[k]["there"].sum()) for k in range(len(samples)))
    assert things == len(list(drawn.tracks()))
