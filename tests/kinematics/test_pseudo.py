"""Labels from plain videos through the whole pipeline: files, networks, killed and resumed, things that go wrong."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest

from saccade.errors import ConfigError, DataError, WeightsError
from saccade.kinematics.engine import hash_of
from saccade.kinematics.labels import label_track
from saccade.kinematics.lift.settings import PseudoSettings
from saccade.kinematics.lift.stages import MaskTrack
from saccade.kinematics.pseudo import Found, Known, _find, make_stages, run_pseudo
from saccade.kinematics.pseudo_clips import Frames, Piece
from saccade.kinematics.pseudo_plan import Finding, Place, Plan, check_plan, identity, plan_hash
from saccade.kinematics.records import read_tracks
from saccade.kinematics.settings import Settings

pytest.importorskip("av")
pytest.importorskip("cv2")
pytest.importorskip("numba")

from .plain_videos import write_world

TIMES = 0.5 * np.arange(7)
KINDS = ("box", "ball", "cone", "cylinder")
LOOSE = Settings(min_box_height_px=6)
"""The frames are small."""


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Two worlds as videos with their masks and depths, and what was rendered."""
    folder = tmp_path_factory.mktemp("videos")
    clips = {name: write_world(folder, seed, TIMES, name=name) for name, seed in (("a", 0), ("b/c", 5))}
    return folder, clips


def plan_of(folder, **changed):
    return Plan(
        masks=str(folder / "masks"), depth=str(folder / "depths"), pseudo=PseudoSettings(names=KINDS), label=LOOSE,
        **changed,
    )  # fmt: skip


def digests(out):
    names = ("tracks.parquet", "rejected.jsonl")
    return {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in names}


@pytest.fixture(scope="module")
def whole(videos, tmp_path_factory):
    """The run that nobody killed."""
    out = tmp_path_factory.mktemp("whole")
    return out, run_pseudo(videos[0] / "videos", out, plan_of(videos[0]), workers=0)


def test_labels_of_rendered_worlds_are_near_the_truth(videos, whole):
    folder, clips = videos
    out, (found, key) = whole
    assert (found.clips, found.failed) == (2, 0)
    tracks, errors = list(read_tracks(out / "tracks.parquet")), []
    assert len(tracks) == found.tracks >= 4
    rejected = [json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines()]
    seen = sum(len(np.unique(clip.instances)) - 1 for clip in clips.values())
    assert len(tracks) + len(rejected) == seen  # nothing is left out without a reason
    for track in tracks:
        clip = clips[track.clip_id.removesuffix(".mp4")]
        thing = int(track.track_id) - 1
        assert track.category == clip.world.objects[thing].name
        assert (track.source, track.label_origin, track.group) == ("video", "pseudo", track.clip_id)
        assert track.scale_info is not None
        assert track.image_paths is not None
        assert track.scale_info["config_hash"] == key
        assert track.scale_info["networks"] == {
            "masks": str(folder / "masks"), "depth": str(folder / "depths"),
        }  # fmt: skip
        assert track.image_paths[3] == f"{(folder / 'videos' / track.clip_id).as_posix()}#t=1.500"
        mine = label_track(track.timestamps_s, track.points, up=track.up, settings=LOOSE)
        # Over the time in which it is seen.
        rows = np.searchsorted(TIMES, mine.times - 1e-6)
        truth = np.linalg.norm(np.diff(clip.centres[rows, thing], axis=0), axis=1).sum()
        errors.append(abs(mine.distance_m - truth) / max(truth, 2.0))
    assert np.median(errors) < 0.1


def test_what_a_killed_run_had_finished_is_not_done_again(videos, whole, tmp_path):
    folder, out = videos[0], tmp_path / "out"

    def kill(done, total):
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_pseudo(folder / "videos", out, plan_of(folder), workers=0, progress=kill)
    assert not (out / "tracks.parquet").exists()
    found, key = run_pseudo(folder / "videos", out, plan_of(folder), workers=0)
    assert (found.clips, found.found, key) == (2, 1, whole[1][1])
    assert digests(out) == digests(whole[0])
    again, _ = run_pseudo(folder / "videos", out, plan_of(folder), workers=0)
    assert again.found == 2
    assert digests(out) == digests(whole[0])


