"""Write files and folders so that a reader sees all of them or none, whenever the power goes. The cache folder."""

import contextlib
import hashlib
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success flush it to disk and rename it over `path`.

    The temporary may be written as a file or made as a folder. An existing *folder* at `path` is
    removed just before the rename, so for folders the guarantee is "old, none or new", never a mixture.
    When the block raises (a full disk, an interrupt) the temporary is removed and `path` is untouched.

    Args:
        path: Where the result shall be; its folder is made when absent.

    Yields:
        A path in the same folder that does not exist yet, with the same suffix as `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.stem}-", dir=path.parent) as folder:
        temporary = Path(folder) / path.name
        yield temporary
        if temporary.is_file():
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        if path.is_dir():
            shutil.rmtree(path)
        temporary.replace(path)


def write_text(path: Path | str, text: str) -> None:
    """Write a text file atomically, as UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sha256(path: Path | str) -> str:
    """Hex digest of a file, read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def cache_dir() -> Path:
    """Return the user's cache folder: SACCADE_CACHE, else the platform's own. It may not exist yet."""
    if chosen := os.environ.get("SACCADE_CACHE"):
        return Path(chosen)
    if platform.system() == "Darwin":
        return Path.home() / "Library" / "Caches" / "saccade"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "saccade"
