"""Read objects in COCO's form as they come: from COCO itself, labelling tools, or by hand, faults included.

What is done about faults (counted, and told in `CocoIndex.notes`):

    number, id or yes/no as text, whole number as 1.0            read as what it says
    size of the picture missing, or its sides swapped            taken from the picture's file
    box missing beside an outline                                drawn around the outline
    outline as one flat list of numbers                          read as one polygon
    run lengths whose size is swapped                            turned round where they then fill their box
    name of a picture in another form or case                    found where one file fits, see `picture_names`
    root category of a Roboflow export                           no class
    box of no area, not finite, or wholly outside the picture   left out
    box partly outside                                           cut at the border
    annotation of an unknown picture or category                 left out; refused when it is more than half of them
    picture whose file is missing, or that another name means    left out
    category numbers with gaps                                   classes are numbered 0, 1, ... in their order
    crowd regions                                                not learned; ignored in marking, as COCO does
    segmentation that cannot be read                             the box stands in for it
    boxes as shares of the picture                               refused
    boxes that look like x0, y0, x1, y1                          said
    no object left at all                                        refused

The file is untrusted: sizes are bounded, names may not leave the folder, and nothing but JSON is read.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from saccade.data.labels.values import has_text, read_box, read_key, read_number, read_whole, read_yes
from saccade.data.outlines import LARGEST, Annotations, box_around, is_outline, mend_outline
from saccade.data.picture_names import PictureFiles
from saccade.errors import DataError
from saccade.files import read_json
from saccade.files.pictures import open_picture

MAX_BYTES = 2 << 30
"""Larger annotation files are refused unread."""
MAX_SIDE = 65_500
"""Longest side of a picture that an annotation file may claim."""
LEAST_SIDE = 1.0
"""Boxes narrower or lower than this many pixels, after cutting at the border, are left out."""
LOOKED_AT = 50
"""Pictures whose size is compared with what is said of them; where one differs, all are."""


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
        """Choose pictures by number; the notes, which tell of the whole, stay."""
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
        )


def read_coco(path: Path, folders: Iterable[Path], *, labels: list[str] | None = None) -> CocoIndex:
    """Read an annotation file of COCO's and find its pictures; see `index_objects`."""
    return index_objects(load_coco(path), str(path), folders, labels=labels)


def load_coco(path: Path) -> dict[str, Any]:
    """Read the JSON object of a file of COCO's.

    Raises:
        DataError: Unreadable, or no such object.
    """
    content = read_json(path, max_bytes=MAX_BYTES)
    if not isinstance(content, dict):
        raise DataError(
            f"{path}: expected an object with images, annotations and categories, as COCO's files have"
        )
    return content


def index_objects(
    content: dict[str, Any],
    where: str,
    folders: Iterable[Path],
    *,
    labels: list[str] | None = None,
    notes: Iterable[str] = (),
) -> CocoIndex:
    """Check objects in COCO's form and find their pictures.

    Args:
        content: images, annotations and categories.
        where: What errors call it.
        folders: Where picture files may be, searched in order.
        labels: Fixed class names, as of a trained model: classes are matched by name.
        notes: What the reader of another format has to say.

    Raises:
        DataError: Ids that do not fit together, a class the model does not know, no picture at all.
    """
    counts: Counter[str] = Counter()
    images, rows = _table(content, "images", where), _table(content, "annotations", where)
    found = _categories(_table(content, "categories", where), rows, where, counts)
    names = sorted(found, key=lambda name: found[name]) if labels is None else list(labels)
    if unknown := [name for name in found if name not in names]:
        raise DataError(
            f"{where}: class {unknown[0]!r} is not one of the {len(names)} classes of the model or training data"
        )
    place = {found[name]: number for number, name in enumerate(names) if name in found}
    pictures = _pictures(images, where, PictureFiles(folders), counts)
    grouped = _annotations(rows, where, place, {read_key(row.get("id")) for row in images}, counts)
    _refuse_shares(rows, pictures, where)
    index = CocoIndex(where, [], [], np.zeros((0, 2), np.int64), [], names, [], [])
    index.category_ids = [found.get(name, -1) for name in names]
    for key, picture in pictures.items():
        index.files.append(picture.file)
        index.names.append(picture.name)
        index.ids.append(picture.id)
        index.annotations.append(_gather(grouped.get(key, []), picture.size, counts))
    if not counts["objects"]:
        raise DataError(
            f"{where}: not one of its {len(rows)} annotations has a box with an area inside its "
            "picture; expected bbox as x, y, width, height in pixels"
        )
    index.sizes = np.asarray([picture.size for picture in pictures.values()], dtype=np.int64).reshape(-1, 2)
    index.notes = [*_notes(counts, index), *notes]
    return index


