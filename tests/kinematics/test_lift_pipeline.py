"""One clip from pixels to labels, against the exact truth of the synthetic world, and what its stages are given."""

import dataclasses
from collections import Counter

import numpy as np
import pytest

pytest.importorskip("cv2")
pytest.importorskip("numba")

from saccade.errors import ConfigError, ShapeError
from saccade.kinematics import label_track
from saccade.kinematics.lift.metric import measure_depths
from saccade.kinematics.lift.pipeline import Stack, box_of, pseudo_label
from saccade.kinematics.lift.settings import DEFAULT_PSEUDO
from saccade.kinematics.lift.stages import REASONS, ClipRejected, DepthMap
from saccade.kinematics.lift.world import Flaws, WorldDepth, WorldMasks, WorldPose, world_stack
from saccade.kinematics.records import check_track
from saccade.worlds import make_world, render

TIMES = 0.5 * np.arange(11)
QUICK = dataclasses.replace(DEFAULT_PSEUDO, max_reversal_gap=0.0)


@pytest.fixture(scope="module")
def clip():
    world = make_world(9015, seconds=5.0, cameras=("drive_and_turn",), distance_m=(4.0, 12.0))
    return render(world, TIMES, (240, 320))


@pytest.fixture(scope="module")
def found(clip):
    return pseudo_label(
        "clip", clip.images, TIMES, find=WorldMasks(clip, 0), stack=world_stack(clip, 0), second=world_stack(clip, 1),
        settings=QUICK, source="world", group="log", image_paths=[f"{k}.png" for k in range(11)],
    )  # fmt: skip


def test_labels_from_pixels_are_near_the_truth(clip, found):
    moving = 0
    for track in found.tracks:
        label = label_track(track.timestamps_s, track.points, up=track.up)
        first, last = np.searchsorted(TIMES, [label.t_start_s - 1e-6, label.t_end_s + 1e-6])
        truth = label_track(TIMES[first:last], clip.centres[first:last, int(track.track_id) - 1])
        assert label.status == truth.status
        if label.status == "ok":
            moving += 1
            assert label.distance_m == pytest.approx(truth.distance_m, rel=0.15)
    assert moving >= 2


def test_everything_found_is_labelled_or_rejected_for_a_known_reason(clip, found):
    names = [track.track_id for track in WorldMasks(clip, 0)(clip.images, ())]
    rejected = [row.reason.split()[1] for row in found.rejected]
    assert sorted([track.track_id for track in found.tracks] + rejected) == names
    assert set(Counter(row.record for row in found.rejected)) <= set(REASONS)


def test_records_hold_what_readers_of_tracks_ask_for(clip, found):
    track = found.tracks[0]
    assert check_track(track.to_dict(), "here").track_id == track.track_id
    assert (track.clip_id, track.source, track.split, track.group) == ("clip", "world", "train", "log")
    assert track.label_origin == "pseudo"
    assert track.image_paths[3] == "3.png"
    assert track.camera["K"][0][2] == 160  # corners of pixels are whole numbers
    assert track.camera["K"][0][0] == pytest.approx(clip.intrinsics[0, 0], rel=0.05)
    assert np.linalg.norm(track.up) == pytest.approx(1)
    assert track.scale_info["stack"] == "world-0"
    # The scale of the path, whose unit was drawn from the seed, has been found.
    assert track.scale_info["scale"] * WorldPose(clip, 0).factor == pytest.approx(1, abs=0.06)
    # The middle of the object is seen inside its box.
    for point, pose, box in zip(track.points, track.T_world_cam, track.boxes_2d, strict=True):
        if np.isfinite(point).all() and box is not None:
            x, y, z = np.linalg.inv(pose)[:3] @ [*point, 1]
            u, v, w = np.array(track.camera["K"]) @ [x, y, z]
            assert box[0] - 4 <= u / w <= box[2] + 4
            assert box[1] - 4 <= v / w <= box[3] + 4


