"""Labels as the pixel pipeline gives them: of the same world as the truth, and near to it."""

import numpy as np
import pytest

from motion_demo.pixels import measured_tracks, upright
from motion_demo.samples import MotionSamples, scene_of
from motion_demo.sets import MotionPlan, MotionSet, clip_name, draw_set, draw_world
from saccade.errors import ConfigError, DataError

PLAN = MotionPlan(clips=2, seed=44, size=32, frames=6, labels="both")


def test_measured_tracks_lie_in_the_frame_of_the_truth():
    pytest.importorskip("cv2")
    from motion_demo.sets import draw_clip
    from saccade.kinematics.sources.world import tracks_of

    plan = MotionPlan(seed=44)
    world = draw_world(plan, 3)
    name = clip_name(plan, 3)
    found = measured_tracks(
        world, 0.5 * np.arange(10), name, width=plan.size, split="train", settings=plan.settings
    )
    truth = {track.track_id: track for track in tracks_of(draw_clip(plan, 3), name)}
    assert found
    measured, exact = scene_of(found), scene_of([truth[track.track_id] for track in found])
    assert np.abs(measured.rig - exact.rig).max() < 0.1
    assert np.abs(np.diff(measured.view) - np.diff(exact.view)).max() < 0.01
    for track in found:
        assert track.label_origin == "pseudo"
        ways = [
            np.linalg.norm(np.diff(one.points, axis=0), axis=1).sum()
            for one in (track, truth[track.track_id])
        ]
        assert abs(ways[0] - ways[1]) < max(0.15 * ways[1], 2.0)
        assert np.nanmax(np.abs(measured.boxes - exact.boxes)) < 2  # pixels of the small pictures


def test_upright_turns_a_camera_frame_into_a_world():
    from saccade.kinematics.records import Track

    turn = np.eye(4)
    turn[:3, 3] = 1.0, 0.0, 2.0
    track = Track(
        clip_id="a", source="world", split="train", track_id="1", category="box", timestamps_s=[0.0, 0.5],
        xyz_world=[[0.0, 0.0, 5.0], [1.0, 1.5, 5.0]], label_origin="pseudo",
        T_world_cam=[np.eye(4).tolist(), turn.tolist()],
        up=[0.0, -1.0, 0.0], scale_info={"ground_m": 1.5},
    )  # fmt: skip
    found = upright(track)
    # Ahead becomes x, left y; the camera is 1.5 m above the ground, and what lay 1.5 m below it stands on the ground.
    assert np.allclose(found.points, [[5, 0, 1.5], [5, -1, 0]])
    poses = np.array(found.T_world_cam)
    assert np.allclose(poses[:, :3, 3], [[0, 0, 1.5], [2, -1, 1.5]])
    assert np.allclose(poses[0, :3, 2], [1, 0, 0])


def test_a_set_by_both_labels_keeps_clips_and_what_is_seen_together(tmp_path):
    pytest.importorskip("cv2")
    motion = draw_set(tmp_path / "both", PLAN)
    origins = {track.clip_id: track.label_origin for track in motion.tracks()}
    assert origins[clip_name(PLAN, 0)] == "synthetic"
    assert set(origins.values()) <= {"synthetic", "pseudo"}
    # A clip without tracks is passed over, and its neighbours keep their own pictures.
    path = tmp_path / "both" / "tracks-00000.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if clip_name(PLAN, 0) not in line]
    truth = draw_set(tmp_path / "truth", MotionPlan(clips=2, seed=44, size=32, frames=6))
    own = [track for track in truth.tracks() if track.clip_id == clip_name(PLAN, 1)]
    from saccade.kinematics.records import write_records

    write_records(own, path)
    assert len(kept) < len(lines)
    samples = MotionSamples(MotionSet(tmp_path / "both"), vary=False)
    assert samples.names == [clip_name(PLAN, 1)]
    assert np.array_equal(samples[0]["observations"].numpy(), motion.observations(1))
    path.write_text("", encoding="utf-8")
    (tmp_path / "both" / "scenes.npz").unlink()
    with pytest.raises(DataError, match="none of its clips has a track"):
        MotionSamples(MotionSet(tmp_path / "both"), vary=False)
    with pytest.raises(ConfigError, match="did you mean 'pixels'"):
        MotionPlan(labels="pixel")
