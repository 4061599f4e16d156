"""LabelMe: a JSON file of shapes beside each picture.

Polygons are outlines, rectangles boxes, circles outlines of 32 corners; points and lines are no objects and counted.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from saccade.data.decode import is_image_name
from saccade.data.labels.gather import Gathered
from saccade.data.labels.values import read_number
from saccade.data.layout import Part
from saccade.errors import DataError
from saccade.files import read_json

MAX_BYTES = 256 << 20
"""Files may hold their picture."""
SIDES = {"train": ("train",), "val": ("val", "valid", "validation"), "all": ("",)}


def find(path: Path) -> dict[str, Part]:
    """Find folders whose JSON files hold shapes."""
    parts = {}
    for side, names in SIDES.items():
        for name in names:
            folder = path / name
            if side not in parts and folder.is_dir() and _holds_shapes(folder):
                parts[side] = Part(folder, (folder, path / "images"), "labelme")
    return parts


def _holds_shapes(folder: Path) -> bool:
    """Whether the first JSON file that has the name of a picture beside it is LabelMe's."""
    stems = {path.stem for path in folder.iterdir() if is_image_name(path)}
    first = next((path for path in sorted(folder.glob("*.json")) if path.stem in stems), None)
    try:
        content = read_json(first, max_bytes=MAX_BYTES) if first else None
    except DataError:
        return False
    return isinstance(content, dict) and "shapes" in content


def read(part: Part) -> Gathered:
    """Read the JSON files of a folder."""
    found = Gathered()
    for file in sorted(part.annotations.glob("*.json")):
        try:
            content = read_json(file, max_bytes=MAX_BYTES)
        except DataError:
            content = None
        shapes = content.get("shapes") if isinstance(content, dict) else None
        if not isinstance(content, dict) or not isinstance(shapes, list):
            found.left["JSON files hold no shapes and are left out"] += 1
            continue
        name = content.get("imagePath")
        size = (content.get("imageHeight"), content.get("imageWidth"))
        found.picture(name if isinstance(name, str) and name else file.stem, size)
        for shape in shapes:
            if not isinstance(shape, dict) or not _shape(found, shape):
                found.left["shapes are no polygon, rectangle or circle with a name and are left out"] += 1
    return found


def _shape(found: Gathered, shape: dict[str, Any]) -> bool:
    """Add a shape; False when it is no object."""
    label, points, kind = shape.get("label"), shape.get("points"), shape.get("shape_type", "polygon")
    if not isinstance(label, str) or not label or not isinstance(points, list):
        return False
    places = [tuple(read_number(v) for v in point) for point in points if isinstance(point, list)]
    if len(places) != len(points) or any(len(place) != 2 or None in place for place in places):
        return False
    flat: list[Any] = [value for place in places for value in place]
    if kind in ("rectangle", "mask") and len(places) == 2:
        found.add(label, corners=(flat[0], flat[1], flat[2], flat[3]))
    elif kind == "circle" and len(places) == 2:
        radius = math.dist(flat[:2], flat[2:])
        turns = [2 * math.pi * step / 32 for step in range(32)]
        pairs = [(flat[0] + radius * math.cos(turn), flat[1] + radius * math.sin(turn)) for turn in turns]
        found.add(label, outline=[[value for pair in pairs for value in pair]])
    elif kind == "polygon" and len(places) >= 3:
        found.add(label, outline=[flat])
    else:
        return False
    return True
