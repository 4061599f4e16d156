"""Read COCO instance annotations as they come: from COCO itself, labelling tools, or by hand, faults included.

What is done about faults (counted, and told in `CocoIndex.notes`):

    box of no area, not finite, or wholly outside the picture   left out
    box partly outside                                           cut at the border
    annotation of an unknown picture or category                 left out; refused when it is more than half of them
    picture whose file is missing                                left out
    category numbers with gaps                                   classes are numbered 0, 1, ... in their order
    crowd regions                                                not learned; ignored in marking, as COCO does
    segmentation that cannot be read                             the box stands in for it
    no object left at all                                        refused

The file is untrusted: sizes are bounded, names may not leave the folder, and nothing but JSON is read.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from saccade.errors import DataError
from saccade.extras import require
from saccade.files import read_json

MAX_BYTES = 2 << 30
"""Larger annotation files are refused unread."""
MAX_SIDE = 65_500
"""Longest side of a picture that an annotation file may claim."""
MAX_CORNERS = 100_000
"""Of the polygons of one object; drawing takes time by their number and length."""
LARGEST = 1 << 53
"""Numbers beyond this are no coordinates, areas or ids."""
LEAST_SIDE = 1.0
"""Boxes narrower or lower than this many pixels, after cutting at the border, are left out."""


@dataclass
class Annotations:
    """What one picture holds. n objects."""

    boxes: np.ndarray
    """(n, 4) float32, x0 y0 x1 y1 in pixels of the upright file."""
    labels: np.ndarray
    """(n,) int64 class numbers from 0."""
    crowd: np.ndarray
    """(n,) bool."""
    areas: np.ndarray
    """(n,) float32: the file's own area in square pixels, which decides between small, medium and large."""
    shapes: list[Any]
    """Segmentation of each object: polygons, run lengths, or None."""


@dataclass
class CocoIndex:
    """Pictures with their objects, in the order of the file."""

    where: str
    files: list[Path]
    names: list[str]
    sizes: np.ndarray
    """(pictures, 2) int64: height and width as the annotation file says."""
    ids: list[int | str]
    """The file's own picture numbers."""
    labels: list[str]
    category_ids: list[int]
    """The file's own category number of each class."""
    annotations: list[Annotations]
    notes: list[str] = field(default_factory=list)

    def subset(self, indices: Iterable[int]) -> CocoIndex:
        """Choose pictures by number."""
        chosen = [int(i) for i in indices]

        def of(values: list[Any]) -> list[Any]:
            return [values[i] for i in chosen]

        return dataclasses.replace(
            self,
            files=of(self.files),
            names=of(self.names),
            sizes=self.sizes[chosen],
            ids=of(self.ids),
            annotations=of(self.annotations),
            notes=[],
        )


def read_coco(path: Path, folders: Iterable[Path], *, labels: list[str] | None = None) -> CocoIndex:
    """Read an annotation file and find its pictures.

    Args:
        path: JSON in COCO's format.
        folders: Where picture files may be, searched in order.
        labels: Fixed class names, as of a trained model: classes are matched by name.

    Raises:
        DataError: Not such a file, ids that do not fit together, a class the model does not know, no picture at all.
    """
    content = _load(path)
    categories = _table(content, "categories", path)
    pictures = _table(content, "images", path)
    found: dict[str, int] = {}
    for number, row in enumerate(categories):
        name, key = row.get("name"), row.get("id")
        if not isinstance(name, str) or not isinstance(key, int) or abs(key) > LARGEST:
            raise DataError(f"{path}: categories[{number}] needs a whole number 'id' and a 'name'")
        if name in found:
            raise DataError(f"{path}: two categories are called {name!r}; give each its own name")
        found[name] = key
    if len(set(found.values())) != len(found):
        raise DataError(f"{path}: two categories have the same id; number them anew")
    names = sorted(found, key=lambda name: found[name]) if labels is None else list(labels)
    notes: list[str] = []
    if unknown := [name for name in found if name not in names]:
        raise DataError(
            f"{path}: class {unknown[0]!r} is not one of the {len(names)} classes of the model or training data"
        )
    place = {found[name]: number for number, name in enumerate(names) if name in found}
    counts: Counter[str] = Counter()
    keys = {row["id"] for row in pictures if isinstance(row.get("id"), int | str)}
    rows = _annotations(content, path, place, keys, counts)
    index = CocoIndex(str(path), [], [], np.zeros((0, 2), np.int64), [], names, [], [])
    index.category_ids = [found.get(name, -1) for name in names]
    available = _Files(folders)
    sizes: list[Any] = []
    seen = set()
    for number, row in enumerate(pictures):
        name, key, size = row.get("file_name"), row.get("id"), (row.get("height"), row.get("width"))
        if not isinstance(name, str) or not isinstance(key, int | str) or _is_huge(key):
            raise DataError(f"{path}: images[{number}] needs an 'id' and a 'file_name'")
        if key in seen:
            raise DataError(f"{path}: two pictures have the id {key!r}; number them anew")
        seen.add(key)
        if not all(isinstance(side, int) and 1 <= side <= MAX_SIDE for side in size):
            raise DataError(f"{path}: images[{number}] ({name}) has height and width {size}; expected pixels")
        file = available.find(name)
        if file is None:
            counts["missing"] += 1
            continue
        index.files.append(file)
        index.names.append(name)
        index.ids.append(key)
        sizes.append(size)
        index.annotations.append(_gather(rows.get(key, []), sizes[-1], counts))
    if not index.files:
        tried = ", ".join(str(folder) for folder in available.folders) or "no folder"
        raise DataError(f"{path}: not one of its {len(pictures)} pictures is in {tried}")
    if not counts["objects"]:
        raise DataError(
            f"{path}: not one of its {len(content['annotations'])} annotations has a box with an area inside its "
            "picture; expected bbox as x, y, width, height in pixels"
        )
    index.sizes = np.asarray(sizes, dtype=np.int64)
    index.notes = notes + _notes(counts, index)
    return index


