"""Zip archives of pictures: read member by member, nothing is unpacked to a disk."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np

from saccade.data.decode import is_image_name
from saccade.data.left_out import HIDDEN, LeftOut
from saccade.data.source import NO_LABEL, PackedStrings, Source, natural_key
from saccade.errors import DataError
from saccade.files import open_regular
from saccade.files.archives import check_members
from saccade.files.pictures import MAX_BYTES, decoding

DEFLATE = 1100
"""A picture without compression of its own may shrink to so small a part: no deflated member shrinks more."""


class ZipSource(Source):
    """Pictures of a zip archive, in the order of their names."""

    def __init__(self, path: Path, where: str) -> None:
        """List the members.

        Raises:
            DataError: No zip archive, one that cannot be what its size says, or no pictures in it.
        """
        self.where, self._path = where, path
        left_out, names = LeftOut(), []
        try:
            with open_regular(path) as file, zipfile.ZipFile(file) as archive:
                members = check_members(archive.infolist(), path.stat().st_size, where=where, ratio=DEFLATE)
        except DataError:
            raise
        except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise DataError(f"{where}: the archive is damaged ({error}); copy it again") from None
        for name, info in members.items():
            if info.is_dir():
                continue
            if reason := why_not(name, link=stat.S_ISLNK(info.external_attr >> 16)):
                left_out.add(name, reason)
            elif info.file_size > MAX_BYTES:
                left_out.add(name, "too large for pictures")
            else:
                names.append(name)
        self.notes = left_out.notes(where)
        if not names:
            raise DataError(f"{where}: no pictures in this archive; {' '.join(self.notes) or 'it is empty'}")
        self.names = PackedStrings(sorted(names, key=natural_key))
        self.targets, self.labels = np.full(len(names), NO_LABEL, dtype=np.int64), []

    def read(self, index: int) -> bytes:
        """Read a member whole, at most as many bytes as its header says.

        Raises:
            DataError: It is damaged or encrypted.
        """
        name = self.names[index]
        # Opened anew each time, as with shards: workers share nothing.
        with (
            decoding(name, what="member"),
            open_regular(self._path) as file,
            zipfile.ZipFile(file) as archive,
            archive.open(name) as member,
        ):
            return member.read(MAX_BYTES)

    def path(self, index: int) -> None:
        """Say that no picture is a file of its own."""


def why_not(name: str, *, link: bool) -> str:
    """Say why a member of an archive is not read; empty for a picture."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name[:2]:
        return "whose names lead out of the archive"
    if link:
        return "links"
    if any(part.startswith(".") or part == "__MACOSX" for part in path.parts):
        return HIDDEN
    return "" if is_image_name(name) else "not pictures"
