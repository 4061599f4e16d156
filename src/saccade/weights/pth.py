"""Read a `.pth` file without running anything that is in it.

The pickle inside is read as data (`files.pickles`) by a machine that knows no callable but the tensor builders.
Training checkpoints of published models also hold the run's settings as foreign objects (`argparse.Namespace`, `yacs`
nodes, NumPy scalars); these become inert stand-ins and are dropped. Any other foreign object is refused by name.
Sizes are compared with the file before memory is taken: tensors take at most twice the room of the file.
"""

from __future__ import annotations

import io
import math
import os
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from saccade.errors import WeightsError
from saccade.files import open_regular
from saccade.files.archives import check_members
from saccade.files.pickles import MAX_BYTES, Refused, checked_key, read_pickle

MAGIC = 0x1950A86A20F9469CFC6C
"""First value of the older format, which is no archive."""
PROTOCOL = 1001
MAX_AXES = 16
FREE_BYTES = 64 << 20
"""Tensors may always take this much: a few may share or repeat their numbers."""
_STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64, "ComplexDoubleStorage": torch.complex128,
}  # fmt: skip
_SETTINGS = {
    ("argparse", "Namespace"),
    ("collections", "Counter"),
    ("collections", "defaultdict"),
    ("yacs.config", "CfgNode"),
    ("fvcore.common.config", "CfgNode"),
    ("pathlib", "PosixPath"),
    ("pathlib", "WindowsPath"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("_codecs", "encode"),
    ("torch", "device"),
    ("loss", "Loss"),  # the loss log in the published Mobile-SRViT checkpoints
}


class _Inert(dict):
    """Stands for a settings object: takes any construction, keeps nothing, does nothing."""

    def __new__(cls, *_args: Any, **_kwargs: Any) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        super().__init__()

    def __setitem__(self, key: Any, value: Any) -> None: ...


class _Storage:
    """Numbers of one type that tensors are views of."""

    def __init__(self, dtype: torch.dtype, count: int) -> None:
        self.dtype, self.count = dtype, count
        self.bytes = torch.UntypedStorage(count * dtype.itemsize)

    def fill(self, file: Any, where: str) -> None:
        """Read the numbers from where a file is."""
        if not self.count:
            return
        room = torch.empty(0, dtype=torch.uint8).set_(self.bytes).numpy().data
        while len(room):
            read = file.readinto(room)
            if not read:
                raise WeightsError(f"{where}: damaged, it ends within a tensor")
            room = room[read:]


class _Builders:
    """What a checkpoint's pickle may make, and how much of it."""

    def __init__(self, size: int, storage: Callable[[torch.dtype, str, int], _Storage]) -> None:
        self.storage = storage
        self.storages: dict[str, _Storage] = {}
        self.room = 2 * size + FREE_BYTES
        self.unread = size

    def find(self, module: str, name: str) -> Any:
        """Say what a name stands for."""
        if (module, name) in _SETTINGS:
            return _Inert
        if module in ("torch", "torch.storage") and name in _STORAGES:
            return _STORAGES[name]
        known = {
            ("collections", "OrderedDict"): _ordered,
            ("torch", "Size"): tuple,
            ("torch._utils", "_rebuild_tensor_v2"): self.tensor,
            ("torch._utils", "_rebuild_parameter"): _parameter,
        }
        if (module, name) in known:
            return known[module, name]
        if module == "torch" and isinstance(found := getattr(torch, name, None), torch.dtype):
            return found
        raise Refused(
            f"it holds a foreign object of type {module[:60]}.{name[:60]}; loading it would mean running code from "
            "the file; ask its author for safetensors or a plain state dict"
        )

    def outside(self, key: Any) -> _Storage:
        """Find the storage that a key names; its size may not contradict the file."""
        if (
            not isinstance(key, tuple)
            or len(key) not in (5, 6)
            or key[0] != "storage"
            or key[5:] not in ((), (None,))
        ):
            raise ValueError("an unknown kind of storage")
        _, dtype, name, _, count = key[:5]
        if not isinstance(dtype, torch.dtype) or not isinstance(name, str) or not _is_count(count):
            raise ValueError("a storage without type or size")
        found = self.storages.get(name)
        if found is None:
            self.unread -= count * dtype.itemsize
            if self.unread < 0:
                raise Refused(f"its storages hold more than the file: {name[:40]!r} claims {count} values")
            found = self.storages[name] = self.storage(dtype, name, count)
        if (found.dtype, found.count) != (dtype, count):
            raise ValueError(f"two sizes or types for storage {name[:40]!r}")
        return found

    def tensor(self, storage: Any, offset: Any, size: Any, stride: Any, *_rest: Any) -> Tensor:
        """Make a tensor, a view of its storage."""
        whole = isinstance(size, tuple) and isinstance(stride, tuple) and len(size) == len(stride) <= MAX_AXES
        if (
            not isinstance(storage, _Storage)
            or not whole
            or not all(map(_is_count, (offset, *size, *stride)))
        ):
            raise ValueError("a tensor without storage or shape")
        count = math.prod(size)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if count else 0
        if last >= max(storage.count, 1):
            raise ValueError(f"a tensor of shape {size} in a storage of {storage.count} values")
        self.room -= count * storage.dtype.itemsize
        if self.room < 0:
            raise Refused(f"its tensors are many times larger than the file (one has shape {size})")
        return torch.empty(0, dtype=storage.dtype).set_(storage.bytes, offset, size, stride)


def _ordered(pairs: Any = ()) -> OrderedDict[Any, Any]:
    """Make the dictionary of a state dict."""
    return OrderedDict((checked_key(key), value) for key, value in pairs)


def _parameter(data: Any, *_rest: Any) -> Tensor:
    """Unwrap a parameter."""
    if not isinstance(data, Tensor):
        raise ValueError("a parameter that is no tensor")
    return data


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 48


def read_pth(path: Path) -> dict[str, Any]:
    """Read a file written by `torch.save` as plain containers and tensors on the CPU.

    Raises:
        WeightsError: Damaged, not such a file, or holding objects that only running code could rebuild.
    """
    with open_regular(path, error=WeightsError) as file:
        content = read_checkpoint(file, str(path))
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: expected a dictionary of tensors, found {type(content).__name__}")
    return content


def read_checkpoint(file: BinaryIO, where: str) -> Any:
    """Read what `torch.save` wrote into an open file, in either of its formats.

    Raises:
        WeightsError: As `read_pth`.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    try:
        if file.read(4) == b"PK\x03\x04":
            with zipfile.ZipFile(file) as archive:
                return _read_archive(archive, size, where)
        file.seek(0)
        return _read_older(file, size, where)
    # Of damaged archives zipfile also raises what its decompressors do.
    except (
        zipfile.BadZipFile,
        OSError,
        ValueError,
        EOFError,
        RuntimeError,
        LookupError,
        NotImplementedError,
    ) as error:
        if isinstance(error, WeightsError):
            raise
        reason = " ".join(str(error).split())[:160]
        raise WeightsError(f"{where}: not a readable PyTorch checkpoint ({reason})") from None


def _read_archive(archive: zipfile.ZipFile, size: int, where: str) -> Any:
    """Read the format of PyTorch 1.6 and later: an archive with the pickle and one member a storage."""
    members = check_members(archive.infolist(), size, where=where, error=WeightsError)
    inside = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(inside) != 1:
        raise WeightsError(f"{where}: not a readable PyTorch checkpoint (an archive without one data.pkl)")
    home = inside[0].removesuffix("data.pkl")
    if (order := members.get(f"{home}byteorder")) and archive.read(order).decode("latin-1") != sys.byteorder:
        raise WeightsError(f"{where}: written on a machine of another byte order; save it again on this kind")
    if members[inside[0]].file_size > MAX_BYTES:
        raise WeightsError(f"{where}: refused, its pickle is larger than {MAX_BYTES >> 20} MiB")

    def storage(dtype: torch.dtype, name: str, count: int) -> _Storage:
        info = members.get(f"{home}data/{name}")
        if info is None or info.file_size != count * dtype.itemsize:
            there = "is not there" if info is None else f"has {info.file_size} bytes"
            raise ValueError(f"storage {name[:40]!r} of {count} values {there}")
        found = _Storage(dtype, count)
        with archive.open(info) as numbers:
            found.fill(numbers, where)
        return found

    total = sum(info.file_size for info in members.values())
    builders = _Builders(total, storage)
    return read_pickle(
        archive.read(members[inside[0]]), where=where, find=builders.find, outside=builders.outside,
        error=WeightsError,
    )  # fmt: skip


def _read_older(file: BinaryIO, size: int, where: str) -> Any:
    """Read the format before PyTorch 1.6: four pickles, their storages behind them."""
    head = io.BytesIO(file.read(MAX_BYTES))
    builders = _Builders(size, lambda dtype, _, count: _Storage(dtype, count))

    def following(**rest: Any) -> Any:
        return read_pickle(head, where=where, find=builders.find, error=WeightsError, **rest)

    first = following()
    if first != MAGIC or following() != PROTOCOL:
        raise WeightsError(f"{where}: not a readable PyTorch checkpoint (it starts with other values)")
    system = following()
    if isinstance(system, dict) and system.get("little_endian") != (sys.byteorder == "little"):
        raise WeightsError(f"{where}: written on a machine of another byte order; save it again on this kind")
    content = following(outside=builders.outside)
    names = following()
    if not isinstance(names, list) or sorted(map(str, names)) != sorted(builders.storages):
        raise WeightsError(f"{where}: damaged, its storages are not those that its tensors need")
    file.seek(head.tell())
    for name in names:
        found = builders.storages[str(name)]
        if int.from_bytes(file.read(8), "little") != found.count:
            raise WeightsError(
                f"{where}: damaged, storage {str(name)[:40]!r} has another size than its tensors need"
            )
        found.fill(file, where)
    return content
