"""Masks through a clip with the real classes at tiny size: sizes, and who is who across the detector's looks."""

import numpy as np
import pytest
import torch

from saccade.errors import ConfigError
from saccade.kinematics.lift.network_detect import TextDetector
from saccade.kinematics.lift.network_track import (
    DetectAndTrack,
    MaskTracker,
    TextTracker,
    _PlainRoutines,
    mask_overlap,
    match,
)
from saccade.kinematics.lift.pipeline import box_of
from saccade.kinematics.lift.stages import Detection

pytest.importorskip("transformers")

CAR = Detection((10.0, 10.0, 30.0, 30.0), "car", 0.9)


@pytest.fixture
def tracker(networks):
    return MaskTracker(networks("sam2_video"), same_overlap=0.8)


def test_a_thing_is_followed_at_the_size_of_the_frames(tracker, frames):
    (track,) = tracker(frames, {0: [CAR]})
    assert (track.track_id, track.category, track.score) == ("000", "car", 0.9)
    assert len(track.masks) == 5
    for mask in track.masks:
        assert mask.shape == (48, 80)
        assert mask.dtype == bool
        assert mask.any()
    # The very masks of the network, without our bookkeeping.
    session = tracker.processor.init_video_session(video=list(frames))
    tracker.processor.add_inputs_to_inference_session(session, 0, [7], input_boxes=[[list(CAR.box)]])
    with torch.inference_mode():
        for output, mask in zip(
            tracker.network.propagate_in_video_iterator(session, start_frame_idx=0), track.masks, strict=True
        ):
            low = torch.nn.functional.interpolate(output.pred_masks, (48, 80), mode="bilinear")
            np.testing.assert_array_equal(mask, low[0, 0].numpy() > 0)


def test_a_detection_on_a_followed_mask_is_no_new_thing(tracker, frames):
    (alone,) = tracker(frames, {0: [CAR]})
    found = box_of(alone.masks[2])
    assert found is not None
    box = (found[0], found[1], found[2], found[3])
    again = Detection(box, "truck", 0.4)
    (track,) = tracker(frames, {0: [CAR], 2: [again]})
    assert track.category == "car"  # the name with the higher score
    assert track.score == pytest.approx(0.65)
    for one, two in zip(track.masks, alone.masks, strict=True):
        np.testing.assert_array_equal(one, two)
    surer = Detection(box, "truck", 1.0)
    assert tracker(frames, {0: [CAR], 2: [surer]})[0].category == "truck"


def test_a_new_thing_is_followed_both_ways(networks, frames):
    # With an overlap that only the same mask reaches, every other box is a new thing.
    tracker = MaskTracker(networks("sam2_video"), same_overlap=1.0)
    late = Detection((50.0, 5.0, 70.0, 40.0), "person", 0.5)
    first, second = tracker(frames, {0: [CAR], 3: [late]})
    assert (first.category, second.category) == ("car", "person")
    # Back to the frame after the look that did not find it.
    assert [mask is not None for mask in second.masks] == [False, True, True, True, True]
    (alone,) = tracker(frames, {0: [CAR]})
    for one, two in zip(first.masks[:4], alone.masks[:4], strict=True):
        np.testing.assert_array_equal(one, two)


def test_nothing_found_is_nothing_followed(tracker, frames):
    assert tracker(frames, {}) == []
    assert tracker(frames, {0: [], 2: []}) == []


def test_the_detector_looks_every_so_many_frames(networks, frames, tracker):
    detect = TextDetector(networks("grounding-dino"), threshold=0.9)
    find = DetectAndTrack(detect, tracker, every=2)
    asked = []
    many = detect.many
    detect.many = lambda images, names: asked.append(len(images)) or many(images, names)  # count its work
    tracks = find(frames, ["car", "traffic light"])
    assert asked == [3]
    assert tracks
    assert len({track.track_id for track in tracks}) == len(tracks)


def test_from_names_to_masks_in_one_step(networks, frames):
    find = TextTracker(networks("sam3_video"))
    tracks = find(frames, ["Car", "traffic light"])
    assert tracks
    for track in tracks:
        assert track.category in ("Car", "traffic light")
        assert 0 < track.score < 1
        for mask in track.masks:
            assert mask is None or (mask.shape == (48, 80) and mask.dtype == bool and mask.any())
    loose = TextTracker(networks("sam3_video"), same_overlap=1.1)(frames, ["Car", "traffic light"])
    assert len(loose) > len(tracks)  # the same thing under two names
    with pytest.raises(ConfigError, match="does not follow by names here"):
        TextTracker(networks("sam2_video"))
    with pytest.raises(ConfigError, match="does not follow masks here"):
        MaskTracker(networks("sam3_video"))


def test_routines_that_sam3_would_fetch(monkeypatch):
    from transformers.models.sam3_video import modeling_sam3_video as module

    monkeypatch.setattr(module, "cv_utils_kernel", _PlainRoutines)
    masks = -torch.ones(3, 8, 8)
    masks[0, :4], masks[1, :4, :7], masks[2, 5:] = 1.0, 1.0, 1.0
    kept = module.nms_masks(torch.tensor([0.6, 0.9, 0.5]), masks, 0.0, 0.5)
    assert kept.tolist() == [False, True, True]
    mask = -torch.ones(1, 1, 8, 8)
    mask[0, 0, 1:7, 1:7] = 1.0
    mask[0, 0, 3, 3] = -1.0  # a hole
    mask[0, 0, 0, 7] = 1.0  # touches a corner of the large part, so it belongs to it
    pytest.importorskip("cv2")
    filled = module.fill_holes_in_mask_scores(mask, 2)[0, 0] > 0
    assert filled[3, 3]
    mask[0, 0, 0, 7], mask[0, 0, 7, 7], mask[0, 0, 6, 6] = -1.0, 1.0, -1.0  # a crumb
    assert not (module.fill_holes_in_mask_scores(mask, 2)[0, 0] > 0)[7, 7]


def test_pairs_by_overlap():
    overlap = np.array([[0.6, 0.9, 0.0], [0.7, 0.8, 0.0]])
    assert match(overlap, 0.5) == {0: 1, 1: 0}
    assert match(overlap, 0.75) == {0: 1}
    assert match(np.zeros((0, 3)), 0.5) == {}


def test_overlaps_of_masks():
    mask = np.zeros((6, 8), bool)
    mask[2:4, 1:6] = True
    other = np.zeros_like(mask)
    other[2:4, 4:8] = True
    assert mask_overlap(mask, other) == pytest.approx(4 / 14)
    assert mask_overlap(other & False, other & False) == 0
