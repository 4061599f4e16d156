"""The bytes of a capture as one stream, whichever way they were stored.

A capture is a plain file, several that follow each other (recorders split at 1 GB), or the network packets of a
DCA1000 with their headers. A packet carries, little-endian: a sequence number (4 bytes, from 1), the number of data
bytes sent before it (6 bytes), then data, 1456 bytes unless it is the last. Some recorders put the packet's length
(4 bytes) between the two. What was sent between two packets that arrived is known from the second's count, so bytes
of lost packets become zeros, and packets that overtook one another are put in order.

After Texas Instruments, "mmWave Radar Device ADC Raw Data Capture" (SWRA581) and the DCA1000EVM user's guide.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from saccade.errors import ConfigError, DataError, did_you_mean

PACKET_DATA = 1456
"""Data bytes of every packet but the last."""
DATA_PORT = 4098
"""Where a DCA1000 sends its data."""
FORMATS = ("auto", "none", "udp", "udp-length", "pcap")
"""none: data only; udp: packets one after the other; udp-length: with a length field; pcap: tcpdump's file."""
_PCAP = {
    b"\xd4\xc3\xb2\xa1": "<",
    b"\x4d\x3c\xb2\xa1": "<",
    b"\xa1\xb2\xc3\xd4": ">",
    b"\xa1\xb2\x3c\x4d": ">",
}
_PCAPNG = b"\x0a\x0d\x0d\x0a"


@dataclass(eq=False)
class Stream:
    """Data bytes in the order they were sent; nothing is read before it is asked for."""

    name: str
    """For messages."""
    size: int
    """Bytes, those that were lost included."""
    pieces: list[tuple[int, np.ndarray]] = field(repr=False)
    """(first byte, bytes) in ascending order without overlap; what lies between was lost."""
    packets: int = 0
    """How many arrived; 0 where none were recorded."""

    def __post_init__(self) -> None:
        """Keep the first bytes of the pieces for searching."""
        self._starts = np.array([start for start, _ in self.pieces], np.int64)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return bytes start .. stop, (stop - start,) uint8, zeros where packets were lost."""
        out = np.zeros(stop - start, np.uint8)
        index = max(0, int(np.searchsorted(self._starts, start, "right")) - 1)
        while index < len(self.pieces) and self.pieces[index][0] < stop:
            first, data = self.pieces[index]
            low, high = max(start, first), min(stop, first + len(data))
            if low < high:
                out[low - start : high - start] = data[low - first : high - first]
            index += 1
        return out

    def gaps(self) -> list[tuple[int, int]]:
        """Return the lost stretches as (first byte, byte after the last)."""
        found, end = [], 0
        for first, data in self.pieces:
            if first > end:
                found.append((end, first))
            end = first + len(data)
        return found

    @property
    def lost(self) -> int:
        """Bytes that never arrived."""
        return sum(stop - start for start, stop in self.gaps())


def open_stream(paths: Path | str | Sequence[Path | str], packets: str = "auto") -> Stream:
    """Open a capture without reading it.

    Args:
        paths: One file, or its parts in order.
        packets: One of `FORMATS`; "auto" looks at the first headers.

    Raises:
        ConfigError: No such format.
        DataError: A file that is absent or empty, or packets that contradict each other.
    """
    if packets not in FORMATS:
        raise ConfigError(f"no packet format {packets!r}{did_you_mean(packets, FORMATS)}")
    parts = [Path(paths)] if isinstance(paths, (str, Path)) else [Path(part) for part in paths]
    if not parts:
        raise DataError("capture: no file was named; expected a .bin of a DCA1000")
    data = [_map(part) for part in parts]
    name = str(parts[0]) if len(parts) == 1 else f"{parts[0]} and {len(parts) - 1} more"
    chosen = _recognise(data[0]) if packets == "auto" else packets
    if data[0][:4].tobytes() == _PCAPNG:
        raise DataError(f"{parts[0]}: a pcapng file; expected pcap, which `editcap -F pcap` makes of it")
    if chosen == "none":
        starts = np.cumsum([0, *(len(part) for part in data)])
        return Stream(name, int(starts[-1]), list(zip(starts.tolist(), data, strict=False)))
    walk = {"udp": _walk_udp, "udp-length": _walk_length, "pcap": _walk_pcap}[chosen]
    found: list[tuple[int, int, np.ndarray]] = []
    for part, content in zip(parts, data, strict=True):
        found += walk(str(part), content)
    return _assemble(name, found)


def _map(path: Path) -> np.ndarray:
    """Map a file into memory, (bytes,) uint8."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected a capture of a DCA1000")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty; expected samples of 16 bits, so record again")
    return np.asarray(np.memmap(path, np.uint8, mode="r"))  # slices of the bare class are cheaper


