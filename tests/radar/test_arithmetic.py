"""Compiled kernels are kept for the next process."""

import numpy as np
import pytest

from saccade.kernels import prange
from saccade.radar import arithmetic
from saccade.radar.arithmetic import compiled, cosine_sine, distance, turns

numba = pytest.importorskip("numba")


def waves(paths, per_metre, out):
    """Turn paths along x into waves."""
    for row in prange(len(paths)):
        cosine, sine = cosine_sine(turns(distance(paths[row], 0.0, 0.0), per_metre))
        out[row, 0], out[row, 1] = cosine, sine


def test_what_was_compiled_once_is_read_afterwards(tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    paths = np.linspace(0.1, 2.0, 33)
    exact = np.exp(-2j * np.pi * paths * 260.0)
    for hits in (0, 1):
        out = np.zeros((33, 2))
        kernel = compiled(waves)
        kernel(paths, 260.0, out)
        assert np.abs(out @ [1, 1j] - exact).max() < 2e-6
        assert sum(kernel.stats.cache_hits.values()) == hits  # pyright: ignore[reportFunctionMemberAccess]
    # Another piece makes another kernel: numba itself looks at the kernel's own file only.
    monkeypatch.setattr(arithmetic, "PIECES", (*arithmetic.PIECES, (waves, {})))
    kernel = compiled(waves)
    kernel(paths, 260.0, out)
    assert not kernel.stats.cache_hits  # pyright: ignore[reportFunctionMemberAccess]


def test_where_nothing_can_be_kept_kernels_still_run(monkeypatch):
    def nowhere(*_):
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(numba.core.dispatcher.Dispatcher, "enable_caching", nowhere)
    out = np.zeros((2, 2))
    compiled(waves)(np.array([1.0, 2.0]), 1.0, out)
    assert np.allclose(out, [[1, 0], [1, 0]], atol=1e-6)