def test_clips_without_objects_and_clips_that_cannot_be_reconstructed(clip):
    stack = world_stack(clip, 0)
    (row,) = pseudo_label("a", clip.images, TIMES, find=lambda images, names: [], stack=stack).rejected
    assert (row.clip_id, row.record) == ("a", "nothing_found")
    assert "car" in row.reason

    def lost(images, moving, depths, intrinsics):
        raise ClipRejected("lost_camera", "frame 3 fits nothing")

    result = pseudo_label("b", clip.images, TIMES, find=WorldMasks(clip, 0), stack=Stack(stack.depth, lost))
    assert not result.tracks
    assert [(row.record, row.reason) for row in result.rejected] == [
        ("lost_camera", "clip: frame 3 fits nothing")
    ]
    kept = pseudo_label(
        "c",
        clip.images,
        TIMES,
        find=WorldMasks(clip, 0),
        stack=stack,
        second=Stack(stack.depth, lost),
        settings=QUICK,
    )
    assert not kept.tracks
    assert "second_stack" in {row.record for row in kept.rejected}


def test_a_stack_that_sees_other_distances_is_not_agreed_with(clip, found):
    first = world_stack(clip, 0)

    def larger(image):
        seen = first.depth(image)
        return dataclasses.replace(seen, depth=1.4 * seen.depth)

    result = pseudo_label(
        "a",
        clip.images,
        TIMES,
        find=WorldMasks(clip, 0),
        stack=first,
        second=Stack(larger, first.pose),
        settings=QUICK,
    )
    reasons = Counter(row.record for row in result.rejected)
    moving = [t for t in found.tracks if label_track(t.timestamps_s, t.points, up=t.up).status == "ok"]
    assert reasons["distance_disagrees"] + reasons["status_disagrees"] >= len(moving)


def test_arguments_that_do_not_fit(clip):
    def label(images=clip.images, times=TIMES, **options):
        return pseudo_label(
            "a", images, times, find=WorldMasks(clip, 0), stack=world_stack(clip, 0), **options
        )

    for options, words in (
        ({"images": clip.images[0]}, "images have shape"), ({"images": clip.images.astype(float)}, "float64"),
        ({"times": TIMES[::-1]}, "rising"), ({"times": TIMES[:4]}, "11 rising"),
        ({"intrinsics": np.eye(4)}, "intrinsics"), ({"image_paths": ["a"]}, "1 image_paths for 11"),
    ):  # fmt: skip
        with pytest.raises(ShapeError, match=words):
            label(**options)
    blind = Stack(lambda image: DepthMap(np.ones(image.shape[:2], np.float32)), world_stack(clip, 0).pose)
    with pytest.raises(ConfigError, match="focal"):
        pseudo_label("a", clip.images, TIMES, find=WorldMasks(clip, 0), stack=blind)


def test_boxes_hold_their_pixels_whole():
    mask = np.zeros((10, 12), bool)
    assert box_of(mask) is None
    assert box_of(None) is None
    mask[3:5, 7] = True
    assert box_of(mask) == [7.0, 3.0, 8.0, 5.0]


def test_flaws_are_as_large_as_they_say_and_drawn_from_seeds(clip):
    one, same, other = (measure_depths(clip.images, WorldDepth(clip, seed))[0] for seed in (0, 0, 1))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    near = (clip.classes == 1) & (clip.depth < 20)
    error = np.log(one / np.where(near, clip.depth, 1.0))
    spread = np.subtract(*np.quantile(error[near], [0.8413, 0.1587])) / 2
    assert 0.06 < spread < 0.13
    assert 0.04 < np.mean(np.abs(error[near]) > np.log(1.5)) < 0.25
    frames = np.array([np.median(error[k][near[k]]) for k in range(len(error))])
    assert 0.01 < frames.std() < 0.08
    exact = Flaws(pixel_noise=0, smooth_bias=0, frame_bias=0, outliers=0, mask_px=0, focal_noise=0)
    clean = measure_depths(clip.images, WorldDepth(clip, 0, exact))
    assert np.median(np.abs(np.log(clean[0][near] / clip.depth[near]))) < 0.01
    assert clean[1] == pytest.approx(np.full(11, clip.intrinsics[0, 0]))
    for track in WorldMasks(clip, 0, exact)(clip.images, ()):
        for mask, numbers in zip(track.masks, clip.instances, strict=True):
            assert mask is None or np.array_equal(mask, numbers == int(track.track_id))
    rough = WorldMasks(clip, 0)(clip.images, ())
    changed = [
        np.count_nonzero(mask != (numbers == int(track.track_id))) / np.count_nonzero(mask)
        for track in rough
        for mask, numbers in zip(track.masks, clip.instances, strict=True)
        if mask is not None and mask.sum() > 400
    ]
    assert 0.01 < np.median(changed) < 0.3
