"""MATLAB files of version 5 to 7: numeric arrays and structs of them, each length checked before it is used.

Our own reader, because some damaged files end the process inside scipy 1.17 (segmentation fault). Format
after MathWorks, "MAT-File Format": a header of 128 bytes, then elements of a tag (type and length) and data padded to
8 bytes; an array is an element that holds its flags, dimensions, name, and real and imaginary parts.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from saccade.errors import DataError

_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CLASSES = {
    6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8",
}  # fmt: skip
_MATRIX, _COMPRESSED, _STRUCT = 14, 15, 2
_COMPLEX, _LOGICAL = 0x800, 0x200
MAX_DEPTH = 16
MAX_FIELDS = 10_000


@dataclass(frozen=True)
class _Tag:
    """Where an element's data lie."""

    kind: int
    start: int
    stop: int
    end: int
    """Where the next element begins."""


class Mat5:
    """A reader of one file.

    Args:
        name: For messages.
        data: (bytes,) uint8, mapped or in memory.
        spend: Called with the bytes that are about to be read or unpacked; raises when they are too many.
    """

    def __init__(self, name: str, data: np.ndarray, spend: Callable[[int], None]) -> None:
        self.name, self.data, self.spend = name, data, spend
        self.order = "<" if data[126:128].tobytes() == b"IM" else ">"

    def variables(self) -> Iterator[tuple[str, np.ndarray | None]]:
        """Yield names, dotted for fields of structs, and arrays, None for what is not numeric.

        Raises:
            DataError: A length or type that cannot be.
        """
        at = 128
        while at < len(self.data):
            tag = self._tag(self.data, at, len(self.data))
            if tag.kind == _COMPRESSED:
                inner = self._unpack(tag)
                yield from self._matrix(inner, self._tag(inner, 0, len(inner)), None, 0)
            elif tag.kind == _MATRIX:
                yield from self._matrix(self.data, tag, None, 0)
            at = tag.end

    def _fail(self, what: str) -> DataError:
        """Make the error of a damaged file."""
        return DataError(f"{self.name}: damaged ({what}); expected a whole MATLAB file, so save it again")

    def _tag(self, data: np.ndarray, at: int, limit: int) -> _Tag:
        """Read the tag at a place; small elements keep their data inside it."""
        if at + 8 > limit:
            raise self._fail(f"an element at byte {at} is cut short")
        kind, length = struct.unpack(self.order + "II", data[at : at + 8].tobytes())
        if kind >> 16:
            length, kind = kind >> 16, kind & 0xFFFF
            if length > 4:
                raise self._fail(f"a small element of {length} bytes at byte {at}")
            return _Tag(kind, at + 4, at + 4 + length, at + 8)
        stop = at + 8 + length
        if stop > limit:
            raise self._fail(f"the element at byte {at} claims {length} bytes and {limit - at - 8} are left")
        end = stop if kind == _COMPRESSED else min(limit, stop + -length % 8)
        return _Tag(kind, at + 8, stop, end)

    def _unpack(self, tag: _Tag) -> np.ndarray:
        """Unpack a compressed element, no further than it claims."""
        packed = self.data[tag.start : tag.stop].tobytes()
        try:
            head = zlib.decompressobj().decompress(packed[:1024], 8)
            if len(head) < 8:
                raise self._fail("a compressed variable without a tag")
            kind, length = struct.unpack(self.order + "II", head)
            size = 8 if kind >> 16 else 8 + length
            self.spend(size)
            unpacked = zlib.decompressobj().decompress(packed, size)
        except zlib.error as error:
            raise self._fail(f"compressed data: {error}") from None
        return np.frombuffer(unpacked, np.uint8)

    def _numbers(self, data: np.ndarray, tag: _Tag) -> np.ndarray:
        """Return an element's numbers, (n,)."""
        if tag.kind not in _TYPES:
            raise self._fail(f"numbers of type {tag.kind}")
        kind = np.dtype(self.order + _TYPES[tag.kind])
        if (tag.stop - tag.start) % kind.itemsize:
            raise self._fail(f"{tag.stop - tag.start} bytes of numbers of {kind.itemsize}")
        return np.frombuffer(data[tag.start : tag.stop].tobytes(), kind)

    def _matrix(
        self, data: np.ndarray, tag: _Tag, name: str | None, depth: int
    ) -> Iterator[tuple[str, np.ndarray | None]]:
        """Yield what an array element holds; `name` is that of a field, else the element names itself."""
        if tag.kind != _MATRIX:
            raise self._fail(f"an element of type {tag.kind} in place of an array")
        if tag.start == tag.stop:
            yield name or "", np.zeros((0, 0))
            return
        flags_tag = self._tag(data, tag.start, tag.stop)
        flags = self._numbers(data, flags_tag)
        if flags_tag.kind != 6 or not flags.size:
            raise self._fail("an array without flags")
        kind, options = int(flags[0]) & 0xFF, int(flags[0])
        if kind not in _CLASSES and kind != _STRUCT:
            yield name if name is not None else self._opaque_name(data, flags_tag.end, tag.stop), None
            return
        sizes_tag = self._tag(data, flags_tag.end, tag.stop)
        sizes = [int(size) for size in self._numbers(data, sizes_tag)]
        if not 2 <= len(sizes) <= 32 or min(sizes) < 0:
            raise self._fail(f"an array with the dimensions {sizes[:8]}")
        name_tag = self._tag(data, sizes_tag.end, tag.stop)
        if name is None:
            name = data[name_tag.start : name_tag.stop].tobytes().decode("ascii", "replace")
        if kind == _STRUCT:
            yield from self._struct(data, name_tag.end, tag.stop, sizes, name, depth)
            return
        yield name, self._array(data, name_tag.end, tag.stop, sizes, kind, options, name)

    def _opaque_name(self, data: np.ndarray, at: int, limit: int) -> str:
        """Find the name of something that is not read: the first text, after dimensions where there are some."""
        for _ in range(2):
            if at + 8 > limit:
                break
            tag = self._tag(data, at, limit)
            if tag.kind == 1:
                return data[tag.start : tag.stop].tobytes().decode("ascii", "replace")
            at = tag.end
        return "?"

    def _array(
        self, data: np.ndarray, at: int, limit: int, sizes: list[int], kind: int, options: int, name: str
    ) -> np.ndarray:
        """Return a numeric array."""
        count, target = math.prod(sizes), np.dtype(_CLASSES[kind])
        parts = []
        for _ in range(2 if options & _COMPLEX else 1):
            tag = self._tag(data, at, limit)
            self.spend(count * target.itemsize if count <= tag.stop - tag.start else 0)
            part = self._numbers(data, tag)
            if part.size != count:
                raise self._fail(f"{name[:40]} has {part.size} numbers for the dimensions {sizes[:8]}")
            parts.append(part.astype(target))  # MATLAB stores in fewer bytes where it can
            at = tag.end
        if len(parts) == 2:
            found = np.empty(count, np.result_type(target, np.complex64))
            found.real, found.imag = parts
        else:
            found = parts[0].astype(bool) if options & _LOGICAL else parts[0]
        return found.reshape(sizes, order="F")

    def _struct(
        self, data: np.ndarray, at: int, limit: int, sizes: list[int], name: str, depth: int
    ) -> Iterator[tuple[str, np.ndarray | None]]:
        """Yield the fields of a single struct; arrays of structs are left out."""
        if math.prod(sizes) != 1 or depth >= MAX_DEPTH:
            yield name, None
            return
        length_tag = self._tag(data, at, limit)
        lengths = self._numbers(data, length_tag)
        names_tag = self._tag(data, length_tag.end, limit)
        text = data[names_tag.start : names_tag.stop].tobytes()
        if lengths.size != 1 or not 0 < int(lengths[0]) <= 4096 or len(text) % int(lengths[0]):
            raise self._fail(f"the names of the fields of {name[:40]}")
        step, at = int(lengths[0]), names_tag.end
        if len(text) // step > MAX_FIELDS:
            raise self._fail(f"{len(text) // step} fields of {name[:40]}")
        for first in range(0, len(text), step):
            field = text[first : first + step].split(b"\0")[0].decode("ascii", "replace")
            tag = self._tag(data, at, limit)
            yield from self._matrix(data, tag, f"{name}.{field}", depth + 1)
            at = tag.end
