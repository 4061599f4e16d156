"""Where an image is formed, and the image with its axes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from saccade.errors import ConfigError


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

    @staticmethod
    def plane(x: np.ndarray, y: np.ndarray, z: float) -> Grid:
        """Make a picture's grid at depth z."""
        return Grid(x, y, np.array([z]))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along x, y and z."""
        return len(self.x), len(self.y), len(self.z)

    def points(self) -> np.ndarray:
        """Return every voxel, (nx * ny * nz, 3), z fastest."""
        return np.stack(np.meshgrid(self.x, self.y, self.z, indexing="ij"), -1).reshape(-1, 3)


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
