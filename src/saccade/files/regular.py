"""Open what a user or a stranger named, and only if it is a file: a pipe or device would hang, or never end."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

from saccade.errors import DataError, SaccadeError


def open_regular(path: Path | str, *, error: type[SaccadeError] = DataError) -> BinaryIO:
    """Open a regular file for reading bytes; links are followed.

    Args:
        path: Its name.
        error: Class of the sentence that anything else becomes.

    Raises:
        SaccadeError: Of class `error`: missing, unreadable, a folder, a pipe or a device.
    """
    return _open(path, os.O_RDONLY, "rb", "read", error)


def open_kept(path: Path | str, *, append: bool = False, error: type[SaccadeError] = DataError) -> BinaryIO:
    """Open a regular file to go on with, made when absent; links are followed.

    Args:
        path: Its name.
        append: Only write, at its end; else read and write from the beginning.
        error: Class of the sentence that anything else becomes.

    Raises:
        SaccadeError: Of class `error`, as of `open_regular`.
    """
    flags = os.O_CREAT | (os.O_WRONLY | os.O_APPEND if append else os.O_RDWR)
    return _open(path, flags, "ab" if append else "r+b", "written", error)


def _open(path: Path | str, flags: int, mode: str, what: str, error: type[SaccadeError]) -> BinaryIO:
    # Not blocking: opening a pipe would wait for its other end, before anything could be asked about it.
    flags |= sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_BINARY"))
    try:
        number = os.open(path, flags, 0o644)
    except OSError as problem:
        raise error(f"{path}: cannot be {what} ({problem.strerror or problem})") from None
    except ValueError:
        raise error(f"{str(path)!r}: is no file name") from None
    found = os.fstat(number).st_mode
    if stat.S_ISREG(found):
        opened: Any = os.fdopen(number, mode)
        return opened
    os.close(number)
    kind = "a folder" if stat.S_ISDIR(found) else "a pipe or device"
    raise error(f"{path}: cannot be {what} (it is {kind}; expected a regular file)")
