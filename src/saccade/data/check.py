"""Look at every image before training does: what is unreadable, odd, doubled, leaking or lopsided.

Errors are what makes a result wrong or a run fail: unreadable files, one picture under two labels or on both sides of
the split, validation classes that training does not have, fewer than two classes. Warnings are what a person should
know: the rest.
"""

import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from saccade.data.decode import MAX_PIXELS, Encoded, decode_rgb, is_image_name, read_jpeg_header
from saccade.data.opening import is_divided, kind_of, open_source
from saccade.data.shards import ShardStream, need_local
from saccade.data.source import Source
from saccade.errors import DataError
from saccade.files import usable_cores, write_rows
from saccade.files.pictures import FORMATS, decoding, open_picture, read_bytes

TINY_SIDE = 32
"""Shorter sides below this many pixels are worth a warning."""
HUGE_PIXELS = 50_000_000
"""More pixels than this are worth a warning: every epoch decodes them in full."""
LONG_ASPECT = 8.0
"""Longer than so many times the width (or wider): a centre crop sees little of it."""
IMBALANCE = 10.0
"""Largest class over smallest, above which to warn."""
NEAR_BITS = 3
"""Fingerprints of 64 bits that differ in at most so many bits may be the same picture."""
NEAR_LEVELS = 6.0
"""And are, when their 16 x 16 thumbnails differ by less than so many levels of 255 on average."""
MAX_BUCKET = 2000
"""Groups of more alike fingerprints than this are not compared pair by pair."""


@dataclass(frozen=True)
class Finding:
    """One thing worth saying."""

    level: str
    """error or warning."""
    kind: str
    """A short name to group by, such as unreadable or duplicate."""
    name: str
    """The file or class."""
    detail: str


@dataclass
class Look:
    """What one image looks like."""

    findings: list[Finding] = field(default_factory=list)
    digest: bytes = b""
    """Of the file; empty when it cannot be read."""
    fingerprint: int | None = None
    """64 bits that survive another size or compression; None for pictures too plain to tell apart."""
    thumbnail: np.ndarray | None = None
    """(16, 16) uint8 grey."""


@dataclass
class Report:
    """What was found in a place of images."""

    where: str
    parts: dict[str, dict[str, int]]
    """Images per class, for each part (train, val, or all)."""
    findings: list[Finding]
    images: int

    @property
    def errors(self) -> int:
        """Number of errors."""
        return sum(finding.level == "error" for finding in self.findings)

    @property
    def warnings(self) -> int:
        """Number of warnings."""
        return len(self.findings) - self.errors

    def to_dict(self) -> dict:
        """Write everything as JSON values."""
        return {
            "where": self.where,
            "images": self.images,
            "classes": len({label for counts in self.parts.values() for label in counts}),
            "errors": self.errors,
            "warnings": self.warnings,
            "parts": self.parts,
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
        }


