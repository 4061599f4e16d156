"""Videos that are damaged or made to hurt: a sentence or frames, in bounded memory."""

import contextlib
import os

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from saccade.data.clips import open_clips
from saccade.data.video_clips import ClipDataset, VideoPreprocess
from saccade.errors import DataError
from saccade.kinematics import video
from saccade.kinematics.video import frame_times, read_frames, video_facts
from saccade.tasks.answer.vlm.clips import clip_frames

from .videos import write_video

TIMES = [k / 10 for k in range(12)]


def test_what_is_no_file_is_left_out_of_evaluation(tmp_path):
    write_video(tmp_path / "a.mp4", TIMES)
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "round.mp4").symlink_to("round.mp4")
    (tmp_path / "round").symlink_to("round")
    source = open_clips(str(tmp_path), classes=False)
    assert source.notes == [
        f"{tmp_path}: 1 file is left out, links that lead nowhere (1 without an ending; first: round)"
    ]
    samples = [ClipDataset(source, VideoPreprocess(size=16, frames=4))[k] for k in range(3)]
    assert [[name for name, _ in sample["skipped"]] for sample in samples] == [
        [],
        ["pipe.mp4"],
        ["round.mp4"],
    ]


def test_links_among_folders_of_videos_end(tmp_path):
    for name in "abcdefghij":
        for other in "abcdefghij":
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / f"to-{other}").symlink_to(tmp_path / other)
    write_video(tmp_path / "a" / "one.mp4", TIMES)
    assert len(open_clips(str(tmp_path), classes=False)) == 1


def test_a_playlist_opens_nothing_else(tmp_path):
    """FFmpeg takes the contents, not the name, and a playlist names other files and addresses."""
    part = write_video(tmp_path / "part.ts", TIMES)
    text = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile://{part}\n#EXT-X-ENDLIST\n"
    (tmp_path / "list.mp4").write_text(text)
    assert len(frame_times(part)) == len(TIMES)
    with pytest.raises(DataError, match="cannot be read as a video"):
        frame_times(tmp_path / "list.mp4")


def test_long_frames_are_refused(tmp_path):
    path = write_video(tmp_path / "long.mp4", TIMES[:3], size=(3232, 16))
    for read in (video_facts, frame_times, lambda path: list(read_frames(path, [0.0])), clip_frames):
        with pytest.raises(DataError, match="times the other"):
            read(path)


def test_frames_held_together_are_bounded(tmp_path, monkeypatch):
    write_video(tmp_path / "a.mp4", TIMES, size=(96, 64))
    monkeypatch.setattr(video, "MAX_CLIP_PIXELS", 4 * 64 * 40)
    source = open_clips(str(tmp_path), classes=False)
    preprocess = VideoPreprocess(size=35, crop_pct=0.875, frames=4)
    # Evaluation holds resized frames, 60 x 40; training whole ones.
    assert ClipDataset(source, preprocess)[0]["image"].shape == (1, 4, 3, 35, 35)
    with pytest.raises(DataError, match=r"4 frames of 96 x 64 pixels are more than"):
        ClipDataset(source, preprocess, augment=lambda frames: frames)[0]
    with pytest.raises(DataError, match=r"frames of .* pixels are more than"):
        ClipDataset(source, VideoPreprocess(size=512, frames=4)).views(0)


def test_frames_are_resized_alike_one_by_one(tmp_path):
    write_video(tmp_path / "a.mp4", TIMES, size=(96, 64))
    dataset = ClipDataset(open_clips(str(tmp_path), classes=False), VideoPreprocess(size=32, frames=4))
    whole = torch.stack(
        [
            torch.from_numpy(frame)
            for _, frame in read_frames(tmp_path / "a.mp4", frame_times(tmp_path / "a.mp4"))
        ]
    ).permute(0, 3, 1, 2)
    (chosen,) = dataset.preprocess.choose(frame_times(tmp_path / "a.mp4"))
    assert torch.equal(dataset.decode(0, None)[0], dataset.preprocess.resize(whole[chosen]))


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Contents of a video in several containers."""
    folder = tmp_path_factory.mktemp("films")
    return {
        suffix: write_video(folder / f"a{suffix}", TIMES).read_bytes()
        for suffix in (".mp4", ".mkv", ".avi", ".ts", ".mov")
    }


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".ts", ".mov"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_videos_are_frames_or_a_sentence(films, tmp_path, suffix, data):
    changed = bytearray(films[suffix])
    for _ in range(data.draw(st.integers(0, 8))):
        place = data.draw(
            st.integers(0, len(changed) - 1) | st.integers(max(0, len(changed) - 900), len(changed) - 1)
        )
        changed[place] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path / f"film{suffix}"
    path.write_bytes(changed[: data.draw(st.just(len(changed)) | st.integers(1, len(changed)))])
    for read in (
        lambda: video_facts(path),
        lambda: frame_times(path),
        lambda: [frame.shape for _, frame in read_frames(path, np.arange(0, 1, 0.5))],
        lambda: ClipDataset(open_clips(str(path), classes=False), VideoPreprocess(size=16, frames=2)).views(
            0
        ),
    ):
        with contextlib.suppress(DataError):
            read()
