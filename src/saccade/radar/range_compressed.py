"""Back-projection after a range transform: the cost no longer grows with the number of frequencies.

    I(v) = sum_l w exp(-j k_c R) G_l(R),   G_l(R) = sum_n s[l, n] exp(-j (k_n - k_c) R),   R = R_T + R_R

G_l is tabulated by a Fourier transform, zero-padded `PADDING` times, and read between two entries by linear
interpolation. Counting wavenumbers from the middle of the sweep makes G_l vary slowly; dividing each frequency by the
mean loss of linear interpolation there, sinc^2, leaves an error below 5e-4 of the image's maximum (tested).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from saccade.errors import DataError
from saccade.extras import require
from saccade.kernels import prange
from saccade.radar.arithmetic import compiled, cosine_sine, distance, f4, turns, using_threads
from saccade.radar.waveform import C

PADDING = 32
TILE = 1024
"""Voxels of one tile."""
TABLES = 32_000_000
"""Complex numbers tabulated at a time, 256 MB."""


def project_profiles(
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
    """Back-project through range profiles, to 5e-4 of the maximum; arguments and result as `backproject.project`.

    Raises:
        DataError: Fewer than two frequencies, or uneven ones.
        MissingExtraError: numba or scipy (extra `radar`) is not installed.
    """
    steps = np.diff(frequencies)
    if not len(steps) or np.ptp(steps) > 1e-6 * abs(steps[0]):
        raise DataError(
            "waveform: range profiles need at least two evenly spaced frequencies; use method backprojection"
        )
    count = -(-len(points) // TILE) * TILE
    voxels = np.empty((3, count))
    voxels[:, : len(points)] = points.T
    voxels[:, len(points) :] = points[-1][:, None]
    real, imag = np.zeros(count, np.float32), np.zeros(count, np.float32)
    middle, kernel = len(frequencies) // 2, _kernel()
    length = 1 << int(np.ceil(np.log2(PADDING * len(frequencies))))
    rows = max(64, min(TABLES // length, len(samples)))
    with using_threads(threads) as cores:
        for first in range(0, len(samples), rows):
            some = slice(first, first + rows)
            table: Any = profiles(samples[some], length, threads=cores)
            kernel(
                np.ascontiguousarray(table.real), np.ascontiguousarray(table.imag),
                np.ascontiguousarray(tx[some], np.float64), np.ascontiguousarray(rx[some], np.float64), voxels,
                frequencies[middle] / C, steps[0] / C, path_loss, real, imag,
            )  # fmt: skip
            if progress:
                progress(len(points) * min(some.stop, len(samples)) // len(samples))
    return (real[: len(points)] + 1j * imag[: len(points)]).astype(np.complex64)


def profiles(samples: np.ndarray, length: int, threads: int = 1) -> np.ndarray:
    """Tabulate G over one period of the path, from -1/2 to 1/2 turn of the step between frequencies.

    Args:
        samples: (L, N) complex.
        length: Entries of the period.
        threads: Of the transform.

    Returns:
        (L, length + 1) complex64; the last entry repeats the first.
    """
    fft: Any = require("scipy.fft", "radar", "for range profiles")
    count = samples.shape[1]
    order = np.arange(count) - count // 2
    weight = (-1.0) ** order / np.sinc(order / length) ** 2
    padded = np.zeros((len(samples), length), np.complex64)
    padded[:, order % length] = samples * weight
    table = np.empty((len(samples), length + 1), np.complex64)
    table[:, :-1] = fft.fft(padded, axis=1, overwrite_x=True, workers=threads)
    table[:, -1] = table[:, 0]
    return table


@functools.cache
def _kernel() -> Callable[..., None]:
    """Compile the kernel: a few seconds once, then it is read from numba's cache."""
    return compiled(_run, fastmath={"contract", "nsz", "nnan", "ninf"}, error_model="numpy")


def _run(re, im, tx, rx, voxels, centre, step, path_loss, out_re, out_im):
    """Add what range profiles say to tiles of voxels."""
    count, last = re.shape[0], re.shape[1] - 2
    length = f4(last + 1)
    for tile in prange(voxels.shape[1] // TILE):
        first = tile * TILE
        total_re, total_im = np.zeros(TILE, np.float32), np.zeros(TILE, np.float32)
        wave_re, wave_im = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
        place, share = np.empty(TILE, np.int32), np.empty(TILE, np.float32)
        px, py, pz = (
            voxels[0, first : first + TILE],
            voxels[1, first : first + TILE],
            voxels[2, first : first + TILE],
        )
        for row in range(count):
            for i in range(TILE):
                x, y, z = px[i], py[i], pz[i]
                ax, ay, az = x - tx[row, 0], y - tx[row, 1], z - tx[row, 2]
                bx, by, bz = x - rx[row, 0], y - rx[row, 1], z - rx[row, 2]
                there, back = distance(ax, ay, az), distance(bx, by, bz)
                path = there + back
                c, s = cosine_sine(turns(path, centre))
                weight = f4(1.0)
                if path_loss:
                    weight = f4(there * back)
                wave_re[i], wave_im[i] = weight * c, weight * s
                at = (turns(path, step) + f4(0.5)) * length
                whole = np.floor(at)
                place[i] = min(max(np.int32(whole), np.int32(0)), np.int32(last))
                share[i] = at - whole
            table_re, table_im = re[row], im[row]
            for i in range(TILE):
                k, w = place[i], share[i]
                a = table_re[k] + w * (table_re[k + 1] - table_re[k])
                b = table_im[k] + w * (table_im[k + 1] - table_im[k])
                total_re[i] += a * wave_re[i] - b * wave_im[i]
                total_im[i] += a * wave_im[i] + b * wave_re[i]
        for i in range(TILE):
            out_re[first + i] += total_re[i]
            out_im[first + i] += total_im[i]
