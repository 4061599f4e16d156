"""Zip archives from anybody: bounded before anything is unpacked."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable

from saccade.errors import DataError, SaccadeError

MAX_MEMBERS = 200_000
RATIO = 8
"""A compressed member may hold so many times what it takes; numbers seldom shrink to a half."""
FREE_BYTES = 1 << 20
"""Smaller members may shrink as they like."""


def check_members(
    members: Iterable[zipfile.ZipInfo],
    size: int,
    *,
    where: str,
    error: type[SaccadeError] = DataError,
    ratio: int = RATIO,
) -> dict[str, zipfile.ZipInfo]:
    """Refuse an archive whose contents cannot be what its size says.

    Args:
        members: Of the archive.
        size: Of the archive's file, bytes.
        where: Origin, for sentences.
        error: Class of the sentences.
        ratio: How many times what it takes a member may hold.

    Returns:
        The members by name.

    Raises:
        SaccadeError: Of class `error`: too many members, the same name twice, members that lie over each other,
            or one that is compressed out of all proportion.
    """
    found: dict[str, zipfile.ZipInfo] = {}
    stored = 0
    for info in members:
        stored += info.compress_size
        if info.file_size > max(ratio * info.compress_size, FREE_BYTES):
            raise error(
                f"{where}: refused, {info.filename[:80]!r} is compressed from {info.file_size} bytes to "
                f"{info.compress_size}; expected at most {ratio} to 1, so store it without compression"
            )
        if info.compress_type == zipfile.ZIP_STORED and info.file_size != info.compress_size:
            raise error(f"{where}: damaged, {info.filename[:80]!r} has two sizes")
        if info.filename in found or len(found) >= MAX_MEMBERS or stored > size:
            raise error(f"{where}: damaged, its members are too many, doubled, or lie over each other")
        found[info.filename] = info
    return found
