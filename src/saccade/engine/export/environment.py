"""Environments of their own for exporters that cannot live beside our torch: made once, used without being noticed.

executorch and litert-torch are each built against another torch. Their work is done by `worker.py`, a single file
without a Saccade import, run by a Python that has them installed. `environments/*.txt` pin every package by version
and by the SHA-256 of its files, and pip refuses any other file.
"""

import hashlib
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import IO

from saccade.errors import MissingExtraError
from saccade.files import cache_dir, writing

SIZES = {"executorch": "1.5 to 6 GB", "litert": "3 to 8 GB"}
"""Roughly what an environment takes on disk, by name."""
LOCK_PATIENCE = 3600.0
"""Seconds to wait for another process that is making the same environment."""


def environment(name: str, log: Callable[[str], None]) -> Path:
    """Return the Python of an environment, making it on first use.

    Args:
        name: executorch or litert.
        log: Told what is being made, and where.

    Returns:
        Path of the Python executable.

    Raises:
        MissingExtraError: The packages cannot be installed; the sentence names pip's log.
    """
    pins = _pins(name)
    folder = cache_dir() / "environments" / f"{name}-{pins_digest(name)[:12]}"
    python = folder / "bin" / "python"
    if (folder / "ready").is_file() and python.exists():
        return python
    with writing(folder, f"making the environment for {name}", beside=True, patience=LOCK_PATIENCE):
        if not (folder / "ready").is_file():
            log(f"making an environment for {name} in {folder} (once; {SIZES[name]}, some minutes)")
            _make(folder, python, pins, name)
            log(f"the environment for {name} is ready")
    return python


def pins_digest(name: str) -> str:
    """Name an environment: another interpreter or other pins are another one; the old one stays until removed."""
    texts = [file.read_text(encoding="utf-8") for file in (_pins("build"), _pins(name))]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return hashlib.sha256("\n".join([*texts, version, sys.base_prefix]).encode()).hexdigest()


def _pins(name: str) -> Path:
    """Return the file of versions and hashes of an environment."""
    return Path(__file__).parent / "environments" / f"{name}.txt"


def _make(folder: Path, python: Path, pins: Path, name: str) -> None:
    """Create the virtual environment and install the pinned packages; remove everything when that fails."""
    log = folder.parent / f"{name}-pip.log"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        venv.EnvBuilder(with_pip=True, symlinks=True).create(folder)
        with log.open("w", encoding="utf-8") as file:
            # What builds a source package is pinned too: pip would fetch it unchecked for an isolated build.
            done = all(_install(python, one, file) for one in (_pins("build"), pins))
        if not done:
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


def _install(python: Path, pins: Path, log: IO[str]) -> bool:
    """Install what a file lists and nothing else, every file checked against its SHA-256; say whether it worked."""
    command = [
        str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--require-hashes",
        "--no-build-isolation", "-r", str(pins),
    ]  # fmt: skip
    done = subprocess.run(
        command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, check=False
    )
    return done.returncode == 0
