"""Where the radar was, from the track of a motion capture system or a robot.

A track is a text table: a timestamp, x, y, z and, where the body turns, a unit quaternion that rotates vectors of the
body into the world. Columns go by their names, in the usual spellings, units in brackets or as a suffix (`t [ns]`,
`x_mm`); a table without names is read as timestamp x y z [qx qy qz qw], the order of the TUM benchmark.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from saccade.errors import DataError
from saccade.files import read_text
from saccade.rotations import rotation

MAX_BYTES = 1 << 30
_UNITS = {"s": 1.0, "sec": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "m": 1.0, "cm": 1e-2, "mm": 1e-3}
_TIME = ("timestamp", "time", "t", "stamp", "timestamp_sec", "sec", "seconds", "header_stamp")
_NAMES = {
    **dict.fromkeys(_TIME, "t"),
    **{
        spelling: axis
        for axis in "xyz"
        for spelling in (
            axis, f"p{axis}", f"t{axis}", f"p_{axis}", f"t_{axis}", f"pos_{axis}", f"position_{axis}", f"{axis}_pos",
            f"translation_{axis}", f"pose_position_{axis}", f"pose_pose_position_{axis}",
        )
    },
    **{
        spelling: f"q{part}"
        for part in "wxyz"
        for spelling in (
            f"q{part}", f"q_{part}", f"quat_{part}", f"quaternion_{part}", f"orientation_{part}", f"rotation_{part}",
            f"pose_orientation_{part}", f"pose_pose_orientation_{part}",
        )
    },
    "w": "qw",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Track:
    """Poses of the tracked body at strictly rising times."""

    times: np.ndarray
    """(M,) seconds."""
    positions: np.ndarray
    """(M, 3) metres."""
    rotations: np.ndarray | None
    """(M, 4) unit quaternions w x y z, or None where the body never turns."""
    name: str = "poses"

    def at(
        self,
        times: np.ndarray,
        *,
        lever_arm: Sequence[float] = (0.0, 0.0, 0.0),
        mount: Sequence[float] = (1.0, 0.0, 0.0, 0.0),
        max_gap: float | None = None,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Interpolate the radar's pose: positions linearly, rotations along the shortest arc.

        Args:
            times: Any shape, seconds on the clock of the track.
            lever_arm: Origin of the radar's frame in the body's frame, metres.
            mount: Quaternion w x y z that rotates vectors of the radar's frame into the body's.
            max_gap: Longest time between two poses to interpolate over, seconds; ten times the median by default.

        Returns:
            Positions (..., 3) and rotations (..., 3, 3), the latter None where nothing turns.

        Raises:
            DataError: Times outside the track, or in a gap of it.
        """
        times = np.asarray(times, np.float64)
        first, last = self.times[0], self.times[-1]
        if times.min() < first or times.max() > last:
            raise DataError(
                f"{self.name}: poses run from {first:.6f} to {last:.6f} s and the scan from {times.min():.6f} "
                f"to {times.max():.6f} s; expected them to cover it, so record longer or say --clock-offset, which "
                "is added to the timestamps"
            )
        step = np.diff(self.times)
        limit = 10 * float(np.median(step)) if max_gap is None else max_gap
        index = np.clip(np.searchsorted(self.times, times, "right") - 1, 0, len(step) - 1)
        if (step[index] > limit).any():
            worst = index.reshape(-1)[step[index].reshape(-1).argmax()]
            raise DataError(
                f"{self.name}: no pose between {self.times[worst]:.6f} and {self.times[worst + 1]:.6f} s, during the "
                f"scan; expected gaps of at most {limit:.6g} s, so record again, or allow it with --max-gap"
            )
        part = (times - self.times[index]) / step[index]
        place = self.positions[index] + part[..., None] * (self.positions[index + 1] - self.positions[index])
        arm, turn = _vector(lever_arm, 3, "lever arm"), _unit(_vector(mount, 4, "mount"), "mount")
        if self.rotations is None:
            still = np.allclose(turn, (1, 0, 0, 0))
            return place + arm, None if still else np.broadcast_to(rotation(turn), (*times.shape, 3, 3))
        body = rotation(slerp(self.rotations[index], self.rotations[index + 1], part))
        return place + body @ arm, body @ rotation(turn)


