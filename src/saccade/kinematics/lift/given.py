"""Stage `Find` for those who know already where things are: masks or boxes from files, and no weights at all.

Two formats.

- A folder of PNG files, one a frame in order of their names, whose pixels are instance numbers (8 or 16 bits, one
  channel): 0 is background, a number is the same object in all frames. Beside them, optionally, `categories.json`:
  {"1": "car", "2": "person"}.
- A .jsonl file with one object a line: {"track_id": "7", "category": "car", "boxes": [[x0, y0, x1, y1], null, ...]},
  one entry a frame; corners of pixels are whole numbers, so a frame reaches from 0 to its width. The object is cut
  out of its box by GrabCut (Rother et al., SIGGRAPH 2004) on colours alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from saccade.errors import DataError
from saccade.files import read_json, read_lines
from saccade.files.pictures import decoding, open_picture
from saccade.kinematics.lift.features import opencv
from saccade.kinematics.lift.stages import Find, MaskTrack
from saccade.kinematics.video import MAX_PIXELS

MAX_PLACE = 1e9
"""Pixels; no box lies further out."""
UNKNOWN = "object"
"""Category of what has none."""
MARGIN = 0.3
"""Width of the background around a box that is looked at, as a share of the box."""
ROUNDS = 3
"""Of GrabCut."""


def given(path: Path | str) -> Find:
    """Open masks or boxes of one clip.

    Raises:
        DataError: Neither a folder nor a .jsonl file.
    """
    path = Path(path)
    if path.is_dir():
        return MaskFolder(path)
    if path.is_file() and path.suffix == ".jsonl":
        return BoxFile(path)
    raise DataError(f"{path}: expected a folder of PNG masks or a .jsonl file of boxes")


class MaskFolder:
    """Instance numbers as PNG files. Names are not looked at: what is in the files is what is wanted."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def __call__(self, images: np.ndarray, names: Sequence[str]) -> list[MaskTrack]:
        """Read; see `stages.Find`.

        Raises:
            DataError: Files that do not fit the frames, or a table of categories that cannot be read.
        """
        files = sorted(self.path.glob("*.png"))
        if len(files) != len(images):
            raise DataError(
                f"{self.path}: {len(files)} PNG files for {len(images)} frames; expected one a frame"
            )
        maps = [_numbers(file, images.shape[1:3]) for file in files]
        categories = self._categories()
        present = sorted({int(number) for numbers in maps for number in np.unique(numbers)} - {0})
        return [
            MaskTrack(
                str(number),
                categories.get(str(number), UNKNOWN),
                [numbers == number if (numbers == number).any() else None for numbers in maps],
            )
            for number in present
        ]

    def _categories(self) -> dict[str, str]:
        file = self.path / "categories.json"
        if not file.is_file():
            return {}
        found = read_json(file)
        if not isinstance(found, dict) or not all(isinstance(name, str) and name for name in found.values()):
            raise DataError(f'{file}: expected names by instance number, such as {{"1": "car"}}')
        return found


class BoxFile:
    """Boxes as JSON lines. Names are not looked at: what is in the file is what is wanted."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def __call__(self, images: np.ndarray, names: Sequence[str]) -> list[MaskTrack]:
        """Read and cut out; see `stages.Find`.

        Raises:
            DataError: A file that cannot be read, or a line that is no object with one box a frame.
        """
        tracks: dict[str, MaskTrack] = {}
        for number, value in read_lines(self.path, unit="record"):
            where = f"{self.path}: record {number}"
            name, category, boxes = _record(value, where, len(images))
            if name in tracks:
                raise DataError(f"{where}: track_id {name} comes twice; expected each object on one line")
            masks = [
                None if box is None else cut_out(image, box) for image, box in zip(images, boxes, strict=True)
            ]
            tracks[name] = MaskTrack(name, category, masks)
        return list(tracks.values())


def cut_out(image: np.ndarray, box: Sequence[float]) -> np.ndarray | None:
    """Find the object that fills a box.

    Args:
        image: (H, W, 3) uint8 RGB.
        box: x0 y0 x1 y1 in pixels.

    Returns:
        (H, W) bool, nothing outside the box; the whole box where colours tell nothing; None for a box of less than
        four pixels a side.
    """
    cv2 = opencv()
    height, width = image.shape[:2]
    x0, y0 = max(0, round(box[0])), max(0, round(box[1]))
    x1, y1 = min(width, round(box[2])), min(height, round(box[3]))
    if x1 - x0 < 4 or y1 - y0 < 4:
        return None
    wide, high = round(MARGIN * (x1 - x0)) + 2, round(MARGIN * (y1 - y0)) + 2
    left, top = max(0, x0 - wide), max(0, y0 - high)
    part = np.ascontiguousarray(image[top : min(height, y1 + high), left : min(width, x1 + wide), ::-1])
    kinds = np.full(part.shape[:2], cv2.GC_BGD, np.uint8)
    kinds[y0 - top : y1 - top, x0 - left : x1 - left] = cv2.GC_PR_FGD
    found = np.zeros((height, width), bool)
    found[y0:y1, x0:x1] = True
    if (kinds == cv2.GC_BGD).any():
        cv2.setRNGSeed(0)
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(part, kinds, None, *models, ROUNDS, cv2.GC_INIT_WITH_MASK)
        inside = (kinds == cv2.GC_FGD) | (kinds == cv2.GC_PR_FGD)
        if inside.sum() >= 0.2 * (x1 - x0) * (y1 - y0):
            found[top : top + part.shape[0], left : left + part.shape[1]] = inside
    return found


def _numbers(file: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Read instance numbers (H, W)."""
    with decoding(str(file), "mask"), open_picture(file, max_pixels=MAX_PIXELS) as image:
        found = np.asarray(image)
    if found.ndim != 2 or found.dtype.kind not in "ui":
        raise DataError(f"{file}: has shape {found.shape}; expected one channel of instance numbers")
    if found.shape != tuple(shape):
        raise DataError(
            f"{file}: is {found.shape[1]} x {found.shape[0]} pixels; expected {shape[1]} x {shape[0]}, "
            "the size of the frames"
        )
    return found


def _record(value: Any, where: str, count: int) -> tuple[str, str, list[list[float] | None]]:
    """Check one object: its name, category and boxes."""
    if not isinstance(value, dict) or not isinstance(value.get("track_id"), str | int):
        raise DataError(f"{where}: expected an object with track_id and boxes")
    boxes = value.get("boxes")
    if not isinstance(boxes, list) or len(boxes) != count:
        found = len(boxes) if isinstance(boxes, list) else type(boxes).__name__
        raise DataError(f"{where}: field boxes has {found} entries for {count} frames; expected one a frame")
    for index, box in enumerate(boxes):
        if box is None:
            continue
        good = isinstance(box, list) and len(box) == 4
        good = good and all(isinstance(x, int | float) and abs(x) < MAX_PLACE for x in box)
        if not good or box[0] >= box[2] or box[1] >= box[3]:
            raise DataError(
                f"{where}: field boxes[{index}] is {box}; expected x0 y0 x1 y1 with x0 < x1, y0 < y1"
            )
    return str(value["track_id"]), str(value.get("category") or UNKNOWN), boxes
