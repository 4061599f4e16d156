"""Exact back-projection: for every voxel, the match of the recorded samples with the echo of a point there.

    I(v) = sum_l sum_n s[l, n] w exp(-j k_n (R_T + R_R)),   w = R_T R_R when path loss is in the samples, else 1

Valid in any geometry, near field included; no normalisation. `reference` is the formula in float64; `project` is the
same in float32 at the speed of the machine's multiply-adds: Horner's rule over frequency leaves two exponentials
per voxel and element instead of one per frequency, tiles of voxels stay in cache and their sums in registers,
sine and cosine are polynomials that the compiler vectorises, and only distances and phases, counted in turns, are
float64.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from saccade.errors import DataError
from saccade.kernels import prange
from saccade.radar.arithmetic import compiled, cosine_sine, distance, f4, small_turns, turns, using_threads
from saccade.radar.waveform import C

_PIECE = 4_000_000
PIECE_WORK = 4e9
"""Products of voxels, elements and frequencies between two reports of progress."""
TILE = 128
"""Voxels of one tile; their sums stay in first-level cache."""
STRIDE = 8
"""Frequencies that one pass over a tile takes."""


def reference(
    samples: np.ndarray,
    tx: np.ndarray,
    rx: np.ndarray,
    wavenumbers: np.ndarray,
    points: np.ndarray,
    *,
    path_loss: bool = False,
) -> np.ndarray:
    """Back-project in float64, one exponential per voxel, element and frequency.

    Args:
        samples: (L, N) complex.
        tx: (L, 3) metres.
        rx: (L, 3) metres.
        wavenumbers: (N,) rad/m.
        points: (V, 3) voxels, metres.
        path_loss: Weigh by R_T R_R.

    Returns:
        (V,) complex128.
    """
    out = np.zeros(len(points), np.complex128)
    voxels = max(1, _PIECE // len(wavenumbers))
    for start in range(0, len(points), voxels):
        part = points[start : start + voxels]
        for row, there, back in zip(samples, tx, rx, strict=True):
            a = np.linalg.norm(part - there, axis=1)
            b = np.linalg.norm(part - back, axis=1)
            value = np.exp(-1j * np.outer(a + b, wavenumbers)) @ row
            out[start : start + voxels] += value * (a * b) if path_loss else value
    return out


def project(
    samples: np.ndarray,
    tx: np.ndarray,
    rx: np.ndarray,
    frequencies: np.ndarray,
    points: np.ndarray,
    *,
    path_loss: bool = False,
    threads: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Back-project plain arrays in float32; arguments as `reference`, with frequencies (N,) in Hz.

    Raises:
        DataError: The frequencies are not evenly spaced, which Horner's rule needs.
    """
    steps = np.diff(frequencies)
    if len(steps) and np.ptp(steps) > 1e-6 * abs(steps[0]):
        raise DataError("waveform: the frequencies are not evenly spaced; use the reference back-projection")
    count = -(-len(points) // TILE) * TILE
    voxels = np.empty((3, count))
    voxels[:, : len(points)] = points.T
    voxels[:, len(points) :] = points[-1][:, None]
    real, imag = np.zeros(count, np.float32), np.zeros(count, np.float32)
    # Highest frequency first, with zeros in front, which Horner's rule passes over.
    flipped: Any = np.pad(samples[:, ::-1], ((0, 0), (-samples.shape[1] % STRIDE, 0)))
    start, step = frequencies[0] / C, (steps[0] if len(steps) else 0.0) / C
    with using_threads(threads):
        kernel = _kernel()
        halves = (
            np.ascontiguousarray(flipped.real, np.float32),
            np.ascontiguousarray(flipped.imag, np.float32),
        )
        sides = np.ascontiguousarray(tx, np.float64), np.ascontiguousarray(rx, np.float64)
        # In pieces of about half a second, so that Ctrl-C is heard and progress is seen.
        piece = max(64, int(PIECE_WORK / max(1, samples.size)) // TILE) * TILE
        for first in range(0, count, piece):
            some = slice(first, min(first + piece, count))
            kernel(
                *halves,
                *sides,
                np.ascontiguousarray(voxels[:, some]),
                start,
                step,
                path_loss,
                real[some],
                imag[some],
            )
            if progress:
                progress(min(some.stop, len(points)))
    return (real[: len(points)] + 1j * imag[: len(points)]).astype(np.complex64)


@functools.cache
def _kernel() -> Callable[..., None]:
    """Compile the kernel: a few seconds once, then it is read from numba's cache."""
    return compiled(_run, fastmath={"contract", "nsz", "nnan", "ninf"})


def _run(re, im, tx, rx, voxels, start, step, path_loss, out_re, out_im):
    """Back-project tiles of voxels."""
    count, length = re.shape
    for tile in prange(voxels.shape[1] // TILE):
        first = tile * TILE
        total_re, total_im = np.zeros(TILE, np.float32), np.zeros(TILE, np.float32)
        sum_re, sum_im = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
        wave_re, wave_im = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
        turn_re, turn_im = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
        weight = np.ones(TILE, np.float32)
        for row in range(count):
            for i in range(TILE):
                x, y, z = voxels[0, first + i], voxels[1, first + i], voxels[2, first + i]
                ax, ay, az = x - tx[row, 0], y - tx[row, 1], z - tx[row, 2]
                bx, by, bz = x - rx[row, 0], y - rx[row, 1], z - rx[row, 2]
                there, back = distance(ax, ay, az), distance(bx, by, bz)
                path = there + back
                if path_loss:
                    weight[i] = f4(there * back)
                wave_re[i], wave_im[i] = cosine_sine(turns(path, start))
                turn_re[i], turn_im[i] = cosine_sine(small_turns(f4(path), f4(step)))
                sum_re[i], sum_im[i] = f4(0.0), f4(0.0)
            # Horner: ((s_N-1 q + s_N-2) q + ...) q + s_0 with q the turn from one frequency to the next.
            # Eight frequencies between loading and storing a voxel's sum, which stays in registers meanwhile.
            for n in range(0, length, STRIDE):
                for i in range(TILE):
                    p, q, e, f = turn_re[i], turn_im[i], sum_re[i], sum_im[i]
                    e, f = e * p - f * q + re[row, n + 0], e * q + f * p + im[row, n + 0]
                    e, f = e * p - f * q + re[row, n + 1], e * q + f * p + im[row, n + 1]
                    e, f = e * p - f * q + re[row, n + 2], e * q + f * p + im[row, n + 2]
                    e, f = e * p - f * q + re[row, n + 3], e * q + f * p + im[row, n + 3]
                    e, f = e * p - f * q + re[row, n + 4], e * q + f * p + im[row, n + 4]
                    e, f = e * p - f * q + re[row, n + 5], e * q + f * p + im[row, n + 5]
                    e, f = e * p - f * q + re[row, n + 6], e * q + f * p + im[row, n + 6]
                    e, f = e * p - f * q + re[row, n + 7], e * q + f * p + im[row, n + 7]
                    sum_re[i], sum_im[i] = e, f
            for i in range(TILE):
                total_re[i] += weight[i] * (sum_re[i] * wave_re[i] - sum_im[i] * wave_im[i])
                total_im[i] += weight[i] * (sum_re[i] * wave_im[i] + sum_im[i] * wave_re[i])
        for i in range(TILE):
            out_re[first + i], out_im[first + i] = total_re[i], total_im[i]
