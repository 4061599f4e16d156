"""COCO files as they come, and what is done about their faults."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from saccade.data.coco import read_coco
from saccade.data.outlines import Annotations, masks_of, pack_mask, run_lengths
from saccade.errors import DataError


def write(folder, images=None, annotations=None, categories=None):
    """A small data set of two pictures, 40 x 30, with whatever is given in place of its parts."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("a.png", "b.png"):
        Image.new("RGB", (40, 30), (90, 120, 150)).save(folder / name)
    content = {
        "images": [
            {"id": 7, "file_name": "a.png", "height": 30, "width": 40},
            {"id": 9, "file_name": "b.png", "height": 30, "width": 40},
        ]
        if images is None
        else images,
        "annotations": [note(1, 7, 3, [2, 3, 10, 8]), note(2, 9, 18, [0, 0, 5, 5])]
        if annotations is None
        else annotations,
        "categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}]
        if categories is None
        else categories,
    }
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return path


def note(number, image, category, box, **more):
    return {"id": number, "image_id": image, "category_id": category, "bbox": box, "iscrowd": 0, **more}


def read(path, **options):
    return read_coco(path, [path.parent], **options)


def test_reads_pictures_and_numbers_classes_without_gaps(tmp_path):
    index = read(write(tmp_path))
    assert index.labels == ["car", "dog"]
    assert index.category_ids == [3, 18]
    assert index.names == ["a.png", "b.png"]
    assert index.sizes.tolist() == [[30, 40], [30, 40]]
    assert index.annotations[0].boxes.tolist() == [[2, 3, 12, 11]]
    assert [found.labels.tolist() for found in index.annotations] == [[0], [1]]


def test_faults_are_left_out_and_counted(tmp_path):
    boxes = [
        note(1, 7, 3, [2, 3, 10, 8]),
        note(2, 7, 3, [5, 5, 0, 4]),
        note(3, 7, 3, [100, 5, 4, 4]),
        note(4, 7, 3, [30, 20, 50, 50]),
        note(5, 7, 3, [math.nan, 1, 2, 2]),
        note(6, 7, 3, "box"),
        note(7, 99, 3, [1, 1, 2, 2]),
        note(8, 7, 77, [1, 1, 2, 2]),
        note(9, 7, 18, [1, 1, 20, 20], iscrowd=1, segmentation=[[1, 2, 3]]),
    ]
    pictures = [
        {"id": 7, "file_name": "a.png", "height": 30, "width": 40},
        {"id": 8, "file_name": "gone.png", "height": 30, "width": 40},
        {"id": 9, "file_name": "b.png", "height": 30, "width": 40},
    ]
    index = read(write(tmp_path, pictures, boxes))
    assert index.annotations[0].boxes.tolist() == [[2, 3, 12, 11], [30, 20, 40, 30], [1, 1, 21, 21]]
    assert index.annotations[0].crowd.tolist() == [False, False, True]
    text = "\n".join(index.notes)
    for words in (
        "1 pictures are left out",
        "2 annotations point",
        "4 boxes have no area",
        "1 boxes reach",
        "1 crowd",
        "1 outlines cannot be read",
    ):
        assert words in text
    assert "1 of 2 pictures hold no object" in text


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"annotations": []}, "'annotations' is missing or empty"),
        ({"images": []}, "'images' is missing or empty"),
        ({"categories": [{"id": "x", "name": "car"}]}, "categories[0]"),
        ({"categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "car"}]}, "two categories are called"),
        ({"categories": [{"id": 1, "name": "car"}, {"id": 1, "name": "dog"}]}, "the same id"),
        ({"annotations": [note(1, 70, 3, [1, 1, 2, 2])]}, "image_id 70"),
        ({"annotations": [note(1, 7, 5, [1, 1, 2, 2])]}, "category_id 5"),
        ({"images": [{"id": 7, "file_name": "a.png", "height": 30, "width": "wide"}]}, "height and width"),
        ({"images": [{"id": 7, "file_name": 3, "height": 30, "width": 40}]}, "images[0]"),
        ({"images": [{"id": [7], "file_name": "a.png", "height": 30, "width": 40}]}, "images[0] needs"),
        ({"annotations": [note(1, 7, 3, [math.nan, 1, 2, 2])]}, "not one of its 1 annotations has a box"),
        (
            {"images": [{"id": 7, "file_name": "x.png", "height": 30, "width": 40}]},
            "not one of its 1 pictures",
        ),
        (
            {"images": [{"id": 7, "file_name": "../c.png", "height": 30, "width": 40}]},
            "not one of its 1 pictures",
        ),
        (
            {"images": [{"id": 7, "file_name": "a.png", "height": 30, "width": 40}] * 2},
            "two pictures have the id",
        ),
    ],
)
def test_refuses(tmp_path, parts, words):
    with pytest.raises(DataError) as error:
        read(write(tmp_path, **parts))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "[1, 2]", "{", "nul", '{"images": 3}', "[" * 100_000])
def test_refuses_other_files(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(DataError):
        read(path)


def test_classes_of_a_trained_model(tmp_path):
    path = write(tmp_path)
    index = read(path, labels=["dog", "bird", "car"])
    assert [found.labels.tolist() for found in index.annotations] == [[2], [0]]
    with pytest.raises(DataError, match="class 'car'"):
        read(path, labels=["dog"])


def test_outlines_of_every_kind_give_the_same_mask():
    mask = np.zeros((30, 40), np.uint8)
    mask[5:15, 10:25] = 1
    packed = pack_mask(mask)
    counts = np.diff(np.flatnonzero(np.diff(np.r_[2, mask.T.ravel(), 2])))
    plain = {"size": [30, 40], "counts": [int(count) for count in counts]}
    polygon = [[10, 5, 25, 5, 25, 15, 10, 15]]
    found = Annotations(
        np.array([[10, 5, 25, 15]] * 4, np.float32), np.zeros(4, int), np.zeros(4, bool), np.ones(4), []
    )
    found.shapes = [packed, plain, polygon, None]
    assert all(np.array_equal(drawn, mask) for drawn in masks_of(found, (30, 40)))


@pytest.mark.parametrize(
    "shape",
    [
        {"size": [30, 40], "counts": "0000"},
        {"size": [30, 41], "counts": "0"},
        {"size": [30, 40], "counts": [5, -5, 1200]},
        {"size": [30, 40], "counts": [1, 2]},
        {"size": [30, 40]},
        [[1, 2, 3]],
        [["a"] * 6],
        [[math.nan] * 6],
        [5],
        "x",
    ],
)
def test_unreadable_outlines(shape):
    assert run_lengths(shape, (30, 40)) is None


@given(st.binary(max_size=60))
def test_damaged_run_lengths_never_leave_the_picture(data):
    runs = run_lengths({"size": [13, 17], "counts": data.decode("latin-1")}, (13, 17))
    if runs is not None:
        shapes = Annotations(np.zeros((1, 4)), np.zeros(1), np.zeros(1), np.zeros(1), [runs])
        assert masks_of(shapes, (13, 17)).shape == (1, 13, 17)


@given(st.integers(0, 2**32 - 1))
def test_packing_is_undone_by_reading(seed):
    mask = (np.random.default_rng(seed).random((11, 9)) < 0.4).astype(np.uint8)
    runs = run_lengths(pack_mask(mask), (11, 9))
    shapes = Annotations(np.zeros((1, 4)), np.zeros(1), np.zeros(1), np.zeros(1), [runs])
    assert np.array_equal(masks_of(shapes, (11, 9))[0], mask)
