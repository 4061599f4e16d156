"""One writer for each folder: a second job that would mix its files with the first one's is refused."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import filelock

from saccade.errors import ConfigError
from saccade.files.atomic import write_text
from saccade.files.stored import parse_json


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

    The system frees the lock when its process ends in any way, so a lock is never stale on a local disk.

    Args:
        path: What is written.
        job: What the caller does, for the message that a second one gets.
        beside: Put the lock file next to `path` rather than into it: for a single file, or a folder that is
            replaced as a whole.
        patience: Seconds to wait for another writer before it is an error.

    Raises:
        ConfigError: Another process is writing there; the message names it, its machine and since when.
    """
    path = Path(path)
    home, stem = (path.parent, f".{path.name}") if beside else (path, ".saccade")
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(home / f"{stem}.lock", timeout=patience)
        lock.acquire()
    except filelock.Timeout:
        raise ConfigError(
            f"{path}: {_owner(home / f'{stem}.owner')}; wait for it or choose another folder"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be written ({error.strerror or error}); choose another folder"
        ) from None
    note = home / f"{stem}.owner"
    try:
        owner = Owner(os.getpid(), socket.gethostname(), time.strftime("%Y-%m-%d %H:%M:%S"), job)
        with contextlib.suppress(OSError, ConfigError):  # only the message of a second writer needs it
            write_text(note, _text(owner))
        yield
    finally:
        with contextlib.suppress(OSError):
            note.unlink(missing_ok=True)
        if beside:  # while it is held: one who waits sees that its file is gone and makes a new one
            with contextlib.suppress(OSError):
                (home / f"{stem}.lock").unlink(missing_ok=True)
        lock.release()


def _text(owner: Owner) -> str:
    import json

    return json.dumps(asdict(owner)) + "\n"


def _owner(note: Path) -> str:
    """Say who holds a lock."""
    try:
        owner = parse_json(note.read_bytes(), Owner, where=str(note), error=ConfigError)
    except (OSError, ConfigError):
        return "another process is writing there"
    return f"process {owner.pid} on {owner.host} has been writing there since {owner.began} ({owner.job})"
