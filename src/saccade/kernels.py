"""Machine code of small plain functions by numba, kept for the next process.

A kernel and the pieces that it calls are ordinary functions at the top of their modules. `compiled` gives each its
compiled pieces under the names by which it calls them. What comes out is kept by numba beside the source, or in the
user's cache folder; where neither can be written to, every process compiles for itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from saccade.extras import require

prange = range
"""Stands for numba's loop over threads until a kernel is compiled."""
Piece = tuple[Callable, Mapping[str, Any]]
"""A function that kernels call, and the options of `numba.njit` for it."""


def compiled(
    kernel: Callable[..., Any], pieces: Sequence[Piece], *, extra: str, purpose: str, **options: Any
) -> Callable[..., Any]:
    """Compile a kernel, or read what an earlier process compiled.

    Numba's cache looks at the kernel's own file only, and does not find one that closes over compiled ones again.
    So the pieces go in among the kernel's global names, and a digest of them into its own.

    Args:
        kernel: Calls `pieces`, and `prange`, by their names.
        pieces: In an order in which each calls only those before it.
        extra: Which extra brings numba.
        purpose: What it is needed for, such as "to draw the synthetic world".
        options: Of `numba.njit` for the kernel.

    Raises:
        MissingExtraError: numba is not installed.
    """
    numba: Any = require("numba", extra, purpose)
    digest, names = hashlib.sha256(), {"prange": numba.prange}
    for piece, how in pieces:
        code = piece.__code__
        flags = [(name, sorted(value) if isinstance(value, set) else value) for name, value in how.items()]
        digest.update(repr((code.co_code, code.co_consts, flags)).encode())
        names[piece.__name__] = numba.njit(**how)(_bound(piece, names))
    bound = _bound(kernel, names)
    bound.__qualname__ = f"{kernel.__qualname__}_{digest.hexdigest()[:8]}"
    run = numba.njit(**options)(bound)
    with contextlib.suppress(RuntimeError):
        run.enable_caching()
    return run


def _bound(function: Callable, names: Mapping[str, Any]) -> types.FunctionType:
    """The same function, with other global names beside its own."""
    found = types.FunctionType(function.__code__, {**function.__globals__, **names}, function.__name__)
    found.__module__, found.__qualname__ = function.__module__, function.__qualname__
    return found