def check_data(
    spec: str,
    *,
    val: str = "",
    max_pixels: int = MAX_PIXELS,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Decode and compare every image of a place.

    Args:
        spec: Anything `open_source` takes that can be read by number.
        val: Validation data elsewhere.
        max_pixels: Larger pictures are errors.
        threads: Decoding threads; None: one per core.
        progress: Called with (images done, images in all) now and then.

    Returns:
        The findings, errors first.

    Raises:
        DataError: Nothing there, or a stream.
    """
    parts = _open_parts(spec, val)
    findings = _check_classes(parts)
    for source in parts.values():
        findings += [Finding("warning", "note", source.where, note) for note in source.notes]
    looks: dict[str, list[Look]] = {}
    total, done = sum(len(source) for source in parts.values()), 0
    with ThreadPoolExecutor(threads or usable_cores()) as pool:
        for part, source in parts.items():
            looks[part] = []
            for look in _in_pieces(pool, source, max_pixels):
                looks[part].append(look)
                findings += look.findings
                done += 1
                if progress is not None:
                    progress(done, total)
    findings += _check_duplicates(parts, looks)
    findings += _check_near_duplicates(parts, looks)
    findings.sort(key=lambda finding: (finding.level != "error", finding.kind))
    counts = {part: source.counts() for part, source in parts.items()}
    return Report(spec, counts, findings, total)


def _open_parts(spec: str, val: str) -> dict[str, Source]:
    """Open each part under its own class names, so that differences show."""
    need_local(spec, val)
    if val or is_divided(spec):
        parts = {"train": open_source(spec, part="train")}
        parts["val"] = open_source(val or spec, part="val" if not val or is_divided(val) else "all")
    else:
        try:
            parts = {"all": open_source(spec)}
        except DataError:
            if kind_of(spec) not in ("folder", "image"):
                raise
            parts = {"all": open_source(spec, classes=False)}
    for source in parts.values():
        if isinstance(source, ShardStream):
            raise DataError(
                f"{source.where}: streamed shards cannot be checked; copy them to this machine first"
            )
    return parts


def _in_pieces(pool: ThreadPoolExecutor, source: Source, max_pixels: int) -> Iterator[Look]:
    """Look at all images in order, without queueing a million tasks at once."""
    step = 1024
    for start in range(0, len(source), step):
        numbers = range(start, min(start + step, len(source)))
        yield from pool.map(lambda index: look_at(source, index, max_pixels), numbers)


def look_at(source: Source, index: int, max_pixels: int = MAX_PIXELS) -> Look:
    """Decode one image and describe it.

    Args:
        source: Where it is.
        index: Its number.
        max_pixels: Larger ones are errors.
    """
    name = source.names[index]
    look = Look()

    def report(level: str, kind: str, detail: str) -> None:
        look.findings.append(Finding(level, kind, name, detail))

    try:
        with decoding("image"):
            _describe(look, name, source.read(index), max_pixels, report)
    except DataError as error:
        report("error", "unreadable", str(error).removeprefix("image: "))
    return look


def _describe(
    look: Look, name: str, encoded: Encoded, max_pixels: int, report: Callable[[str, str, str], None]
) -> None:
    """Decode an image and fill in what it looks like.

    Raises:
        DataError: It cannot be read.
    """
    if isinstance(encoded, Image.Image):  # made on the spot, so there is no file to be wrong
        pixels = decode_rgb(encoded, max_pixels=max_pixels)
        look.digest = hashlib.sha256(pixels.tobytes()).digest()
    else:
        data = read_bytes(encoded)
        look.digest = hashlib.sha256(data).digest()
        _check_format(name, open_picture(data, max_pixels=max_pixels), report)
        pixels = decode_rgb(data, max_pixels=max_pixels)
        _check_damage(data, report)
    height, width = pixels.shape[:2]
    if min(height, width) < TINY_SIDE:
        report("warning", "tiny", f"{width} x {height} pixels")
    if height * width > HUGE_PIXELS:
        report("warning", "huge", f"{width} x {height} pixels; a smaller copy would train faster")
    if max(height, width) > LONG_ASPECT * min(height, width):
        report("warning", "long", f"{width} x {height} pixels; a centre crop sees little of it")
    grey = Image.fromarray(pixels).convert("L")
    look.thumbnail = np.asarray(grey.resize((16, 16), Image.Resampling.BOX))
    look.fingerprint = _fingerprint(grey)


def _check_format(name: str, picture: Image.Image, report: Callable[[str, str, str], None]) -> None:
    """Compare a file's kind with its name, and name the unusual kinds."""
    suffix = Path(name).suffix.lower()
    expected = FORMATS.get(picture.format or "")
    if expected and is_image_name(name) and suffix not in expected:
        report("warning", "extension", f"is a {picture.format} file; rename it to {expected[0]}")
    if picture.mode == "CMYK":
        report("warning", "cmyk", "CMYK colours are converted without a colour profile")
    if picture.mode.startswith("I"):
        report("warning", "16-bit", "16-bit grey values are reduced to 8 bits")
    if picture.format != "MPO" and getattr(picture, "is_animated", False):  # a count would read them all
        report("warning", "animated", "only the first frame is used")


def _check_damage(data: bytes, report: Callable[[str, str, str], None]) -> None:
    """Report JPEG files that Pillow reads although something inside is wrong."""
    header = read_jpeg_header(data)
    if header is None or not header.plain:
        return
    try:
        import simplejpeg
    except ModuleNotFoundError:
        return
    try:
        simplejpeg.decode_jpeg(data, strict=True)
    except Exception as error:  # it was read before, by Pillow
        report("warning", "damaged", f"readable, but {error}".strip().rstrip("."))


def _fingerprint(grey: Image.Image) -> int | None:
    """Describe a picture by 64 signs of horizontal differences on an 8 x 9 grid ("difference hash")."""
    small = np.asarray(grey.resize((9, 8), Image.Resampling.BOX)).astype(np.int16)
    if np.ptp(small) < 24:  # plain colour: the signs would be noise
        return None
    bits = (small[:, 1:] > small[:, :-1]).ravel()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def _check_classes(parts: dict[str, Source]) -> list[Finding]:
    """Look at the classes themselves."""
    findings = []
    for part, source in parts.items():
        counts = source.counts()
        if not counts:
            detail = "no classes: fit for prediction, not for training"
            findings.append(Finding("warning", "no-classes", source.where, detail))
            continue
        present = {label: count for label, count in counts.items() if count}
        if len(present) < 2 and part != "val":
            detail = f"only one class ({next(iter(present), '')}); a classifier needs two or more"
            findings.append(Finding("error", "one-class", source.where, detail))
        least, most = min(present, key=present.__getitem__), max(present, key=present.__getitem__)
        if present[most] > IMBALANCE * present[least]:
            detail = f"{part}: {present[most]} images of {most!r}, {present[least]} of {least!r}"
            findings.append(Finding("warning", "imbalance", source.where, detail))
        findings += [
            Finding("warning", "few", label, f"{part}: a single image")
            for label, count in present.items()
            if count == 1 and part != "val"
        ]
    if {"train", "val"} <= parts.keys() and parts["train"].labels and parts["val"].labels:
        train, val = set(parts["train"].labels), set(parts["val"].labels)
        findings += [
            Finding("error", "class-mismatch", label, "in validation but not in training")
            for label in sorted(val - train)
        ]
        findings += [
            Finding("warning", "class-mismatch", label, "in training but not in validation")
            for label in sorted(train - val)
        ]
    return findings


def _check_duplicates(parts: dict[str, Source], looks: dict[str, list[Look]]) -> list[Finding]:
    """Find files with equal contents: within a part, across parts, and under different labels."""
    groups: dict[bytes, list[tuple[str, int]]] = defaultdict(list)
    for part, those in looks.items():
        for index, look in enumerate(those):
            if look.digest:
                groups[look.digest].append((part, index))
    findings = []
    for group in groups.values():
        for part, index in group[1:]:
            first_part, first = group[0]
            name, other = parts[part].names[index], parts[first_part].names[first]
            label, other_label = _label(parts[part], index), _label(parts[first_part], first)
            if label != other_label:
                detail = f"is the same file as {other}, but one is {label!r} and the other {other_label!r}"
                findings.append(Finding("error", "two-labels", name, detail))
            if part != first_part:
                findings.append(
                    Finding("error", "leak", name, f"({part}) is the same file as {other} ({first_part})")
                )
            elif label == other_label:
                findings.append(Finding("warning", "duplicate", name, f"is the same file as {other}"))
    return findings


def _check_near_duplicates(parts: dict[str, Source], looks: dict[str, list[Look]]) -> list[Finding]:
    """Find pictures of the training side that stand, resized or recompressed, on the validation side."""
    if not {"train", "val"} <= looks.keys():
        return []
    train, val = looks["train"], looks["val"]
    findings = []
    found: set[int] = set()
    # Fingerprints that differ in at most three of four 16-bit pieces agree in at least one: look those up.
    for piece in range(NEAR_BITS + 1):
        table: dict[int, list[int]] = defaultdict(list)
        for index, look in enumerate(train):
            if look.fingerprint is not None:
                table[(look.fingerprint >> (16 * piece)) & 0xFFFF].append(index)
        for index, look in enumerate(val):
            if look.fingerprint is None or index in found:
                continue
            candidates = table.get((look.fingerprint >> (16 * piece)) & 0xFFFF, [])
            other = _same_picture(look, train, candidates)
            if other is not None:
                found.add(index)
                detail = f"(val) looks the same as {parts['train'].names[other]} (train)"
                findings.append(Finding("warning", "near-leak", parts["val"].names[index], detail))
    return findings


def _same_picture(look: Look, others: list[Look], candidates: Sequence[int]) -> int | None:
    """Find the first candidate that shows the same picture but is not the same file."""
    assert look.fingerprint is not None
    for index in candidates[:MAX_BUCKET]:
        other = others[index]
        if other.fingerprint is None or other.digest == look.digest:
            continue
        if (look.fingerprint ^ other.fingerprint).bit_count() > NEAR_BITS:
            continue
        assert look.thumbnail is not None
        assert other.thumbnail is not None
        if np.abs(look.thumbnail.astype(np.int16) - other.thumbnail).mean() < NEAR_LEVELS:
            return index
    return None


def _label(source: Source, index: int) -> str:
    target = int(source.targets[index])
    return source.labels[target] if target >= 0 else ""


def write_findings(out: Path, findings: list[dict[str, Any]]) -> None:
    """Write findings as a CSV file."""
    write_rows(out, findings, ["level", "kind", "name", "detail"])
