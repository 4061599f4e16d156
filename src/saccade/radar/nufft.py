"""Imaging of scans whose x-y positions lie on no grid: non-uniform Fourier transforms in place of plain ones.

For each wavenumber the plane waves of the scan are sum_l w_l s[l] exp(-j (k_x x_l + k_y y_l)), exact in x and y, with
w_l the area that element l stands for. Depth is handled as everywhere: moved to one plane by EMPM's phase first.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from saccade.errors import DataError
from saccade.extras import require
from saccade.radar.grid import Grid, RadarImage
from saccade.radar.migrate import depth_waves, focus_spectrum, slant
from saccade.radar.planar import to_plane
from saccade.radar.scan import Scan

TOLERANCE = 1e-5
"""Relative error of the transforms."""
LARGEST_SHARE = 4.0
"""An element stands for at most so many times the median area: holes in a scan are not to be filled by their rims."""


def nufft(scan: Scan, grid: Grid, *, threads: int | None = None) -> RadarImage:
    """Image a planar scan with irregular positions.

    Args:
        scan: Elements spread over an area; their depth may vary a little.
        grid: In front of the scan.
        threads: Of the transforms; all cores by default.

    Returns:
        Complex image; (nx, ny) for one depth, else (nx, ny, nz).

    Raises:
        ConfigError: A volume too large for memory.
        DataError: Positions on a line, or a single frequency.
        MissingExtraError: finufft or scipy (extra `radar`) is not installed.
    """
    finufft: Any = require("finufft", "radar", "for scans with irregular positions")
    scan.check()
    wavenumbers = scan.waveform.wavenumbers
    if len(wavenumbers) < 2:
        raise DataError("waveform: method nufft needs at least two frequencies; use backprojection")
    middle = scan.virtual.reshape(-1, 3)
    plane = float(middle[:, 2].mean())
    depth = float((grid.z[0] + grid.z[-1]) / 2) - plane
    moved = to_plane(scan, plane, depth).reshape(len(middle), -1)
    share = cell_areas(middle[:, :2])
    sideways = slant(middle[:, 0], middle[:, 1], grid)
    near = max(float(grid.z[0]) - plane, 1e-3)
    widest = 2 * float(wavenumbers[-1]) * sideways / math.hypot(sideways, near)
    origin = middle[:, :2].mean(0)
    waves, places = [], []
    for axis, wanted in ((0, grid.x), (1, grid.y)):
        at = middle[:, axis]
        # Plane waves this close together repeat the scan no nearer than any voxel lies to any antenna.
        period = np.ptp(at) + max(at.max(), wanted[-1]) - min(at.min(), wanted[0])
        count = 2 * (math.ceil(widest * period / (2 * np.pi)) + 1)
        waves.append((np.arange(count) - count // 2) * (2 * np.pi / period))
        places.append(np.ascontiguousarray((at - origin[axis]) * (2 * np.pi / period), np.float32))
    kz = depth_waves(wavenumbers, plane, grid, sideways, (len(waves[0]), len(waves[1])))
    strengths = np.ascontiguousarray((moved * share[:, None]).T, np.complex64)
    spectrum = finufft.nufft2d1(
        places[0],
        places[1],
        strengths,
        (len(waves[0]), len(waves[1])),
        eps=TOLERANCE,
        isign=-1,
        nthreads=threads or 0,
    )
    spectrum = np.moveaxis(np.asarray(spectrum), 0, 2)
    values = focus_spectrum(
        spectrum,
        (waves[0], waves[1]),
        wavenumbers,
        (float(origin[0]), float(origin[1]), plane),
        grid,
        kz,
    )
    values = values * np.float32(1 / (share.mean() * (len(waves[0]) * len(waves[1])) ** 2))
    return RadarImage(values, grid, "nufft", {"plane": plane})


def cell_areas(positions: np.ndarray) -> np.ndarray:
    """Return the area nearest to each position (its Voronoi cell), square metres.

    Cells on the rim are open: they get the median area, as do cells larger than `LARGEST_SHARE` times it.

    Args:
        positions: (L, 2) metres; those that coincide share one cell.

    Raises:
        DataError: All on one line.
    """
    spatial: Any = require("scipy.spatial", "radar", "for scans with irregular positions")
    unique, inverse, counts = np.unique(
        np.round(positions, 8), axis=0, return_inverse=True, return_counts=True
    )
    if len(unique) < 4 or np.linalg.matrix_rank(unique - unique.mean(0), tol=1e-6) < 2:
        raise DataError(
            "scan: positions lie on one line; method nufft needs an area, use backprojection or rma"
        )
    diagram = spatial.Voronoi(unique - unique.mean(0))
    areas = np.full(len(unique), np.nan)
    for index, region in enumerate(diagram.point_region):
        corners = diagram.regions[region]
        if corners and -1 not in corners:
            x, y = diagram.vertices[corners].T
            areas[index] = 0.5 * abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))
    median = float(np.nanmedian(areas)) if np.isfinite(areas).any() else 1.0
    areas = np.where(np.isfinite(areas) & (areas <= LARGEST_SHARE * median), areas, median)
    return (areas / counts)[inverse.reshape(-1)]
