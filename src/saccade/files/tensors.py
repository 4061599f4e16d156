"""The one reader of safetensors files: the header is checked before the library sees it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
from safetensors import SafetensorError, safe_open
from torch import Tensor

from saccade.errors import SaccadeError, WeightsError
from saccade.files.stored import convert, open_regular, parse_json, unique_keys

MAX_HEADER = 64 << 20
MAX_TENSORS = 100_000
MAX_AXES = 16
DTYPES = {
    "BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "I32": 4, "I64": 8, "F16": 2, "BF16": 2, "F32": 4, "F64": 8, "C64": 8,
}  # fmt: skip
"""Bytes of a value of each type that is read; torch cannot compute with the narrower ones."""

Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 48)]


@dataclass
class Entry:
    """One tensor as the header describes it."""

    dtype: str
    shape: Annotated[list[Count], msgspec.Meta(max_length=MAX_AXES)]
    data_offsets: tuple[Count, Count]


@contextlib.contextmanager
def open_tensors(path: Path | str, *, error: type[SaccadeError] = WeightsError) -> Iterator[Any]:
    """Open a safetensors file as `safetensors.safe_open` does, after a look at its header.

    Args:
        path: A regular file.
        error: Class of the sentences.

    Raises:
        SaccadeError: Of class `error`: no such file, damaged, or with a header that cannot be. What goes wrong
            while the file is open becomes that too.
    """
    path = Path(path)
    read_header(path, error=error)
    try:
        with safe_open(str(path), framework="pt") as file:
            yield file
    except SaccadeError:
        raise
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError, LookupError) as problem:
        reason = " ".join(str(problem).split())[:160]
        raise error(f"{path}: not a readable safetensors file ({reason})") from None


def read_tensors(
    path: Path | str, *, error: type[SaccadeError] = WeightsError
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read all tensors of a file, and the texts about it.

    Raises:
        SaccadeError: As `open_tensors`.
    """
    with open_tensors(path, error=error) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        return tensors, dict(file.metadata() or {})


def read_header(
    path: Path | str, *, error: type[SaccadeError] = WeightsError
) -> tuple[dict[str, Entry], dict[str, str]]:
    """Read what a file says about its tensors, and the texts about it, without the tensors.

    Raises:
        SaccadeError: Of class `error`: no such file, damaged, or a header that cannot be.
    """
    path = Path(path)
    with open_regular(path, error=error) as file:
        size = path.stat().st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or not 2 <= length <= min(size - 8, MAX_HEADER):
            raise error(
                f"{path}: not a readable safetensors file (a header of {length} bytes in a file of {size})"
            )
        text = file.read(length)
    where = f"{path}: header"
    values = parse_json(
        text, dict[str, Any], where=where, error=error, max_bytes=MAX_HEADER, pairs=unique_keys
    )
    about = convert(values.pop("__metadata__", {}), dict[str, str], where=where, error=error)
    if len(values) > MAX_TENSORS:
        raise error(f"{where}: {len(values)} tensors; expected at most {MAX_TENSORS}")
    entries = convert(values, dict[str, Entry], where=where, error=error)
    for name, entry in entries.items():
        width = DTYPES.get(entry.dtype)
        if width is None:
            known = ", ".join(DTYPES)
            raise error(
                f"{where}: tensor {name[:80]!r} is of type {entry.dtype[:20]!r}; expected one of {known}"
            )
        begin, end = entry.data_offsets
        if end > size - 8 - length or end - begin != width * math.prod(entry.shape):
            raise error(
                f"{where}: tensor {name[:80]!r} of shape {tuple(entry.shape)} has bytes {begin} to {end}; the file "
                "is damaged"
            )
    return entries, about
