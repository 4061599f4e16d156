"""Labels of people's tools: the same two objects from every format, and what is left out is counted."""

import json

import numpy as np
import pytest
from faster_coco_eval.core import mask as mask_utils
from PIL import Image

from saccade.cli.main import main
from saccade.data.dense import ObjectDataset
from saccade.data.labels.formats import find_objects, read_objects
from saccade.data.labels.write import write_coco
from saccade.data.whole import WholePreprocess
from saccade.errors import DataError

# Picture 40 x 20: a bus at 4..14 x 2..12, a car with the corners (20, 4), (36, 4), (36, 16), (20, 16).
BUS, CAR = [4, 2, 14, 12], [20, 4, 36, 16]
OUTLINE = [20, 4, 36, 4, 36, 16, 20, 16]


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 20), (9, 90, 30)).save(path)


def yolo(home):
    picture(home / "images" / "train" / "a.png")
    text = home / "labels" / "train" / "a.txt"
    text.parent.mkdir(parents=True)
    shares = " ".join(str(v / (20 if n % 2 else 40)) for n, v in enumerate(OUTLINE))
    text.write_text(f"0 0.225 0.35 0.25 0.5\n1 {shares}\n5 0.5 0.5 0.1 0.1\n0 200 90 30 30\n0 a b c d\n")
    (home / "labels" / "train" / "gone.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    (home / "data.yaml").write_text("train: ../images/train\nnames: {0: bus, 1: car}\n")
    return ["1 label files have no picture", "2 lines are no box", "1 annotations point"]


def voc(home, head=""):
    picture(home / "JPEGImages" / "a.png")
    box = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"
    rows = [f"<object><name>{n}</name>{box.format(*b)}</object>" for n, b in (("bus", BUS), ("car", CAR))]
    text = f"{head}<annotation><filename>a.png</filename>{''.join(rows)}<object><name>x</name></object></annotation>"
    (home / "Annotations").mkdir()
    (home / "Annotations" / "a.xml").write_text(text)
    (home / "Annotations" / "b.xml").write_text("<annotation>")
    return ["1 objects have no name or no box", "1 XML files cannot be read", "1 pictures have no size"]


def labelme(home):
    picture(home / "a.png")
    shapes = [
        {"label": "bus", "shape_type": "rectangle", "points": [[14, 12], [4, 2]]},
        {"label": "car", "shape_type": "polygon", "points": np.reshape(OUTLINE, (-1, 2)).tolist()},
        {"label": "car", "shape_type": "line", "points": [[1, 1], [5, 5]]},
    ]
    content = {"shapes": shapes, "imagePath": "..\\pictures\\a.png", "imageHeight": 20, "imageWidth": 40}
    (home / "a.json").write_text(json.dumps(content))
    return ["1 shapes are no polygon", "1 pictures were found by a name in another form"]


def label_studio(home):
    picture(home / "images" / "a.png")
    size = {"original_width": 40, "original_height": 20}
    box = {"x": 10, "y": 10, "width": 25, "height": 50, "rectanglelabels": ["bus"]}
    points = [[v[0] / 0.4, v[1] / 0.2] for v in np.reshape(OUTLINE, (-1, 2)).tolist()]
    result = [
        {"type": "rectanglelabels", "value": box, **size},
        {"type": "polygonlabels", "value": {"points": points, "polygonlabels": ["car"]}, **size},
        {"type": "choices", "value": {"choices": ["x"]}},
    ]
    task = {
        "data": {"image": "/data/upload/1/0a1b2c3d-a.png"},
        "annotations": [{"result": result}, {"result": []}],
    }
    (home / "export.json").write_text(json.dumps([task]))
    return ["1 results are no box", "1 further annotations"]


def open_images(home):
    picture(home / "train" / "a.png")
    (home / "class-descriptions-boxable.csv").write_text("/m/1,bus\n/m/2,car\n")
    lines = ["ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsGroupOf"]
    lines += ["a,x,/m/1,1,0.1,0.35,0.1,0.6,0", "a,x,/m/2,1,0.5,0.9,0.2,0.8,0", "a,x,/m/2,0,0.1,0.2,0.1,0.2,0"]
    (home / "train-annotations-bbox.csv").write_text("\n".join([*lines, "gone,x,/m/1,1,0.1,0.3,0.1,0.6,0"]))
    return ["1 pictures of the table are not here", "1 rows say that a class is not there"]


def panoptic(home):
    picture(home / "images" / "a.png")
    numbers = np.zeros((20, 40, 3), np.uint8)
    numbers[2:12, 4:14, 1] = 2  # segment 512
    numbers[4:16, 20:36, 0] = 7
    (home / "annotations" / "panoptic_all").mkdir(parents=True)
    Image.fromarray(numbers).save(home / "annotations" / "panoptic_all" / "a.png")
    segments = [{"id": 512, "category_id": 1}, {"id": 7, "category_id": 2}, {"id": 0, "category_id": 3}]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 20, "width": 40}],
        "annotations": [{"image_id": 1, "file_name": "a.png", "segments_info": segments}],
        "categories": [
            {"id": 1, "name": "bus", "isthing": 1},
            {"id": 2, "name": "car", "isthing": 1},
            {"id": 3, "name": "sky", "isthing": 0},
        ],
    }
    (home / "annotations" / "panoptic_all.json").write_text(json.dumps(content))
    return ["1 segments are no things", "2 boxes are missing and drawn around"]


