"""Fast imaging of planar scans: one phase per channel and frequency, then Fourier transforms.

EMPM ("efficient multi-planar multistatic"): Smith, Alimam, Vedula, Torlak, arXiv 2305.02064. Samples of irregular
depth and of antenna pairs are moved to one plane of single antennas by the phase of their excess path

    beta_l = 2 (z0 - z_l) + (d_x^2 + d_y^2) / (4 z_ref)

with z_l the depth of the pair's mid-point and d its transmitter minus receiver (the d_x term is ours, by the same
derivation). It holds near boresight and for |z_l - z0| small against the target's depth.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from saccade.errors import ConfigError, DataError, MissingExtraError
from saccade.extras import require
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
    beta = excess_path(scan.tx, scan.rx, plane, depth)[..., None]
    k = scan.waveform.wavenumbers
    if scan.samples.dtype != np.complex64:
        return scan.samples * np.exp(-1j * beta * k)
    # One exponential in float64 for the first frequency; the rest of the sweep is a small angle, fit for float32.
    start = np.exp(-1j * beta * k[0]).astype(np.complex64)
    angle = np.asarray(beta, np.float32) * (k - k[0]).astype(np.float32)
    rest = np.empty(angle.shape, np.complex64)
    rest.real, rest.imag = np.cos(angle), -np.sin(angle)
    return scan.samples * (start * rest)


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
    spectrum, waves = plane_spectrum(samples, wavenumbers, steps, depth, (size, size))
    # Antennas lie at (i - (n - 1) / 2) step and pixels at (i - (size - 1) / 2) step: shift by the difference.
    for axis, (n, step) in enumerate(((nx, steps[0]), (ny, steps[1]))):
        turn = np.exp(-1j * waves[axis] * step * (size - n) / 2)
        spectrum *= turn[:, None] if axis == 0 else turn[None]
    axes = [(np.arange(size) - (size - 1) / 2) * step for step in steps]
    return np.fft.ifft2(spectrum) / size**2, axes[0], axes[1]


def plane_spectrum(
    samples: np.ndarray,
    wavenumbers: np.ndarray,
    steps: tuple[float, float],
    depth: float,
    sizes: tuple[int, int],
    *,
    workers: int = 1,
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Sum over the sweep what the matched filter leaves of each plane wave, in the precision of the samples.

    Args:
        samples: (nx, ny, N) complex; antenna (0, 0) is the origin of x and y.
        wavenumbers: (N,) rad/m.
        steps: Spacing of the antennas along x and y, metres.
        depth: Distance from the plane, metres.
        sizes: Plane waves along x and y, at least the antennas.
        workers: Threads of the transforms.

    Returns:
        Spectrum (sizes) in the order of `numpy.fft.fftfreq`, and its kx and ky in rad/m.
    """
    waves = [2 * np.pi * np.fft.fftfreq(count, step) for count, step in zip(sizes, steps, strict=True)]
    # The filter is the same for both signs of kx and ky: it is computed on a quarter and spread from there.
    halves = [count // 2 + 1 for count in sizes]
    mirror = [np.minimum(np.arange(count), count - np.arange(count)) for count in sizes]
    transverse = waves[0][: halves[0], None] ** 2 + waves[1][None, : halves[1]] ** 2
    single = samples.dtype == np.complex64
    spectrum = np.zeros(sizes, np.complex64 if single else np.complex128)
    fft2 = _transform(workers)
    for n, k in enumerate(wavenumbers):
        depthwise = 4 * k * k - transverse
        phase = np.sqrt(np.maximum(depthwise, 0)) * depth
        quarter = np.empty(phase.shape, spectrum.dtype)
        if single:
            phase = np.remainder(phase, 2 * np.pi).astype(np.float32)
        quarter.real, quarter.imag = np.cos(phase), -np.sin(phase)
        quarter[depthwise <= 0] = 0
        spectrum += fft2(samples[:, :, n], sizes) * quarter[mirror[0]][:, mirror[1]]
    return spectrum, (waves[0], waves[1])


def _transform(workers: int) -> Callable[[np.ndarray, tuple[int, int]], np.ndarray]:
    """Return a two-dimensional transform: scipy's, which uses threads, where it is installed, else NumPy's."""
    try:
        fft: Any = require("scipy.fft", "radar", "for threaded transforms")
    except MissingExtraError:
        return lambda values, sizes: np.fft.fft2(values, sizes)
    return lambda values, sizes: fft.fft2(values, sizes, workers=workers)


def at_positions(spectrum: np.ndarray, waves: np.ndarray, positions: np.ndarray, axis: int) -> np.ndarray:
    """Add up plane waves at any positions along one axis: an exact inverse transform without its 1 / n."""
    if len(waves) == 1:
        return np.repeat(spectrum, len(positions), axis)
    turn = np.outer(positions, waves)
    matrix = np.empty(turn.shape, spectrum.dtype)
    matrix.real, matrix.imag = np.cos(turn), np.sin(turn)
    return np.moveaxis(np.tensordot(matrix, spectrum, (1, axis)), 0, axis)


def padded_sizes(x: np.ndarray, y: np.ndarray, grid: Grid) -> tuple[int, int]:
    """Choose transform sizes with room for what lies beside the scan, which would come back in from the other side.

    A transform of length n repeats with period n steps: no antenna and no wanted pixel may be that far apart.
    """
    sizes = []
    for axis, wanted in ((x, grid.x), (y, grid.y)):
        if len(axis) < 2:
            sizes.append(1)
            continue
        step = (axis[-1] - axis[0]) / (len(axis) - 1)
        reach = max(axis[-1], wanted[-1]) - min(axis[0], wanted[0])
        need = max(2 * len(axis), int(np.ceil((reach + (axis[-1] - axis[0])) / step)) + 1)
        sizes.append(_fast_length(need))
    return sizes[0], sizes[1]


def _fast_length(need: int) -> int:
    """Return the next length whose prime factors are 2, 3 and 5."""
    while True:
        rest = need
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return need
        need += 1


def ordered_plane(
    scan: Scan, depth: float, *, plane: float | None = None, lines: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Move a scan to one plane and put its samples in the order of a uniform x-y grid.

    Args:
        scan: Mid-points on a full uniform grid; their depth may vary.
        depth: z of the target, metres.
        plane: z0; the mean depth of the mid-points by default.
        lines: Accept a single row or column.

    Returns:
        Samples (nx, ny, N) in the scan's precision, x (nx,), y (ny,) in metres, and z0.

    Raises:
        DataError: Mid-points that do not fill a uniform grid, or too few.
    """
    scan.check()
    middle = scan.virtual.reshape(-1, 3)
    x, y, cell = uniform_axes(middle)
    if min(len(x), len(y)) < 2 and not (lines and max(len(x), len(y)) > 1):
        raise DataError(
            f"scan: mid-points on a grid of {len(x)} x {len(y)}; this method needs at least two antenna positions "
            f"along {'x or y' if lines else 'x and along y'}"
        )
    z0 = float(middle[:, 2].mean()) if plane is None else plane
    moved = to_plane(scan, z0, depth - z0).reshape(len(cell), -1)
    ordered = np.empty_like(moved)
    ordered[cell] = moved
    return ordered.reshape(len(x), len(y), -1), x, y, z0


def empm(scan: Scan, grid: Grid, *, plane: float | None = None, threads: int | None = None) -> RadarImage:
    """Image a planar scan with irregular depth: EMPM, then a Fourier transform.

    Args:
        scan: Mid-points on a full uniform x-y grid; their depth may vary.
        grid: One depth, anywhere in x and y.
        plane: z0; the mean depth of the mid-points by default.
        threads: Of the transforms; all cores by default.

    Returns:
        Complex image (nx, ny).

    Raises:
        ConfigError: More than one depth, or a depth behind the antennas.
        DataError: Mid-points that do not fill a uniform grid.
    """
    if grid.shape[2] != 1:
        raise ConfigError(
            f"method empm images one depth and the grid has {grid.shape[2]}; use rma or backprojection for volumes"
        )
    samples, x, y, z0 = ordered_plane(scan, float(grid.z[0]), plane=plane)
    sizes = padded_sizes(x, y, grid)
    steps = float(x[1] - x[0]), float(y[1] - y[0])
    depth = float(grid.z[0]) - z0
    spectrum, (kx, ky) = plane_spectrum(
        samples, scan.waveform.wavenumbers, steps, depth, sizes, workers=threads or -1
    )
    values = at_positions(at_positions(spectrum, kx, grid.x - x[0], 0), ky, grid.y - y[0], 1)
    # As in the published code, which divides both its forward and its inverse transform by their length.
    return RadarImage(values / (sizes[0] * sizes[1]) ** 2, grid, "empm", {"plane": z0})
