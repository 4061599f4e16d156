"""Videos cut into clips and decoded at the grid's instants, by the frames' own times."""

import numpy as np
import pytest

from saccade.errors import ConfigError, DataError
from saccade.kinematics.pseudo_clips import (
    Piece,
    decode,
    find_videos,
    intrinsics_of,
    plan_clips,
    smaller,
)
from saccade.kinematics.settings import DEFAULT, make_settings

pytest.importorskip("av")

from .plain_videos import write_frames


def film(path, times_s, size=(16, 24)):
    """Frame k is grey 4 k, up to 60."""
    images = np.stack([np.full((*size, 3), 4 * min(k, 60), np.uint8) for k in range(len(times_s))])
    return write_frames(path, images, np.asarray(times_s))


def levels(frames):
    """Which frame of the film each is."""
    return np.rint(frames.images[:, 4:12, 4:20].mean((1, 2, 3)) / 4).astype(int).tolist()


@pytest.mark.parametrize(
    ("seconds", "counts"), [(6.0, [13]), (19.5, [40]), (20.0, [21, 20]), (59.5, [40, 40, 40]), (1.0, [3])]
)
def test_a_video_of_any_length_becomes_equal_clips_without_a_rest(tmp_path, seconds, counts):
    path = film(tmp_path / "a.mp4", np.arange(0, seconds + 1e-6, 0.5))
    jobs = list(plan_clips(path, DEFAULT))
    assert [job.spec.count for job in jobs] == counts
    begins = [job.spec.begin_s for job in jobs]
    assert begins == [0.5 * sum(counts[:k]) for k in range(len(counts))]
    assert len({job.clip_id for job in jobs}) == len(jobs)
    assert jobs[0].clip_id == ("a.mp4" if len(jobs) == 1 else "a.mp4#000")


def test_frames_lie_on_the_grid_and_say_when_they_were_shown(tmp_path):
    path = film(tmp_path / "a.mp4", np.arange(0, 25.01, 0.25))
    first, second = (job.spec for job in plan_clips(path, DEFAULT))
    frames = decode(second, DEFAULT, 640)
    begin = first.count * 0.5
    np.testing.assert_allclose(frames.video_times_s, begin + 0.5 * np.arange(second.count), atol=1e-3)
    np.testing.assert_allclose(frames.times_s, 0.5 * np.arange(second.count), atol=1e-3)
    expected = [min(round(time / 0.25), 60) for time in frames.video_times_s[:14]]
    assert levels(frames)[:14] == expected
    fine = decode(first, make_settings(dt=0.25), 640)
    assert levels(fine)[:6] == [0, 1, 2, 3, 4, 5]


def test_a_variable_frame_rate_keeps_real_times(tmp_path):
    times = [0.0, 0.1, 0.48, 0.9, 1.03, 1.52, 3.9, 4.01, 4.49, 5.0]
    path = film(tmp_path / "a.mp4", times)
    (job,) = plan_clips(path, DEFAULT)
    frames = decode(job.spec, DEFAULT, 640)
    # The nearest to 0, 0.5, 1.0, 1.5, 4.0, 4.5, 5.0; between 1.52 and 3.9 the picture stands still.
    np.testing.assert_allclose(frames.times_s, [0.0, 0.48, 1.03, 1.52, 4.01, 4.49, 5.0], atol=2e-3)
    assert levels(frames) == [0, 2, 4, 5, 7, 8, 9]


def test_too_short_and_unreadable_videos_say_so(tmp_path):
    film(tmp_path / "short.mp4", [0.0, 0.5, 1.0])
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mkv").write_text("no video")
    whole = film(tmp_path / "cut.mp4", np.arange(0, 6, 0.5)).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    jobs = {job.clip_id: job.spec for job in plan_clips(tmp_path, DEFAULT)}
    assert sorted(jobs) == ["cut.mp4", "empty.mp4", "short.mp4", "text.mkv"]
    for name, words in {
        "short.mp4": r"3 frames 0\.5 s apart from 0 s on; expected at least 4",
        "empty.mp4": "cannot be read as a video",
        "text.mkv": "cannot be read as a video",
        "cut.mp4": "cannot be read as a video",
    }.items():
        with pytest.raises(DataError, match=words) as error:
            decode(jobs[name], DEFAULT, 640)
        assert name in str(error.value)


def test_videos_are_found_by_their_names(tmp_path):
    film(tmp_path / "b" / "two.MP4", [0.0])
    film(tmp_path / "one.mov", [0.0])
    (tmp_path / "notes.txt").write_text("")
    assert [name for _, name in find_videos(tmp_path)] == ["b/two.MP4", "one.mov"]
    with pytest.raises(DataError, match="no such file or folder"):
        find_videos(tmp_path / "nowhere")
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no videos in this folder"):
        find_videos(tmp_path / "none")


def test_large_frames_are_reduced_and_the_focal_length_with_them(tmp_path):
    path = film(tmp_path / "a.mp4", np.arange(0, 2.01, 0.5), size=(48, 80))
    frames = decode(Piece(str(path), "a.mp4", "a", 0.0, 5), DEFAULT, 40)
    assert frames.images.shape == (5, 24, 40, 3)
    assert frames.size == (80, 48)
    np.testing.assert_allclose(
        intrinsics_of(frames, 100.0), [[50, 0, 19.5], [0, 50, 11.5], [0, 0, 1]], atol=1e-12
    )
    with pytest.raises(ConfigError, match="focal length is 0"):
        intrinsics_of(frames, 0.0)
    image = np.random.default_rng(0).integers(0, 255, (48, 80, 3), dtype=np.uint8)
    assert smaller(image, 80) is image
    assert smaller(image, 30).shape == (18, 30, 3)