def _recognise(data: np.ndarray) -> str:
    """Tell packets from plain samples by the first two headers, which chance does not make agree."""
    if data[:4].tobytes() in _PCAP:
        return "pcap"
    for name, header in (("udp", 10), ("udp-length", 14)):
        second = header + PACKET_DATA
        if len(data) < second + header:
            continue
        (seq, count), (next_seq, next_count) = (_header(data, at, header) for at in (0, second))
        if 0 < next_seq - seq < 1 << 20 and next_count - count == (next_seq - seq) * PACKET_DATA:
            return name
    return "none"


def _header(data: np.ndarray, at: int, size: int) -> tuple[int, int]:
    """Read sequence number and byte count of the packet at a place."""
    raw = data[at : at + size].tobytes()
    return int.from_bytes(raw[:4], "little"), int.from_bytes(raw[size - 6 :], "little")


def _walk_udp(name: str, data: np.ndarray) -> list[tuple[int, int, np.ndarray]]:
    """List (sequence number, first byte, data) of packets written one after the other."""
    step = 10 + PACKET_DATA
    found = []
    for at in range(0, len(data), step):
        if len(data) - at < 12:
            raise DataError(
                f"{name}: the last packet is cut after {len(data) - at} bytes; expected a header of 10 and data, so "
                "copy the file again or remove those bytes"
            )
        found.append((*_header(data, at, 10), data[at + 10 : at + step]))
    return found


def _walk_length(name: str, data: np.ndarray) -> list[tuple[int, int, np.ndarray]]:
    """The same where each header states its packet's data length."""
    found, at = [], 0
    while at < len(data):
        length = int.from_bytes(data[at + 4 : at + 8].tobytes(), "little")
        if at + 14 + length > len(data) or not 0 < length <= 65_535:
            raise DataError(
                f"{name}: the packet at byte {at} says it holds {length} bytes of data and {len(data) - at - 14} are "
                "left; expected whole packets, so copy the file again or say --packets udp"
            )
        found.append((*_header(data, at, 14), data[at + 14 : at + 14 + length]))
        at += 14 + length
    return found


def _walk_pcap(name: str, data: np.ndarray) -> list[tuple[int, int, np.ndarray]]:
    """The same from the file of a network recorder: IPv4 over Ethernet, UDP to the data port."""
    order = _PCAP.get(data[:4].tobytes())
    if order is None or len(data) < 24:
        raise DataError(f"{name}: not a pcap file; expected its magic number, or another --packets")
    (link,) = struct.unpack(order + "I", data[20:24].tobytes())
    if link != 1:
        raise DataError(
            f"{name}: link type {link}; expected 1 (Ethernet), so record on an Ethernet interface"
        )
    found, at = [], 24
    while at + 16 <= len(data):
        kept, sent = struct.unpack(order + "II", data[at + 8 : at + 16].tobytes())
        frame = data[at + 16 : at + 16 + kept]
        if kept != sent or len(frame) < kept:
            raise DataError(
                f"{name}: the packet at byte {at} holds {len(frame)} of {sent} bytes; expected whole packets, so "
                "record without a snapshot length"
            )
        at += 16 + kept
        if len(frame) < 34 or frame[12] != 8 or frame[13] != 0 or frame[23] != 17:
            continue  # not IPv4, or not UDP
        udp = 14 + 4 * (int(frame[14]) & 15)
        if len(frame) < udp + 20 or int(frame[udp + 2]) << 8 | int(frame[udp + 3]) != DATA_PORT:
            continue
        length = int(frame[udp + 4]) << 8 | int(frame[udp + 5])  # Ethernet pads short frames
        payload = frame[udp + 8 : udp + max(length, 8)]
        if len(payload) > 10:
            found.append((*_header(payload, 0, 10), payload[10:]))
    if not found:
        raise DataError(f"{name}: no UDP packet to port {DATA_PORT}; expected those of a DCA1000")
    return found


def _assemble(name: str, found: list[tuple[int, int, np.ndarray]]) -> Stream:
    """Put packets in order and refuse those that contradict each other."""
    by_start: dict[int, tuple[int, np.ndarray]] = {}
    for sequence, start, data in found:
        by_start.setdefault(start, (sequence, data))  # a packet that came twice counts once
    pieces, end, last = [], 0, 0
    for start in sorted(by_start):
        sequence, data = by_start[start]
        missed = sequence - last - 1
        if start < end or missed < 0 or start - end > missed * 65_535:
            raise DataError(
                f"{name}: the packet with sequence number {sequence} says that {start} bytes came before it; "
                f"expected one after number {last}, which ends at byte {end}, so the capture is damaged or "
                "holds no packets (--packets none reads plain samples)"
            )
        pieces.append((start, data))
        end, last = start + len(data), sequence
    stream = Stream(name, end, pieces, packets=len(pieces))
    if 2 * stream.lost > stream.size:
        raise DataError(
            f"{name}: {stream.lost} of {stream.size} bytes never arrived; expected most of them, so record again "
            "with the packet delay raised"
        )
    return stream
