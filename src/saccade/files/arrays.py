"""NumPy's own files from anybody: numbers only, bounded, damage as one sentence."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np

from saccade.errors import DataError, SaccadeError
from saccade.files.stored import open_regular

MAX_BYTES = 4 << 30
"""Of all arrays of one archive together."""
# What NumPy raises on damaged files, its header's parser included.
_DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    SyntaxError,
    KeyError,
    RuntimeError,
    NotImplementedError,
    OverflowError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,
)


def map_array(path: Path | str, *, error: type[SaccadeError] = DataError) -> np.ndarray:
    """Map a `.npy` file of numbers into memory, read-only.

    Raises:
        SaccadeError: Of class `error`: no such file, or damaged.
    """
    with open_regular(Path(path), error=error):
        pass
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except _DAMAGE as problem:
        raise error(f"{path}: cannot be read as .npy ({_brief(problem)})") from None
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "biuf":
        raise error(f"{path}: cannot be read as .npy (no array of numbers)")
    return found


def read_arrays(path: Path | str, *, error: type[SaccadeError] = DataError) -> dict[str, np.ndarray]:
    """Read all arrays of a `.npz` file.

    Raises:
        SaccadeError: Of class `error`: no such file, damaged, or larger than `MAX_BYTES` when unpacked.
    """
    with open_regular(Path(path), error=error) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                size = sum(info.file_size for info in archive.infolist())
            if size > MAX_BYTES:
                raise error(f"{path}: {size} bytes of arrays; expected at most {MAX_BYTES}")
            file.seek(0)
            with np.load(file, allow_pickle=False) as found:
                return {name: found[name] for name in found.files}
        except _DAMAGE as problem:
            if isinstance(problem, SaccadeError):
                raise
            raise error(f"{path}: cannot be read as .npz ({_brief(problem)})") from None


def _brief(problem: BaseException) -> str:
    return " ".join(str(problem).split())[:120] or type(problem).__name__
