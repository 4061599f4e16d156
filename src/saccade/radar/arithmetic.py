"""Pieces of the compiled kernels: distances, phases in turns, and sine and cosine that the compiler vectorises.

Phases are counted in turns: the whole turns of a path are taken off in float64, and what is left is small enough for
float32 to be exact to a few parts in 10^7.

Everything here and the kernels themselves are plain Python; `compiled` makes machine code of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from saccade import kernels
from saccade.errors import ConfigError
from saccade.extras import require
from saccade.kernels import Piece

f4 = np.float32


def check_threads(threads: int | None) -> None:
    """Refuse a number of threads that cannot be.

    Raises:
        ConfigError: Less than one.
    """
    if threads is not None and threads < 1:
        raise ConfigError(f"threads is {threads}; expected at least 1, or leave it out to use all cores")


@contextlib.contextmanager
def using_threads(threads: int | None) -> Iterator[int]:
    """Let compiled kernels use so many cores inside the block (all by default); yields how many there are.

    Raises:
        ConfigError: Less than one.
        MissingExtraError: numba (extra `radar`) is not installed.
    """
    check_threads(threads)
    numba: Any = require("numba", "radar", "for fast radar kernels")
    before = numba.get_num_threads()
    numba.set_num_threads(min(threads or before, numba.config.NUMBA_NUM_THREADS))
    try:
        yield numba.get_num_threads()
    finally:
        numba.set_num_threads(before)


def distance(x: Any, y: Any, z: Any) -> Any:
    """Length in float64 from a float32 root and one Newton step, which costs a fraction of a float64 root."""
    square = x * x + y * y + z * z
    root = np.sqrt(f4(square))
    return root + (square - np.float64(root) * root) * np.float64(f4(0.5) / root)


def turns(path: Any, per_metre: Any) -> Any:
    """Fraction of a turn, in [-1/2, 1/2]."""
    whole = path * per_metre
    return f4(whole - np.floor(whole + 0.5))


def small_turns(path: Any, per_metre: Any) -> Any:
    """As `turns`, for the step between frequencies, which is a fraction of a turn itself."""
    whole = path * per_metre
    return whole - np.floor(whole + f4(0.5))


def cosine_sine(turn: Any) -> tuple[Any, Any]:
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


PIECES: tuple[Piece, ...] = (
    (distance, {"inline": "always"}),
    (turns, {"inline": "always"}),
    (small_turns, {"inline": "always"}),
    (cosine_sine, {"inline": "always", "fastmath": True}),
)
"""What kernels call, and how it is compiled."""


def compiled(kernel: Callable[..., None], **options: Any) -> Callable[..., None]:
    """Compile a kernel that calls `PIECES`, for all cores and the widest vectors; see `kernels.compiled`.

    Args:
        kernel: Plain function at the top of its module.
        options: Of `numba.njit`, beside `parallel`.

    Raises:
        MissingExtraError: numba (extra `radar`) is not installed.
    """
    purpose = "for fast radar kernels"
    widest_vectors(require("numba", "radar", purpose))
    return kernels.compiled(kernel, PIECES, extra="radar", purpose=purpose, parallel=True, **options)


def widest_vectors(numba: Any) -> None:
    """Let the compiler use 512-bit vectors where there are any: it prefers 256 bits unless told, at half the speed.

    Only before numba compiled anything, and not against the user's own NUMBA_CPU_FEATURES.
    """
    llvm: Any = require("llvmlite.binding", "radar", "for fast back-projection")
    features = llvm.get_host_cpu_features()
    if not numba.config.CPU_FEATURES and features.get("avx512f"):
        numba.config.CPU_FEATURES = features.flatten() + ",-prefer-256-bit"
