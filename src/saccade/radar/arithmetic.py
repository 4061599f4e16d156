"""Pieces of the compiled kernels: distances, phases in turns, and sine and cosine that the compiler vectorises.

Phases are counted in turns: the whole turns of a path are taken off in float64, and what is left is small enough for
float32 to be exact to a few parts in 10^7.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from saccade.extras import require


@contextlib.contextmanager
def using_threads(threads: int | None) -> Iterator[int]:
    """Let compiled kernels use so many cores inside the block (all by default); yields how many there are.

    Raises:
        MissingExtraError: numba (extra `radar`) is not installed.
    """
    numba: Any = require("numba", "radar", "for fast radar kernels")
    before = numba.get_num_threads()
    numba.set_num_threads(min(threads or before, numba.config.NUMBA_NUM_THREADS))
    try:
        yield numba.get_num_threads()
    finally:
        numba.set_num_threads(before)


@functools.cache
def parts() -> tuple[Callable, Callable, Callable, Callable]:
    """Make the inlined functions distance, turns, small_turns and cosine_sine; numba compiles them where used.

    Raises:
        MissingExtraError: numba (extra `radar`) is not installed.
    """
    numba: Any = require("numba", "radar", "for fast radar kernels")
    _widen(numba)
    f4 = np.float32

    @numba.njit(inline="always")
    def distance(x, y, z):
        """Length in float64 from a float32 root and one Newton step, which costs a fraction of a float64 root."""
        square = x * x + y * y + z * z
        root = np.sqrt(f4(square))
        return root + (square - np.float64(root) * root) * np.float64(f4(0.5) / root)

    @numba.njit(inline="always")
    def turns(path, per_metre):
        """Fraction of a turn, in [-1/2, 1/2]."""
        whole = path * per_metre
        return f4(whole - np.floor(whole + 0.5))

    @numba.njit(inline="always")
    def small_turns(path, per_metre):
        """As `turns`, for the step between frequencies, which is a fraction of a turn itself."""
        whole = path * per_metre
        return whole - np.floor(whole + f4(0.5))

    @numba.njit(fastmath=True, inline="always")
    def cosine_sine(turn):
        """Cosine and sine of -2 pi turn for |turn| <= 1/2, by polynomials for angles up to pi / 2."""
        # Fold to |t| <= 1/4 turn around the nearest half turn, so that low orders suffice.
        half = np.floor(turn * f4(2.0) + f4(0.5))
        t = turn - half * f4(0.5)
        sign = f4(1.0) - f4(2.0) * np.abs(half - f4(2.0) * np.floor(half * f4(0.5)))
        x = t * f4(6.283185307179586)
        y = x * x
        s = f4(2.7525562e-6) + y * f4(-2.3889859e-8)
        s = f4(8.3333310e-3) + y * (f4(-1.9840874e-4) + y * s)
        sine = x * (f4(1.0) + y * (f4(-1.6666667e-1) + y * s))
        c = f4(2.47609e-5) + y * f4(-2.605e-7)
        c = f4(4.16666418e-2) + y * (f4(-1.388839e-3) + y * c)
        cosine = f4(1.0) + y * (f4(-0.5) + y * c)
        return sign * cosine, -sign * sine

    return distance, turns, small_turns, cosine_sine


def _widen(numba: Any) -> None:
    """Let the compiler use 512-bit vectors where there are any: it prefers 256 bits unless told, at half the speed.

    Only before numba compiled anything, and not against the user's own NUMBA_CPU_FEATURES.
    """
    llvm: Any = require("llvmlite.binding", "radar", "for fast back-projection")
    features = llvm.get_host_cpu_features()
    if not numba.config.CPU_FEATURES and features.get("avx512f"):
        numba.config.CPU_FEATURES = features.flatten() + ",-prefer-256-bit"
