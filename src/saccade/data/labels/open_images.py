"""Open Images: a CSV table of boxes as shares of the picture, class names in class-descriptions*.csv.

Boxes of a group (IsGroupOf) are crowds; rows of confidence 0 say that a class is not there, and are left out.
"""

from __future__ import annotations

import csv
from pathlib import Path

from saccade.data.decode import is_image_name
from saccade.data.labels.gather import Gathered, size_of
from saccade.data.labels.values import read_number
from saccade.data.layout import Part
from saccade.errors import DataError
from saccade.files import read_text

COLUMNS = ("XMin", "YMin", "XMax", "YMax")
MAX_BYTES = 4 << 30


def find(path: Path) -> dict[str, Part]:
    """Find tables whose first line has Open Images' columns."""
    files = [path] if path.is_file() else sorted(path.glob("*.csv")) + sorted(path.glob("annotations/*.csv"))
    parts = {}
    for file in files:
        if file.suffix.lower() != ".csv":
            continue
        with file.open(encoding="utf-8-sig", errors="replace") as stream:
            first = stream.readline(4096)
        if not {"ImageID", "LabelName", *COLUMNS} <= set(first.strip().split(",")):
            continue
        low = file.name.lower()
        side = "train" if "train" in low else "val" if "val" in low else "all"
        home = file.parent.parent if file.parent.name == "annotations" else file.parent
        folders = tuple(home / name for name in (side, f"images/{side}", "validation", "images", "."))
        if side in parts:
            raise DataError(f"{path}: several tables could hold the {side} boxes; name one with --data")
        parts[side] = Part(file, folders, "open_images")
    return {"all": next(iter(parts.values()))} if path.is_file() and parts else parts


def read(part: Part) -> Gathered:
    """Read the boxes of a table, for the pictures that are here."""
    names = {}
    for file in sorted(part.annotations.parent.glob("*class-descriptions*.csv")):
        names |= {row[0]: row[1] for row in csv.reader(read_text(file).splitlines()) if len(row) > 1}
    files = {
        path.stem: path
        for folder in reversed([folder for folder in part.pictures if folder.is_dir()])
        for path in folder.iterdir()
        if is_image_name(path)
    }
    grouped: dict[str, list[dict[str, str]]] = {}
    for row in csv.DictReader(read_text(part.annotations, max_bytes=MAX_BYTES).splitlines()):
        grouped.setdefault(row.get("ImageID") or "", []).append(row)
    found = Gathered()
    for stem, rows in grouped.items():
        try:
            height, width = size_of(files[stem])
        except (KeyError, DataError):
            found.left["pictures of the table are not here or cannot be read and are left out"] += 1
            continue
        found.picture(files[stem].name, (height, width))
        for row in rows:
            x0, y0, x1, y1 = (read_number(row.get(name)) for name in COLUMNS)
            label = row.get("LabelName") or ""
            if read_number(row.get("Confidence")) == 0:
                found.left["rows say that a class is not there and are left out"] += 1
            elif not label or x0 is None or y0 is None or x1 is None or y1 is None:
                found.left["rows have no class or no box of four numbers and are left out"] += 1
            else:
                box = (x0 * width, y0 * height, x1 * width, y1 * height)
                found.add(names.get(label, label), corners=box, crowd=row.get("IsGroupOf") == "1")
    return found
