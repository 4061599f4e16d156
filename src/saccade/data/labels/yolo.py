"""YOLO: data.yaml and a text file for each picture, `class x y width height` or `class x1 y1 x2 y2 ...` as shares."""

from __future__ import annotations

import math
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from saccade.data.decode import is_image_name
from saccade.data.labels.gather import Gathered, size_of
from saccade.data.layout import Part
from saccade.errors import DataError
from saccade.files import read_text

SIDES = {"train": ("train",), "val": ("val", "valid", "validation", "test")}
OVER = 1.01
"""Shares above this are pixels or nonsense."""


def find(path: Path) -> dict[str, Part]:
    """Find the parts of a data set that data.yaml or classes.txt beside images/ and labels/ describes."""
    if path.is_file():
        return _listed(path) if path.suffix in (".yaml", ".yml") else {}
    if (named := path / "data.yaml").is_file():
        return _listed(named)
    names = path / "classes.txt"
    if not names.is_file() or not any((path / "labels").rglob("*.txt")):
        return {}
    parts = {}
    for side, folders in {**SIDES, "all": ("",)}.items():
        for folder in folders:
            pictures, texts = path / "images" / folder, path / "labels" / folder
            if side not in parts and any(texts.glob("*.txt")) and pictures.is_dir():
                parts[side] = Part(names, (pictures,), "yolo")
    return parts


def _listed(path: Path) -> dict[str, Part]:
    """Find the folders that data.yaml names; as it may come from elsewhere, below its own folder only."""
    content = _yaml(path)
    parts = {}
    for side, keys in SIDES.items():
        for key in keys:
            said = content.get(key)
            for text in said if isinstance(said, list) else [said]:
                folder = _inside(path.parent, str(content.get("path", "")), text)
                if side not in parts and folder is not None:
                    parts[side] = Part(path, (folder,), "yolo")
    return parts


def _inside(home: Path, base: str, text: Any) -> Path | None:
    """Find a folder below `home` by the longest end of the path that was written down."""
    if not isinstance(text, str):
        return None
    pieces = [piece for piece in PurePosixPath(base, text).parts if piece not in ("..", "/", ".")]
    return next((place for n in range(len(pieces)) if (place := home.joinpath(*pieces[n:])).is_dir()), None)


def _yaml(path: Path) -> dict[str, Any]:
    """Read data.yaml."""
    try:
        content = yaml.safe_load(read_text(path, max_bytes=1 << 20, what="YOLO's data.yaml"))
    except (yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{path}: no YAML; expected train, val and names ({type(error).__name__})") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected train, val and names, as YOLO's data.yaml has")
    return content


def _names(path: Path) -> list[str]:
    """Read the class names in the order of their numbers."""
    if path.suffix == ".txt":
        return [line.strip() for line in read_text(path).splitlines() if line.strip()]
    names = _yaml(path).get("names")
    if isinstance(names, dict):
        numbers = sorted(key for key in names if isinstance(key, int))
        if numbers != list(range(len(names))):
            raise DataError(f"{path}: names needs the numbers 0 to {len(names) - 1}, each once")
        names = [names[number] for number in numbers]
    if not isinstance(names, list) or not names or len({str(name) for name in names}) != len(names):
        raise DataError(f"{path}: names needs a list of class names, each once")
    return [str(name) for name in names]


def read(part: Part) -> Gathered:
    """Read the text files of a part."""
    found = Gathered(_names(part.annotations))
    folder = part.pictures[0]
    pictures = sorted(path for path in folder.rglob("*") if is_image_name(path) and path.is_file())
    texts = _text_folder(folder)
    stems = {path.relative_to(folder).with_suffix("") for path in pictures}
    lost = sum(path.relative_to(texts).with_suffix("") not in stems for path in texts.rglob("*.txt"))
    found.left["label files have no picture and are left out"] += lost - (texts / "classes.txt").is_file()
    for path in pictures:
        text = texts / path.relative_to(folder).with_suffix(".txt")
        try:
            size = size_of(path)
        except DataError:
            found.left["pictures are left out because they cannot be read"] += 1
            continue
        found.picture(path.relative_to(folder).as_posix(), size)
        for line in read_text(text).splitlines() if text.is_file() else ():
            if line.strip() and not _object(found, line.split(), size):
                found.left["lines are no box or outline in shares of the picture and are left out"] += 1
    found.left = +found.left
    return found


def _text_folder(folder: Path) -> Path:
    """Return labels/ for images/, the last of the path; where there is none, the pictures' own folder."""
    pieces = list(folder.parts)
    for place in reversed(range(len(pieces))):
        if pieces[place] == "images":
            other = Path(*pieces[:place], "labels", *pieces[place + 1 :])
            return other if other.is_dir() else folder
    return folder


def _object(found: Gathered, words: list[str], size: tuple[int, int]) -> bool:
    """Add the object of a line; False when it is none."""
    try:
        label, values = float(words[0]), [float(word) for word in words[1:]]
    except ValueError:
        return False
    fits = all(math.isfinite(value) and -OVER < value < OVER for value in values)
    if not fits or not label.is_integer() or label < 0 or label > 1e6:
        return False
    height, width = size
    if len(values) == 4:
        x, y, w, h = values
        box = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
        found.add(int(label), corners=box)
        return True
    if len(values) < 6 or len(values) % 2:
        return False
    outline = [value * (height if place % 2 else width) for place, value in enumerate(values)]
    found.add(int(label), outline=[outline])
    return True