@dataclass
class _Picture:
    """A picture whose file was found."""

    id: int | str
    name: str
    file: Path
    size: tuple[int, int]
    """Height and width."""


def _categories(
    table: list[dict[str, Any]], rows: list[dict[str, Any]], where: str, counts: Counter[str]
) -> dict[str, int]:
    """Return the number of each class name, without the root that Roboflow puts above its classes."""
    used = {read_key(row.get("category_id")) for row in rows}
    first, rest = table[0], table[1:]
    above = bool(rest) and all(row.get("supercategory") == first.get("name") for row in rest)
    is_root = above and first.get("supercategory") in ("none", None, "")
    if is_root and read_key(first.get("id")) not in used:
        table = rest
        counts["root"] += 1
    found: dict[str, int] = {}
    for number, row in enumerate(table):
        name, key = row.get("name"), read_key(row.get("id"))
        if not isinstance(name, str) or not isinstance(key, int) or abs(key) > LARGEST:
            raise DataError(f"{where}: categories[{number}] needs a whole number 'id' and a 'name'")
        counts["text"] += key is not row.get("id")
        if name in found:
            raise DataError(f"{where}: two categories are called {name!r}; give each its own name")
        found[name] = key
    if len(set(found.values())) != len(found):
        raise DataError(f"{where}: two categories have the same id; number them anew")
    return found


def _pictures(
    images: list[dict[str, Any]], where: str, available: PictureFiles, counts: Counter[str]
) -> dict[int | str, _Picture]:
    """Find the file and settle the size of every picture, by id.

    Raises:
        DataError: A row without id, name or size, an id that occurs twice, or no file at all.
    """
    found: dict[int | str, _Picture] = {}
    seen: set[int | str] = set()
    taken: set[Path] = set()
    unsized = []
    for number, row in enumerate(images):
        name, key = row.get("file_name"), read_key(row.get("id"))
        if not isinstance(name, str) or key is None or (isinstance(key, int) and abs(key) > LARGEST):
            raise DataError(f"{where}: images[{number}] needs an 'id' and a 'file_name'")
        if key in seen:
            raise DataError(f"{where}: two pictures have the id {key!r}; number them anew")
        seen.add(key)
        said = (row.get("height"), row.get("width"))
        height, width = (read_whole(side) for side in said)
        for side, whole in zip(said, (height, width), strict=True):
            if side is not None and not (whole and 1 <= whole <= MAX_SIDE):
                raise DataError(
                    f"{where}: images[{number}] ({name}) has height and width {said}; expected pixels"
                )
        file, odd = available.find(name)
        if file is None or file in taken:
            counts["missing" if file is None else "twice"] += 1
            continue
        taken.add(file)
        counts["renamed"] += odd
        if height is None or width is None:
            unsized.append(key)
        counts["text"] += any(isinstance(side, float | str) for side in said)
        given = row["id"] if isinstance(row["id"], str) else key
        found[key] = _Picture(given, name, file, (height or 0, width or 0))
    if not found:
        tried = ", ".join(str(folder) for folder in available.folders) or "no folder"
        raise DataError(f"{where}: not one of its {len(images)} pictures is in {tried}")
    _settle_sizes(found, unsized, counts)
    if not found:
        raise DataError(f"{where}: no picture has a size, neither in the annotations nor in its file")
    return found


