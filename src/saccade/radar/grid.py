"""Where an image is formed, and the image with its axes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from saccade.errors import ConfigError

if TYPE_CHECKING:
    from saccade.radar.scan import Scan

MAX_SIDE = 100_000
"""Voxels along one axis."""
MAX_VOXELS = 2**28
"""Voxels altogether: their positions alone take 6 GiB."""


@dataclass(frozen=True, eq=False)
class Grid:
    """A box of voxels: the three axes in metres. A picture is a grid with one depth."""

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray

    def __post_init__(self) -> None:
        """Check that axes grow."""
        for name in ("x", "y", "z"):
            axis = np.atleast_1d(np.asarray(getattr(self, name), np.float64))
            if axis.ndim != 1 or not axis.size or not np.isfinite(axis).all() or (np.diff(axis) <= 0).any():
                raise ConfigError(f"grid: {name} has to be finite and growing, in metres")
            object.__setattr__(self, name, axis)
        if self.size > MAX_VOXELS:
            raise ConfigError(
                f"grid: {' x '.join(str(n) for n in self.shape)} voxels; at most {MAX_VOXELS}, use a larger step or "
                "image it in parts"
            )

    @staticmethod
    def plane(x: np.ndarray, y: np.ndarray, z: float) -> Grid:
        """Make a picture's grid at depth z."""
        return Grid(x, y, np.array([z]))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along x, y and z."""
        return len(self.x), len(self.y), len(self.z)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of an image on the grid: (nx, ny) for one depth, else (nx, ny, nz)."""
        return self.shape[:2] if len(self.z) == 1 else self.shape

    @property
    def size(self) -> int:
        """Voxels altogether."""
        return len(self.x) * len(self.y) * len(self.z)

    def points(self) -> np.ndarray:
        """Return every voxel, (nx * ny * nz, 3), z fastest."""
        return np.stack(np.meshgrid(self.x, self.y, self.z, indexing="ij"), -1).reshape(-1, 3)


def parse_axis(text: str, name: str) -> np.ndarray:
    """Read "START:STOP:STEP" in metres, STOP included, or one number.

    Raises:
        ConfigError: Not such a range, or one of more than `MAX_SIDE` voxels.
    """
    parts = text.split(":")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) == 1 and np.isfinite(numbers[0]):
        return np.array(numbers)
    if len(numbers) != 3 or not np.isfinite(numbers).all() or numbers[2] <= 0 or numbers[1] < numbers[0]:
        raise ConfigError(f"{name} is {text!r}; expected metres, or START:STOP:STEP with a growing range")
    if numbers[2] > numbers[1] - numbers[0] > 0:
        raise ConfigError(
            f"{name} is {text!r}: its step is longer than its range; the third number is the step in metres"
        )
    count = int((numbers[1] - numbers[0]) / numbers[2] + 1e-6) + 1
    if count > MAX_SIDE:
        raise ConfigError(f"{name} {text!r} has {count} voxels; at most {MAX_SIDE}, use a larger step")
    return numbers[0] + np.arange(count) * numbers[2]


@dataclass(eq=False)
class RadarImage:
    """Values on a grid: (nx, ny) for one depth, else (nx, ny, nz); complex, or magnitudes."""

    values: np.ndarray
    grid: Grid
    method: str
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def magnitude(self) -> np.ndarray:
        """Absolute values."""
        return np.abs(self.values)

    def decibels(self, floor: float = -25.0) -> np.ndarray:
        """20 log10 of the magnitude over its maximum, not below `floor`."""
        size = self.magnitude
        top = size.max()
        if top == 0:
            return np.full(size.shape, floor)
        return np.maximum(20 * np.log10(np.maximum(size / top, 10 ** (floor / 20 - 1))), floor)


def grid_of(
    scan: Scan, depth: str | None, x: str | None, y: str | None, side: str = "-0.1:0.099:0.001"
) -> Grid:
    """Make the grid that texts describe; see `parse_axis`.

    Args:
        scan: Says how far its target is, when it is simulated.
        depth: z; the scan's own when left out.
        x: `side` when left out.
        y: The same.
        side: Of x and y.

    Raises:
        ConfigError: A range that cannot be read, or no depth.
    """
    if depth is None:
        known = scan.meta.get("depth")
        if not isinstance(known, (int, float)):
            raise ConfigError(
                "the scan does not say how far its target is; give --depth in metres, or START:STOP:STEP for a volume"
            )
        depth = str(known)
    return Grid(parse_axis(x or side, "x"), parse_axis(y or side, "y"), parse_axis(depth, "depth"))
