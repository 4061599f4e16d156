"""What each channel of a real radar adds of its own, measured once and taken off every scan.

A table (.csv) with a row a channel, or JSON with a list `channels`: transmitter `tx` and receiver `rx` from 0, the
channel's complex gain as `real` and `imag` or as `magnitude` and `phase_deg`, and, where known, `range_offset_m`: how
much too far the channel reads. An offset of all channels is a field of the JSON, or a line `# range_offset_m = 0.07`.
"""

from __future__ import annotations

import cmath
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from saccade.errors import DataError, did_you_mean
from saccade.files import parse_json, read_text
from saccade.radar.waveform import Waveform

MAX_BYTES = 16 << 20
MAX_OFFSET = 100.0
"""Metres."""
_FIELDS = ("tx", "rx", "real", "imag", "magnitude", "phase_deg", "range_offset_m")


@dataclass(frozen=True)
class Calibration:
    """Gain and range offset of channels (transmitter, receiver)."""

    gains: Mapping[tuple[int, int], complex]
    offsets: Mapping[tuple[int, int], float]
    """Metres of range (half of the path)."""
    name: str = "calibration"

    def apply(
        self, samples: np.ndarray, channels: Sequence[tuple[int, int]], waveform: Waveform
    ) -> np.ndarray:
        """Divide by the gains and take the offsets back.

        Args:
            samples: (P, C, N) complex.
            channels: Transmitter and receiver of each of the C channels.
            waveform: Its wavenumbers.

        Returns:
            (P, C, N), dtype of `samples`.

        Raises:
            DataError: A channel without an entry.
        """
        for tx, rx in channels:
            if (tx, rx) not in self.gains:
                raise DataError(
                    f"{self.name}: no entry for transmitter {tx} and receiver {rx}; expected one for every "
                    "channel of the scan, counted from 0"
                )
        gain = np.array([self.gains[channel] for channel in channels])
        offset = np.array([self.offsets[channel] for channel in channels])
        factor = np.exp(-2j * offset[:, None] * waveform.wavenumbers) / gain[:, None]
        return samples * factor.astype(samples.dtype)


def read_calibration(path: Path | str) -> Calibration:
    """Read a calibration file, JSON or table.

    Raises:
        DataError: A field that is missing, unknown or impossible, by its place.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected a calibration (.json or .csv)")
    text = read_text(path, max_bytes=MAX_BYTES, what="a calibration (.json or .csv)")
    common, rows = _json(path, text) if text.lstrip().startswith(("{", "[")) else _table(path, text)
    gains: dict[tuple[int, int], complex] = {}
    offsets: dict[tuple[int, int], float] = {}
    for where, row in rows:
        for key in row:
            if key not in _FIELDS:
                raise DataError(
                    f"{where}: {str(key)[:40]}: not a field{did_you_mean(str(key)[:40], _FIELDS)}"
                )
        channel = (_whole(where, row, "tx"), _whole(where, row, "rx"))
        if channel in gains:
            raise DataError(
                f"{where}: transmitter {channel[0]} and receiver {channel[1]} a second time; remove one"
            )
        if "magnitude" in row or "phase_deg" in row:
            size, phase = _number(where, row, "magnitude"), _number(where, row, "phase_deg")
            gain = cmath.rect(size, math.radians(phase))
        else:
            gain = complex(_number(where, row, "real"), _number(where, row, "imag"))
        if not 1e-12 < abs(gain) < 1e12:
            raise DataError(f"{where}: the gain is {gain:g}; expected one that can be divided by")
        gains[channel] = gain
        offsets[channel] = common + (
            _number(where, row, "range_offset_m") if "range_offset_m" in row else 0.0
        )
        if abs(offsets[channel]) > MAX_OFFSET:
            raise DataError(
                f"{where}: a range offset of {offsets[channel]:g} m; expected less than {MAX_OFFSET:g}"
            )
    if not gains:
        raise DataError(f"{path}: no channels; expected a row for each (tx, rx, real, imag)")
    return Calibration(gains, offsets, str(path))


def _json(path: Path, text: str) -> tuple[float, list[tuple[str, dict[str, Any]]]]:
    """Return the common offset and the rows of a JSON file, with their places."""
    found = parse_json(text, where=str(path))
    if not isinstance(found, dict) or not isinstance(found.get("channels"), list):
        raise DataError(f"{path}: no list `channels`; expected an object with one")
    for key in found:
        if key not in ("channels", "range_offset_m"):
            raise DataError(f"{path}: {key[:40]}: not a field; expected channels and range_offset_m")
    rows = []
    for number, row in enumerate(found["channels"]):
        if not isinstance(row, dict):
            raise DataError(f"{path}: channels[{number}]: expected an object with tx, rx, real and imag")
        rows.append((f"{path}: channels[{number}]", row))
    common = _number(str(path), found, "range_offset_m") if "range_offset_m" in found else 0.0
    return common, rows


def _table(path: Path, text: str) -> tuple[float, list[tuple[str, dict[str, Any]]]]:
    """The same of a table."""
    common, lines = 0.0, []
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#"):
            if found := re.match(r"#\s*range_offset_m\s*[=:,]\s*(\S{1,40})\s*$", line.strip()):
                common = _number(f"{path}: line {number}", {"range_offset_m": found[1]}, "range_offset_m")
        elif line.strip():
            lines.append((number, line))
    if not lines:
        raise DataError(f"{path}: no rows; expected a calibration (.json or .csv)")
    names = [name.strip().lower() for name in lines[0][1].split(",")]
    rows = []
    for number, line in lines[1:]:
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != len(names):
            raise DataError(
                f"{path}: line {number}: {len(cells)} values for {len(names)} columns; expected as many"
            )
        rows.append((f"{path}: line {number}", dict(zip(names, cells, strict=True))))
    return common, rows


def _number(where: str, row: Mapping[str, Any], key: str) -> float:
    """Read a finite number of a row."""
    if key not in row:
        raise DataError(
            f"{where}: no field {key}; expected tx, rx, real, imag or tx, rx, magnitude, phase_deg"
        )
    try:
        value = math.nan if isinstance(row[key], bool | list | dict) else float(row[key])
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where}: {key} is {str(row[key])[:40]!r}; expected a finite number")
    return value


def _whole(where: str, row: Mapping[str, Any], key: str) -> int:
    """Read the number of an antenna."""
    value = _number(where, row, key)
    if value != int(value) or not 0 <= value < 1024:
        raise DataError(f"{where}: {key} is {value:g}; expected the antenna's number, from 0")
    return int(value)
