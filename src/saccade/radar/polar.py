"""Imaging of cylindrical scans in the wavenumber domain (polar format).

Antennas on a circle of radius r at angles t, and at heights y, hear from a point, for each wavenumber k_r =
sqrt(4 k^2 - k_y^2) across the axis, an outgoing wave exp(j k_r d). By Graf's addition theorem its harmonic n over the
angles is H_n(k_r r), a Hankel function of the first kind, times (but for j^n) the same harmonic of the scene's
spectrum on a circle of radius k_r. Dividing by it gives the spectrum on a polar grid.

Deviations from the published code (Smith et al., arXiv 2305.02064): its filter, the sampled exp(j k_r r cos t), is a
standing wave, of which only the outgoing half belongs to the echoes, and is undersampled unless there are more than
2 k_r r angles; and it interpolates the polar grid linearly to a square one, where here a non-uniform transform sums
it at the wanted voxels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from saccade.errors import DataError
from saccade.extras import require
from saccade.radar.grid import Grid, RadarImage
from saccade.radar.planar import at_positions
from saccade.radar.scan import Scan

TOLERANCE = 1e-5
ROUND = 1e-4
"""Metres by which mid-points may miss the cylinder."""


def polar(scan: Scan, grid: Grid, *, threads: int | None = None) -> RadarImage:
    """Image a scan around the y axis.

    Args:
        scan: Mid-points on a cylinder around the y axis, evenly spaced in angle (the full circle or a part of it) and
            in height.
        grid: Inside the cylinder.
        threads: Of the transforms; all cores by default.

    Returns:
        Complex image; (nx, ny) for one depth, else (nx, ny, nz).

    Raises:
        DataError: Mid-points that do not lie so, or a single frequency.
        MissingExtraError: finufft (extra `radar`) is not installed.
    """
    finufft: Any = require("finufft", "radar", "for cylindrical scans")
    special: Any = require("scipy.special", "radar", "for cylindrical scans")
    scan.check()
    samples, radius, angles, heights = _on_cylinder(scan)
    k = scan.waveform.wavenumbers
    if len(k) < 2:
        raise DataError("waveform: method polar needs at least two frequencies; use backprojection")
    rows = 1 if len(heights) == 1 else 2 * len(heights)
    y_step = float(heights[1] - heights[0]) if len(heights) > 1 else 1.0
    if len(heights) > 1:
        reach = max(heights[-1], grid.y[-1]) - min(heights[0], grid.y[0]) + heights[-1] - heights[0]
        rows = max(rows, int(np.ceil(reach / y_step)) + 1)
    ky = 2 * np.pi * np.fft.fftfreq(rows, y_step)
    spectrum = np.fft.fft(np.fft.fft(samples, rows, axis=1), axis=0)
    harmonic = np.rint(np.fft.fftfreq(len(angles)) * len(angles)).astype(np.int64)
    unturn = (-1j) ** np.mod(harmonic, 4)
    x, z = (part.reshape(-1) for part in np.meshgrid(grid.x, grid.z, indexing="ij"))
    layers = np.zeros((len(ky), len(x)), np.complex128)
    for row, wave in enumerate(ky):
        square = 4 * k**2 - wave**2
        inside = square > 0
        if not inside.any():
            continue
        across = np.sqrt(square[inside])
        outgoing = special.hankel1(harmonic[:, None], across * radius)
        # Harmonics beyond k_r r carry nothing: there the function is huge, or infinite.
        heard = np.isfinite(outgoing) & (outgoing != 0)
        undo = np.divide(unturn[:, None], outgoing, out=np.zeros_like(outgoing), where=heard)
        scene = np.fft.ifft(spectrum[:, row, inside] * undo, axis=0)
        # The area of a cell of the polar grid: k_r dk_r du, with dk_r = (4 k / k_r) dk.
        scene = scene * (4 * k[inside])
        kx, kz = (across * f(angles)[:, None] for f in (np.cos, np.sin))
        layers[row] = finufft.nufft2d3(
            kx.reshape(-1), kz.reshape(-1), np.ascontiguousarray(scene.reshape(-1)), x, z, eps=TOLERANCE, isign=1,
            nthreads=threads or 0,
        )  # fmt: skip
    layers = layers.reshape(len(ky), len(grid.x), len(grid.z)).transpose(1, 0, 2)
    values = at_positions(layers, ky, grid.y - heights[0], 1)
    values = (values / (len(angles) * len(ky)) ** 2).astype(np.complex64)
    return RadarImage(values[..., 0] if grid.shape[2] == 1 else values, grid, "polar", {"radius": radius})


def _on_cylinder(scan: Scan) -> tuple[np.ndarray, float, np.ndarray, np.ndarray]:
    """Put samples in the order (angles of the whole circle, heights, N); angles that were not scanned hold zeros.

    Pairs of antennas become single ones by the phase of their excess path, |d|^2 / (4 r).

    Raises:
        DataError: Mid-points that lie on no evenly spaced cylinder.
    """
    middle = scan.virtual.reshape(-1, 3)
    distance = np.hypot(middle[:, 0], middle[:, 2])
    radius = float(distance.mean())
    if np.abs(distance - radius).max() > ROUND or radius < 1e-3:
        raise DataError(
            "scan: the antennas' mid-points do not lie on a cylinder around the y axis; use method backprojection"
        )
    angle = np.mod(np.arctan2(middle[:, 2], middle[:, 0]), 2 * np.pi)
    angle = np.where(angle > 2 * np.pi - 1e-6, 0.0, angle)
    angles, heights = (_distinct(values, size) for values, size in ((angle, 1e-6), (middle[:, 1], 1e-6)))
    steps = np.diff(np.append(angles, angles[0] + 2 * np.pi))
    step = float(np.median(steps))
    whole = round(2 * np.pi / step)
    first = int(np.argmax(steps)) + 1 if len(angles) < whole else 0
    begin = angles[first % len(angles)]
    place = np.mod(angle - begin + 1e-9, 2 * np.pi) / (2 * np.pi / whole)
    y_step = float(np.diff(heights).mean()) if len(heights) > 1 else 1.0
    row = (middle[:, 1] - heights[0]) / y_step
    if max(np.abs(place - np.rint(place)).max(), np.abs(row - np.rint(row)).max()) > 1e-2:
        raise DataError(
            "scan: angles or heights are not evenly spaced around the circle; use method backprojection"
        )
    cell = np.rint(place).astype(np.int64) % whole * len(heights) + np.rint(row).astype(np.int64)
    if len(np.unique(cell)) != len(cell) or len(cell) != len(angles) * len(heights):
        raise DataError("scan: angles and heights do not form a full grid; use method backprojection")
    apart = ((scan.tx - scan.rx) ** 2).sum(2).reshape(-1)
    k = scan.waveform.wavenumbers
    moved = scan.samples.reshape(len(cell), -1) * np.exp(-1j * np.outer(apart / (4 * radius), k))
    ordered = np.zeros((whole * len(heights), len(k)), np.complex128)
    ordered[cell] = moved
    around = begin + 2 * np.pi * np.arange(whole) / whole
    return ordered.reshape(whole, len(heights), -1), radius, around, heights


def _distinct(values: np.ndarray, gap: float) -> np.ndarray:
    """Return sorted values without those closer than `gap` to the one before."""
    values = np.unique(values)
    return values[np.concatenate([[True], np.diff(values) > gap])]
