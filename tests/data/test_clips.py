"""Places of videos, which frames are taken, views, and what is unreadable."""

import numpy as np
import pytest
import torch

from saccade.data.clips import is_divided, open_clip_pair, open_clips
from saccade.data.config import AugmentConfig, DataConfig
from saccade.data.dataset import SampleKey
from saccade.data.video_clips import (
    ClipDataset,
    VideoPreprocess,
    build_clip_augmentation,
    collate_clips,
    nearest,
)
from saccade.errors import ConfigError, DataError

from .videos import write_video

EVEN = [k / 10 for k in range(12)]
PLAIN = {"size": 32, "crop_pct": 1.0, "mean": (0, 0, 0), "std": (1, 1, 1)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes, four videos each."""
    root = tmp_path_factory.mktemp("videos")
    for kind, base in (("dark", 0), ("light", 60)):
        for number in range(4):
            write_video(root / kind / f"{number}.mp4", EVEN, level=lambda k, base=base: base + 12 * k)
    (root / "dark" / "notes.txt").write_text("no video")
    return root


def numbers(frames):
    """Frame numbers of a clip (T, 3, S, S) of values in [0, 1], by the grey on its right side."""
    return [round(float(frame[:, :, -4:].mean()) * 255 / 12) for frame in frames]


def test_folder_of_classes_is_split_class_by_class(folder):
    assert not is_divided(str(folder))
    pair = open_clip_pair(DataConfig(source=str(folder), val_fraction=0.25), seed=1)
    assert pair.labels == ["dark", "light"]
    assert (len(pair.train), len(pair.val)) == (6, 2)
    assert sorted(pair.val.targets) == [0, 1]
    again = open_clip_pair(DataConfig(source=str(folder), val_fraction=0.25), seed=1)
    assert list(again.val.names) == list(pair.val.names)
    assert not set(pair.val.names) & set(pair.train.names)
    assert len(open_clips(str(folder), classes=False)) == 8
    (folder / "round").symlink_to(folder)
    assert len(open_clips(str(folder), classes=False)) == 8
    (folder / "round").unlink()


def test_train_and_val_folders(folder, tmp_path):
    for side in ("train", "val"):
        (tmp_path / side).symlink_to(folder)
    assert is_divided(str(tmp_path))
    pair = open_clip_pair(DataConfig(source=str(tmp_path)))
    assert (len(pair.train), len(pair.val)) == (8, 8)
    assert "val" in pair.val.where or "validation" in pair.notes[0]


def test_table_with_start_end_and_split(folder, tmp_path):
    table = tmp_path / "clips.csv"
    rows = [f"{folder}/dark/0.mp4,up,0.2,0.75,train", f"{folder}/light/1.mp4,down,,,val"]
    rows += [f"{folder}/dark/2.mp4,down,0.5,,train"]
    table.write_text("video,label,start,end,split\n" + "\n".join(rows))
    assert is_divided(str(table))
    pair = open_clip_pair(DataConfig(source=str(table)))
    assert pair.labels == ["down", "up"]
    assert (len(pair.train), len(pair.val)) == (2, 1)
    assert pair.train.span(0) == (0.2, 0.75)
    assert pair.train.span(1) == (0.5, np.inf)
    sample = ClipDataset(pair.train, VideoPreprocess(**PLAIN, frames=3))[0]
    assert numbers(sample["image"][0]) == [2, 4, 6] or numbers(sample["image"][0]) == [3, 5, 7]
    table.write_text(f"path,label,start,end\n{folder}/dark/0.mp4,a,3,2")
    with pytest.raises(DataError, match="start before end"):
        open_clips(str(table))
    table.write_text(f"path,label,start\n{folder}/dark/0.mp4,,3")
    with pytest.raises(DataError, match=r"row 1 .*has no label"):
        open_clips(str(table))


def test_places_that_are_none(folder, tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        open_clips(str(tmp_path / "nothing"))
    with pytest.raises(DataError, match="no videos"):
        open_clips(str(tmp_path))
    with pytest.raises(DataError, match="4 videos but no class folders"):
        open_clips(str(folder / "dark"))
    with pytest.raises(DataError, match="expected a folder of videos"):
        open_clips(str(folder / "dark" / "notes.txt"))
    with pytest.raises(DataError, match="'dark' is not one of the 1 classes"):
        open_clips(str(folder), labels=["Dark"])
    (tmp_path / "only").symlink_to(folder / "dark")
    with pytest.raises(DataError, match="1 class;"):
        open_clip_pair(DataConfig(source=str(tmp_path)))


def test_uniform_takes_the_middle_of_equal_stretches():
    times = np.arange(12) / 10
    assert VideoPreprocess(frames=4).choose(times)[0].tolist() == [1, 4, 7, 10]
    views = VideoPreprocess(frames=4, views="4x1").choose(times)
    assert [view.tolist() for view in views] == [[0, 3, 6, 9], [1, 4, 7, 10], [1, 4, 7, 10], [2, 5, 8, 11]]
    drawn = [VideoPreprocess(frames=4).choose(times, np.random.default_rng(seed))[0] for seed in range(60)]
    assert all((one // 3 == np.arange(4)).all() for one in drawn)
    assert {tuple(np.unique([one[k] % 3 for one in drawn])) for k in range(4)} == {(0, 1, 2)}
    assert VideoPreprocess(frames=12).choose(times)[0].tolist() == list(range(12))


def test_uniform_goes_by_the_times_of_variable_rates():
    # Ten frames in the first second and one, shown for three seconds, behind them.
    times = np.append(np.arange(10) / 10, [1.0, 4.0])
    assert VideoPreprocess(frames=4).choose(times)[0].tolist() == [5, 10, 10, 10]
    drawn = VideoPreprocess(frames=8).choose(times, np.random.default_rng(0))[0]
    assert (np.diff(drawn) >= 0).all()


def test_clips_of_few_frames_repeat_them():
    assert VideoPreprocess(frames=6).choose(np.arange(3) / 10)[0].tolist() == [0, 0, 1, 1, 2, 2]
    assert VideoPreprocess(frames=3).choose(np.array([0.7]))[0].tolist() == [0, 0, 0]
    dense = VideoPreprocess(frames=5, sampling="dense", step_s=0.1)
    assert dense.choose(np.arange(3) / 10)[0].tolist() == [0, 1, 2, 2, 2]


def test_dense_goes_by_the_times_of_variable_rates():
    # Ten frames a second in the first second, forty in the second one.
    times = np.concatenate([np.arange(10) / 10, 1 + np.arange(40) / 40])
    fields = VideoPreprocess(frames=4, sampling="dense", step_s=0.2)
    chosen = times[fields.choose(times)[0]]
    assert np.diff(chosen) == pytest.approx([0.2] * 3, abs=0.06)
    assert (chosen[0] + chosen[-1]) / 2 == pytest.approx(times[-1] / 2, abs=0.06)
    views = VideoPreprocess(frames=4, sampling="dense", step_s=0.2, views="4x3").choose(times)
    assert len(views) == 4
    assert times[views[0][0]] == 0
    assert times[views[3][-1]] == times[-1]
    starts = [times[fields.choose(times, np.random.default_rng(seed))[0][0]] for seed in range(50)]
    assert min(starts) < 0.2
    assert max(starts) > 1.0
    assert nearest(np.array([0.5]), np.array([0.0, 2.0])).tolist() == [0, 0]


def test_views_are_cut_along_the_longer_side(folder):
    fields = VideoPreprocess(**PLAIN, frames=2, views="4x3")
    image = ClipDataset(open_clips(str(folder)), fields)[0]["image"]
    assert image.shape == (12, 2, 3, 32, 32)
    bright = [float((view[0, 0] - view[0, 0, :, -1:]).mean()) * 255 for view in image[:3]]
    assert bright == pytest.approx(
        [20, 10, 0], abs=2.5
    )  # half, a quarter and nothing of each view is the bright third
    assert not torch.equal(image[0], image[3])
    batch = collate_clips([ClipDataset(open_clips(str(folder)), fields)[i] for i in (0, 5)])
    assert batch["image"].shape[0] == 24
    assert batch["label"].tolist() == [0, 1]


def test_training_changes_all_frames_alike_and_repeats_itself(folder):
    fields = VideoPreprocess(**PLAIN, frames=4)
    change = build_clip_augmentation(AugmentConfig(color_jitter=0.3, random_erasing=1.0), fields)
    dataset = ClipDataset(open_clips(str(folder)), fields, augment=change)
    first, again, other = (dataset[SampleKey(0, seed)]["image"] for seed in (5, 5, 6))
    assert first.shape == (1, 4, 3, 32, 32)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    erased = first[0] == 0
    assert erased.any()
    assert torch.equal(erased.all(1)[0], erased.all(1)[3])
    with pytest.raises(ConfigError, match=r"augment.rand_augment changes single pictures"):
        build_clip_augmentation(AugmentConfig(rand_augment="rand-m9"), fields)


def test_broken_and_empty_videos_are_listed_and_short_ones_used(folder, tmp_path):
    for kind in ("a", "b"):
        (tmp_path / kind).mkdir()
        for number in range(2):
            (tmp_path / kind / f"{number}.mp4").symlink_to(folder / "dark" / f"{number}.mp4")
    (tmp_path / "a" / "3.mp4").write_bytes(b"this is no video at all")
    (tmp_path / "a" / "4.mp4").write_bytes(b"")
    write_video(tmp_path / "b" / "5.mp4", [0.0, 0.1])
    whole = (folder / "dark" / "3.mp4").read_bytes()
    (tmp_path / "b" / "6.mp4").write_bytes(whole[: len(whole) // 2])
    source = open_clips(str(tmp_path))
    dataset = ClipDataset(source, VideoPreprocess(**PLAIN, frames=4))
    batch = collate_clips([dataset[i] for i in range(len(dataset))])
    assert batch["image"].shape[0] == 5
    reasons = dict(batch["skipped"])
    assert set(reasons) == {"a/3.mp4", "a/4.mp4", "b/6.mp4"}
    assert all(name.split("/")[1] in reason for name, reason in reasons.items())
    learning = ClipDataset(
        source, dataset.preprocess, augment=build_clip_augmentation(AugmentConfig(), dataset.preprocess)
    )
    stood_in = learning[2]
    assert [name for name, _ in stood_in["skipped"]] == ["a/3.mp4", "a/4.mp4"]
    assert stood_in["name"] == "b/0.mp4"
    nothing = collate_clips([dataset[2]])
    assert len(nothing["index"]) == 0
    assert len(nothing["skipped"]) == 1


def test_preprocess_refuses_what_is_out_of_range():
    for field, value, words in (
        ("frames", 0, "1..256"), ("size", 3, "8..4096"), ("views", "4x2", "did you mean"),
        ("sampling", "sparse", "is unknown"), ("step_s", 0.0, "step_s"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=words):
            VideoPreprocess(**{field: value})
    with pytest.raises(ConfigError, match="did you mean 'frames'"):
        VideoPreprocess.from_dict({"frame": 3})
    fields = VideoPreprocess(frames=3, views="4x3")
    assert VideoPreprocess.from_dict(fields.to_dict()) == fields
