"""Environments of their own for exporters that cannot live beside our torch: made once, used without being noticed.

executorch and litert-torch are each built against another torch. Their work is done by `worker.py`, a single file
without a Saccade import, run by a Python that has them installed. The versions are pinned in `environments/*.txt`.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

from saccade.errors import MissingExtraError
from saccade.files import cache_dir

SIZES = {"executorch": "1.5 to 6 GB", "litert": "3 to 8 GB"}
"""Roughly what an environment takes on disk, by name."""
LOCK_PATIENCE = 3600.0
"""Seconds to wait for another process that is making the same environment."""


def environment(name: str, say: Callable[[str], None]) -> Path:
    """Return the Python of an environment, making it on first use.

    Args:
        name: executorch or litert.
        say: Told what is being made, and where.

    Returns:
        Path of the Python executable.

    Raises:
        MissingExtraError: The packages cannot be installed; the sentence names pip's log.
    """
    pins = Path(__file__).parent / "environments" / f"{name}.txt"
    # Another interpreter or other pins are another environment; the old one stays until it is removed by hand.
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(
        (pins.read_text(encoding="utf-8") + version + sys.base_prefix).encode()
    ).hexdigest()
    folder = cache_dir() / "environments" / f"{name}-{digest[:12]}"
    python = folder / "bin" / "python"
    if (folder / "ready").is_file() and python.exists():
        return python
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _lock(folder.with_suffix(".lock")):
        if not (folder / "ready").is_file():
            say(f"making an environment for {name} in {folder} (once; {SIZES[name]}, some minutes)")
            _make(folder, python, pins, name)
            say(f"the environment for {name} is ready")
    return python


def _make(folder: Path, python: Path, pins: Path, name: str) -> None:
    """Create the virtual environment and install the pinned packages; remove everything when that fails."""
    log = folder.parent / f"{name}-pip.log"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        venv.EnvBuilder(with_pip=True, symlinks=True).create(folder)
        command = [
            str(python),
            "-m",
            "pip",
            "install",
            "--disable-pip-version-check",
            "--no-input",
            "-r",
            str(pins),
        ]
        with log.open("w", encoding="utf-8") as file:
            done = subprocess.run(
                command, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, check=False
            )
        if done.returncode:
            raise MissingExtraError(
                f"the packages for {name} cannot be installed for Python {sys.version_info.major}."
                f"{sys.version_info.minor}; pip's messages are in {log}"
            )
        (folder / "ready").touch()
    except (OSError, subprocess.CalledProcessError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise MissingExtraError(f"the environment for {name} cannot be made in {folder}: {error}") from None
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Let one process at a time make an environment; a lock whose owner is gone is taken over."""
    end = time.monotonic() + LOCK_PATIENCE
    while True:
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            break
        except FileExistsError:
            if not _alive(path):
                path.unlink(missing_ok=True)
            elif time.monotonic() > end:
                raise MissingExtraError(
                    f"another process holds {path}; remove it when none is running"
                ) from None
            else:
                time.sleep(0.5)
    try:
        os.write(handle, str(os.getpid()).encode())
        os.close(handle)
        yield
    finally:
        path.unlink(missing_ok=True)


def _alive(path: Path) -> bool:
    """Say whether the process that wrote a lock still runs; a lock just made and still empty counts as held."""
    try:
        text = path.read_text()
        os.kill(int(text), 0)
    except (FileNotFoundError, ProcessLookupError):
        return False
    except (ValueError, PermissionError, OSError):
        return True
    return True
