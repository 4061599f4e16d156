"""Open what a user or a stranger named, and only if it is a file: a pipe or device would hang, or never end."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from saccade.errors import DataError, SaccadeError


def open_regular(path: Path | str, *, error: type[SaccadeError] = DataError) -> BinaryIO:
    """Open a regular file for reading bytes; links are followed.

    Args:
        path: Its name.
        error: Class of the sentence that anything else becomes.

    Raises:
        SaccadeError: Of class `error`: missing, unreadable, a folder, a pipe or a device.
    """
    # Not blocking: opening a pipe would wait for its writer, before anything could be asked about it.
    flags = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_BINARY"))
    try:
        number = os.open(path, flags)
    except OSError as problem:
        raise error(f"{path}: cannot be read ({problem.strerror or problem})") from None
    except ValueError:
        raise error(f"{str(path)!r}: is no file name") from None
    mode = os.fstat(number).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(number, "rb")
    os.close(number)
    kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or device"
    raise error(f"{path}: cannot be read (it is {kind}; expected a regular file)")
