"""Fast imaging of planar scans: one phase per channel and frequency, then Fourier transforms.

EMPM ("efficient multi-planar multistatic"): Smith, Alimam, Vedula, Torlak, arXiv 2305.02064. Samples of irregular
depth and of antenna pairs are moved to one plane of single antennas by the phase of their excess path

    beta_l = 2 (z0 - z_l) + (d_x^2 + d_y^2) / (4 z_ref)

with z_l the depth of the pair's mid-point and d its transmitter minus receiver (the d_x term is ours, by the same
derivation). It holds near boresight and for |z_l - z0| small against the target's depth.
"""

from __future__ import annotations

import numpy as np

from saccade.errors import ConfigError, DataError
from saccade.radar.grid import Grid, RadarImage
from saccade.radar.scan import Scan


def excess_path(tx: np.ndarray, rx: np.ndarray, plane: float, depth: float) -> np.ndarray:
    """Compute beta of each pair, metres.

    Args:
        tx: (..., 3).
        rx: (..., 3).
        plane: z0, the plane to move to, metres.
        depth: z_ref, distance from there to the target, metres, positive.

    Raises:
        ConfigError: The target is not in front of the plane.
    """
    if depth <= 0:
        raise ConfigError(
            f"the reference depth is {depth} m; expected a positive distance in front of the array"
        )
    apart = tx - rx
    return 2 * (plane - (tx + rx)[..., 2] / 2) + (apart[..., 0] ** 2 + apart[..., 1] ** 2) / (4 * depth)


def to_plane(scan: Scan, plane: float, depth: float) -> np.ndarray:
    """Move a scan's samples to single antennas in one plane: (P, C, N) complex."""
    beta = excess_path(scan.tx, scan.rx, plane, depth)
    return scan.samples * np.exp(-1j * beta[..., None] * scan.waveform.wavenumbers)


def uniform_axes(positions: np.ndarray, where: str = "scan") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the uniform x-y grid that mid-points lie on.

    Args:
        positions: (L, 3) metres.
        where: For messages.

    Returns:
        x (nx,), y (ny,), and the grid cell of each element, (L,) as ix * ny + iy.

    Raises:
        DataError: They lie on no full, uniform grid; says what to use instead.
    """
    axes, cells = [], []
    for axis, name in ((0, "x"), (1, "y")):
        values = np.unique(np.round(positions[:, axis], 7))
        merged = values[np.concatenate([[True], np.diff(values) > 1e-6])]
        steps = np.diff(merged)
        if len(steps) and np.ptp(steps) > 1e-3 * steps.mean():
            raise DataError(
                f"{where}: the antennas' mid-points are not evenly spaced along {name}; use method backprojection"
            )
        axes.append(merged)
        step = steps.mean() if len(steps) else 1.0
        cells.append(np.rint((positions[:, axis] - merged[0]) / step).astype(np.int64))
    cell = cells[0] * len(axes[1]) + cells[1]
    if len(np.unique(cell)) != len(axes[0]) * len(axes[1]) or len(cell) != len(np.unique(cell)):
        raise DataError(
            f"{where}: {len(cell)} mid-points do not fill a grid of {len(axes[0])} x {len(axes[1])} once each; use "
            "method backprojection"
        )
    return axes[0], axes[1], cell


def plane_image(
    samples: np.ndarray,
    wavenumbers: np.ndarray,
    steps: tuple[float, float],
    depth: float,
    *,
    size: int | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Focus a uniform scan of single antennas at one depth, by a matched filter in the wavenumber domain.

    Args:
        samples: (nx, ny, N) complex.
        wavenumbers: (N,) rad/m.
        steps: Spacing of the antennas along x and y, metres.
        depth: Distance from the plane, metres, positive.
        size: Pixels along each side, at least the antennas; the next power of two that holds twice them by default.

    Returns:
        Image (size, size) complex with the antennas' spacing, and its x and y axes from the scan's centre.
    """
    nx, ny, _ = samples.shape
    size = int(size or 2 ** int(np.ceil(np.log2(2 * max(nx, ny)))))
    if size < max(nx, ny):
        raise ConfigError(f"size is {size}; expected at least the {max(nx, ny)} antennas of a side")
    waves = [2 * np.pi * np.fft.fftfreq(size, step) for step in steps]
    transverse = waves[0][:, None] ** 2 + waves[1][None] ** 2
    spectrum = np.zeros((size, size), np.complex128)
    for n, k in enumerate(wavenumbers):
        depthwise = 4 * k * k - transverse
        wave = np.exp(-1j * np.sqrt(np.maximum(depthwise, 0)) * depth) * (depthwise > 0)
        spectrum += np.fft.fft2(samples[:, :, n], (size, size)) * wave
    # Antennas lie at (i - (n - 1) / 2) step and pixels at (i - (size - 1) / 2) step: shift by the difference.
    for axis, (n, step) in enumerate(((nx, steps[0]), (ny, steps[1]))):
        turn = np.exp(-1j * waves[axis] * step * (size - n) / 2)
        spectrum *= turn[:, None] if axis == 0 else turn[None]
    axes = [(np.arange(size) - (size - 1) / 2) * step for step in steps]
    return np.fft.ifft2(spectrum) / size**2, axes[0], axes[1]


