"""The page about labels: everything of it in one file, the numbers those of the labels, strange names harmless."""

import dataclasses
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from saccade.errors import ConfigError, DataError
from saccade.kinematics.birdseye import Map, Plane
from saccade.kinematics.draw import pictures_root
from saccade.kinematics.records import Rejected, write_records, write_rejected
from saccade.kinematics.report import read_rejected, reason_kind, write_report

from .tracks import clip, many


@pytest.fixture
def labels(tmp_path):
    """Labels of six clips of two sources, with pictures, and some rejections."""
    for step in range(20):
        Image.new("RGB", (160, 90), (90, 90, 90)).save(tmp_path / f"{step:03d}.jpg")
    images = [f"{step:03d}.jpg" for step in range(20)]
    tracks = many(5, images=images) + clip(
        "<script>x", np.random.default_rng(3), source="other", images=images
    )
    write_records(tracks, tmp_path / "tracks.jsonl")
    rows = [
        Rejected(f"clip{k}", "detect", f"clip{k}: {k}.5 of 17 frames have no pose") for k in range(10, 14)
    ]
    rows.append(Rejected("bad", "read", "/data/a b.mp4: no <video>"))
    write_rejected(rows, tmp_path / "rejected.jsonl")
    return tmp_path


class Page(HTMLParser):
    """Checks that tags close and collects what is outside."""

    def __init__(self):
        super().__init__()
        self.open, self.sources, self.scripts = [], [], 0

    def handle_starttag(self, tag, attrs):
        self.scripts += tag == "script"
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "line", "rect", "path", "circle", "polyline", "polygon", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in ("rect", "line", "path", "circle", "polyline", "polygon"):
            return
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.scripts += tag == "script"


def test_page_stands_alone(labels):
    facts = write_report(labels, labels / "page.html", clips=4, size=128)
    assert facts == {"clips": 6, "tracks": 24, "rejected": 5, "shown": 4}
    text = (labels / "page.html").read_text()
    page = Page()
    page.feed(text)
    assert page.open == []
    assert page.scripts == 0
    assert len(page.sources) == 4 * 5
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert text.count('<div class="card">') == 4
    assert "&lt;script&gt;x" in text  # both sources are shown
    assert "nan" not in re.sub(r"base64,[^\"]*", "", text)
    # Four reasons that differ in their numbers are one.
    assert re.search(r"… #|…: # of # frames have no pose", text)
    assert "<td>4</td>" in text
    assert "no &lt;video&gt;" in text


def test_page_is_bounded_and_the_same_each_time(labels):
    write_report(labels, labels / "a.html", clips=2, size=96)
    write_report(labels, labels / "b.html", clips=2, size=96)
    assert (labels / "a.html").read_bytes() == (labels / "b.html").read_bytes()
    write_report(labels, labels / "none.html", clips=0)
    assert '<div class="card">' not in (labels / "none.html").read_text()
    assert (labels / "none.html").stat().st_size < 40_000


def test_page_without_pictures_says_so(tmp_path):
    tracks = [dataclasses.replace(track, boxes_2d=None, image_paths=None, camera=None, T_world_cam=None)
              for track in many(1)]  # fmt: skip
    write_records(tracks, tmp_path / "tracks.jsonl")
    assert write_report(tmp_path, tmp_path / "page.html")["shown"] == 1
    text = (tmp_path / "page.html").read_text()
    assert "No frames: clip clip000: its tracks name no pictures" in text
    assert "Nothing was rejected" in text
    assert "no boxes" in text


def test_counts_are_those_of_the_labels(labels):
    write_report(labels, labels / "page.html", clips=0)
    text = (labels / "page.html").read_text()
    (row,) = re.findall(r"<tr><td>made</td>(.*?)</tr>", text)
    cells = [int(cell) for cell in re.findall(r"<td>(\d+)</td>", row)]
    assert cells[:2] == [5, 20]
    assert sum(cells[2:]) == 20
    distance = re.search(r"<td>traveled distance</td><td>made</td><td>(\d+)</td>", text)
    assert distance
    assert int(distance[1]) == cells[2]


def test_bad_input(labels, tmp_path):
    with pytest.raises(ConfigError, match="at most 200 clips"):
        write_report(labels, labels / "page.html", clips=1000)
    (labels / "rejected.jsonl").write_text('{"clip_id": "a"}\n')
    with pytest.raises(DataError, match=r"line 1: .* expected a rejection"):
        write_report(labels, labels / "page.html")
    assert read_rejected(tmp_path / "nothing.jsonl") == []
    (labels / "rejected.jsonl").unlink()
    lines = (labels / "tracks.jsonl").read_text().splitlines()
    skipped = json.dumps({**json.loads(lines[0]), "track_id": "new", "timestamps_s": []})
    (labels / "tracks.jsonl").write_text("\n".join([*lines, skipped]) + "\n")
    assert write_report(labels, labels / "page.html", clips=1, size=96)["rejected"] == 1
    (labels / "tracks.jsonl").write_text("")
    with pytest.raises(DataError, match="no track"):
        write_report(labels, labels / "page.html")


def test_reasons_are_grouped():
    one = Rejected("clip-1", "7", "clip clip-1: scale spread 0.31 is above 0.15")
    two = Rejected("clip-2", "9", "clip clip-2: scale spread 1e-3 is above 0.15")
    assert reason_kind(one) == reason_kind(two) == "clip …: scale spread # is above #"
    # A rule of the pseudo-labels is named by what it says, whatever its text tells of the object.
    rule = Rejected("clip-3", "mask_slips", "object 4: from 200 to 900 pixels at 3.5 s")
    assert reason_kind(rule) == "mask slips: the mask's area jumps"


def test_pictures_are_found_beside_their_labels(tmp_path):
    (tmp_path / "labels" / "frames").mkdir(parents=True)
    track = many(1, images=["frames/a.png"] * 20)[0]
    assert pictures_root([track], tmp_path / "labels") is None
    (tmp_path / "labels" / "frames" / "a.png").write_bytes(b"")
    for labels in (tmp_path / "labels", tmp_path / "labels" / "tracks.jsonl"):
        assert pictures_root([track], labels) == tmp_path / "labels"
    # Written as "labels/frames/a.png" from another working folder.
    other = dataclasses.replace(track, image_paths=["labels/frames/a.png#t=1.000"] * 20)
    assert pictures_root([other], tmp_path / "labels") == tmp_path
    assert pictures_root([other], tmp_path / "labels", "mine") == "mine"


def test_the_longer_name_of_a_reason_is_taken_out_first():
    row = Rejected("scene", "scene-left", "scene-left of scene stands still")
    assert reason_kind(row) == "… of … stands still"


def test_the_margin_of_a_map_is_on_all_sides():
    plane = Plane(np.eye(3)[0], np.eye(3)[1])
    page = Map(plane, np.zeros(2), np.array([3.0, 2.0]), 10.0, 5.0)
    assert page.size == (40.0, 30.0)
