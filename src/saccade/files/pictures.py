"""The one way to open a picture that may come from anybody, and the one list of what decoders raise.

`decoding` stands around every call of a decoder (Pillow, simplejpeg, FFmpeg): damaged files make these raise almost
anything. `open_picture` reads the header of a regular file in one of the documented formats and refuses sizes, and
shapes that a resize would blow up, before any pixel is decoded.
"""

from __future__ import annotations

import contextlib
import functools
import io
import warnings
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from saccade.errors import DataError, MissingExtraError, SaccadeError, is_out_of_memory
from saccade.extras import require
from saccade.files.regular import open_regular

MAX_PIXELS = 178_956_970
"""Default limit on width * height: what Pillow itself refuses (128 Mi pixels of 4/3 bytes)."""
MAX_BYTES = 1 << 30
"""Larger files are refused unread."""
MAX_ASPECT = 100
"""Longer than so many times the width (or wider) is refused: brought to 256 pixels on the shorter side, a picture of
60000 x 1 pixels would have four thousand million."""
FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "AVIF": (".avif",),
    "HEIF": (".heic", ".heif", ".hif"),
    "JPEG2000": (".jp2",),
    "TGA": (".tga",),
}
"""Pillow's name of each format that is read, and the ends of its files' names, the usual one first.

No others are tried: Pillow would hand a PostScript file of any name to Ghostscript. TGA, which has no mark at its
beginning, is last."""


@contextlib.contextmanager
def decoding(called: str, what: str = "image", problem: str = "is damaged or truncated") -> Iterator[None]:
    """Turn whatever a decoder raises, memory running out included, into a sentence about the file.

    Args:
        called: The file.
        what: What it should be: image, class map, video.
        problem: What is said of it.

    Raises:
        DataError: Anything but an error of ours or an interrupt was raised in the block.
    """
    try:
        yield
    except SaccadeError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise DataError(f"{called}: not enough memory to decode it") from None
        raise DataError(f"{called}: the {what} {problem} ({_brief(error)})") from None


def check_size(called: str, width: int, height: int, max_pixels: int = MAX_PIXELS) -> None:
    """Refuse pictures of too many pixels, or too long and narrow to resize.

    Args:
        called: The file.
        width: In pixels.
        height: Likewise.
        max_pixels: Most pixels.

    Raises:
        DataError: One of both.
    """
    if width * height > max_pixels:
        raise DataError(
            f"{called}: {width} x {height} pixels are more than the {max_pixels} allowed (a decompression bomb?); "
            "raise data.max_pixels if the picture is wanted"
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise DataError(
            f"{called}: {width} x {height} pixels; expected one side at most {MAX_ASPECT} times the other, cut the "
            "picture into pieces"
        )


def read_bytes(source: bytes | str | Path, called: str = "") -> bytes:
    """Read a regular file whole, refusing absurd sizes first.

    Args:
        source: Its path; contents are given back.
        called: The file, for errors; the path when empty.

    Raises:
        DataError: The file is missing, empty, no regular file, unreadable or larger than `MAX_BYTES`.
    """
    called = called or ("image" if isinstance(source, bytes) else str(source))
    if isinstance(source, bytes):
        data = source
    else:
        with open_regular(source) as file:
            try:
                data = file.read(MAX_BYTES + 1)
            except OSError as error:
                raise DataError(f"{called}: cannot be read ({error.strerror or error})") from None
            except MemoryError:
                raise DataError(f"{called}: not enough memory to read it") from None
        if len(data) > MAX_BYTES:
            raise DataError(f"{called}: larger than {MAX_BYTES >> 20} MiB, too large for an image; remove it")
    if not data:
        raise DataError(f"{called}: the file is empty; remove it or copy it again")
    return data


def open_picture(
    source: bytes | str | Path, called: str = "", *, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Open a picture up to its header, without decoding pixels; what follows belongs under `decoding`.

    Args:
        source: File contents, or the path of a regular file.
        called: The file, for errors; the path when empty.
        max_pixels: Refuse larger pictures.

    Raises:
        DataError: No such file, none of the known formats, a damaged header, or a size or shape that is refused.
    """
    called = called or ("image" if isinstance(source, bytes) else str(source))
    data = read_bytes(source, called)
    # Pillow warns between 1 and 2 times its own limit; the limit that counts here is `max_pixels`.
    _hush_bomb_warning()
    with decoding(called):
        try:
            picture = Image.open(io.BytesIO(data), formats=_readers())
        except Image.DecompressionBombError as error:
            raise DataError(f"{called}: refused as a decompression bomb ({_brief(error)})") from None
        except Image.UnidentifiedImageError:
            named = called.lower().endswith(FORMATS["HEIF"])
            if (named or _is_heif(data)) and "HEIF" not in _readers():
                raise DataError(
                    f"{called}: a HEIC picture, as phones take; install its reader with: pip install 'saccade[heif]'"
                ) from None
            raise DataError(f"{called}: not an image in any known format, or its header is damaged") from None
        check_size(called, *picture.size, max_pixels)
        return picture


@functools.cache
def _readers() -> tuple[str, ...]:
    """Those of Pillow's readers that are tried, as far as it is built with them; that of JPEG reads MPO too."""
    Image.init()
    with contextlib.suppress(MissingExtraError):
        require("pi_heif", "heif", "to read HEIC pictures").register_heif_opener(thumbnails=False)
    return tuple(name for name in FORMATS if name in Image.OPEN)


_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")


def _is_heif(data: bytes) -> bool:
    """Whether a file says at its beginning that it is a HEIF container of HEVC pictures."""
    return data[4:8] == b"ftyp" and data[8:12] in (
        b"heic",
        b"heix",
        b"hevc",
        b"hevx",
        b"heim",
        b"heis",
        b"mif1",
        b"msf1",
    )


def _hush_bomb_warning() -> None:
    """Ignore Pillow's size warning; checked first because setting a filter drops the warning caches."""
    for action, _, category, _, _ in warnings.filters:
        if category is Image.DecompressionBombWarning:
            if action == "ignore":
                return
            break
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def _brief(error: Exception) -> str:
    """Return a library's message as one short line."""
    text = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."
