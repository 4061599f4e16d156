"""One writer for each folder: a second job that would mix its files with the first one's is refused."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import filelock

from saccade.errors import ConfigError
from saccade.files.stored import parse_json

PREFIX = ".saccade"
"""How the files of a lock inside a folder begin."""
NO_FLOCK = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP})
"""What file systems answer that cannot lock, such as some of networks and clusters."""


@dataclass
class Owner:
    """The process that holds a lock, as it wrote it down."""

    pid: int
    host: str
    began: str
    """Local date and time."""
    job: str
    """What it does, such as "training"."""


@contextlib.contextmanager
def writing(path: Path | str, job: str, *, beside: bool = False, patience: float = 0.0) -> Iterator[None]:
    """Hold the lock of a folder or file while a job writes it.

    The system frees the lock when its process ends in any way, also one that forked children outlive. On a file
    system that cannot lock, a file with the process and its machine stands for the lock; it is stale, and taken over,
    when that process is gone from this machine.

    Args:
        path: What is written. Its folders are made, and removed again when the job leaves them empty.
        job: What the caller does, for the message that a second one gets.
        beside: Put the lock file next to `path` rather than into it: for a single file, or a folder that is
            replaced as a whole.
        patience: Seconds to wait for another writer before it is an error.

    Raises:
        ConfigError: Another process is writing there; the message names it, its machine and since when. Also this
            very process: a lock does not nest.
    """
    path = Path(path)
    home, stem = (path.absolute().parent, f".{path.name}") if beside else (path.absolute(), PREFIX)
    file, note = home / f"{stem}.lock", home / f"{stem}.owner"
    made: list[Path] = []
    try:
        made += _make(home)
        lock = _acquire(file, patience)
    except filelock.Timeout:
        raise ConfigError(f"{path}: {_owner(note)}; wait for it or choose another place to write") from None
    except OSError as error:
        _unmake(made)
        raise ConfigError(
            f"{path}: cannot be written ({error.strerror or error}); choose another place"
        ) from None
    try:
        owner = Owner(os.getpid(), socket.gethostname(), time.strftime("%Y-%m-%d %H:%M:%S"), job)
        with contextlib.suppress(OSError):  # only the message of a second writer needs it
            note.write_text(json.dumps(asdict(owner)) + "\n", encoding="utf-8")
        yield
    finally:
        # Removed while it is held: whoever opened the file before finds it gone and does not take it for a lock.
        for own in (note, file):
            with contextlib.suppress(OSError):
                own.unlink(missing_ok=True)
        lock.release()
        _unmake(made)


def _acquire(file: Path, patience: float) -> filelock.BaseFileLock:
    """Take the lock, waiting at most `patience` seconds for it.

    Raises:
        filelock.Timeout: It is held.
        OSError: There can be no such file.
    """
    lock = filelock.FileLock(file, timeout=patience, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise
    except OSError as error:
        if error.errno not in NO_FLOCK:
            raise
        soft = filelock.SoftFileLock(file.with_suffix(".held"), timeout=patience, thread_local=False)
        soft.acquire()
        return soft
    return lock


def _make(folder: Path) -> list[Path]:
    """Make a folder and those above it; returns the new ones, the innermost first."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _unmake(folders: list[Path]) -> None:
    """Remove folders that are still empty."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _owner(note: Path) -> str:
    """Say who holds a lock."""
    try:
        owner = parse_json(note.read_bytes(), Owner, where=str(note), error=ConfigError)
    except (OSError, ConfigError):
        return "another process is writing there"
    return f"process {owner.pid} on {owner.host} has been writing there since {owner.began} ({owner.job})"
