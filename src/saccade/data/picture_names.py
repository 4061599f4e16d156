"""Find the pictures that annotations name, in the folders of the data and nowhere else.

People's tools write names as they knew them: absolute, of Windows, with .., as an address, with %20, with the prefix
of an upload, in other case, without ending. A name is cut down to the part that says something and looked up, the
strictest way first:

    1. the longest end of the name that is a file below one of the folders
    2. the same in any case, then with any ending of a picture, where exactly one file fits
    3. a file of that last name anywhere below the folders, where exactly one fits
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

from saccade.data.decode import is_image_name

MOST_FILES = 2_000_000
"""Files below the folders that are listed for names that are found no other way."""
UPLOAD = re.compile(r"^[0-9a-f]{8}-(?=.)")
"""What Label Studio puts before the name of an uploaded file."""


class PictureFiles:
    """Looks picture names up in folders, each listed once."""

    def __init__(self, folders: Iterable[Path]):
        """Take the folders, the likeliest first; those that do not exist are left out."""
        self.folders = [folder for folder in folders if folder.is_dir()]
        self._listed: dict[Path, dict[str, list[Path]]] = {}
        self._below: dict[str, list[Path]] | None = None

    def find(self, name: str) -> tuple[Path | None, bool]:
        """Find a file.

        Returns:
            The file or None, and whether the name had to be read otherwise than as a path below a folder.
        """
        ends = list(_ends(name))
        for loose in (False, True):
            for end in ends:
                for folder in self.folders:
                    if path := self._look(folder, end, loose):
                        return path, loose or not _is_plain(name, end)
        if ends and (path := _only(self._anywhere().get(ends[-1].name.lower(), []))):
            return path, True
        return None, False

    def _look(self, folder: Path, end: PurePosixPath, loose: bool) -> Path | None:
        """Look for the end of a name below a folder: exactly so, or in other case or with another ending."""
        place = folder / end.parent
        if place not in self._listed:
            self._listed[place] = _by_name(place) if place.is_dir() else {}
        listed = self._listed[place]
        if not loose:
            return next((path for path in listed.get(end.name.lower(), ()) if path.name == end.name), None)
        same = _only(listed.get(end.name.lower(), []))
        if same is not None or is_image_name(end.name):
            return same or _only(_pictures(listed.get(_STEM + end.stem.lower(), [])))
        return _only(_pictures(listed.get(_STEM + end.name.lower(), [])))

    def _anywhere(self) -> dict[str, list[Path]]:
        """List every picture below the folders by its name; links to folders are not followed."""
        if self._below is None:
            self._below = defaultdict(list)
            seen: set[Path] = set()
            for top in self.folders:
                for place, _, names in os.walk(top):
                    for name in names:
                        path = Path(place, name)
                        if is_image_name(name) and path not in seen and len(seen) < MOST_FILES:
                            seen.add(path)
                            self._below[name.lower()].append(path)
        return self._below


_STEM = "/"
"""Before the names without ending in a listing; no file is called so."""


def _by_name(place: Path) -> dict[str, list[Path]]:
    """List a folder by lower-case name, and by lower-case name without ending."""
    listed: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(place.iterdir()):
        listed[path.name.lower()].append(path)
        listed[_STEM + path.stem.lower()].append(path)
    return listed


def _pictures(paths: list[Path]) -> list[Path]:
    return [path for path in paths if is_image_name(path)]


def _only(paths: list[Path]) -> Path | None:
    """The one path; None where there are several or none."""
    return paths[0] if len(paths) == 1 else None


def _is_plain(name: str, end: PurePosixPath) -> bool:
    """Whether a name is a path below some folder, as COCO's are, and ends so."""
    pure = PurePosixPath(name.replace("\\", "/"))
    odd = pure.is_absolute() or ".." in pure.parts or ":" in name
    return not odd and pure.as_posix().endswith(end.as_posix())


def _ends(name: str) -> Iterable[PurePosixPath]:
    """Yield the ends of a name, the longest first; of names with %20 and uploads also what they stand for."""
    readings = [name]
    if "://" in name or name.startswith("/data/"):
        parts = urlsplit(name)
        local = parse_qs(parts.query).get("d", [])
        readings = [*local, parts.path]
    readings += [unquote(text) for text in readings if "%" in text]
    readings += [
        f"{head}{slash}{UPLOAD.sub('', tail)}"
        for head, slash, tail in (text.rpartition("/") for text in readings)
        if UPLOAD.match(tail)
    ]
    found: set[PurePosixPath] = set()
    for text in readings:
        pieces = [
            piece
            for piece in re.split(r"[\\/]", text)
            if piece not in ("", ".", "..") and "\0" not in piece and not re.fullmatch("[A-Za-z]:", piece)
        ]
        for first in range(len(pieces)):
            end = PurePosixPath(*pieces[first:])
            if end not in found:
                found.add(end)
                yield end
