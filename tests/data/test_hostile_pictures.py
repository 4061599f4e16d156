"""Pictures that are damaged or made to hurt: a sentence or pixels, in bounded time and memory, in every reader."""

import contextlib
import io
import os
import resource
import subprocess
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from saccade.cli.main import main
from saccade.data import open_source
from saccade.data.check import check_data
from saccade.data.convert import open_parts, write_parts
from saccade.data.dataset import ImageDataset
from saccade.data.decode import decode_rgb, load_rgb
from saccade.data.dense import read_map
from saccade.data.preprocess import Preprocess
from saccade.data.whole import WholePreprocess
from saccade.errors import DataError
from saccade.files import pictures
from saccade.files.pictures import FORMATS, MAX_ASPECT, open_picture
from saccade.kinematics.draw import open_image
from saccade.kinematics.lift.given import MaskFolder
from saccade.radar.scene import silhouette

from .pictures import encode, photo

PICTURE = photo(60, 40)


def thin(width: int, height: int = 1) -> bytes:
    """A PNG file of a few hundred bytes that a resize of its shorter side would blow up."""
    return encode(Image.new("L", (width, height), 90), "PNG")


def cut_webp() -> bytes:
    return encode(PICTURE, "WEBP")[:30]


MAXVAL_ZERO = b"P6\n4 4\n0\n" + bytes(48)
HOSTILE = {
    "thin.png": thin(60_000),
    "thinner.png": thin(1_000_000),
    "tall.png": thin(1, 60_000),
    "cut.webp": cut_webp(),
    "zero.ppm": MAXVAL_ZERO,
    "empty.jpg": b"",
}


def hostile_folder(root: Path) -> Path:
    """Two classes with a sound picture each, and beside these everything that is no picture after all."""
    for number, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        (root / name / "sound.jpg").write_bytes(encode(photo(60, 40, number)))
    for name, data in HOSTILE.items():
        (root / "cat" / name).write_bytes(data)
    os.mkfifo(root / "cat" / "pipe.jpg")
    (root / "cat" / "zeros.jpg").symlink_to("/dev/zero")
    (root / "dog" / "gone.jpg").symlink_to("nowhere.jpg")
    (root / "dog" / "round.jpg").symlink_to("round.jpg")
    (root / "dog" / "round").symlink_to("round")
    return root


READERS = {
    "network": lambda path: Preprocess(32).fast(path),
    "reference": lambda path: Preprocess(32).reference(load_rgb(path)),
    "whole": lambda path: WholePreprocess(size=32, max_size=64).fast(path),
    "class map": lambda path: read_map(path, (0, 0), range(2)),
    "frame": open_image,
    "silhouette": silhouette,
    "instances": lambda path: MaskFolder(path.parent)(np.zeros((1, 1, 60_000, 3), np.uint8), ["0"]),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("size", [(60_000, 1), (1, 60_000), (1_000_000, 1)])
def test_every_reader_refuses_long_pictures(tmp_path, reader, size):
    (tmp_path / "long.png").write_bytes(thin(*size))
    with pytest.raises(DataError, match=f"expected one side at most {MAX_ASPECT} times the other"):
        READERS[reader](tmp_path / "long.png")


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_refuses_what_is_no_regular_file(tmp_path, reader):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DataError, match=r"pipe\.png"):
        READERS[reader](tmp_path / "pipe.png")


def test_pictures_at_the_limit_are_read():
    assert Preprocess(32).fast(thin(100 * 7, 7)).shape == (3, 32, 32)
    with pytest.raises(DataError, match="times the other"):
        Preprocess(32).fast(thin(100 * 7 + 1, 7))


def test_a_resize_to_too_many_pixels_is_refused():
    """The shape alone does not say how much comes out: 100 : 1 at 2048 pixels would be 419 million."""
    with pytest.raises(DataError, match="allowed; cut the picture"):
        Preprocess(2048, crop_pct=1.0).fast(thin(1000, 10))
    assert Preprocess(2048, crop_pct=1.0, mode="squash").fast(thin(1000, 10)).shape == (3, 2048, 2048)


def test_postscript_is_not_handed_to_ghostscript(tmp_path):
    """Pillow opens it whatever its name is, and runs a program to decode it."""
    text = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
    with Image.open(io.BytesIO(text)) as picture:
        assert picture.format == "EPS"
    with pytest.raises(DataError, match="not an image in any known format"):
        decode_rgb(text)