def _settle_sizes(found: dict[int | str, _Picture], unsized: list[int | str], counts: Counter[str]) -> None:
    """Take sizes that are missing or swapped from the files, in place; pictures without any are left out."""
    for key in unsized:
        size = _upright_size(found[key].file)
        counts["unsized" if size is None else "measured"] += 1
        if size is None:
            del found[key]
        else:
            found[key].size = size

    def swapped(picture: _Picture) -> bool:
        return (
            picture.size[0] != picture.size[1]
            and _upright_size(picture.file, turned=False) == picture.size[::-1]
        )

    rest = list(found.values())
    step = max(1, len(rest) // LOOKED_AT)
    if any(swapped(picture) for picture in rest[::step]):
        for picture in rest:
            if swapped(picture):
                picture.size = (picture.size[1], picture.size[0])
                counts["swapped"] += 1


def _upright_size(path: Path, *, turned: bool = True) -> tuple[int, int] | None:
    """Height and width of a picture by its header, upright; None when unreadable or, unless `turned`, turned by it.

    Where the camera lay on its side, a swapped size may mean that people drew on the picture as it lies: not guessed.
    """
    try:
        with open_picture(path) as picture:
            height, width = picture.height, picture.width
            if picture.getexif().get(0x0112, 1) in (5, 6, 7, 8):
                return (width, height) if turned else None
            return height, width
    except (DataError, OSError, ValueError, SyntaxError):  # damaged; it is reported when it is read
        return None


def _table(content: dict[str, Any], name: str, where: str) -> list[dict[str, Any]]:
    """Return one of the lists."""
    rows = content.get(name)
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise DataError(
            f"{where}: the list {name!r} is missing or empty; expected COCO annotations with the lists images, "
            "annotations and categories"
        )
    return rows


def _annotations(
    rows: list[dict[str, Any]],
    where: str,
    place: dict[int, int],
    pictures: set[int | str | None],
    counts: Counter[str],
) -> dict[Any, list[tuple[int, dict[str, Any]]]]:
    """Group annotations by picture as (class number, annotation), and count those that point nowhere."""
    grouped: dict[Any, list[tuple[int, dict[str, Any]]]] = {}
    example = ""
    for number, row in enumerate(rows):
        picture, category = read_key(row.get("image_id")), read_key(row.get("category_id"))
        known = picture is not None and picture in pictures
        if not known or not isinstance(category, int) or category not in place:
            counts["lost"] += 1
            key = "image_id" if not known else "category_id"
            example = example or f"annotations[{number}] has {key} {row.get(key)!r}, which is not in the file"
            continue
        counts["text"] += category is not row.get("category_id") or picture is not row.get("image_id")
        grouped.setdefault(picture, []).append((place[category], row))
    if 2 * counts["lost"] > len(rows):
        raise DataError(f"{where}: {counts['lost']} of {len(rows)} annotations point nowhere: {example}")
    return grouped


def _refuse_shares(rows: list[dict[str, Any]], pictures: dict[int | str, _Picture], where: str) -> None:
    """Refuse boxes that are shares of the picture: read as pixels, all of them would be left out.

    Raises:
        DataError: No box has a number above 1.
    """
    boxes = [box for row in rows if (box := read_box(row.get("bbox"))) is not None]
    large = any(min(picture.size) > 2 for picture in pictures.values())
    if boxes and large and all(0 <= value <= 1 for box in boxes for value in box) and any(map(any, boxes)):
        raise DataError(
            f"{where}: all boxes lie between 0 and 1, so they are shares of the picture; "
            "multiply x and width by the picture's width, y and height by its height"
        )


def _gather(
    rows: list[tuple[int, dict[str, Any]]], size: tuple[int, int], counts: Counter[str]
) -> Annotations:
    """Check the objects of one picture and put them into arrays."""
    height, width = size
    boxes, labels, crowd, areas, shapes = [], [], [], [], []
    for label, row in rows:
        box, given = read_box(row.get("bbox")), row.get("segmentation")
        shape, mended = mend_outline(given, size, box)
        if box is None and not row.get("bbox"):
            box = box_around(shape, size)
            counts["boxed"] += box is not None
        if box is None:
            counts["bad"] += 1
            continue
        x, y, w, h = box
        x0, y0, x1, y1 = max(x, 0.0), max(y, 0.0), min(x + w, float(width)), min(y + h, float(height))
        over = max(x0 - x, y0 - y, x + w - x1, y + h - y1) > 1.0
        counts["over"] += over
        counts["corners"] += 0 <= x < w <= width + 1 and 0 <= y < h <= height + 1
        if x1 - x0 < LEAST_SIDE or y1 - y0 < LEAST_SIDE:
            counts["bad"] += 1
            continue
        # A rounding error at the border is no fault worth telling.
        counts["cut"] += over
        area = read_number(row.get("area"))
        many = read_yes(row.get("iscrowd", 0))
        boxes.append((x0, y0, x1, y1))
        labels.append(label)
        crowd.append(many)
        areas.append(area if area is not None and area > 0 else (x1 - x0) * (y1 - y0))
        shapes.append(shape if is_outline(shape, size) else None)
        counts["mended"] += mended
        counts["text"] += isinstance(row.get("iscrowd"), str) or has_text(row.get("bbox"))
        counts["unread"] += bool(given) and shapes[-1] is None
        counts["crowd"] += many
        counts["objects"] += 1
    return Annotations(
        np.asarray(boxes, np.float32).reshape(-1, 4),
        np.asarray(labels, np.int64),
        np.asarray(crowd, bool),
        np.asarray(areas, np.float32),
        shapes,
    )


def _notes(counts: Counter[str], index: CocoIndex) -> list[str]:
    """Say what was found and what was done about faults."""
    pictures = len(index.files)
    empty = sum(not len(found.labels) for found in index.annotations)
    lines = [
        f"{index.where}: {pictures} pictures, {counts['objects']} objects of {len(index.labels)} classes"
    ]
    if empty:
        lines.append(f"{empty} of {pictures} pictures hold no object")
    boxes = counts["objects"] + counts["bad"]
    if 10 * counts["over"] >= boxes and counts["corners"] == boxes > 1:
        lines.append(
            f"WARNING: {counts['over']} of {boxes} boxes reach over the border, and all would fit as x0, y0, x1, y1; "
            "COCO's are x, y, width, height: if these are corners, write x1 - x0 and y1 - y0 in place of x1 and y1"
        )
    return lines + [text.format(counts[name]) for name, text in SAID.items() if counts[name]]


SAID = {
    "root": "{} category stands above the others and is no class (Roboflow's root)",
    "missing": "{} pictures are left out because their files are missing",
    "twice": "{} pictures are left out because their names lead to a file that another has",
    "renamed": "{} pictures were found by a name in another form",
    "text": "{} entries have numbers as text or with a point, and are read as what they say",
    "measured": "{} pictures have no size in the annotations; it is taken from their files",
    "unsized": "{} pictures are left out because neither the annotations nor their files have a size",
    "swapped": "{} pictures have width and height swapped in the annotations; their files decide",
    "lost": "{} annotations point to no picture or category and are left out",
    "boxed": "{} boxes are missing and drawn around their outlines",
    "bad": "{} boxes have no area inside their picture and are left out",
    "cut": "{} boxes reach over the border and are cut there",
    "mended": "{} outlines are flat lists or have their size swapped, and are read",
    "unread": "{} outlines cannot be read, and the box stands in",
    "crowd": "{} crowd regions are not learned, and ignored in marking",
}
"""What is said of each count."""