def empm(scan: Scan, grid: Grid, *, plane: float | None = None, size: int | None = None) -> RadarImage:
    """Image a planar scan with irregular depth: EMPM, then a Fourier transform.

    Args:
        scan: Mid-points on a full uniform x-y grid; their depth may vary.
        grid: One depth; the image is interpolated bilinearly at its x and y.
        plane: z0; the mean depth of the mid-points by default.
        size: Of the transforms; see `plane_image`.

    Returns:
        Complex image (nx, ny).

    Raises:
        ConfigError: More than one depth, or a depth behind the antennas.
        DataError: Mid-points that do not fill a uniform grid.
    """
    scan.check()
    if grid.shape[2] != 1:
        raise ConfigError(
            f"method empm images one depth and the grid has {grid.shape[2]}; use backprojection for volumes"
        )
    middle = scan.virtual.reshape(-1, 3)
    x, y, cell = uniform_axes(middle)
    if len(x) < 2 or len(y) < 2:
        raise DataError("scan: an image needs at least two antenna positions along x and along y")
    z0 = float(middle[:, 2].mean()) if plane is None else plane
    depth = float(grid.z[0]) - z0
    moved = to_plane(scan, z0, depth).reshape(len(cell), -1)
    ordered = np.empty_like(moved)
    ordered[cell] = moved
    values, px, py = plane_image(
        ordered.reshape(len(x), len(y), -1),
        scan.waveform.wavenumbers,
        (x[1] - x[0], y[1] - y[0]),
        depth,
        size=size,
    )
    px, py = px + (x[0] + x[-1]) / 2, py + (y[0] + y[-1]) / 2
    return RadarImage(_sample(values, px, py, grid), grid, "empm", {"plane": z0})


def _sample(values: np.ndarray, px: np.ndarray, py: np.ndarray, grid: Grid) -> np.ndarray:
    """Interpolate an image bilinearly at the grid's x and y; zero outside."""
    weights = []
    for axis, want in ((px, grid.x), (py, grid.y)):
        at = (want - axis[0]) / (axis[1] - axis[0])
        low = np.clip(np.floor(at).astype(np.int64), 0, len(axis) - 2)
        part = np.where((at < 0) | (at > len(axis) - 1), np.nan, at - low)
        weights.append((low, part))
    (ix, fx), (iy, fy) = weights
    inside = np.isfinite(fx)[:, None] & np.isfinite(fy)[None]
    fx, fy = np.nan_to_num(fx)[:, None], np.nan_to_num(fy)[None]
    upper = values[np.ix_(ix, iy)] * (1 - fy) + values[np.ix_(ix, iy + 1)] * fy
    lower = values[np.ix_(ix + 1, iy)] * (1 - fy) + values[np.ix_(ix + 1, iy + 1)] * fy
    return (upper * (1 - fx) + lower * fx) * inside