def masks_of(annotations: Annotations, size: tuple[int, int]) -> np.ndarray:
    """Draw the objects of a picture: (n, height, width) uint8, 0 or 1; the box where there is no outline."""
    height, width = size
    masks = np.zeros((len(annotations.shapes), height, width), np.uint8)
    for number, shape in enumerate(annotations.shapes):
        runs = run_lengths(shape, size)
        if runs is None:
            x0, y0, x1, y1 = (round(float(edge)) for edge in annotations.boxes[number])
            masks[number, y0:y1, x0:x1] = 1
        else:
            masks[number] = _codec().decode(runs)
    return masks


def run_lengths(shape: Any, size: tuple[int, int]) -> dict[str, Any] | None:
    """Turn a segmentation (polygons, plain or packed run lengths) into packed run lengths; None when unreadable."""
    height, width = size
    codec = _codec()
    try:
        if isinstance(shape, list):
            polygons = [
                [float(value) for value in polygon]
                for polygon in shape
                if len(polygon) >= 6 and len(polygon) % 2 == 0
            ]
            # Far outside the picture the rasteriser would walk along edges for ever.
            least, most = -max(size), 2 * max(size)
            if not polygons or not all(least <= value <= most for polygon in polygons for value in polygon):
                return None
            if sum(map(len, polygons)) > 2 * MAX_CORNERS:
                return None
            return _as_json(codec.merge(codec.frPyObjects(polygons, height, width)))
        if isinstance(shape, dict) and list(shape.get("size", [])) == [height, width]:
            counts = shape.get("counts")
            if isinstance(counts, list):
                if sum(counts) != height * width or min(counts, default=0) < 0:
                    return None
                return _as_json(codec.frPyObjects(dict(shape), height, width))
            if isinstance(counts, str | bytes) and _fits(counts, height * width):
                return _as_json({"size": [height, width], "counts": counts})
    except (TypeError, ValueError, OverflowError):
        return None
    return None


def _is_outline(shape: Any, size: tuple[int, int]) -> bool:
    """Whether a segmentation has the form of polygons or run lengths; whether it can be drawn shows only then."""
    if isinstance(shape, list):
        return any(
            isinstance(polygon, list)
            and len(polygon) >= 6
            and len(polygon) % 2 == 0
            and all(isinstance(value, int | float) for value in polygon)
            for polygon in shape
        )
    fits = isinstance(shape, dict) and shape.get("size") == list(size)
    return fits and isinstance(shape.get("counts"), list | str)


def pack_mask(mask: np.ndarray) -> dict[str, Any]:
    """Turn a mask (height, width) into packed run lengths that JSON can hold."""
    return _as_json(_codec().encode(np.asfortranarray(mask.astype(np.uint8))))


def _as_json(runs: dict[str, Any]) -> dict[str, Any]:
    """Give packed run lengths the types that JSON can hold."""
    counts = runs["counts"]
    return {
        "size": [int(side) for side in runs["size"]],
        "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts,
    }


def _fits(counts: str | bytes, pixels: int) -> bool:
    """Whether packed run lengths end exactly at the last pixel, so that decoding stays inside the picture."""
    data = counts.encode("latin-1", "replace") if isinstance(counts, str) else counts
    runs: list[int] = []
    at = total = 0
    while at < len(data):
        value, shift, more = 0, 0, True
        while more:
            if at >= len(data) or shift > 30:
                return False
            piece = data[at] - 48
            if not 0 <= piece < 64:
                return False
            value |= (piece & 31) << shift
            more = bool(piece & 32)
            at, shift = at + 1, shift + 5
            if not more and piece & 16:
                value |= -1 << shift
        if len(runs) > 2:
            value += runs[-2]
        if value < 0:
            return False
        runs.append(value)
        total += value
    return total == pixels


def _codec() -> Any:
    """COCO's own rasteriser and run-length code."""
    return require("faster_coco_eval.core.mask", "dense", "to read COCO masks")


def _load(path: Path) -> dict[str, Any]:
    """Read the JSON object."""
    content = read_json(path, max_bytes=MAX_BYTES)
    if not isinstance(content, dict):
        raise DataError(
            f"{path}: expected an object with images, annotations and categories, as COCO's files have"
        )
    return content


