"""Turn image files into upright 8-bit pixels: one definition of what every odd kind of file means.

Ordinary JPEG files take the fast path (simplejpeg, when installed: 1.7 times as fast as Pillow); everything else, and
whatever the fast decoder does not like, goes through Pillow. Both paths give the same pixels, bit for bit:

    grey                 the one channel repeated
    palette, alpha       flattened on white, as a viewer shows them
    wider grey           black to white by the file's own range, as `grey_range` says (Pillow alone would clip)
    CMYK                 Pillow's conversion
    animated             the first frame
    EXIF orientation     applied: the picture stands as its photographer saw it
    floating point       refused, because its range is not defined
    truncated            refused, never filled up with grey
    very long            refused: one side over 100 times the other, which a resize would blow up

Sizes are read from the header and checked *before* any pixel is decoded.
"""

import functools
import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin

from saccade.errors import DataError
from saccade.files.pictures import FORMATS, MAX_PIXELS, check_size, decoding, open_picture, read_bytes

EXTENSIONS = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)
"""File names ending so (any case) are taken for images."""
WHOLE_BITS = 32
"""Integers of so many bits have no usual range."""
BLOCK_PIXELS = 1 << 22
"""Wider pictures are reduced to 8 bits so many pixels at a time."""

Encoded = bytes | str | Path | Image.Image
"""What the decoders read: file contents, a path, or a picture already opened by Pillow."""


@dataclass(frozen=True)
class JpegHeader:
    """What the markers of a JPEG file say before its pixels begin."""

    width: int
    height: int
    components: int
    """1 grey, 3 colour, 4 CMYK."""
    bits: int
    plain: bool
    """Whether the fast decoder is sure to read it as Pillow does."""
    orientation: int
    """EXIF orientation, 1..8."""


def is_image_name(name: str | Path) -> bool:
    """Whether a file name ends like an image and is not hidden."""
    name = Path(name)
    return name.suffix.lower() in EXTENSIONS and not name.name.startswith(".")


def read_jpeg_header(data: bytes) -> JpegHeader | None:
    """Walk the markers of a JPEG file up to its first scan.

    Args:
        data: The file, or at least its beginning.

    Returns:
        The header, or None when this is not a JPEG file whose markers make sense.
    """
    if data[:2] != b"\xff\xd8":
        return None
    at, orientation, plain, size = 2, 0, True, None
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:
            at += 2
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        body = data[at + 4 : at + 2 + length]
        if marker == 0xE1 and body[:6] == b"Exif\0\0":
            orientation = orientation or _exif_orientation(body[6:])
        elif marker == 0xE1 and b"tiff:Orientation" in body:
            plain = False  # Pillow reads the orientation from XMP too
        elif marker == 0xEE and body[:5] == b"Adobe" and len(body) >= 12:
            plain = plain and body[11] == 1  # other values say that the channels are not YCbCr
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if len(body) < 6:
                return None
            size = (int.from_bytes(body[3:5], "big"), int.from_bytes(body[1:3], "big"), body[5], body[0])
            plain = plain and marker in (0xC0, 0xC1, 0xC2)
        elif marker in (0xDA, 0xD9):
            break
        at += 2 + length
    if size is None or 0 in size[:2]:
        return None
    width, height, components, bits = size
    plain = plain and bits == 8 and components in (1, 3)
    return JpegHeader(width, height, components, bits, plain, orientation if 1 <= orientation <= 8 else 1)


def _exif_orientation(tiff: bytes) -> int:
    """Read tag 274 from the first directory of an EXIF block; 0 when it is not there."""
    order: Any = {b"II*\0": "little", b"MM\0*": "big"}.get(tiff[:4])
    if order is None:
        return 0
    start = int.from_bytes(tiff[4:8], order)
    count = int.from_bytes(tiff[start : start + 2], order)
    for at in range(start + 2, min(start + 2 + 12 * count, len(tiff) - 11), 12):
        if int.from_bytes(tiff[at : at + 2], order) == 274:
            return int.from_bytes(tiff[at + 8 : at + 10], order)
    return 0


def decode_rgb(
    source: Encoded,
    *,
    max_pixels: int = MAX_PIXELS,
    grey: bool = False,
    shrink_to: tuple[int, int] | None = None,
) -> np.ndarray:
    """Decode an image to upright 8-bit pixels, by the fastest decoder that is exact.

    Args:
        source: File contents, a path, or a Pillow image.
        max_pixels: Refuse larger pictures by their header, before decoding.
        grey: Give one channel instead of three.
        shrink_to: (height, width) that the result, as stored in the file, may be reduced to but not
            below: a JPEG file is then decoded at 1/2, 1/4 or 1/8 scale where that suffices. None: full size.
            Only simplejpeg does this; Pillow decodes in full.

    Returns:
        (height, width, 3), or (height, width, 1) when `grey`; uint8, writable.

    Raises:
        DataError: Not an image, damaged, truncated, empty or too large.
    """
    if not isinstance(source, Image.Image):
        data = read_bytes(source)
        header = read_jpeg_header(data)
        if header is not None:
            check_size(_called(source), header.width, header.height, max_pixels)
            if header.plain:
                factor = _scale_factor(header, shrink_to) if shrink_to else 1
                pixels = _decode_plain_jpeg(data, header, factor, grey and header.components == 1)
                if pixels is not None and (pixels.shape[2] == 1) == grey:
                    return _upright(pixels, header.orientation)
    with decoding(_called(source)):
        picture = load_rgb(source, max_pixels=max_pixels)
        pixels = np.array(picture.convert("L") if grey else picture)
    return pixels[..., None] if grey else pixels


