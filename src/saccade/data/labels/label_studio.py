"""Label Studio's JSON export: a list of tasks, boxes and polygons in percent of the picture.

Of several annotations of a task the first that was not cancelled counts. A turned box becomes the box around it.
"""

from __future__ import annotations

import math
from typing import Any

from saccade.data.labels.gather import Gathered
from saccade.data.labels.values import read_number, read_whole


def read(tasks: list[Any]) -> Gathered:
    """Read the tasks of an export."""
    found = Gathered()
    for task in tasks:
        data = task.get("data") if isinstance(task, dict) else None
        names = [value for value in data.values() if isinstance(value, str)] if isinstance(data, dict) else []
        name = data.get("image") if isinstance(data, dict) else None
        name = name if isinstance(name, str) else next(iter(names), None)
        if name is None:
            found.left["tasks name no picture and are left out"] += 1
            continue
        given = task.get("annotations")
        done = [a for a in given if isinstance(a, dict)] if isinstance(given, list) else []
        kept = [annotation for annotation in done if not annotation.get("was_cancelled")]
        if len(kept) > 1:
            found.left["further annotations of a task are left out; the first counts"] += len(kept) - 1
        results = kept[0].get("result") if kept else None
        rows = [row for row in results if isinstance(row, dict)] if isinstance(results, list) else []
        sizes = [
            (read_whole(row.get("original_height")), read_whole(row.get("original_width"))) for row in rows
        ]
        size = next((size for size in sizes if all(size)), (None, None))
        found.picture(name, size)
        for row in rows:
            if not _result(found, row, size):
                found.left["results are no box or polygon with a class and are left out"] += 1
    return found


def _result(found: Gathered, row: dict[str, Any], size: tuple[int | None, int | None]) -> bool:
    """Add a result; False when it is no object."""
    height, width = size
    value, kind = row.get("value"), row.get("type")
    labels = value.get(kind) if isinstance(value, dict) and isinstance(kind, str) else None
    if not height or not width or not isinstance(value, dict) or not isinstance(labels, list) or not labels:
        return False
    label = str(labels[0])
    if kind == "polygonlabels" and isinstance(value.get("points"), list):
        flat = [read_number(v) for point in value["points"] if isinstance(point, list) for v in point[:2]]
        if None in flat or len(flat) < 6 or len(flat) % 2:
            return False
        scale = (width / 100, height / 100)
        found.add(label, outline=[[(v or 0.0) * scale[place % 2] for place, v in enumerate(flat)]])
        return True
    x, y, w, h = (read_number(value.get(key)) for key in ("x", "y", "width", "height"))
    if kind != "rectanglelabels" or x is None or y is None or w is None or h is None:
        return False
    turn = math.radians(read_number(value.get("rotation")) or 0.0)
    left, top, wide, high = x * width / 100, y * height / 100, w * width / 100, h * height / 100
    xs = [left + a * math.cos(turn) - b * math.sin(turn) for a in (0, wide) for b in (0, high)]
    ys = [top + a * math.sin(turn) + b * math.cos(turn) for a in (0, wide) for b in (0, high)]
    found.add(label, corners=(min(xs), min(ys), max(xs), max(ys)))
    return True
