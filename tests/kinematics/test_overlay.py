"""What is drawn on a clip: the right box, way and speed at the right moment; paths where the camera sees them."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from saccade.errors import ConfigError, DataError
from saccade.kinematics.birdseye import birdseye_svg, map_of, plane_of
from saccade.kinematics.overlay import frames_of, write_overlay
from saccade.kinematics.records import Track
from saccade.kinematics.scene import box_at, motion_at, open_scene, paint, pose_at, trail, words
from saccade.kinematics.video import read_frames, video_facts

TIMES = [0.5 * step for step in range(9)]
# Looks along the world's x axis from 1 m above the ground, with a focal length of 100 px.
POSE = np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1.0], [0, 0, 0, 1]])


def driver(**changes):
    """A car 20 m ahead that crosses to the right at 4 m/s, then stands for the last second."""
    right = [min(2.0 * step, 12.0) for step in range(9)]
    track = Track(
        clip_id="a", source="made", split="train", track_id="car-1", category="car", timestamps_s=TIMES,
        xyz_world=[[20.0, 4 - y, 1.0] for y in right], label_origin="gt", size_lwh=[4.0, 2.0, 2.0],
        boxes_2d=[[60 + 5 * (y - 2), 45.0, 80 + 5 * (y - 2), 85.0] for y in right],
        camera={"K": [[100.0, 0, 80], [0, 100.0, 45], [0, 0, 1]], "width": 160, "height": 90},
        T_world_cam=[POSE.tolist()] * 9,
    )  # fmt: skip
    return dataclasses.replace(track, **changes)


@pytest.fixture
def pictures(tmp_path):
    """A grey frame for each time."""
    for step in range(9):
        Image.new("RGB", (160, 90), (90, 90, 90)).save(tmp_path / f"{step}.png")
    return driver(image_paths=[f"{step}.png" for step in range(9)])


def test_way_speed_and_hour_at_a_moment():
    scene = open_scene([driver()])
    label = scene.labels["car-1"]
    assert motion_at(label, 1.25) == (pytest.approx(5.0), pytest.approx(14.4))
    assert motion_at(label, 4.0) == (pytest.approx(12.0), pytest.approx(0.0))
    assert motion_at(label, 9.0) == (pytest.approx(12.0), None)
    assert words(scene.tracks[0], scene, 1.25) == "5.0 m  14 km/h  12 o'clock"
    still = open_scene([driver(xyz_world=[[20.0, 0, 1]] * 9)])
    assert words(still.tracks[0], still, 1.0) == "stands still"


def test_boxes_between_annotations():
    track = driver()
    assert box_at(track, 0.25) == pytest.approx([55, 45, 75, 85])
    assert box_at(track, 1.0) == track.boxes_2d[2]
    assert box_at(track, -0.1) is None
    assert box_at(track, 4.1) is None
    gap = driver(boxes_2d=[*track.boxes_2d[:3], None, *track.boxes_2d[4:]])
    assert box_at(gap, 1.25) is None
    # Pictures were taken a little later than the positions were measured: boxes are theirs.
    late = driver(image_times_s=[time + 0.05 for time in TIMES])
    assert box_at(late, 0.55) == track.boxes_2d[1]


def test_path_on_the_ground_as_the_camera_sees_it():
    scene = open_scene([driver()])
    (piece,) = trail(scene.tracks[0], scene, 1.25)
    # 20 m ahead and 1 m below the camera: 5 px below the middle; 4 m to the left of it at first, 1 m right at last.
    assert piece[:, 1] == pytest.approx(50.0)
    assert piece[[0, -1], 0] == pytest.approx([60.0, 85.0])
    assert trail(driver(), open_scene([driver(T_world_cam=None)]), 1.0) == []


def test_the_camera_turns_evenly():
    turned = POSE.copy()
    turned[:3, :3] = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]]) @ POSE[:3, :3]
    scene = open_scene([driver(T_world_cam=[POSE.tolist(), turned.tolist(), *[None] * 7])])
    half = pose_at(scene, 0.25)
    assert half[:3, 2] == pytest.approx([np.sqrt(0.5), np.sqrt(0.5), 0])
    assert half[:3, :3] @ half[:3, :3].T == pytest.approx(np.eye(3), abs=1e-12)
    assert pose_at(scene, 0.75) is None


def test_colours_are_where_they_belong():
    scene = open_scene([driver()])
    assert list(scene.colours) == ["car-1"]
    shown = np.asarray(paint(Image.new("RGB", (160, 90), (90, 90, 90)), scene, 0.0, size=640)).astype(int)
    assert shown.shape == (360, 640, 3)
    red = (shown[..., 0] > 180) & (shown[..., 1] < 100)
    rows, columns = np.nonzero(red)
    assert red[200:330, 198:202].any(1).all()  # left side of the box, four times as large
    assert not red[230:320, 210:270].any()
    assert rows.max() <= 345
    assert columns.min() >= 190


def test_folder_of_pictures_and_video(tmp_path, pictures):
    assert write_overlay([pictures], tmp_path / "out", root=tmp_path, size=320) == 9
    files = sorted((tmp_path / "out").iterdir())
    assert [file.name for file in files] == [f"{step:03d}.png" for step in range(9)]
    with Image.open(files[0]) as image:
        assert image.size == (320, 180)
    pytest.importorskip("av")
    assert write_overlay([pictures], tmp_path / "out.mp4", root=tmp_path, size=320) == 9
    facts = video_facts(tmp_path / "out.mp4")
    assert (facts.width, facts.height, facts.frame_rate) == (320, 180, pytest.approx(2.0))
    # A video's frames are shown at their own seconds, here twice each; a clip may begin anywhere in it.
    inside = dataclasses.replace(pictures, image_paths=[f"out.mp4#t={time:.3f}" for time in TIMES])
    rate, frames = frames_of([inside], root=tmp_path, rate=4.0)
    assert (rate, [time for time, _ in frames]) == (4.0, [0.0, *sorted(TIMES[1:] * 2)])
    late = dataclasses.replace(pictures, timestamps_s=TIMES[:5], xyz_world=pictures.xyz_world[:5],
                               image_paths=[f"out.mp4#t={time + 2:.3f}" for time in TIMES[:5]])  # fmt: skip
    (frame,) = (np.asarray(image) for _, image in frames_of([late], root=tmp_path, times_s=[1.0])[1])
    ((_, expected),) = read_frames(tmp_path / "out.mp4", [3.0])
    assert (frame == expected).all()


def test_what_cannot_be_drawn(tmp_path, pictures):
    with pytest.raises(DataError, match="name no pictures"):
        write_overlay([driver()], tmp_path / "out")
    with pytest.raises(ConfigError, match=r"expected \.mp4"):
        write_overlay([pictures], tmp_path / "out.gif", root=tmp_path)
    with pytest.raises(ConfigError, match="64 to 8192"):
        write_overlay([pictures], tmp_path / "out", root=tmp_path, size=8)
    (tmp_path / "4.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"4\.png: not an image"):
        write_overlay([pictures], tmp_path / "out", root=tmp_path)
    assert not (tmp_path / "out").exists()


def test_from_above():
    track = driver()
    plane = plane_of([track])
    assert plane.flat(np.array([5.0, -2, 7])) == pytest.approx(
        [2, 5]
    )  # the camera looks along x: ahead is up
    page = map_of([track], [track.points], 400)
    left, right = page.page(track.points[[0, -1]])
    assert right[0] > left[0]
    assert right[1] == pytest.approx(left[1])
    assert (right[0] - left[0]) / page.scale == pytest.approx(12.0)
    assert page.page(np.array([0.0, 0, 1]))[1] > left[1]  # the camera is nearer the bottom
    scene = open_scene([track, driver(track_id="<b>", xyz_world=[None] * 9)])
    drawn = birdseye_svg(scene.tracks, scene.labels, scene.colours)
    assert "car car-1: 12.0 m, 10.8 km/h" in drawn
    assert "<b>" not in drawn
    assert "NaN" not in drawn.replace("nan", "NaN")
