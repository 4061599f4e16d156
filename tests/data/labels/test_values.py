"""Values and names of COCO files as people's tools write them: read by a stated rule, and counted."""

import json

import numpy as np
import pytest
from PIL import Image

from saccade.data.coco import read_coco
from saccade.data.outlines import masks_of, pack_mask
from saccade.data.picture_names import PictureFiles
from saccade.errors import DataError

BOX = [4, 6, 10, 8]


def write(home, *, image=None, annotation=None, categories=None, name="a.png"):
    """One picture, 40 x 30, with one box; the rows are changed as said, a value of ... is taken out."""
    (home / "images").mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30)).save(home / "images" / "a.png")

    def changed(row, change):
        return {key: value for key, value in {**row, **(change or {})}.items() if value is not ...}

    content = {
        "images": [changed({"id": 1, "file_name": name, "height": 30, "width": 40}, image)],
        "annotations": [changed({"id": 1, "image_id": 1, "category_id": 2, "bbox": BOX}, annotation)],
        "categories": categories or [{"id": 2, "name": "car"}],
    }
    path = home / "things.json"
    path.write_text(json.dumps(content))
    return path


def read(path):
    return read_coco(path, [path.parent / "images", path.parent])


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"annotation": {"iscrowd": "0"}}, "1 entries have numbers as text"),
        ({"annotation": {"iscrowd": "false"}}, "1 entries have numbers as text"),
        ({"annotation": {"image_id": "1"}}, "1 entries have numbers as text"),
        ({"annotation": {"category_id": 2.0}}, "1 entries have numbers as text"),
        ({"categories": [{"id": "2", "name": "car"}]}, "1 entries have numbers as text"),
        ({"annotation": {"bbox": ["4", "6.0", "10", "8"]}}, "1 entries have numbers as text"),
        ({"image": {"height": "30", "width": 40.0}}, "1 entries have numbers as text"),
        ({"image": {"height": ..., "width": ...}}, "1 pictures have no size"),
        ({"image": {"height": 40, "width": 30}}, "1 pictures have width and height swapped"),
        (
            {"annotation": {"bbox": ..., "segmentation": [[4, 6, 14, 6, 14, 14, 4, 14]]}},
            "1 boxes are missing",
        ),
        ({"annotation": {"bbox": [], "segmentation": [4, 6, 14, 6, 14, 14, 4, 14]}}, "1 outlines are flat"),
    ],
)
def test_values_that_can_be_read_give_the_same_box(tmp_path, parts, words):
    index = read(write(tmp_path, **parts))
    assert index.annotations[0].boxes.tolist() == [[4, 6, 14, 14]]
    assert index.annotations[0].crowd.tolist() == [False]
    assert index.sizes.tolist() == [[30, 40]]
    assert sum(words in note for note in index.notes) == 1


def test_crowds_as_text_are_crowds(tmp_path):
    assert read(write(tmp_path, annotation={"iscrowd": "1"})).annotations[0].crowd.tolist() == [True]


def test_run_lengths_with_swapped_size_are_turned_only_where_they_fill_their_box(tmp_path):
    mask = np.zeros((30, 40), np.uint8)
    mask[6:14, 4:14] = 1
    runs = {**pack_mask(mask), "size": [40, 30]}
    found = read(write(tmp_path, annotation={"segmentation": runs})).annotations[0]
    assert np.array_equal(masks_of(found, (30, 40))[0], mask)
    index = read(write(tmp_path, annotation={"segmentation": runs, "bbox": [20, 20, 5, 5]}))
    assert index.annotations[0].shapes == [None]
    assert any("1 outlines cannot be read" in note for note in index.notes)


def test_a_turned_photo_is_not_taken_for_a_swapped_size(tmp_path):
    path = write(tmp_path, name="a.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(tmp_path / "images" / "a.jpg", exif=exif)  # upright 30 wide, 40 high
    assert read(path).sizes.tolist() == [[30, 40]]
    path = write(tmp_path, name="a.jpg", image={"height": ..., "width": ...})
    assert read(path).sizes.tolist() == [[40, 30]]


def test_the_root_of_a_roboflow_export_is_no_class_unless_it_is_used(tmp_path):
    categories = [
        {"id": 0, "name": "car", "supercategory": "none"},
        {"id": 1, "name": "bus", "supercategory": "car"},
        {"id": 2, "name": "car", "supercategory": "car"},
    ]
    index = read(write(tmp_path, categories=categories))
    assert (index.labels, index.annotations[0].labels.tolist()) == (["bus", "car"], [1])
    assert any("root" in note for note in index.notes)
    categories[0]["name"], categories[1]["supercategory"], categories[2]["supercategory"] = (
        "all",
        "all",
        "all",
    )
    assert read(write(tmp_path, categories=categories)).labels == ["bus", "car"]
    index = read(write(tmp_path, categories=categories, annotation={"category_id": 0}))
    assert index.labels == ["all", "bus", "car"]


def test_shares_are_refused_with_the_fix_and_corners_are_said(tmp_path):
    with pytest.raises(DataError, match="shares of the picture; multiply"):
        read(write(tmp_path, annotation={"bbox": [0.1, 0.2, 0.5, 0.5]}))
    path = write(tmp_path)
    content = json.loads(path.read_text())
    content["annotations"] = [
        {"id": n, "image_id": 1, "category_id": 2, "bbox": [10 + n, 8, 35 + n, 28]} for n in range(4)
    ]
    path.write_text(json.dumps(content))
    assert any(note.startswith("WARNING") and "x1 - x0" in note for note in read(path).notes)
    content["annotations"][0]["bbox"] = [20, 8, 10, 8]  # no corners: the second x lies before the first
    path.write_text(json.dumps(content))
    assert not any(note.startswith("WARNING") for note in read(path).notes)


@pytest.mark.parametrize(
    "name",
    [
        "/srv/project/images/a b.png",
        "../images/a b.png",
        "D:\\pictures\\images\\a b.png",
        "https://storage.example/bucket/a%20b.png?sig=1",
        "a%20b.png",
        "A B.PNG",
        "a b",
        "a b.jpg",
        "/data/upload/3/0a1b2c3d-a b.png",
        "/data/local-files/?d=images/a%20b.png",
    ],
)
def test_names_in_other_forms_lead_to_the_one_file(tmp_path, name):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a b.png").touch()
    (tmp_path / "images" / "c.png").touch()
    path, other = PictureFiles([tmp_path / "images", tmp_path]).find(name)
    assert (path, other) == (tmp_path / "images" / "a b.png", True)


def test_names_that_fit_two_files_or_none_inside_are_not_found(tmp_path):
    for name in ("in/x/a.png", "in/y/a.png", "in/b.png", "in/b.jpg", "in/a.txt", "out.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    files = PictureFiles([tmp_path / "in"])
    for name in ("z/a.png", "b", "b.gif", "../out.png", str(tmp_path / "out.png"), "..", "", "/", "a\0.png"):
        assert files.find(name) == (None, False), name
    assert files.find("/srv/y/a.png") == (tmp_path / "in" / "y" / "a.png", True)
    assert files.find("x/a.png") == (tmp_path / "in" / "x" / "a.png", False)


def test_two_names_of_one_file_are_one_picture(tmp_path):
    path = write(tmp_path)
    content = json.loads(path.read_text())
    content["images"].append({"id": 2, "file_name": "other/A.png", "height": 30, "width": 40})
    path.write_text(json.dumps(content))
    index = read(path)
    assert index.names == ["a.png"]
    assert any("1 pictures are left out because their names lead" in note for note in index.notes)
