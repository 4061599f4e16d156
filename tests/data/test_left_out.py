"""Every file of a folder is read, or counted by ending and reason; HEIC is read with its extra and named without."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from saccade.data.clips import open_clips
from saccade.data.config import DataConfig
from saccade.data.decode import decode_rgb
from saccade.data.opening import open_pair, open_source
from saccade.errors import DataError
from saccade.files import pictures

from .pictures import encode, photo

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)


def put(path, data=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_a_flat_folder_counts_what_it_does_not_read(tmp_path):
    put(tmp_path / "a.jpg", encode(photo(40, 30)))
    for name in ("x.qoi", "b/y.QOI", "b/notes.txt", "README", ".DS_Store", ".git/config"):
        put(tmp_path / name)
    source = open_source(str(tmp_path), classes=False)
    assert list(source.names) == ["a.jpg"]
    assert sorted(source.notes) == [
        f"{tmp_path}: 2 files are left out, hidden (1 .DS_Store, 1 .git; first: .DS_Store)",
        f"{tmp_path}: 4 files are left out, not pictures (2 .qoi, 1 .txt, 1 without an ending; first: README)",
    ]


def test_class_folders_count_loose_files_and_those_of_other_kinds(tmp_path):
    for name in ("photos/cat/a.jpg", "photos/dog/b.jpg"):
        put(tmp_path / name, encode(photo(40, 30)))
    for name in ("photos/dog/c.qoi", "photos/labels.csv", "LICENSE.md"):
        put(tmp_path / name)
    pair = open_source(str(tmp_path))
    assert len(pair) == 2
    said = " ".join(pair.notes)
    assert "1 file is left out, beside the class folders (1 .csv; first: labels.csv)" in said
    assert "1 file is left out, not pictures (1 .qoi; first: dog/c.qoi)" in said
    assert "1 file is left out, beside what is read (1 .md; first: LICENSE.md)" in said


def test_what_lies_beside_train_and_val_is_counted_once(tmp_path):
    for part in ("train", "val", "test"):
        for label in ("cat", "dog"):
            put(tmp_path / part / label / "a.jpg", encode(photo(40, 30)))
    put(tmp_path / "val/dog/c.qoi")
    notes = open_pair(DataConfig(str(tmp_path))).notes
    assert sum("first: test/" in note for note in notes) == 1
    assert sum("c.qoi" in note for note in notes) == 1


def test_folders_of_videos_count_too(tmp_path):
    for name in ("a/v.mp4", "b/w.mp4", "b/w.srt", "readme.txt"):
        put(tmp_path / name)
    said = " ".join(open_clips(str(tmp_path)).notes)
    assert "not videos (1 .srt; first: b/w.srt)" in said
    assert "beside the class folders (1 .txt; first: readme.txt)" in said
    assert "2 files are left out, not videos (1 .srt, 1 .txt; first: b/w.srt)" in " ".join(
        open_clips(str(tmp_path), classes=False).notes
    )


def test_heic_without_its_extra_names_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pi_heif", None)
    registered = Image.OPEN.pop("HEIF", None)
    pictures._readers.cache_clear()
    try:
        with pytest.raises(DataError, match=r"IMG_1.HEIC: a HEIC picture.*saccade\[heif\]"):
            pictures.open_picture(HEIC, "IMG_1.HEIC")
        with pytest.raises(DataError, match="not an image in any known format"):
            pictures.open_picture(HEIC.replace(b"heic", b"mp42"), "v.jpg")
    finally:
        if registered is not None:
            Image.OPEN["HEIF"] = registered
        pictures._readers.cache_clear()


def test_heic_is_read_upright_and_damage_is_said():
    """`turned.heic` is `photo(64, 40)` as a phone stores it: HEVC of quality 95, with orientation 6."""
    pytest.importorskip("pi_heif")
    stored = (Path(__file__).parents[1] / "fixtures" / "turned.heic").read_bytes()
    pixels = decode_rgb(stored)
    assert pixels.shape == (64, 40, 3)
    want = np.asarray(photo(64, 40).rotate(-90, expand=True)).astype(int)
    assert np.abs(pixels - want).mean() < 12 < np.abs(pixels[::-1] - want).mean()
    with pytest.raises(DataError, match="more than the 100 allowed"):
        decode_rgb(stored, max_pixels=100)


def test_labels_that_look_like_several_are_pointed_out(tmp_path):
    rows = "a.jpg,cat\nb.jpg,bird;dog\nc.jpg,bird|dog\nd.jpg,dog\n"
    (tmp_path / "t.csv").write_text("path,label\n" + rows)
    source = open_source(str(tmp_path / "t.csv"))
    assert len(source.notes) == 1
    assert "2 labels hold ';' or '|' (first: 'bird;dog')" in source.notes[0]
    (tmp_path / "t.csv").write_text("path,label\n" + rows.replace(";", "-").replace("|", "+"))
    assert not open_source(str(tmp_path / "t.csv")).notes