def test_predictions_of_the_sound_pictures_survive(tmp_path, capsys):
    root = hostile_folder(tmp_path / "pictures")
    out = tmp_path / "found.csv"
    begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    call = ["predict", str(root), "--weights", "shvit_s1", "--size", "64", "--backend", "torch"]
    assert main([*call, "--out", str(out), "--threads", "1"]) == 0
    assert [line.partition(",")[0] for line in out.read_text().splitlines()] == [
        "name",
        "cat/sound.jpg",
        "dog/sound.jpg",
    ]
    skipped = (tmp_path / "found.skipped.csv").read_text()
    for name in (*HOSTILE, "pipe.jpg", "zeros.jpg", "gone.jpg", "round.jpg"):
        assert name in skipped
    assert (
        "1 file is left out, links that lead nowhere (1 without an ending; first: dog/round)"
        in capsys.readouterr().err
    )
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - begin < 800 << 10  # kilobytes


def test_data_check_counts_what_it_exists_to_find(tmp_path):
    report = check_data(str(hostile_folder(tmp_path)), threads=2)
    skipped = {finding.name: finding.detail for finding in report.findings if finding.kind == "unreadable"}
    assert set(skipped) == {
        *(f"cat/{name}" for name in (*HOSTILE, "pipe.jpg", "zeros.jpg")),
        "dog/gone.jpg",
        "dog/round.jpg",
    }
    assert "60000 x 1 pixels" in skipped["cat/thin.png"]
    assert any("links that lead nowhere" in finding.detail for finding in report.findings)


@pytest.mark.parametrize("form", ["folder", "shards"])
def test_convert_leaves_out_what_cannot_be_read(tmp_path, form, capsys):
    root, out = hostile_folder(tmp_path / "from"), tmp_path / "to"
    assert main(["data", "convert", str(root), "--out", str(out), "--form", form]) == 0
    told = capsys.readouterr().err
    assert "5 images cannot be read and were left out" in told
    assert "empty.jpg: the file is empty" in told
    again = open_source(str(out), part="train")
    assert sorted(again.counts().items()) == [("cat", 6), ("dog", 1)]
    assert len(again) == 7


def test_convert_links_to_files_only(tmp_path):
    written = write_parts(open_parts(str(hostile_folder(tmp_path / "from"))), tmp_path / "to", link=True)
    assert written.counts == {"": 8}  # an empty file is one
    assert {name.rpartition("/")[2] for name, _ in written.skipped} == {
        "pipe.jpg",
        "zeros.jpg",
        "gone.jpg",
        "round.jpg",
    }


def test_convert_of_nothing_readable_is_refused(tmp_path):
    (tmp_path / "from" / "cat").mkdir(parents=True)
    (tmp_path / "from" / "cat" / "a.jpg").touch()
    with pytest.raises(DataError, match="none of 1 images can be read"):
        write_parts(open_parts(str(tmp_path / "from")), tmp_path / "to")
    assert not (tmp_path / "to").exists()


class Exhausting(Preprocess):
    """A transform that memory does not suffice for when a picture is red."""

    def fast(self, source, **options):
        image = super().fast(source, **options)
        if image[0].mean() > image[2].mean() + 1:
            torch.empty(1 << 60)
        return image


def test_memory_running_out_over_one_picture_loses_that_one_only(tmp_path):
    for name, colour in (("a", (250, 0, 0)), ("b", (0, 0, 250)), ("c", (0, 0, 200))):
        (tmp_path / f"{name}.png").write_bytes(encode(Image.new("RGB", (9, 9), colour), "PNG"))
    source = open_source(str(tmp_path), classes=False)
    samples = [ImageDataset(source, Exhausting(8))[place] for place in range(3)]
    assert samples[0]["skipped"] == [("a.png", "not enough memory to decode it")]
    assert [len(sample["skipped"]) for sample in samples] == [1, 0, 0]


def test_sixteen_bits_are_reduced_without_wide_copies():
    picture = Image.fromarray(np.full((3000, 3000), 257, np.uint16))
    begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert (decode_rgb(encode(picture, "PNG"))[..., 0] == 1).all()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - begin
    assert grown < 180 << 10, "more than 20 bytes a pixel"