def _table(content: dict[str, Any], name: str, path: Path) -> list[dict[str, Any]]:
    """Return one of the lists."""
    rows = content.get(name)
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path}: the list {name!r} is missing or empty; expected COCO annotations")
    return rows


def _annotations(
    content: dict[str, Any], path: Path, place: dict[int, int], pictures: set[Any], counts: Counter[str]
) -> dict[Any, list[tuple[int, dict[str, Any]]]]:
    """Group annotations by picture as (class number, annotation), and count those that point nowhere."""
    rows = _table(content, "annotations", path)
    grouped: dict[Any, list[tuple[int, dict[str, Any]]]] = {}
    example = ""
    for number, row in enumerate(rows):
        picture, category = row.get("image_id"), row.get("category_id")
        known = isinstance(picture, int | str) and picture in pictures
        if not known or not isinstance(category, int) or category not in place:
            counts["lost"] += 1
            what = f"image_id {picture!r}" if not known else f"category_id {category!r}"
            example = example or f"annotations[{number}] has {what}, which is not in the file"
            continue
        grouped.setdefault(picture, []).append((place[category], row))
    if 2 * counts["lost"] > len(rows):
        raise DataError(f"{path}: {counts['lost']} of {len(rows)} annotations point nowhere: {example}")
    return grouped


def _gather(
    rows: list[tuple[int, dict[str, Any]]], size: tuple[int, int], counts: Counter[str]
) -> Annotations:
    """Check the objects of one picture and put them into arrays."""
    height, width = size
    boxes, labels, crowd, areas, shapes = [], [], [], [], []
    for label, row in rows:
        box = row.get("bbox")
        if not isinstance(box, list) or len(box) != 4 or not all(_is_number(value) for value in box):
            counts["bad"] += 1
            continue
        x, y, w, h = (float(value) for value in box)
        x0, y0, x1, y1 = max(x, 0.0), max(y, 0.0), min(x + w, float(width)), min(y + h, float(height))
        if x1 - x0 < LEAST_SIDE or y1 - y0 < LEAST_SIDE:
            counts["bad"] += 1
            continue
        # A rounding error at the border is no fault worth telling.
        counts["cut"] += max(x0 - x, y0 - y, x + w - x1, y + h - y1) > 1.0
        area, shape = row.get("area"), row.get("segmentation")
        many = bool(row.get("iscrowd", 0))
        boxes.append((x0, y0, x1, y1))
        labels.append(label)
        crowd.append(many)
        areas.append(float(area) if _is_number(area) and float(area) > 0 else (x1 - x0) * (y1 - y0))  # pyright: ignore[reportArgumentType]
        shapes.append(shape if _is_outline(shape, size) else None)
        counts["unread"] += bool(shape) and shapes[-1] is None
        counts["outlined"] += shapes[-1] is not None
        counts["crowd"] += many
        counts["objects"] += 1
    return Annotations(
        np.asarray(boxes, np.float32).reshape(-1, 4),
        np.asarray(labels, np.int64),
        np.asarray(crowd, bool),
        np.asarray(areas, np.float32),
        shapes,
    )


def _is_huge(key: int | str) -> bool:
    """Whether an id is a number that no array or table can hold."""
    return isinstance(key, int) and abs(key) > LARGEST


def _is_number(value: Any) -> bool:
    """Whether a JSON value is a number that can be a place or an area."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


class _Files:
    """Looks picture names up in folders, each listed once."""

    def __init__(self, folders: Iterable[Path]):
        self.folders = [folder for folder in folders if folder.is_dir()]
        self._listed: dict[Path, set[str]] = {}

    def find(self, name: str) -> Path | None:
        """Find a file; names that would leave the folder are not found."""
        pure = PurePosixPath(name.replace("\\", "/"))
        if pure.is_absolute() or ".." in pure.parts or not pure.name:
            return None
        for folder in self.folders:
            for path in (folder / pure, folder / pure.name):
                if path.parent not in self._listed:
                    known = path.parent.is_dir()
                    self._listed[path.parent] = (
                        {entry.name for entry in path.parent.iterdir()} if known else set()
                    )
                if path.name in self._listed[path.parent]:
                    return path
        return None


def _notes(counts: Counter[str], index: CocoIndex) -> list[str]:
    """Say what was found and what was done about faults."""
    pictures = len(index.files)
    empty = sum(not len(found.labels) for found in index.annotations)
    lines = [
        f"{index.where}: {pictures} pictures, {counts['objects']} objects of {len(index.labels)} classes"
    ]
    if empty:
        lines.append(f"{empty} of {pictures} pictures hold no object")
    said = {
        "missing": "{} pictures are left out because their files are missing",
        "lost": "{} annotations point to no picture or category and are left out",
        "bad": "{} boxes have no area inside their picture and are left out",
        "cut": "{} boxes reach over the border and are cut there",
        "unread": "{} outlines cannot be read, and the box stands in",
        "crowd": "{} crowd regions are not learned, and ignored in marking",
    }
    return lines + [text.format(counts[name]) for name, text in said.items() if counts[name]]
