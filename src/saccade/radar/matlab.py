"""Numeric arrays of MATLAB and HDF5 files, by name.

MATLAB 5 to 7 files are read by `mat5`, 7.3 files and other HDF5 files through h5py. Fields of structs get
dotted names. HDF5 keeps MATLAB's axes in reverse order; here they are turned back, and both versions give the same.
Objects of MATLAB classes (strings, tables, an author's own) are opaque and are left out, by name. Nothing in the
file is executed, links to other files are not followed, and sizes are bounded before anything is read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from saccade.errors import DataError, did_you_mean
from saccade.extras import require
from saccade.radar.mat5 import Mat5

MAX_BYTES = 4 << 30
"""Of all arrays together, once read."""
MAX_NAMES = 10_000
MAX_DEPTH = 16
_HDF5 = b"\x89HDF\r\n\x1a\n"


@dataclass(eq=False)
class Variables:
    """What a file holds."""

    name: str
    """For messages."""
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    """Numeric arrays of at least two axes, as MATLAB counts them."""
    skipped: list[str] = field(default_factory=list)
    """Names of what is there and is not numeric."""

    def __getitem__(self, name: str) -> np.ndarray:
        """Return an array by name.

        Raises:
            DataError: It is not there, or is no number.
        """
        if name in self.arrays:
            return self.arrays[name]
        if name in self.skipped:
            raise DataError(
                f"{self.name}: {name} is no numeric array; save it from MATLAB as one, such as double(x)"
            )
        raise DataError(f"{self.name}: no variable {name!r}{did_you_mean(name, self.arrays)}")


def read_variables(path: Path | str) -> Variables:
    """Read every numeric array of a file; what is inside decides, not the name.

    Raises:
        DataError: Not such a file, damaged, or too large.
        MissingExtraError: h5py is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected a MATLAB or HDF5 file")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise DataError(f"{path}: {size} bytes; expected at most {MAX_BYTES}, so save fewer variables")
    with path.open("rb") as file:
        head = file.read(1024)
    try:
        if head[:8] == _HDF5 or head[512:520] == _HDF5:
            return _read_hdf5(path, matlab=head.startswith(b"MATLAB 7.3"))
        if head.startswith(b"MATLAB 5.0") and head[126:128] in (b"IM", b"MI"):
            return _read_mat5(path)
    except (DataError, ImportError):
        raise
    except Exception as error:  # h5py fails on damaged files in many ways, which all mean the same
        raise DataError(
            f"{path}: damaged ({' '.join(str(error).split())[:120] or type(error).__name__}); expected a whole "
            "MATLAB or HDF5 file, so save it again"
        ) from error
    raise DataError(
        f"{path}: not a MATLAB 5 to 7.3 or HDF5 file; save it from MATLAB with save(..., '-v7.3')"
    )


class _Budget:
    """Counts bytes and names, and refuses too many."""

    def __init__(self, path: Path) -> None:
        self.path, self.size, self.names = path, 0, 0

    def spend(self, size: int) -> None:
        self.size += size
        self.names += 1
        if self.size > MAX_BYTES or self.names > MAX_NAMES:
            raise DataError(
                f"{self.path}: {self.names} variables of {self.size} bytes or more; expected at most {MAX_NAMES} and "
                f"{MAX_BYTES}, so save fewer"
            )


def _read_mat5(path: Path) -> Variables:
    """Read version 5 to 7."""
    found, budget = Variables(str(path)), _Budget(path)
    for name, array in Mat5(
        str(path), np.asarray(np.memmap(path, np.uint8, mode="r")), budget.spend
    ).variables():
        if array is None:
            budget.spend(0)
            found.skipped.append(name)
        else:
            found.arrays[name] = array
    return found


# --- HDF5 ----------------------------------------------------------------------------------------------------------


def _read_hdf5(path: Path, *, matlab: bool) -> Variables:
    """Read through h5py."""
    h5py = require("h5py", "radar", "to read HDF5 files")
    found, budget = Variables(str(path)), _Budget(path)
    with h5py.File(path, "r") as file:
        _collect_hdf5(h5py, file, "", found, budget, matlab, 0)
    return found


def _collect_hdf5(
    h5py: Any, group: Any, prefix: str, found: Variables, budget: _Budget, matlab: bool, depth: int
) -> None:
    """Walk a group, in the order of names."""
    for key in group:
        name = f"{prefix}{key}"
        if not prefix and key in ("#refs#", "#subsystem#"):
            continue  # where MATLAB keeps what its references point to
        link = group.get(key, getlink=True)
        if not isinstance(link, h5py.HardLink):
            found.skipped.append(name)
            budget.spend(0)
            continue
        item = group[key]
        opaque = "MATLAB_object_decode" in item.attrs
        if isinstance(item, h5py.Group) and not opaque and depth < MAX_DEPTH:
            budget.spend(0)
            _collect_hdf5(h5py, item, f"{name}.", found, budget, matlab, depth + 1)
        elif (
            isinstance(item, h5py.Dataset)
            and not opaque
            and (array := _array(item, budget, matlab)) is not None
        ):
            found.arrays[name] = array
        else:
            budget.spend(0)
            found.skipped.append(name)


def _array(item: Any, budget: _Budget, matlab: bool) -> np.ndarray | None:
    """Read a dataset that holds numbers, else return None."""
    kind = item.dtype
    pair = sorted(kind.names or ()) in (["imag", "real"], ["i", "r"])
    if not (pair or kind.kind in "biufc") or item.is_virtual or item.external or item.shape is None:
        return None
    if matlab and _text(item.attrs.get("MATLAB_class")) in (
        "char",
        "cell",
        "string",
        "function_handle",
        "table",
    ):
        return None
    budget.spend(item.size * max(kind.itemsize, 1))
    if matlab and "MATLAB_empty" in item.attrs:
        return (
            np.zeros(tuple(int(n) for n in item[()].reshape(-1)))
            if item.size <= 32 and not item[()].all()
            else None
        )
    value = item[()]
    if pair:
        real, imag = (value[part] for part in sorted(kind.names or (), reverse=True))
        if real.dtype.kind not in "iuf" or imag.dtype.kind not in "iuf":
            return None
        value = np.empty(real.shape, np.result_type(real.dtype, imag.dtype, np.complex64))
        value.real, value.imag = real, imag
    value = np.asarray(value)
    return value.T if matlab else value


def _text(value: Any) -> str:
    """Return an attribute as text."""
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