def read_track(path: Path | str, *, clock_offset: float = 0.0) -> Track:
    """Read a track.

    Args:
        path: Table separated by commas, semicolons, tabs or blanks; lines that begin with # are comments, except a
            first one that names the columns.
        clock_offset: Seconds to add to the timestamps to get to the radar's clock, whose 0 is the first frame.

    Raises:
        DataError: A column, value or timestamp that is missing, not finite or out of order, by its line.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(
            f"{path}: no such file; expected a table of poses (timestamp, x, y, z, qw, qx, qy, qz)"
        )
    lines = read_text(path, max_bytes=MAX_BYTES, what="a table of poses").splitlines()
    rows = _split(lines)
    if not rows:
        raise DataError(f"{path}: no rows; expected a table of poses (timestamp, x, y, z, qw, qx, qy, qz)")
    columns, scales, rows = _columns(path, rows)
    table = (
        np.array([_row(path, number, cells, columns) for number, cells in rows]).reshape(-1, len(columns))
        * scales
    )
    if not math.isfinite(clock_offset):
        raise DataError(f"{path}: the clock offset is {clock_offset}; expected finite seconds")
    if len(table) < 2:
        raise DataError(f"{path}: {len(table)} poses; expected at least two to interpolate between")
    times = table[:, 0] + clock_offset
    if (back := np.flatnonzero(np.diff(times) <= 0)).size:
        at = int(back[0])
        raise DataError(
            f"{path}: line {rows[at + 1][0]}: timestamp {rows[at + 1][1][columns[0]].strip()} does not come after "
            f"{rows[at][1][columns[0]].strip()}; expected rising times, so sort the rows or remove the repeated one"
        )
    rotations = None
    if len(columns) == 8:
        norm = np.linalg.norm(table[:, 4:], axis=1)
        if (off := np.flatnonzero(np.abs(norm - 1) > 0.05)).size:
            raise DataError(
                f"{path}: line {rows[int(off[0])][0]}: the quaternion has length {norm[off[0]]:.4g}; expected 1, so "
                "check the columns qw qx qy qz"
            )
        rotations = table[:, 4:] / norm[:, None]
    return Track(times, table[:, 1:4], rotations, str(path))


def slerp(one: np.ndarray, two: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Turn from one rotation to another along the shortest arc.

    Args:
        one: (..., 4) unit quaternions.
        two: (..., 4).
        part: (...), 0 gives `one` and 1 gives `two`.

    Returns:
        (..., 4) unit quaternions.
    """
    cos = (one * two).sum(-1)
    two = np.where((cos < 0)[..., None], -two, two)  # q and -q are the same rotation
    angle = np.arccos(np.clip(np.abs(cos), 0, 1))
    sin = np.sin(angle)
    small = sin < 1e-6
    safe = np.where(small, 1, sin)
    first = np.where(small, 1 - part, np.sin((1 - part) * angle) / safe)
    second = np.where(small, part, np.sin(part * angle) / safe)
    mixed = first[..., None] * one + second[..., None] * two
    return mixed / np.linalg.norm(mixed, axis=-1, keepdims=True)


def _vector(value: Sequence[float], count: int, name: str) -> np.ndarray:
    """Check a vector given by hand."""
    found = np.asarray(value, np.float64)
    if found.shape != (count,) or not np.isfinite(found).all():
        raise DataError(f"{name}: {list(value)}; expected {count} finite numbers")
    return found


def _unit(value: np.ndarray, name: str) -> np.ndarray:
    """Check and normalise a quaternion given by hand."""
    norm = float(np.linalg.norm(value))
    if abs(norm - 1) > 0.05:
        raise DataError(f"{name}: the quaternion {value.tolist()} has length {norm:.4g}; expected 1")
    return value / norm


