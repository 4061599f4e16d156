"""Range migration: a whole volume from one planar scan, by Fourier transforms and Stolt's interpolation.

A uniform scan of single antennas at depth z0 records for a point at (x, y, z), after a transform over x and y,
exp(j k_z (z - z0) - j k_x x - j k_y y) up to a slowly varying factor, with k_z = sqrt(4 k^2 - k_x^2 - k_y^2)
(stationary phase). Interpolated from even steps of k to even steps of k_z, an inverse transform in three dimensions
gives the volume. Scans of irregular depth and of antenna pairs are moved to one plane first, as in `planar`.

Deviations from the published code (Smith et al., arXiv 2305.02064): depth counts from the plane itself, where theirs
reads one step too large; k_z is sampled over the sweep only, and the sum over it is taken at any depth;
the window is the user's choice, where theirs is a Blackman-Harris window over the padded axis.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from saccade.errors import ConfigError, DataError
from saccade.extras import require
from saccade.radar.grid import Grid, RadarImage
from saccade.radar.planar import at_positions, ordered_plane, padded_sizes
from saccade.radar.scan import Scan

DEPTH_OVERSAMPLING = 2.0
"""Depth samples per resolution cell, before interpolation to the wanted depths."""
MAX_VALUES = 2**29
"""Complex numbers of the spectrum; a larger volume is refused."""


def migrate(scan: Scan, grid: Grid, *, threads: int | None = None) -> RadarImage:
    """Image a volume (or one depth) by range migration.

    Args:
        scan: Mid-points on a full uniform x-y grid, or on a line along x or y; their depth may vary a little.
        grid: In front of the scan; the volume is interpolated linearly at its voxels.
        threads: Of the transforms; all cores by default.

    Returns:
        Complex image; (nx, ny) for one depth, else (nx, ny, nz).

    Raises:
        ConfigError: A volume too large for memory.
        DataError: Mid-points that do not fill a uniform grid, or a single frequency.
    """
    fft: Any = require("scipy.fft", "radar", "for range migration")
    wavenumbers = scan.waveform.wavenumbers
    if len(wavenumbers) < 2:
        raise DataError("waveform: range migration needs at least two frequencies; use method backprojection")
    middle = float((grid.z[0] + grid.z[-1]) / 2)
    samples, x, y, plane = ordered_plane(scan, middle, lines=True)
    sizes = padded_sizes(x, y, grid)
    steps = [float(axis[1] - axis[0]) if len(axis) > 1 else 1.0 for axis in (x, y)]
    kz = depth_waves(wavenumbers, plane, grid, slant(x, y, grid), sizes)
    kx, ky = (2 * np.pi * np.fft.fftfreq(n, size) for n, size in zip(sizes, steps, strict=True))
    spectrum = fft.fft2(np.asarray(samples, np.complex64), s=sizes, axes=(0, 1), workers=threads or -1)
    values = focus_spectrum(spectrum, (kx, ky), wavenumbers, (x[0], y[0], plane), grid, kz)
    values = values * np.float32(1 / (sizes[0] * sizes[1]) ** 2)
    return RadarImage(values, grid, "rma", {"plane": plane})


def slant(x: np.ndarray, y: np.ndarray, grid: Grid) -> float:
    """Return the farthest that an antenna and a voxel lie apart across the line of sight, metres."""
    pairs = ((x, grid.x), (y, grid.y))
    return math.hypot(*(max(a.max() - g[0], g[-1] - a.min(), 0.0) if len(a) > 1 else 0.0 for a, g in pairs))


def depth_waves(
    wavenumbers: np.ndarray, plane: float, grid: Grid, sideways: float, counts: tuple[int, int]
) -> np.ndarray:
    """Choose even steps of k_z that hold what antennas hear from a volume, rad/m.

    Args:
        wavenumbers: (N,) evenly spaced, rad/m.
        plane: Depth of the antennas, metres.
        grid: Wanted voxels.
        sideways: How far voxels lie from antennas across the line of sight (`slant`): what comes in at an angle has a
            k_z smaller by its cosine.
        counts: Plane waves along x and y.

    Raises:
        ConfigError: A volume too large for memory.
    """
    doubled = 2 * wavenumbers
    step = float(doubled[1] - doubled[0])
    near = max(float(grid.z[0]) - plane, 1e-3)
    low = float(doubled[0]) * max(near / math.hypot(near, sideways), 0.05)
    count = math.ceil((float(doubled[-1]) - low) / (step / DEPTH_OVERSAMPLING)) + 1
    if counts[0] * counts[1] * count > MAX_VALUES:
        raise ConfigError(
            f"grid: this method would need {counts[0]} x {counts[1]} x {count} values; image a "
            "smaller part, or use method range-compressed"
        )
    return np.linspace(low, float(doubled[-1]), count)


def focus_spectrum(
    spectrum: np.ndarray,
    waves: tuple[np.ndarray, np.ndarray],
    wavenumbers: np.ndarray,
    origin: tuple[float, float, float],
    grid: Grid,
    kz: np.ndarray,
) -> np.ndarray:
    """Form a volume from the plane waves of each wavenumber.

    Args:
        spectrum: (Kx, Ky, N) complex64, of antennas at depth origin[2], with phases counted from origin's x and y.
        waves: kx (Kx,) and ky (Ky,) in rad/m.
        wavenumbers: (N,) evenly spaced, rad/m.
        origin: x, y, z in metres.
        grid: Wanted voxels.
        kz: Of `depth_waves`.

    Returns:
        Complex image (nx, ny) for one depth, else (nx, ny, nz): a sum over plane waves and sweep, without 1 / n.
    """
    middle = float((grid.z[0] + grid.z[-1]) / 2)
    doubled = 2 * wavenumbers
    transverse = waves[0][:, None] ** 2 + waves[1][None] ** 2
    volume = _stolt(spectrum, transverse, doubled, kz, middle - origin[2])
    planes = volume @ np.exp(-1j * np.outer(kz, grid.z - middle)).astype(np.complex64)
    values = at_positions(planes, waves[0], grid.x - origin[0], 0)
    values = at_positions(values, waves[1], grid.y - origin[1], 1) * np.float32(
        (kz[1] - kz[0]) / (doubled[1] - doubled[0])
    )
    return values[..., 0] if grid.shape[2] == 1 else values


def _stolt(
    spectrum: np.ndarray, transverse: np.ndarray, doubled: np.ndarray, kz: np.ndarray, depth: float
) -> np.ndarray:
    """Interpolate from even steps of 2k to even steps of k_z, linearly, zero outside: (Kx, Ky, len(kz)) complex64.

    The phase is taken to the middle depth first, where it varies slowest: errors grow with the distance from there.
    """
    high, wide, count = spectrum.shape
    out = np.zeros((high, wide, len(kz)), np.complex64)
    first, step = doubled[0], doubled[1] - doubled[0]
    lines = np.arange(wide)[:, None]
    for row in range(high):
        square = doubled[None] ** 2 - transverse[row][:, None]
        turn = np.exp(-1j * np.sqrt(np.maximum(square, 0)) * depth)
        known = (spectrum[row] * np.where(square > 0, turn, 0)).astype(np.complex64)
        radius = np.sqrt(kz[None] ** 2 + transverse[row][:, None])
        at = (radius - first) / step
        low = np.floor(at).astype(np.int64)
        valid = (low >= 0) & (low < count - 1)
        low = np.clip(low, 0, count - 2)
        share = (at - low).astype(np.float32)
        a, b = known[lines, low], known[lines, low + 1]
        # Even steps of k_z stand for steps of 2k that are smaller by k_z / 2k.
        out[row] = np.where(valid, (a + share * (b - a)) * (kz[None] / radius), 0)
    return out
