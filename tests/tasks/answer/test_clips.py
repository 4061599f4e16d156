"""Clips and boxes as a user gives them."""

import numpy as np
import pytest
from PIL import Image

from saccade.errors import ConfigError, DataError
from saccade.tasks.answer.vlm.clips import clip_frames, cover_boxes, fill_boxes, parse_box, spread_boxes


@pytest.fixture
def folder(tmp_path):
    for place in range(5):
        Image.new("RGB", (64, 48), (50 * place, 0, 0)).save(tmp_path / f"{place:02d}.png")
    return tmp_path


@pytest.fixture
def video(tmp_path):
    """Two seconds at 10 frames a second; brightness tells the frame."""
    av = pytest.importorskip("av")
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for place in range(20):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 10 * place, np.uint8), format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def test_frames_of_a_video_are_those_of_every_half_second(video):
    frames, times = clip_frames(video)
    assert times == [0.0, 0.5, 1.0, 1.5]
    shades = [np.asarray(frame).mean() for frame in frames]
    assert shades == pytest.approx([0, 50, 100, 150], abs=6)


def test_frames_at_the_instants_of_a_label(video):
    frames, times = clip_frames(video, [0.3, 1.2])
    assert times == [0.3, 1.2]
    assert [np.asarray(frame).mean() for frame in frames] == pytest.approx([30, 120], abs=6)


def test_a_video_shorter_than_the_sampling(video):
    with pytest.raises(DataError, match="no frame near 9 s"):
        clip_frames(video, [0.0, 9.0])


def test_a_folder_of_frames(folder):
    frames, times = clip_frames(folder)
    assert times == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert [frame.getpixel((0, 0))[0] for frame in frames] == [0, 50, 100, 150, 200]
    assert clip_frames(folder, [0.5, 1.5])[0][1].getpixel((0, 0))[0] == 150
    with pytest.raises(DataError, match="5 pictures half a second apart"):
        clip_frames(folder, [0.0, 7.0])


@pytest.mark.parametrize(
    "times", [[0.0, 0.7], [0.0, 0.5001], [0.26], [0.0, 2.5], [-0.5, 0.0], [0.0, float("nan")]]
)
def test_seconds_between_before_and_after_the_frames_of_a_folder(folder, times):
    with pytest.raises(DataError, match="5 pictures half a second apart"):
        clip_frames(folder, times)


def test_a_clip_that_is_too_short(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "0.png")
    with pytest.raises(DataError, match=r"has 1 of the frames .* expected at least 2"):
        clip_frames(tmp_path)
    with pytest.raises(DataError, match="no such video"):
        clip_frames(tmp_path / "none.mp4")


def test_boxes_are_read():
    assert parse_box("120,80,180,140@0.0") == ("red", 0.0, [120.0, 80.0, 180.0, 140.0])
    assert parse_box("blue:1,2,3,4.5@1.5") == ("blue", 1.5, [1.0, 2.0, 3.0, 4.5])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("120,80,180@0.0", "expected x0,y0,x1,y1@seconds"),
        ("120,80,180,140", "expected x0,y0,x1,y1@seconds"),
        ("a,b,c,d@0", "expected x0,y0,x1,y1@seconds"),
        ("nan,0,1,1@0", "expected x0,y0,x1,y1@seconds"),
        ("rde:1,2,3,4@0", "did you mean 'red'"),
        ("9,2,3,4@0", "expected x0 < x1"),
    ],
)
def test_boxes_that_are_none(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_box(text)


def test_boxes_move_along_straight_lines_between_what_is_given():
    times = [0.0, 0.5, 1.0, 1.5, 2.0]
    given = [("red", 0.5, [0, 0, 10, 10]), ("red", 1.5, [20, 0, 30, 10]), ("blue", 2.0, [1, 1, 2, 2])]
    found = spread_boxes(given, times, (64, 48))
    assert [drawn.get("red") for drawn in found] == [
        None, [0, 0, 10, 10], [10, 0, 20, 10], [20, 0, 30, 10], None,
    ]  # fmt: skip
    assert [("blue" in drawn) for drawn in found] == [False] * 4 + [True]


def test_boxes_outside_of_frame_or_clip():
    with pytest.raises(
        ConfigError, match="the red box 0,0,65,10 at 0 s leaves the frame; expected x up to 64"
    ):
        spread_boxes([("red", 0.0, [0, 0, 65, 10])], [0.0, 0.5], (64, 48))
    with pytest.raises(ConfigError, match=r"there is no frame near 9 s; the frames lie from 0 to 0\.5 s"):
        spread_boxes([("red", 9.0, [0, 0, 6, 6])], [0.0, 0.5], (64, 48))


def test_boxes_fill_pixels_by_the_share_that_is_covered():
    mask = cover_boxes(np.array([1.5, 0.0, 3.0, 2.25]), 4, 5)
    assert mask.shape == (4, 5)
    assert mask.sum() == pytest.approx(1.5 * 2.25)
    assert mask[0].tolist() == [0, 0.5, 1, 0, 0]
    assert not cover_boxes(np.full(4, np.nan), 4, 5).any()
    # As a model is served: frames of 50 x 24 pixels seen at 5 x 4.
    boxes = [{"red": [15, 0, 30, 13.5], "blue": None}, {"blue": [-9, 21, 99, 99]}]
    served = fill_boxes(boxes, (50, 24), (5, 4), ["blue", "red"])
    assert served.shape == (2, 2, 4, 5)
    assert np.allclose(served[0, 1], mask)
    assert np.allclose(served[1, 0], np.array([0, 0, 0, 0.5])[:, None])
    assert not served[0, 0].any()
    assert not served[1, 1].any()
