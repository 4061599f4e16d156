"""Read nuPlan's pickled numbers without running what a pickle can run.

A pickle is a program. This loader knows lists, numbers and the calls by which NumPy stores an array; every other
name in the file is refused before anything happens.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
from typing import Any

import numpy as np

from saccade.errors import DataError

MAX_BYTES = 1 << 16
"""Bytes of one blob; a 3 x 3 matrix takes some hundred."""
_MAX_NUMBERS = 4096


class _Kind:
    """Stands for the class of arrays, which is named in a pickle and never called."""


def _dtype(spec: Any, align: Any = False, copy: Any = True) -> np.dtype:
    """Make a copy of a plain number type: its state is set by the pickle, and the original is shared."""
    del align, copy
    if not isinstance(spec, str) or not re.fullmatch(r"[<>=|]?[fiu][1248]", spec):
        raise pickle.UnpicklingError(f"number type {str(spec)[:20]!r}")
    return np.dtype(spec, copy=True)


def _reconstruct(kind: Any, shape: Any, code: Any) -> np.ndarray:
    """Make the empty array that a pickle then fills."""
    if kind is not _Kind or shape != (0,) or code not in (b"b", "b"):
        raise pickle.UnpicklingError("array")
    return np.empty(0, np.int8)


def _scalar(kind: Any, raw: Any) -> float:
    """Make one number."""
    if not isinstance(kind, np.dtype) or not isinstance(raw, bytes | str):
        raise pickle.UnpicklingError("number")
    raw = raw.encode("latin1") if isinstance(raw, str) else raw
    if kind.itemsize != len(raw):
        raise pickle.UnpicklingError("number")
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
        raise pickle.UnpicklingError("array")
    return np.frombuffer(raw, kind).reshape(shape, order=order)


def _encode(text: Any, encoding: Any) -> bytes:
    """Turn text into bytes: the way older pickles hold them."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("text")
    return text.encode("latin1")


_KNOWN = {
    ("numpy", "ndarray"): _Kind,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encode,
    **{(home, "_reconstruct"): _reconstruct for home in ("numpy.core.multiarray", "numpy._core.multiarray")},
    **{(home, "_frombuffer"): _frombuffer for home in ("numpy.core.numeric", "numpy._core.numeric")},
    **{(home, "scalar"): _scalar for home in ("numpy.core.multiarray", "numpy._core.multiarray")},
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return _KNOWN[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it names something outside")


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
    try:
        _check_memo(blob)
        value = _Reader(io.BytesIO(blob)).load()
        budget = [_MAX_NUMBERS]
        found = _plain(value, budget, 0)
    except DataError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise DataError(
            f"{where} is refused ({str(error)[:80]}); expected pickled lists of numbers only"
        ) from None
    if not isinstance(found, list):
        raise DataError(f"{where} holds one number; expected a list")
    return found


def _check_memo(blob: bytes) -> None:
    """Refuse a place in the memo that the blob is too short to need: making room up to there takes all memory."""
    for code, argument, _ in pickletools.genops(blob):
        if code.name in ("PUT", "BINPUT", "LONG_BINPUT") and not 0 <= int(argument or 0) <= len(blob):
            raise pickle.UnpicklingError(f"memo {argument}")


def _plain(value: Any, budget: list[int], depth: int) -> Any:
    """Turn what was read into lists of floats."""
    budget[0] -= 1
    if budget[0] < 0 or depth > 4:
        raise pickle.UnpicklingError("more numbers than a camera has")
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "fiu" or value.size > budget[0]:
            raise pickle.UnpicklingError("array of another kind")
        return value.astype(np.float64).tolist()
    if isinstance(value, list | tuple):
        return [_plain(item, budget, depth + 1) for item in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise pickle.UnpicklingError(f"it holds {type(value).__name__}")