def load_rgb(source: Encoded, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Open an image with Pillow and convert it to upright 8-bit RGB.

    Args:
        source: File contents, a path, or a Pillow image.
        max_pixels: Refuse larger pictures by their header, before decoding.

    Returns:
        A Pillow image of mode RGB, fully decoded.

    Raises:
        DataError: Not an image, damaged, truncated, empty or too large.
    """
    called = _called(source)
    with decoding(called):
        if isinstance(source, Image.Image):
            check_size(called, *source.size, max_pixels)
            return to_rgb(source)
        return to_rgb(open_picture(source, called, max_pixels=max_pixels))


def to_rgb(picture: Image.Image) -> Image.Image:
    """Convert the current frame of a Pillow image to upright RGB, by the rules of this module.

    Raises:
        DataError: Floating-point pixels, whose range is not defined.
    """
    if picture.mode == "RGB" and picture.getexif().get(274, 1) == 1 and "transparency" not in picture.info:
        picture.load()
        return picture
    if picture.mode == "F":
        raise DataError("floating-point pixels have no defined range; save the image with 8 or 16 bits")
    wide = grey_range(picture) if picture.mode.startswith("I") else None
    if picture.getexif().get(274, 1) != 1:  # otherwise only a copy
        picture = ImageOps.exif_transpose(picture)
    if wide is not None:
        picture = Image.fromarray(_eight_bits(np.asarray(picture), *wide))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        ground = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(ground, picture)
    return picture.convert("RGB")


def grey_range(picture: Image.Image) -> tuple[int, int]:
    """Find the values of black and white in a grey picture of more than 8 bits.

    The first of these that says it: the tags SMinSampleValue and SMaxSampleValue of a TIFF file (or MinSampleValue
    and MaxSampleValue), then its BitsPerSample below 32 (12 bits: 0 to 4095), then the 16 bits of the other formats.
    32-bit values have no usual range: white is the smallest of 255, 4095, 65535 and 2^31 - 1 that none exceeds.

    Args:
        picture: Of one of Pillow's modes I, not turned yet.

    Returns:
        (black, white), black below white.
    """
    tags: Any = picture.tag_v2 if isinstance(picture, TiffImagePlugin.TiffImageFile) else {}
    for low, high in ((340, 341), (280, 281)):
        black, white = _first_number(tags.get(low, 0)), _first_number(tags.get(high))
        if white is not None and black is not None and black < white:
            return black, white
    bits = _first_number(tags.get(258)) or 16
    if (
        picture.mode != "I"
        or (tags and 8 <= bits < WHOLE_BITS)
        or picture.format in ("PPM", "PNG", "JPEG2000")
    ):
        return 0, (1 << bits) - 1
    most = int(np.asarray(picture).max(initial=0))
    return 0, next(white for white in (255, 4095, 65535, (1 << 31) - 1) if most <= white)


def _first_number(value: Any) -> int | None:
    """Return the whole number that a tag holds, alone or first of several; None when it holds none."""
    first = value[0] if isinstance(value, tuple) and value else value
    return int(first) if isinstance(first, int | float) and math.isfinite(first) else None


def _eight_bits(values: np.ndarray, black: int, white: int) -> np.ndarray:
    """Bring (height, width) values from black..white to 0..255, rounded.

    In blocks of rows: wider numbers take memory.
    """
    result = np.empty(values.shape, dtype=np.uint8)
    step = max(1, BLOCK_PIXELS // max(1, values.shape[1]))
    span = white - black
    for row in range(0, len(values), step):
        block = values[row : row + step].astype(np.int64).clip(black, white) - black
        result[row : row + step] = (block * 255 + span // 2) // span
    return result


def jpeg_decoder() -> str:
    """Name what decodes ordinary JPEG files here: "simplejpeg", or "pillow" when that is not installed."""
    return "simplejpeg" if _has_simplejpeg() else "pillow"


@functools.cache
def _has_simplejpeg() -> bool:
    return importlib.util.find_spec("simplejpeg") is not None


def _scale_factor(header: JpegHeader, least: tuple[int, int]) -> int:
    """Choose the largest of 8, 4, 2 that leaves at least (height, width) pixels; 1 when none does.

    libjpeg offers steps between these, but they take longer than decoding in full.
    """
    for factor in (8, 4, 2):
        if header.height >= least[0] * factor and header.width >= least[1] * factor:
            return factor
    return 1


def _decode_plain_jpeg(data: bytes, header: JpegHeader, factor: int, grey: bool) -> np.ndarray | None:
    """Decode an ordinary JPEG file quickly; None when Pillow should look at it instead."""
    if not _has_simplejpeg():
        return None
    import simplejpeg

    size: dict[str, int] = {}
    if factor > 1:
        size = {"min_height": -(-header.height // factor), "min_width": -(-header.width // factor)}
    try:
        # Strict: a premature end is an error here. Pillow then decides what is still readable.
        return simplejpeg.decode_jpeg(data, "GRAY" if grey else "RGB", strict=True, **size)
    except Exception:  # whatever it is, Pillow decides
        return None


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an EXIF orientation (1..8) to (height, width, channels) pixels."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    # What is left after the transpose: which of the two axes run backwards.
    rows, columns = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}.get(
        orientation, (1, 1)
    )
    return np.ascontiguousarray(pixels[::rows, ::columns])


def _called(source: Encoded) -> str:
    return str(source) if isinstance(source, str | Path) else "image"
