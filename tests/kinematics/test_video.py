"""Videos: the right frame at the right second, whatever the frame rate; what is no video."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from saccade.errors import DataError
from saccade.kinematics.draw import write_frames
from saccade.kinematics.questions import make_questions
from saccade.kinematics.video import read_frames, split_fragment, video_facts

from .tracks import clip

av = pytest.importorskip("av")


def write(path, times_s, size=(160, 96)):
    """Write a video whose frames are shown at given seconds; frame k has a grey value of 12 k."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.gop_size = 5
        stream.bit_rate = 4_000_000
        for index, time in enumerate(times_s):
            grey = np.full((size[1], size[0], 3), 12 * index % 256, np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
            frame.pts, frame.time_base = round(1000 * time), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def indices(path, times):
    return [round(float(frame.mean()) / 12) for _, frame in read_frames(path, times)]


def test_frames_of_a_steady_video(tmp_path):
    path = write(tmp_path / "a.mp4", [k / 10 for k in range(20)])
    assert indices(path, [0.0, 0.5, 1.0, 1.9]) == [0, 5, 10, 19]
    assert indices(path, [1.23]) == [12]
    assert indices(path, [0.0, 0.02, 0.04]) == [0, 0, 0]
    assert [second for second, _ in read_frames(path, [0.52, 1.0])] == pytest.approx([0.5, 1.0])
    assert list(read_frames(path, [])) == []
    facts = video_facts(path)
    assert (facts.width, facts.height) == (160, 96)
    assert facts.duration_s == pytest.approx(2.0, abs=0.15)


@pytest.mark.parametrize("turn", [0, 90, -90, 180])
def test_frames_stand_upright(tmp_path, turn):
    upright = np.zeros((96, 160, 3), np.uint8)
    upright[:32, :80] = 200  # the upper left corner
    stored = np.ascontiguousarray(np.rot90(upright, -turn // 90))
    with av.open(str(tmp_path / "phone.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.height, stream.width, stream.pix_fmt = *stored.shape[:2], "yuv420p"
        stream.set_display_rotation(turn)
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(stored, format="rgb24")))
        container.mux(stream.encode())
    frames = [frame for _, frame in read_frames(tmp_path / "phone.mp4", [0.0, 0.2])]
    assert [frame.shape for frame in frames] == [(96, 160, 3)] * 2
    for frame in frames:
        assert np.abs(frame.astype(int) - upright).mean() < 6


def test_frames_of_a_video_of_variable_rate(tmp_path):
    times = [0, 0.1, 0.2, 0.9, 1.0, 1.05, 1.1, 1.15, 1.2, 1.6, 2.0]
    path = write(tmp_path / "v.mp4", times)
    # The number of a frame says nothing here: its time does.
    assert indices(path, [0.2, 0.95, 1.1, 1.55, 2.0]) in ([2, 3, 6, 9, 10], [2, 4, 6, 9, 10])


def test_what_is_no_video(tmp_path):
    path = write(tmp_path / "a.mp4", [0, 0.1, 0.2])
    with pytest.raises(DataError, match=r"no frame near 5 s, the nearest is at 0\.20 s"):
        list(read_frames(path, [0.1, 5.0]))
    with pytest.raises(DataError, match="do not rise"):
        list(read_frames(path, [0.2, 0.1]))
    with pytest.raises(DataError, match="no such video"):
        list(read_frames(tmp_path / "none.mp4", [0]))
    for name, data in (
        ("empty.mp4", b""),
        ("text.mp4", b"nothing" * 100),
        ("cut.mp4", path.read_bytes()[:200]),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=name):
            list(read_frames(tmp_path / name, [0]))
        with pytest.raises(DataError, match=name):
            video_facts(tmp_path / name)


def test_fragments():
    assert split_fragment("a/b.mp4#t=1.500") == ("a/b.mp4", 1.5)
    assert split_fragment("a#t.jpg") == ("a#t.jpg", None)
    assert split_fragment("a.mp4#t=x") == ("a.mp4#t=x", None)


def test_frames_of_a_question_come_out_of_a_video(tmp_path):
    write(tmp_path / "c.mp4", [k / 10 for k in range(96)])
    tracks = clip("c", np.random.default_rng(0), images=[f"c.mp4#t={0.5 * k:.3f}" for k in range(20)])
    question = make_questions(tracks).questions[0]
    names = write_frames(
        dataclasses.replace(question, frame_times_s=[0.0, 1.0, 2.0]),
        tracks,
        tmp_path / "f",
        root=tmp_path,
        size=160,
    )
    for name, index in zip(names, (0, 10, 20), strict=True):
        with Image.open(name) as frame:
            assert np.asarray(frame, float)[70:].mean() == pytest.approx(12 * index, abs=5)