@pytest.mark.parametrize("make", [yolo, voc, labelme, label_studio, open_images, panoptic])
def test_every_format_gives_the_same_objects_and_counts_what_it_leaves_out(tmp_path, make):
    said = make(tmp_path / "in")
    (part,) = find_objects(str(tmp_path / "in")).values()
    index = read_objects(part)
    assert (index.labels, index.sizes.tolist()) == (["bus", "car"], [[20, 40]])
    found = index.annotations[0]
    assert np.allclose(found.boxes, [BUS, CAR], atol=1e-4)
    assert found.labels.tolist() == [0, 1]
    for words in said:
        assert sum(words in note for note in index.notes) == 1, (words, index.notes)
    counts, notes = write_coco(str(tmp_path / "in"), tmp_path / "out")
    assert set(counts.values()) == {1}
    assert notes == index.notes
    (part,) = find_objects(str(tmp_path / "out")).values()
    again = read_objects(part)
    assert np.allclose(again.annotations[0].boxes, found.boxes)
    assert [shape is None for shape in again.annotations[0].shapes] == [
        shape is None for shape in found.shapes
    ]


def test_xml_with_a_document_type_is_not_read(tmp_path):
    voc(tmp_path, '<!DOCTYPE a [<!ENTITY b "boom">]>')
    with pytest.raises(DataError, match=r"hold no object, .*2 XML files cannot be read"):
        read_objects(find_objects(str(tmp_path))["all"])


def test_the_lists_of_pascal_voc_divide_it(tmp_path):
    voc(tmp_path)
    lists = tmp_path / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for side in ("train", "val", "test"):
        (lists / f"{side}.txt").write_text("a\n")
    assert set(find_objects(str(tmp_path))) == {"train", "val"}
    (part,) = find_objects(str(lists / "test.txt")).values()
    assert read_objects(part).annotations[0].labels.tolist() == [0, 1]


def test_two_formats_in_one_place_and_none_are_refused(tmp_path):
    voc(tmp_path)
    (tmp_path / "data.yaml").write_text("train: JPEGImages\nnames: [bus]\n")
    with pytest.raises(DataError, match=r"two formats are here, YOLO .* and Pascal VOC"):
        find_objects(str(tmp_path))
    assert set(find_objects(str(tmp_path / "data.yaml"))) == {"train"}
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"also read: YOLO \(data.yaml\); Pascal VOC"):
        find_objects(str(tmp_path / "empty"))


def test_the_command_writes_coco_with_the_counts_said(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    yolo(tmp_path / "in")
    words = ["data", "convert", str(tmp_path / "in"), "--form", "coco", "--out", str(tmp_path / "out")]
    assert main([*words, "--dry-run"]) == 0
    assert not (tmp_path / "out").exists()
    capsys.readouterr()
    assert main(words) == 0
    said = capsys.readouterr()
    assert "2 lines are no box" in said.out + said.err
    index = read_objects(find_objects(str(tmp_path / "out"))["train"])
    assert index.labels == ["bus", "car"]
    assert np.allclose(index.annotations[0].boxes, [BUS, CAR], atol=1e-4)


def test_outlines_of_a_picture_that_is_not_square(tmp_path):
    (tmp_path / "in").mkdir()
    yolo(tmp_path / "in")
    part = find_objects(str(tmp_path / "in"))["train"]
    truth = ObjectDataset(read_objects(part), WholePreprocess(size=20, max_size=40), masks=True).truth(
        0, (20, 40)
    )
    high, wide = np.nonzero(mask_utils.decode(truth["runs"][1]))
    assert truth["runs"][1]["size"] == [20, 40]
    assert (wide.min(), high.min(), wide.max() + 1, high.max() + 1) == tuple(CAR)
