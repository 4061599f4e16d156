import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, TiffImagePlugin

from saccade.data import decode
from saccade.data.decode import decode_rgb, load_rgb, read_jpeg_header
from saccade.errors import DataError
from saccade.files import pictures

from .pictures import encode, photo

PICTURE = photo(60, 40)


def both(data: bytes) -> np.ndarray:
    """Pixels, after checking that the two paths agree."""
    fast, slow = decode_rgb(data), np.asarray(load_rgb(data))
    assert fast.dtype == np.uint8
    assert fast.shape[2] == 3
    assert np.array_equal(fast, slow)
    return fast


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"progressive": True}, {"quality": 30}])
def test_plain_jpeg_equals_pillow(options):
    data = encode(PICTURE, **options)
    assert np.array_equal(both(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    header = read_jpeg_header(data)
    assert header is not None
    assert (header.width, header.height, header.components, header.plain) == (60, 40, 3, True)


@pytest.mark.parametrize("decoder", ["simplejpeg", "pillow"])
def test_each_decoder_refuses_truncated_files(decoder, monkeypatch):
    monkeypatch.setattr(decode, "_has_simplejpeg", lambda: decoder == "simplejpeg")
    data = encode(photo(200, 150))
    assert np.array_equal(decode_rgb(data), np.asarray(Image.open(io.BytesIO(data))))
    for part in (0.3, 0.7, 0.95):
        with pytest.raises(DataError, match="damaged or truncated"):
            decode_rgb(data[: int(len(data) * part)])


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_truncated_files_of_other_kinds_are_refused(kind):
    data = encode(photo(200, 150), kind)
    both(data)
    with pytest.raises(DataError):
        decode_rgb(data[: len(data) // 2])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    data = encode(PICTURE, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert expected is not None
    assert np.array_equal(both(data), np.asarray(expected))
    assert np.array_equal(both(encode(PICTURE, "PNG", exif=exif)).shape[:2], np.asarray(expected).shape[:2])


def test_orientation_in_xmp_goes_through_pillow():
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6"/></x:xmpmeta>'
    assert both(encode(PICTURE, xmp=xmp)).shape == (60, 40, 3)


def test_grey_repeats_its_channel():
    pixels = both(encode(PICTURE.convert("L")))
    assert np.array_equal(pixels[..., 0], pixels[..., 2])
    assert decode_rgb(encode(PICTURE.convert("L")), grey=True).shape == (40, 60, 1)
    assert decode_rgb(encode(PICTURE), grey=True).shape == (40, 60, 1)


@pytest.mark.parametrize("byte_order", [">", "<"])
def test_sixteen_bit_grey_is_scaled(byte_order):
    values = np.array([[0, 257, 65535], [128, 129, 32768]], dtype=np.uint16)
    data = encode(Image.fromarray(values), "PNG" if byte_order == ">" else "TIFF")
    assert both(data)[..., 0].tolist() == [[0, 1, 255], [0, 1, 128]]


def test_alpha_is_flattened_on_white():
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0, 0] = (10, 20, 30, 255)
    rgba[1, 1] = (0, 0, 0, 128)
    pixels = both(encode(Image.fromarray(rgba), "PNG"))
    assert pixels[0, 0].tolist() == [10, 20, 30]
    assert pixels[0, 1].tolist() == [255, 255, 255]
    assert pixels[1, 1].tolist() == [127, 127, 127]


def test_palette_with_transparency():
    picture = Image.new("P", (2, 1))
    picture.putpalette([200, 0, 0, 0, 200, 0])
    picture.putdata([0, 1])
    assert both(encode(picture, "PNG", transparency=1)).tolist() == [[[200, 0, 0], [255, 255, 255]]]


def test_rgb_with_a_transparent_colour():
    picture = Image.new("RGB", (2, 1), (1, 2, 3))
    picture.putpixel((1, 0), (9, 9, 9))
    assert both(encode(picture, "PNG", transparency=(9, 9, 9))).tolist() == [[[1, 2, 3], [255, 255, 255]]]


def test_cmyk():
    data = encode(PICTURE.convert("CMYK"))
    header = read_jpeg_header(data)
    assert header is not None
    assert header.components == 4
    assert not header.plain
    assert abs(both(data).astype(int) - np.asarray(PICTURE)).mean() < 20


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_animated_gives_the_first_frame(kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert both(data)[0, 0].tolist() == [255, 0, 0]


def test_floating_point_is_refused():
    with pytest.raises(DataError, match="no defined range"):
        load_rgb(Image.fromarray(np.zeros((2, 2), np.float32)))


def test_one_bit():
    assert set(both(encode(PICTURE.convert("1"), "PNG")).ravel().tolist()) == {0, 255}


def bomb(width: int, height: int) -> bytes:
    """A PNG file whose header promises far more pixels than it holds."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [10_000, 13_000, 60_000])
def test_bombs_are_refused_by_their_header(side):
    with pytest.raises(DataError, match=r"decompression bomb"):
        decode_rgb(bomb(side, side), max_pixels=1_000_000)


def test_jpeg_bombs_are_refused_by_their_header():
    data = bytearray(encode(PICTURE))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", 65000, 65000)
    with pytest.raises(DataError, match=r"65000 x 65000"):
        decode_rgb(bytes(data))


def test_missing_empty_and_foreign_files(tmp_path):
    with pytest.raises(DataError, match=r"gone\.jpg: cannot be read"):
        decode_rgb(tmp_path / "gone.jpg")
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(DataError, match=r"empty\.jpg: the file is empty"):
        decode_rgb(tmp_path / "empty.jpg")
    (tmp_path / "text.jpg").write_text("hello")
    with pytest.raises(DataError, match=r"text\.jpg: not an image"):
        decode_rgb(str(tmp_path / "text.jpg"))


def test_absurdly_large_files_are_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "MAX_BYTES", 1000)
    (tmp_path / "a.jpg").write_bytes(encode(PICTURE))
    with pytest.raises(DataError, match="too large for an image"):
        decode_rgb(tmp_path / "a.jpg")


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damage_is_refused_or_read_alike_never_worse(data):
    """Random damage ends in pixels or in DataError; headers never raise anything."""
    original = bytearray(encode(PICTURE, exif=_exif()))
    for _ in range(data.draw(st.integers(1, 5))):
        original[data.draw(st.integers(0, len(original) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(original[: data.draw(st.integers(1, len(original)))])
    read_jpeg_header(cut)
    try:
        pixels = decode_rgb(cut, max_pixels=10_000_000)
    except DataError:
        return
    assert pixels.ndim == 3


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[274] = 6
    exif[270] = "a description"
    return exif


def grey_tiff(values: np.ndarray, tags: dict[int, int] | None = None) -> bytes:
    """An integer TIFF file with further tags."""
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in (tags or {}).items():
        info[tag] = value
    return encode(Image.fromarray(values), "TIFF", tiffinfo=info)


@pytest.mark.parametrize(
    ("kind", "top", "tags", "white"),
    [
        (np.int32, 255, {}, 255),
        (np.int32, 254, {}, 255),
        (np.int32, 256, {}, 4095),
        (np.int32, 4096, {}, 65535),
        (np.int32, 65536, {}, 2**31 - 1),
        (np.int32, 255, {341: 1000}, 1000),
        (np.int32, 255, {281: 500}, 500),
        (np.uint16, 255, {}, 65535),
        (np.uint16, 4095, {281: 4095}, 4095),
    ],
)
def test_white_of_wide_grey_is_decided_by_tags_then_bits_then_values(kind, top, tags, white):
    values = np.array([[0, top // 2, top], [top, 1, 0]], dtype=kind)
    want = (values.astype(np.float64) * 255 / white).clip(0, 255)
    assert np.abs(both(grey_tiff(values, tags))[..., 1] - want).max() <= 0.5


def test_black_of_wide_grey_may_be_below_zero():
    values = np.array([[-1000, 0, 3000]], dtype=np.int32)
    assert both(grey_tiff(values, {340: -1000, 341: 3000}))[0, :, 0].tolist() == [0, 64, 255]
    assert both(grey_tiff(np.array([[-5, 0, 255]], dtype=np.int32)))[0, :, 0].tolist() == [0, 0, 255]


def test_twelve_bits_packed_are_all_of_grey():
    # Pillow reads such files and cannot write them: two values in three bytes, header by hand.
    packed = bytes([0x00, 0x08, 0x00, 0xFF, 0xFF, 0xFF])  # 0, 2048, 4095, 4095
    entries = [
        (256, 4),
        (257, 1),
        (258, 12),
        (259, 1),
        (262, 1),
        (273, 8 + 2 + 9 * 12 + 4),
        (277, 1),
        (278, 1),
    ]
    entries.append((279, len(packed)))
    body = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in entries)
    data = struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + body + bytes(4) + packed
    assert both(data)[0, :, 0].tolist() == [0, 128, 255, 255]
