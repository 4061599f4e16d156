"""Masks and depths from files: taken at the right instants and places, refused with one sentence."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from saccade.errors import DataError
from saccade.kinematics.pseudo_clips import Frames, Piece
from saccade.kinematics.pseudo_files import GivenDepth, GivenMasks

TIMES = np.array([1.0, 1.5, 2.0])


@pytest.fixture
def clip():
    images = np.zeros((3, 12, 16, 3), np.uint8)
    return Frames(Piece("v/a.mp4", "v/a.mp4", "v/a.mp4", 1.0, 3), images, TIMES - 1, TIMES, (32, 24))


def save(folder, **arrays):
    (folder / "v").mkdir(exist_ok=True)
    np.savez(folder / "v" / "a.npz", **arrays)
    return folder


def test_masks_are_taken_at_the_frames_instants(tmp_path, clip):
    masks = np.zeros((9, 6, 8), np.uint8)
    masks[4, 1:3, 2:4], masks[8, 4, 7], masks[6, :, 0] = 1, 2, 3
    names = np.array(["car", "person", "dog"])
    save(tmp_path, times_s=0.25 * np.arange(9), masks=masks, names=names)
    car, person = GivenMasks(tmp_path)(clip, ["Car", "person"])
    assert (car.track_id, car.category, person.track_id) == ("001", "car", "002")
    assert [mask is not None for mask in car.masks] == [True, False, False]
    assert [mask is not None for mask in person.masks] == [False, False, True]
    assert car.masks[0] is not None
    rows, columns = np.nonzero(car.masks[0])  # at twice the size
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 5, 4, 7)


def test_masks_and_boxes_of_a_clip_will_do(tmp_path, clip):
    part = dataclasses.replace(clip, piece=dataclasses.replace(clip.piece, clip_id="v/a.mp4#002"))
    folder = tmp_path / "v" / "a#002"
    folder.mkdir(parents=True)
    for index in range(3):
        numbers = np.zeros((12, 16), np.uint8)
        numbers[2:6, 3:8], numbers[0, 0] = 4, 9
        Image.fromarray(numbers).save(folder / f"{index}.png")
    (folder / "categories.json").write_text('{"4": "car", "9": "dog"}')
    (track,) = GivenMasks(tmp_path)(part, ["car"])
    assert track.track_id == "4"
    assert track.masks[2] is not None
    assert track.masks[2].sum() == 20
    with pytest.raises(DataError, match=r"a\.npz: no such file"):
        GivenMasks(tmp_path)(clip, ["car"])
    pytest.importorskip("cv2")
    line = {"track_id": "7", "category": "car", "boxes": [[2, 2, 10, 9], None, [3, 2, 11, 9]]}
    (tmp_path / "v" / "a.jsonl").write_text(json.dumps(line) + "\n")
    (track,) = GivenMasks(tmp_path)(clip, ["car"])
    assert [mask is not None for mask in track.masks] == [True, False, True]


def test_depth_comes_with_its_focal_length_in_pixels_of_the_frames(tmp_path, clip):
    depth = np.full((3, 24, 32), 7.0, np.float16)
    depth[0, :2, :2], depth[1, :2, :2] = 0, np.inf
    save(tmp_path, times_s=TIMES, depth=depth, focal_px=40)
    found, focal = GivenDepth(tmp_path)(clip)
    assert found.shape == (3, 12, 16)
    assert focal == 20.0
    assert np.isnan(found[:2, 0, 0]).all()
    assert np.nanmin(found) == np.nanmax(found) == 7
    save(tmp_path, times_s=TIMES, depth=depth)
    assert GivenDepth(tmp_path)(clip)[1] is None


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"times_s": TIMES + 0.2}, "no depth within 0.05 s of the frame at 2.000 s"),
        ({"times_s": TIMES[:2]}, "2 times for 3 depth"),
        ({"times_s": TIMES[::-1]}, "expected one each, rising"),
        (
            {"depth": np.ones((3, 12, 30))},
            "are 30 x 12 and the frames 16 x 12; expected the same proportions",
        ),
        ({"depth": np.ones((3, 12, 16), int)}, "3 dimensions of int64; expected 3 of floating-point numbers"),
        ({"depth": np.ones((12, 16))}, "has 2 dimensions"),
        ({"focal_px": -3.0}, "focal_px is -3.0; expected pixels above 0"),
        ({"depth": np.array([{}, {}], object)}, "array depth cannot be read"),
    ],
)
def test_depth_that_cannot_be_used(tmp_path, clip, changed, words):
    arrays = {"times_s": TIMES, "depth": np.ones((3, 12, 16)), **changed}
    save(tmp_path, **arrays)
    with pytest.raises(DataError) as error:
        GivenDepth(tmp_path)(clip)
    assert words in str(error.value)
    assert "a.npz" in str(error.value)


def test_files_that_are_not_there_or_hold_something_else(tmp_path, clip):
    with pytest.raises(DataError, match=r"no such folder; expected a folder of masks, one \.npz a video"):
        GivenMasks(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"a\.npz: no such file; expected what goes with the video"):
        GivenMasks(tmp_path)(clip, ["car"])
    save(tmp_path, times_s=TIMES, masks=np.full((3, 12, 16), 2), names=np.array(["car"]))
    with pytest.raises(DataError, match="masks hold thing 2 and there are 1 names"):
        GivenMasks(tmp_path)(clip, ["car"])
    save(tmp_path, times_s=TIMES, masks=np.zeros((3, 12, 16), int))
    with pytest.raises(DataError, match="no array names; there are masks, times_s"):
        GivenMasks(tmp_path)(clip, ["car"])
    (tmp_path / "v" / "a.npz").write_bytes(b"PK nothing")
    with pytest.raises(DataError, match=r"cannot be read as \.npz"):
        GivenDepth(tmp_path)(clip)