def test_tables_are_regular_files(tmp_path):
    os.mkfifo(tmp_path / "table.csv")
    with pytest.raises(DataError, match="a pipe or device"):
        open_source(str(tmp_path / "table.csv"))


def test_folders_of_folders_end_however_deep_and_entangled(tmp_path):
    """Links among eight folders make thousands of paths; names as deep as the system allows make no recursion."""
    for name in "abcdefgh":
        (tmp_path / "mesh" / name).mkdir(parents=True)
    for name in "abcdefgh":
        for other in "abcdefgh":
            (tmp_path / "mesh" / name / f"to-{other}").symlink_to(tmp_path / "mesh" / other)
    deep = str(tmp_path / "mesh" / "a")
    for _ in range(1050):
        deep += "/d"
        Path(deep).mkdir()
    Path(deep, "end.jpg").write_bytes(encode(PICTURE))
    begin = time.monotonic()
    try:
        assert len(open_source(str(tmp_path / "mesh"), classes=False)) == 1
    finally:  # nor does what tidies up after tests like it
        subprocess.run(["rm", "-r", str(tmp_path / "mesh" / "a")], check=True)
    assert time.monotonic() - begin < 5


READ = pictures._readers()
KINDS = sorted(kind for kind in FORMATS if kind != "MPO" and kind in READ and kind in Image.SAVE)
OPTIONS = {"AVIF": {"speed": 10}}
REAL = {
    f"{kind}-{mode}": encode(PICTURE.convert(mode), kind, **OPTIONS.get(kind, {}))
    for kind in KINDS
    for mode in ("RGB", "L")
}
REAL["PNG-P"] = encode(PICTURE.convert("P"), "PNG", transparency=3)
REAL["PNG-RGBA"] = encode(PICTURE.convert("RGBA"), "PNG")
REAL["PNG-16"] = encode(Image.fromarray(np.arange(2400, dtype=np.uint16).reshape(40, 60)), "PNG")
REAL["JPEG-CMYK"] = encode(PICTURE.convert("CMYK"))
REAL["TIFF-LZW"] = encode(PICTURE, "TIFF", compression="tiff_lzw")
if "HEIF" in READ:
    REAL["HEIF"] = (Path(__file__).parents[1] / "fixtures" / "turned.heic").read_bytes()
REAL["GIF-animated"] = encode(PICTURE, "GIF", save_all=True, append_images=[photo(60, 40, 1)])


def read_all_ways(data: bytes) -> None:
    """Read contents by every reader of pictures: pixels or a sentence, soon."""
    begin = time.monotonic()
    for read in (
        lambda: decode_rgb(data, max_pixels=1 << 20),
        lambda: load_rgb(data, max_pixels=1 << 20),
        lambda: Preprocess(16).fast(data, max_pixels=1 << 20),
        lambda: open_picture(data, max_pixels=1 << 20),
    ):
        with contextlib.suppress(DataError):
            read()
    assert time.monotonic() - begin < 5


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", sorted(REAL))
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_damaged_files_of_every_format_are_pixels_or_a_sentence(name, data):
    changed = bytearray(REAL[name])
    for _ in range(data.draw(st.integers(0, 6))):
        # Near the beginning, where the numbers are that decide what is allocated, more often than not.
        place = data.draw(st.integers(0, len(changed) - 1) | st.integers(0, min(63, len(changed) - 1)))
        changed[place] ^= 1 << data.draw(st.integers(0, 7))
    read_all_ways(bytes(changed[: data.draw(st.just(len(changed)) | st.integers(1, len(changed)))]))


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=150, deadline=None)
@given(head=st.sampled_from(sorted(REAL)), kept=st.integers(0, 24), tail=st.binary(max_size=400))
def test_any_bytes_are_pixels_or_a_sentence(head, kept, tail):
    read_all_ways((REAL[head][:kept] + tail) or b"\0")


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=60, deadline=None)
@given(width=st.integers(0, 2**31 - 1), height=st.integers(0, 2**31 - 1), depth=st.sampled_from([1, 8, 16]))
def test_any_promised_size_takes_no_memory(width, height, depth):
    def chunk(name: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([depth, 0, 0, 0, 0])
    begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    read_all_ways(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(bytes(64)))
        + chunk(b"IEND", b"")
    )
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - begin < 200 << 10
