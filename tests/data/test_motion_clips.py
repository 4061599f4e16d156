"""The built-in clips: the same from the same seed, kinds that differ in motion only, tracks beside the videos."""

import numpy as np
import pytest

from saccade.data.clips import is_divided, open_clips
from saccade.data.motion_clips import (
    FRAMES,
    REACH_M,
    SECONDS,
    SIDE,
    clips_folder,
    draw_clip,
    draw_motion,
    moments,
    place_motion,
)
from saccade.kinematics.records import read_tracks
from saccade.kinematics.video import frame_times, read_frames
from saccade.worlds import KINDS

pytest.importorskip("numba")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Six clips to train on and six to validate on."""
    return clips_folder(counts={"train": 6, "val": 6}, home=tmp_path_factory.mktemp("built") / "clips")


def test_an_ordinary_folder_with_tracks(home):
    assert is_divided(str(home))
    source = open_clips(str(home), part="val")
    assert sorted(source.labels) == sorted(KINDS)
    assert source.counts() == dict.fromkeys(source.labels, 1)
    path = source.read(0)
    assert frame_times(path) == pytest.approx(moments(), abs=1e-3)
    tracks = {track.clip_id: track for track in read_tracks(home / "tracks.jsonl")}
    assert len(tracks) == 12
    track = tracks[f"val/{source.names[0]}"]
    assert (track.split, len(track.times)) == ("val", FRAMES)
    # The ball is where its track says: the brightest colour in the box, seen in the decoded frame.
    number = int(path.stem)
    _, clip = draw_clip("val", number)
    decoded = next(frame for _, frame in read_frames(path, [float(moments()[5])]))
    assert decoded.shape == (SIDE, SIDE, 3)
    assert np.abs(decoded.astype(int) - clip.images[5]).mean() < 4
    x0, y0, x1, y1 = track.boxes_2d[5]
    assert clip.instances[5, round((y0 + y1 - 1) / 2), round((x0 + x1 - 1) / 2)] == 1


def test_the_seed_decides_all():
    (kind, first), (_, again), (_, other) = (
        draw_clip(*key) for key in (("train", 3), ("train", 3), ("val", 3))
    )
    assert kind == KINDS[3]
    assert np.array_equal(first.images, again.images)
    assert not np.array_equal(first.images, other.images)


def test_every_motion_is_what_its_name_says():
    times = np.linspace(0, SECONDS, 401)
    for kind in KINDS:
        for seed in range(20):
            motion = draw_motion(kind, np.random.default_rng(seed))
            path, _ = motion.at(times)
            steps = np.diff(path, axis=0)
            speed = np.linalg.norm(steps, axis=1) / np.diff(times)
            reach = np.linalg.norm(path[-1] - path[0])
            assert motion.pieces[:, 0].sum() == pytest.approx(SECONDS)
            if kind == "rest":
                assert reach == 0
                continue
            assert REACH_M[0] <= reach <= REACH_M[1]
            turned = np.unwrap(np.arctan2(steps[:, 1], steps[:, 0])[speed > 1e-6])
            way = turned[-1] - turned[0]
            assert {
                "straight": abs(way) < 1e-6 and np.ptp(speed) < 1e-6,
                "stop_and_go": abs(way) < 1e-6 and 0.28 < (speed < 1e-6).mean() < 0.47,
                "arc": np.radians(99) < abs(way) < np.radians(161),
                "u_turn": abs(abs(way) - np.pi) < 0.1 and speed.min() > 0.1,
                "reverse": abs(abs(way) - np.pi) < 1e-6 and (np.abs(np.diff(turned)) > 1).sum() == 1,
            }[kind]


def test_one_frame_says_nothing_and_start_and_end_little():
    """Random forests that are told the exact places of the ball in 900 clips of six kinds."""
    ensemble = pytest.importorskip("sklearn.ensemble")
    seen, label = [], np.arange(900) % len(KINDS)
    for number in range(900):
        rng = np.random.default_rng(number)
        motion = place_motion(draw_motion(KINDS[number % len(KINDS)], rng), np.zeros(2), rng)
        seen.append(motion.at(moments())[0])
    seen = np.array(seen)
    gap = np.linalg.norm(seen[:, -1] - seen[:, 0], axis=1)
    speeds = np.linalg.norm(np.diff(seen, axis=1), axis=2)
    ends = np.concatenate([seen[:, 0], seen[:, -1], gap[:, None]], 1)
    whole = np.concatenate([(seen - seen[:, :1]).reshape(900, -1), speeds], 1)
    found = []
    for values in (seen[:, 8], ends, whole):
        forest = ensemble.RandomForestClassifier(40, min_samples_leaf=5, random_state=0, n_jobs=1)
        forest.fit(values[:600], label[:600])
        found.append((forest.predict(values[600:]) == label[600:]).mean())
    one, two, all_of_them = found
    assert one < 0.25
    assert two < 0.45
    assert all_of_them > 0.8
