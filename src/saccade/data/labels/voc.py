"""Pascal VOC: an XML file for each picture, with the parts listed in ImageSets/Main.

Corners are taken as they are written (Pascal VOC's own count pixels from 1; most tools write them from 0). Objects
called difficult are not learned and ignored in marking.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from saccade.data.labels.gather import Gathered
from saccade.data.labels.values import read_number, read_whole
from saccade.data.layout import Part
from saccade.errors import DataError
from saccade.files import read_text

MAX_BYTES = 8 << 20
"""Larger XML files are left out unread."""


def find(path: Path) -> dict[str, Part]:
    """Find Annotations/ with its lists of pictures, XML files beside the pictures, or one list of ImageSets."""
    if path.is_file():
        home = path.parents[2] if len(path.parts) > 3 else path.parent
        is_list = path.suffix == ".txt" and path.parent.parent.name == "ImageSets"
        return {"all": _part(home, path)} if is_list and (home / "Annotations").is_dir() else {}
    home = path.parent if path.name == "Annotations" else path
    if any((home / "Annotations").glob("*.xml")):
        lists = home / "ImageSets" / "Main"
        sides = {
            side: lists / f"{side}.txt" for side in ("train", "val") if (lists / f"{side}.txt").is_file()
        }
        if "train" in sides:
            return {side: _part(home, listed) for side, listed in sides.items()}
        return {"all": _part(home, home / "Annotations")}
    sides = {"train": ("train",), "val": ("val", "valid", "validation"), "all": ("",)}
    return {
        side: Part(path / name, (path / name,), "voc")
        for side, names in sides.items()
        for name in names
        if any((path / name).glob("*.xml"))
    }


def _part(home: Path, where: Path) -> Part:
    return Part(where, (home / "JPEGImages", home / "images", home / "Annotations", home), "voc")


def read(part: Part) -> Gathered:
    """Read the XML files of a part."""
    found = Gathered()
    if part.annotations.is_dir():
        files = sorted(part.annotations.glob("*.xml"))
    else:
        stems = [line.split()[0] for line in read_text(part.annotations).splitlines() if line.split()]
        folder = part.annotations.parents[2] / "Annotations"
        files = [folder / f"{Path(stem).name}.xml" for stem in stems]
    for file in files:
        try:
            root = _parse(file)
        except DataError:
            found.left["XML files cannot be read and are left out"] += 1
            continue
        name = (root.findtext("filename") or "").strip()
        # The name of the XML file is the picture's in Pascal VOC; what is written inside is often another's.
        stem = Path(name.replace("\\", "/"))
        picture = name if stem.stem == file.stem else file.stem + stem.suffix
        height, width = (read_whole(root.findtext(f"size/{side}") or "") for side in ("height", "width"))
        found.picture(picture, (height or None, width or None))
        for thing in root.findall("object"):
            label = (thing.findtext("name") or "").strip()
            edges = [read_number(thing.findtext(f"bndbox/{edge}") or "") for edge in EDGES]
            x0, y0, x1, y1 = edges
            if not label or x0 is None or y0 is None or x1 is None or y1 is None:
                found.left["objects have no name or no box of four numbers and are left out"] += 1
                continue
            difficult = (thing.findtext("difficult") or "0").strip() == "1"
            found.add(label, corners=(x0, y0, x1, y1), crowd=difficult)
    return found


EDGES = ("xmin", "ymin", "xmax", "ymax")


def _parse(path: Path) -> ElementTree.Element:
    """Read an XML file without a document type, which could name other files or grow without end.

    Raises:
        DataError: Unreadable, too large, no XML, or with a document type.
    """
    text = read_text(path, max_bytes=MAX_BYTES, what="Pascal VOC's XML")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DataError(f"{path}: has a document type, which is not read; take the line <!DOCTYPE ...> out")
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(f"{path}: no XML ({error})") from None
