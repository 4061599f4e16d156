"""The echo of many points, in float32 at the speed of the machine's multiply-adds.

The same sum as `echo.echo`. Tiles of elements run side by side in vector registers; from one frequency to the next a
wave turns by a constant angle, so each pair of element and point costs two exponentials, not one a frequency.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from saccade.errors import DataError
from saccade.kernels import prange
from saccade.radar.arithmetic import compiled, cosine_sine, distance, f4, small_turns, turns, using_threads
from saccade.radar.waveform import C

TILE = 64
"""Elements of one tile."""
PIECE_WORK = 2e9
"""Products of points, elements and frequencies between two reports of progress."""
STRIDE = 8
"""Frequencies between two loads of a wave; they stay in registers meanwhile."""


def fast_echo(
    points: np.ndarray,
    reflectivity: np.ndarray,
    frequencies: np.ndarray,
    tx: np.ndarray,
    rx: np.ndarray,
    *,
    path_loss: bool = False,
    threads: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Compute echoes in float32, to about 1e-5 of the largest.

    Args:
        points: (M, 3) metres.
        reflectivity: (M,).
        frequencies: (N,) Hz, evenly spaced.
        tx: (..., 3) metres.
        rx: (..., 3) metres.
        path_loss: Divide by R_T R_R.
        threads: Cores; all by default.
        progress: Called now and then with the number of elements done.

    Returns:
        (..., N) complex64.

    Raises:
        DataError: With path loss, a point on an antenna.
    """
    leading = tx.shape[:-1]
    tx, rx = tx.reshape(-1, 3), rx.reshape(-1, 3)
    count, length = len(tx), len(frequencies)
    tiles = -(-count // TILE)
    step = (frequencies[-1] - frequencies[0]) / max(1, length - 1)
    sides = []
    for side in (tx, rx):
        padded = np.empty((3, tiles * TILE))
        padded[:, :count] = side.T
        padded[:, count:] = side[-1][:, None]
        sides.append(padded)
    rows = -(-length // STRIDE) * STRIDE
    out = np.empty((tiles, rows * TILE), np.float32), np.empty((tiles, rows * TILE), np.float32)
    strength, places = (
        np.ascontiguousarray(reflectivity, np.float32),
        np.ascontiguousarray(points, np.float64),
    )
    # In pieces of a fraction of a second, so that Ctrl-C is heard and progress is seen.
    piece = max(1, int(PIECE_WORK / (TILE * rows * max(1, len(points)))))
    with using_threads(threads):
        kernel = _kernel()
        for first in range(0, tiles, piece):
            some = slice(first, min(first + piece, tiles))
            wide = slice(some.start * TILE, some.stop * TILE)
            antennas = [np.ascontiguousarray(side[:, wide]) for side in sides]
            kernel(
                places,
                strength,
                *antennas,
                frequencies[0] / C,
                step / C,
                path_loss,
                out[0][some],
                out[1][some],
            )
            if progress:
                progress(min(wide.stop, count))
    joined = np.empty((tiles, TILE, rows), np.complex64)
    joined.real, joined.imag = (part.reshape(tiles, rows, TILE).transpose(0, 2, 1) for part in out)
    samples = joined.reshape(tiles * TILE, rows)[:count, :length]
    if path_loss and not np.isfinite(samples).all():
        raise DataError("scene: a point sits on an antenna, where the path loss is infinite; move it away")
    return np.ascontiguousarray(samples).reshape(*leading, length)


@functools.cache
def _kernel() -> Callable[..., None]:
    """Compile the kernel: a few seconds once, then it is read from numba's cache."""
    return compiled(_run, fastmath={"contract", "nsz", "nnan", "ninf"})


def _run(points, reflectivity, tx, rx, start, step, path_loss, out_re, out_im):
    """Add up the echoes of all points, tiles of elements at a time."""
    size = out_re.shape[1]
    for tile in prange(out_re.shape[0]):
        first = tile * TILE
        # Flat arrays, so that the compiler sees that neighbouring frequencies do not overlap.
        re, im = np.zeros(size, np.float32), np.zeros(size, np.float32)
        wave_re, wave_im = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
        turn_re, turn_im = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
        for m in range(len(points)):
            x, y, z, strength = points[m, 0], points[m, 1], points[m, 2], reflectivity[m]
            for i in range(TILE):
                ax, ay, az = x - tx[0, first + i], y - tx[1, first + i], z - tx[2, first + i]
                bx, by, bz = x - rx[0, first + i], y - rx[1, first + i], z - rx[2, first + i]
                there, back = distance(ax, ay, az), distance(bx, by, bz)
                path = there + back
                weight = strength
                if path_loss:
                    weight = strength / f4(there * back)
                # cosine_sine gives the wave that imaging multiplies by, exp(-j ...): its conjugate is the echo.
                c, s = cosine_sine(turns(path, start))
                wave_re[i], wave_im[i] = weight * c, -weight * s
                c, s = cosine_sine(small_turns(f4(path), f4(step)))
                turn_re[i], turn_im[i] = c, -s
            for n in range(0, size, TILE * STRIDE):
                some_re, some_im = re[n : n + TILE * STRIDE], im[n : n + TILE * STRIDE]
                for i in range(TILE):
                    a, b, p, q = wave_re[i], wave_im[i], turn_re[i], turn_im[i]
                    some_re[i] += a
                    some_im[i] += b
                    a, b = a * p - b * q, a * q + b * p
                    some_re[i + TILE] += a
                    some_im[i + TILE] += b
                    a, b = a * p - b * q, a * q + b * p
                    some_re[i + 2 * TILE] += a
                    some_im[i + 2 * TILE] += b
                    a, b = a * p - b * q, a * q + b * p
                    some_re[i + 3 * TILE] += a
                    some_im[i + 3 * TILE] += b
                    a, b = a * p - b * q, a * q + b * p
                    some_re[i + 4 * TILE] += a
                    some_im[i + 4 * TILE] += b
                    a, b = a * p - b * q, a * q + b * p
                    some_re[i + 5 * TILE] += a
                    some_im[i + 5 * TILE] += b
                    a, b = a * p - b * q, a * q + b * p
                    some_re[i + 6 * TILE] += a
                    some_im[i + 6 * TILE] += b
                    a, b = a * p - b * q, a * q + b * p
                    some_re[i + 7 * TILE] += a
                    some_im[i + 7 * TILE] += b
                    wave_re[i], wave_im[i] = a * p - b * q, a * q + b * p
        out_re[tile], out_im[tile] = re, im