def test_clips_that_cannot_be_used_are_listed_and_the_rest_goes_on(videos, whole, tmp_path):
    folder = videos[0]
    home = tmp_path / "videos"
    home.mkdir()
    (home / "a.mp4").write_bytes((folder / "videos" / "a.mp4").read_bytes())
    (home / "empty.mp4").write_bytes(b"")
    (home / "unknown.mp4").write_bytes((folder / "videos" / "b" / "c.mp4").read_bytes())
    found, _ = run_pseudo(home, tmp_path / "out", plan_of(folder), workers=0)
    assert (found.clips, found.failed, found.reasons["decode"], found.reasons["find"]) == (3, 0, 1, 1)
    rows = [json.loads(line) for line in (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()]
    said = {row["clip_id"]: row["reason"] for row in rows}
    assert "cannot be read as a video" in said["empty.mp4"]
    assert "unknown.npz: no such file" in said["unknown.mp4"]
    assert {track.clip_id for track in read_tracks(tmp_path / "out" / "tracks.parquet")} == {"a.mp4"}


def test_names_that_are_not_there_are_a_reason(videos, tmp_path):
    folder = videos[0]
    plan = dataclasses.replace(plan_of(folder), pseudo=PseudoSettings(names=("zebra",)))
    found, _ = run_pseudo(folder / "videos" / "a.mp4", tmp_path, plan, workers=0)
    assert (found.tracks, dict(found.reasons)) == (0, {"nothing_found": 1})


def test_a_second_depth_has_to_agree(videos, whole, tmp_path):
    """Depth of half the size makes half the distance."""
    folder = videos[0]
    (tmp_path / "half").mkdir()
    arrays = dict(np.load(folder / "depths" / "b" / "c.npz"))
    np.savez(tmp_path / "half" / "c.npz", **arrays | {"depth": arrays["depth"] / 2})
    plan = Plan(
        masks=str(folder / "masks" / "b"), depth=str(folder / "depths" / "b"), second=str(tmp_path / "half"),
        pseudo=PseudoSettings(names=KINDS), label=LOOSE,
    )  # fmt: skip
    found, _ = run_pseudo(folder / "videos" / "b" / "c.mp4", tmp_path / "out", plan, workers=0)
    alone = [track for track in read_tracks(whole[0] / "tracks.parquet") if track.clip_id == "b/c.mp4"]
    assert found.reasons["distance_disagrees"] + found.reasons["status_disagrees"] >= 1
    assert found.tracks < len(alone)


def test_networks_of_every_stage(videos, networks, tmp_path):
    """Random weights see nothing of use; the whole way is gone all the same, and written down."""
    folder = videos[0]
    plan = Plan(
        detect=networks("grounding-dino"), track=networks("sam2_video"), depth=networks("depth_anything"),
        second=networks("zoedepth"), focal_px=100.0, find=Finding(threshold=0.9, every=4), size=64,
        pseudo=PseudoSettings(names=("car",)), label=LOOSE,
    )  # fmt: skip
    found, key = run_pseudo(folder / "videos" / "a.mp4", tmp_path, plan, workers=0)
    assert (found.clips, found.failed) == (1, 0), found.reasons
    assert found.tracks + found.rejected >= 1
    assert key == plan_hash(plan) != plan_hash(dataclasses.replace(plan, second=None))


def test_the_hash_knows_networks_by_what_they_are(networks, tmp_path):
    import shutil

    folder = networks("depth_anything")
    copy = shutil.copytree(folder, tmp_path / "elsewhere")
    assert identity(folder) == identity(str(copy))
    relative = networks("depth_anything", depth_estimation_type="relative")
    assert identity(folder) != identity(relative)
    plan = Plan(depth=folder)
    assert plan_hash(plan) == plan_hash(dataclasses.replace(plan, depth=str(copy)))
    for changed in (
        {"seed": 1},
        {"size": 320},
        {"focal_px": 3.0},
        {"label": LOOSE},
        {"find": Finding(every=2)},
    ):
        assert plan_hash(dataclasses.replace(plan, **changed)) != plan_hash(plan)
    assert len(hash_of({"a": 1})) == len(plan_hash(plan)) == 12


def test_plans_that_cannot_be(networks, videos, tmp_path):
    masks, depths = str(videos[0] / "masks"), str(videos[0] / "depths")
    sam2, sam3, dino = networks("sam2_video"), networks("sam3_video"), networks("grounding-dino")
    zoe = networks("zoedepth")
    for plan, error, words in [
        (Plan(), ConfigError, "nothing follows things through the videos; name a network with --track"),
        (Plan(masks=masks), ConfigError, "nothing measures depth, without which there are no metres"),
        (Plan(masks=masks, track=sam2), ConfigError, "--masks takes the place of --detect and --track"),
        (
            Plan(track=sam2, depth=depths),
            ConfigError,
            "follows what a detector finds; name one with --detect",
        ),
        (
            Plan(track=sam3, detect=dino),
            ConfigError,
            "finds things by their names itself; leave --detect out",
        ),
        (Plan(track=sam2, detect=zoe), ConfigError, "is a zoedepth model, which does not detect by names"),
        (Plan(track=dino), ConfigError, "is a grounding-dino model, which does not follow masks here"),
        (Plan(masks=masks, depth=zoe), ConfigError, "does not tell the focal length; give it with --focal"),
        (Plan(masks=masks, depth="./nowhere"), WeightsError, "no such folder"),
        (
            Plan(masks=str(tmp_path / "no"), depth=depths),
            DataError,
            "no such folder; expected a folder of masks",
        ),
    ]:
        with pytest.raises(error) as raised:
            check_plan(plan)
        assert words in str(raised.value)
        assert "\n" not in str(raised.value)
    with pytest.raises(ConfigError, match="threshold is 2"):
        Finding(threshold=2)
    check_plan(Plan(masks=masks, depth=zoe, focal_px=500.0))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"focal_px": -1.0}, "focal_px is -1 but should be above 0"),
        ({"focal_px": float("inf")}, "focal_px is inf"),
        ({"size": 31}, "size is 31 but should be at least 32"),
        ({"seed": 1 << 31}, "seed is 2147483648 but should be between 0 and 2147483647"),
        ({"dtype": "int8"}, "dtype is 'int8'"),
    ],
)
def test_numbers_of_a_plan_out_of_range(values, words):
    with pytest.raises(ConfigError, match=words):
        Plan(**values)
    Plan(focal_px=1e-3, size=32, seed=(1 << 31) - 1, dtype="bf16")


