"""COCO's panoptic form: segments of each picture, their pixels in a PNG of coloured numbers.

Things become objects, with the outline of the PNG where it is found; what is no thing is left out and counted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from saccade.data.outlines import pack_mask
from saccade.data.picture_names import PictureFiles
from saccade.errors import DataError
from saccade.files.pictures import decoding, open_picture


def read(content: dict[str, Any], file: Path) -> tuple[dict[str, Any], list[str]]:
    """Turn segments into objects in COCO's instance form, and say what was left out."""
    maps = PictureFiles([file.with_suffix(""), file.parent.parent / file.stem, file.parent])
    categories = [row for row in content.get("categories") or [] if isinstance(row, dict)]
    stuff = {
        row.get("id") for row in categories if row.get("isthing", 1) == 0 and isinstance(row.get("id"), int)
    }
    objects: list[dict[str, Any]] = []
    unnamed = unpainted = 0
    for picture in content["annotations"]:
        segments = picture.get("segments_info") if isinstance(picture, dict) else None
        if not isinstance(segments, list):
            continue
        numbers = _numbers(maps, picture.get("file_name"))
        unpainted += numbers is None
        for segment in segments:
            if not isinstance(segment, dict) or segment.get("category_id") in stuff:
                unnamed += 1
                continue
            row = {**segment, "id": len(objects) + 1, "image_id": picture.get("image_id")}
            if numbers is not None and isinstance(segment.get("id"), int):
                mask = numbers == segment["id"]
                row |= {"segmentation": pack_mask(mask)} if mask.any() else {}
            objects.append(row)
    notes = [f"{unnamed} segments are no things and are left out"] if unnamed else []
    notes += (
        [f"{unpainted} pictures have no PNG of their segments; boxes alone are read"] if unpainted else []
    )
    kept = [row for row in categories if row.get("id") not in stuff]
    return {"images": content.get("images"), "annotations": objects, "categories": kept}, notes


def _numbers(maps: PictureFiles, name: Any) -> np.ndarray | None:
    """Read the number of the segment of every pixel, (height, width); None where there is no such PNG."""
    path = maps.find(name)[0] if isinstance(name, str) and name.endswith(".png") else None
    if path is None:
        return None
    try:
        with decoding(str(path), "segments"), open_picture(path) as picture:
            colours = np.asarray(picture.convert("RGB")).astype(np.int64)
    except DataError:
        return None
    return colours @ np.array([1, 256, 65_536])
