"""Read nuPlan's pickled numbers without running what a pickle can run.

It is read as data (`files.pickles`) that may hold lists, numbers and the calls by which NumPy stores an array.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from saccade.errors import DataError
from saccade.files.pickles import Refused, read_pickle

MAX_BYTES = 1 << 16
"""Bytes of one blob; a 3 x 3 matrix takes some hundred."""
_MAX_NUMBERS = 4096


class _Kind:
    """Stands for the class of arrays, which is named in a pickle and never called."""


def _dtype(spec: Any, align: Any = False, copy: Any = True) -> np.dtype:
    """Make a copy of a plain number type: its state is set by the pickle, and the original is shared."""
    del align, copy
    if not isinstance(spec, str) or not re.fullmatch(r"[<>=|]?[fiu][1248]", spec):
        raise Refused(f"number type {str(spec)[:20]!r}")
    return np.dtype(spec, copy=True)


def _reconstruct(kind: Any, shape: Any, code: Any) -> np.ndarray:
    """Make the empty array that a pickle then fills."""
    if kind is not _Kind or shape != (0,) or code not in (b"b", "b"):
        raise Refused("array")
    return np.empty(0, np.int8)


def _scalar(kind: Any, raw: Any) -> float:
    """Make one number."""
    if not isinstance(kind, np.dtype) or not isinstance(raw, bytes | str):
        raise Refused("number")
    raw = raw.encode("latin1") if isinstance(raw, str) else raw
    if kind.itemsize != len(raw):
        raise Refused("number")
    return float(np.frombuffer(raw, kind)[0])


def _frombuffer(raw: Any, kind: Any, shape: Any, order: Any = "C", axis_order: Any = None) -> np.ndarray:
    """Make an array of the bytes that newer pickles hold."""
    del axis_order
    whole = isinstance(shape, tuple) and all(isinstance(part, int) for part in shape)
    if (
        not isinstance(kind, np.dtype)
        or not isinstance(raw, bytes | bytearray)
        or not whole
        or order not in ("C", "F")
    ):
        raise Refused("array")
    return np.frombuffer(raw, kind).reshape(shape, order=order)


def _encode(text: Any, encoding: Any) -> bytes:
    """Turn text into bytes: the way older pickles hold them."""
    if not isinstance(text, str) or encoding != "latin1":
        raise Refused("text")
    return text.encode("latin1")


_KNOWN = {
    ("numpy", "ndarray"): _Kind,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encode,
    **{(home, "_reconstruct"): _reconstruct for home in ("numpy.core.multiarray", "numpy._core.multiarray")},
    **{(home, "_frombuffer"): _frombuffer for home in ("numpy.core.numeric", "numpy._core.numeric")},
    **{(home, "scalar"): _scalar for home in ("numpy.core.multiarray", "numpy._core.multiarray")},
}


def _find(module: str, name: str) -> Any:
    if (module, name) not in _KNOWN:
        raise Refused(f"it names {module[:40]}.{name[:40]}")
    return _KNOWN[module, name]


def _set_state(value: Any, state: Any) -> None:
    if not isinstance(value, np.ndarray | np.dtype):
        raise Refused(f"it sets the state of {type(value).__name__}")
    value.__setstate__(state)  # pyright: ignore[reportAttributeAccessIssue]


def read_numbers(blob: Any, where: str) -> list[Any]:
    """Read a pickled list or array of numbers.

    Args:
        blob: Bytes of the pickle.
        where: File, record and field, for errors.

    Returns:
        Lists of floats, nested as stored.

    Raises:
        DataError: Not a pickle, too large, or one that holds or names anything but numbers.
    """
    if not isinstance(blob, bytes):
        raise DataError(f"{where} is no blob; expected pickled numbers")
    if len(blob) > MAX_BYTES:
        raise DataError(f"{where} has {len(blob)} bytes; expected pickled numbers in at most {MAX_BYTES}")
    expected = "expected pickled lists of numbers only"
    try:
        value = read_pickle(blob, where=where, find=_find, build=_set_state)
        found = _plain(value, [_MAX_NUMBERS], 0)
    except (DataError, ValueError, OverflowError) as error:
        reason = str(error).removeprefix(f"{where}: ")
        raise DataError(f"{where} is refused ({reason[:80]}); {expected}") from None
    if not isinstance(found, list):
        raise DataError(f"{where} holds one number; expected a list")
    return found


def _plain(value: Any, budget: list[int], depth: int) -> Any:
    """Turn what was read into lists of floats."""
    budget[0] -= 1
    if budget[0] < 0 or depth > 4:
        raise Refused("more numbers than a camera has")
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "fiu" or value.size > budget[0]:
            raise Refused("array of another kind")
        return value.astype(np.float64).tolist()
    if isinstance(value, list | tuple):
        return [_plain(item, budget, depth + 1) for item in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise Refused(f"it holds {type(value).__name__}")
