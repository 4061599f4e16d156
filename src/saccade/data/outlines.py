"""Outlines of objects: polygons and run lengths as COCO writes them, checked and drawn.

What comes in is untrusted: sizes and numbers of corners are bounded, and packed run lengths must end at the
last pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from saccade.extras import require

MAX_CORNERS = 100_000
"""Of the polygons of one object; drawing takes time by their number and length."""
LARGEST = 1 << 53
"""Numbers beyond this are no coordinates, areas or ids."""


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


def is_outline(shape: Any, size: tuple[int, int]) -> bool:
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


def mend_outline(
    shape: Any, size: tuple[int, int], box: tuple[float, float, float, float] | None
) -> tuple[Any, bool]:
    """Read one flat list of numbers as one polygon, and turn run lengths whose size is swapped.

    Args:
        shape: As it came.
        size: Height and width of the picture.
        box: x, y, width, height that run lengths must fill once they are turned.

    Returns:
        The outline, and whether it was changed.
    """
    if isinstance(shape, list) and shape and all(isinstance(value, int | float) for value in shape):
        return [shape], True
    if isinstance(shape, dict) and shape.get("size") == [*size[::-1]] != [*size] and box is not None:
        turned = {**shape, "size": list(size)}
        around = box_around(turned, size)
        if around is not None and max(abs(a - b) for a, b in zip(around, box, strict=True)) <= 2:
            return turned, True
    return shape, False


def box_around(shape: Any, size: tuple[int, int]) -> tuple[float, float, float, float] | None:
    """Return x, y, width and height of an outline; None when it cannot be read."""
    if isinstance(shape, list):
        if not is_outline(shape, size):
            return None
        values = np.array(
            [v for polygon in shape if isinstance(polygon, list) and len(polygon) >= 6 for v in polygon]
        )
        if not np.isfinite(values).all() or np.abs(values).max() > LARGEST:
            return None
        xs, ys = values[0::2], values[1::2]
        return float(xs.min()), float(ys.min()), float(np.ptp(xs)), float(np.ptp(ys))
    runs = run_lengths(shape, size)
    if runs is None:
        return None
    x, y, w, h = (float(edge) for edge in _codec().toBbox(runs))
    return (x, y, w, h) if w and h else None


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