def _split(lines: list[str]) -> list[tuple[int, list[str]]]:
    """Cut lines into cells, with their numbers; comments go, except one that names columns."""
    kept = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    while len(kept) > 1 and kept[0][1].startswith("#") and not _names_columns(kept[0][1]):
        kept = kept[1:]
    if kept and kept[0][1].startswith("#"):
        kept[0] = (kept[0][0], kept[0][1].lstrip("# "))
    kept = [(number, line) for number, line in kept if not line.startswith("#")]
    if not kept:
        return []
    sample = kept[-1][1]
    mark = next((mark for mark in (";", "\t", ",") if mark in sample), " ")
    if mark == " ":
        return [(number, line.split()) for number, line in kept]
    return [(number, [cell.strip(' "') for cell in line.split(mark)]) for number, line in kept]


def _names_columns(line: str) -> bool:
    """Whether a comment holds the names of a time and a position."""
    found = {_plain(cell)[0] for cell in re.split(r"[,;\t]|\s+(?![\[(])", line.lstrip("# "))}
    return {"t", "x", "y", "z"} <= found


def _plain(cell: str) -> tuple[str, float]:
    """Return the plain name of a column ("" when unknown) and the factor to seconds or metres."""
    name = cell.strip().strip('"').lstrip("#%").strip().lower()
    scale = 1.0
    if unit := re.search(r"[\[(]\s*([a-z]*)\s*[\])]\s*$", name):
        name, scale = name[: unit.start()].strip(), _UNITS.get(unit[1], 1.0)
    name = re.sub(r"[\s.\-/]+", "_", name)
    name = re.sub(r"(?<=[pq]_)[a-z]{1,3}_[a-z]{0,3}_?(?=[wxyz]$)", "", name)  # p_RS_R_x: frames in between
    for known in (name, name.removeprefix("field_")):
        if known in _NAMES:
            return _NAMES[known], scale
    head, _, tail = name.rpartition("_")
    if head and tail in _UNITS and head in _NAMES:
        return _NAMES[head], _UNITS[tail]
    return "", 1.0


def _columns(
    path: Path, rows: list[tuple[int, list[str]]]
) -> tuple[list[int], np.ndarray, list[tuple[int, list[str]]]]:
    """Find the columns: indices and scales in the order t x y z [qw qx qy qz]; and the rows without a header."""
    head = rows[0][1]
    try:
        for cell in head:
            float(cell)
    except ValueError:
        found: dict[str, tuple[int, float]] = {}
        for index, cell in enumerate(head):
            name, scale = _plain(cell)
            if name:
                found.setdefault(name, (index, scale))
        wanted = ["t", "x", "y", "z"]
        if found.keys() & {"qw", "qx", "qy", "qz"}:
            wanted += ["qw", "qx", "qy", "qz"]
        titles = {"t": "timestamp"}
        for name in wanted:
            if name not in found:
                raise DataError(
                    f"{path}: line {rows[0][0]}: no column {titles.get(name, name)}; expected timestamp, x, y, "
                    "z and, for rotations, qw, qx, qy, qz, and found "
                    f"{', '.join(cell.strip()[:20] for cell in head[:12])}"
                ) from None
        return [found[name][0] for name in wanted], np.array([found[name][1] for name in wanted]), rows[1:]
    if len(head) not in (4, 8):
        raise DataError(
            f"{path}: line {rows[0][0]}: {len(head)} columns without names; expected timestamp x y z [qx qy qz qw], "
            "or a first line with names"
        )
    order = [0, 1, 2, 3] + ([7, 4, 5, 6] if len(head) == 8 else [])
    return order, np.ones(len(order)), rows


def _row(path: Path, number: int, cells: list[str], columns: list[int]) -> list[float]:
    """Read the numbers of a row."""
    values = []
    for name, index in zip(("timestamp", "x", "y", "z", "qw", "qx", "qy", "qz"), columns, strict=False):
        cell = cells[index].strip() if index < len(cells) else ""
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise DataError(
                f"{path}: line {number}: {name} is {cell[:40] or 'missing'!r}; expected a finite number, so leave "
                "such rows out"
            )
        values.append(value)
    return values
