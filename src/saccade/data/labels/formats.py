"""Which format a place of objects is in, and its objects as `CocoIndex`.

A format finds its parts in a folder or says that there are none, and reads a part into COCO's form; `data.coco`
checks all of them in one way. Two formats in one place are refused: which of them counts, only the user knows.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from saccade.data.coco import MAX_BYTES, CocoIndex, index_objects, load_coco
from saccade.data.labels import label_studio, labelme, open_images, panoptic, voc, yolo
from saccade.data.labels.gather import Gathered
from saccade.data.layout import Part, find_coco
from saccade.errors import DataError
from saccade.files import read_json

TITLES = {
    "json": "COCO or Label Studio (one JSON file)",
    "yolo": "YOLO (data.yaml)",
    "voc": "Pascal VOC (XML)",
    "labelme": "LabelMe (JSON beside each picture)",
    "open_images": "Open Images (CSV)",
}
FINDERS: dict[str, Callable[[Path], dict[str, Part]]] = {
    "yolo": yolo.find,
    "voc": voc.find,
    "labelme": labelme.find,
    "open_images": open_images.find,
}
READERS: dict[str, Callable[[Part], Gathered]] = {
    "yolo": yolo.read,
    "voc": voc.read,
    "labelme": labelme.read,
    "open_images": open_images.read,
}


def find_objects(spec: str) -> dict[str, Part]:
    """Find the parts of a place of objects in any of the formats.

    Args:
        spec: A folder, or a file that names the data: COCO's JSON, data.yaml, a list of ImageSets, a CSV table.

    Returns:
        Parts by name: "train" and "val", or "all" when the place is not divided.

    Raises:
        DataError: Nothing, or two formats.
    """
    path = Path(spec).expanduser()
    if not path.exists():
        raise DataError(f"{spec}: no such file or folder")
    found = {name: parts for name, find in FINDERS.items() if (parts := find(path))}
    if "labelme" not in found and (path.suffix.lower() == ".json" or not found or _has_coco(path)):
        try:
            found["json"] = find_coco(spec)
        except DataError as error:
            if not found:
                read = "; ".join(title for name, title in TITLES.items() if name != "json")
                raise DataError(f"{error}; also read: {read}") from None
    if len(found) > 1:
        names = " and ".join(TITLES[name] for name in found)
        raise DataError(
            f"{spec}: labels in two formats are here, {names}; name the file of one of them with --data"
        )
    return next(iter(found.values()))


def _has_coco(path: Path) -> bool:
    """Whether a folder has JSON files where COCO's are."""
    places = ("annotations/*.json", "*.json", "train/_annotations.coco.json")
    return any(next(path.glob(place), None) for place in places)


def load_objects(part: Part) -> tuple[dict[str, Any], list[str]]:
    """Read a part into COCO's form, unchecked, with notes on what was left out.

    Raises:
        DataError: It cannot be read.
    """
    if part.format in READERS:
        content, notes = READERS[part.format](part).content()
        if not content["annotations"]:
            left = f" ({'; '.join(notes)})" if notes else ""
            title = TITLES[part.format]
            raise DataError(
                f"{part.annotations}: its {len(content['images'])} pictures hold no object, read as {title}{left}"
            )
        return content, [f"read as {TITLES[part.format]}", *notes]
    content = read_json(part.annotations, max_bytes=MAX_BYTES)
    if isinstance(content, list):
        return label_studio.read(content).content()
    content = load_coco(part.annotations) if not isinstance(content, dict) else content
    rows = content.get("annotations")
    if isinstance(rows, list) and rows and isinstance(rows[0], dict) and "segments_info" in rows[0]:
        return panoptic.read(content, part.annotations)
    return content, []


def read_objects(part: Part, labels: list[str] | None = None) -> CocoIndex:
    """Read and check the objects of a part; see `index_objects`."""
    content, notes = load_objects(part)
    return index_objects(content, str(part.annotations), part.pictures, labels=labels, notes=notes)