def test_networks_share_a_gpu_and_the_rest_stays_on_cpus(networks, videos, tmp_path):
    sam3, zoe = networks("sam3_video"), networks("zoedepth")
    plan = Plan(track=sam3, depth=zoe, second=zoe, focal_px=9.0)
    shares = {stage.name: stage.gpu for stage in make_stages(plan, Place("cuda"), "key", tmp_path)}
    assert list(shares) == ["decode", "find", "depth", "second depth", "lift"]
    assert shares["decode"] == shares["lift"] == 0
    assert [shares[name] for name in ("find", "depth", "second depth")] == [pytest.approx(1 / 3)] * 3
    given = dataclasses.replace(
        plan, track=None, masks=str(videos[0] / "masks"), second=str(videos[0] / "depths")
    )
    shares = {stage.name: stage.gpu for stage in make_stages(given, Place("cuda:1"), "key", tmp_path)}
    assert shares == {"decode": 0, "find": 0, "depth": 1, "second depth": 0, "lift": 0}
    assert not any(stage.gpu for stage in make_stages(plan, Place("cpu"), "key", tmp_path))


def test_what_passes_between_stages_comes_back_whole():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (3, 6, 13, 3), dtype=np.uint8)
    frames = Frames(Piece("a", "a", "a", 0.0, 3), images, TIMES[:3], TIMES[:3], (13, 6))
    masks = [rng.random((6, 13)) < 0.5, None, rng.random((6, 13)) < 0.5]
    found = _find(lambda _: [MaskTrack("7", "car", masks, 0.5)], frames)
    (track,) = found.tracks()
    assert (track.track_id, track.category, track.score) == ("7", "car", 0.5)
    assert track.masks[1] is None
    for one, two in ((track.masks[0], masks[0]), (track.masks[2], masks[2])):
        np.testing.assert_array_equal(one, two)
    assert isinstance(found, Found)
    depth = rng.random((3, 6, 13)).astype(np.float16)
    known = Known(images, depth, [1.0, 2.0, None])
    for place in (2, 0, 1):
        np.testing.assert_array_equal(known(images[place].copy()).depth, depth[place].astype(np.float32))
        assert known(images[place]).focal_px == [1.0, 2.0, None][place]
