"""Reports of faults of our own: what `saccade` was asked, and where it failed, in a file for its makers."""

import contextlib
import os
import platform
import time
import traceback
from pathlib import Path

import saccade
from saccade.errors import SaccadeError
from saccade.files import cache_dir, write_text

FOLDER = "faults"
KEPT = 20
"""Reports; the oldest go first."""
MAX_CHARACTERS = 200_000
"""Of one report; a traceback of endless recursion is long."""


def write_fault(error: Exception, tokens: list[str]) -> Path | None:
    """Write a report into the cache folder.

    Args:
        error: What ended the command.
        tokens: The command, without the program's name.

    Returns:
        The file; None where none can be written, since a full disk must not hide the fault.
    """
    folder = cache_dir() / FOLDER
    with contextlib.suppress(OSError, SaccadeError, MemoryError):
        folder.mkdir(parents=True, exist_ok=True)
        stamp = f"{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 10**9:09d}-{os.getpid()}"
        path = folder / f"{stamp}.txt"
        write_text(path, _report(error, tokens))
        for old in sorted(folder.glob("*.txt"))[:-KEPT]:
            old.unlink(missing_ok=True)
        return path
    return None


def _report(error: Exception, tokens: list[str]) -> str:
    """Versions, command and traceback."""
    lines = traceback.format_exception(error, limit=-200)  # of the depth of a recursion, the innermost steps
    trace = "".join(lines)
    if len(trace) > MAX_CHARACTERS:
        trace = f"{trace[: MAX_CHARACTERS // 2]}\n[...]\n{trace[-MAX_CHARACTERS // 2 :]}"
    head = (
        f"saccade {saccade.__version__}, Python {platform.python_version()}, {platform.platform()}\n"
        f"command: {' '.join(['saccade', *tokens])[:2000]}\n\n"
    )
    return (head + trace).encode("utf-8", "backslashreplace").decode()
