"""Windows over the aperture and the sweep: lower side lobes for wider peaks.

A window weighs the samples before any method sees them, so it means the same for all of them.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from saccade.errors import ConfigError, did_you_mean
from saccade.radar.scan import Scan

_COSINES = {
    "hann": (0.5, 0.5),
    "hamming": (0.54, 0.46),
    "blackman-harris": (0.35875, 0.48829, 0.14128, 0.01168),
}
WINDOWS = ("none", *_COSINES, "taylor")
TAYLOR_TERMS, TAYLOR_LEVEL = 4, 30.0
"""Side lobes of nearly equal height, and dB they lie below the peak."""


def window_at(name: str, place: np.ndarray) -> np.ndarray:
    """Evaluate a window.

    Args:
        name: One of `WINDOWS`.
        place: Any shape; 0 at the window's beginning, 1 at its end.

    Returns:
        Weights of the same shape, 1 at the middle (about 1 for taylor).

    Raises:
        ConfigError: No such window.
    """
    if name not in WINDOWS:
        raise ConfigError(f"no window {name!r}{did_you_mean(name, WINDOWS)}")
    if name == "none":
        return np.ones_like(place)
    terms = _COSINES[name] if name in _COSINES else (1.0, *(2 * factor for factor in _taylor_terms()))
    total = np.zeros_like(place)
    for order, factor in enumerate(terms):
        total += (-1) ** order * factor * np.cos(2 * np.pi * order * place)
    return total / sum(terms)


def _taylor_terms() -> list[float]:
    """Return the cosine coefficients F_m of Taylor's window (Taylor, 1955)."""
    a = np.arccosh(10 ** (TAYLOR_LEVEL / 20)) / np.pi
    count = TAYLOR_TERMS
    widen = count**2 / (a**2 + (count - 0.5) ** 2)
    orders = np.arange(1, count)
    found = []
    for m in orders:
        above = np.prod(1 - m**2 / (widen * (a**2 + (orders - 0.5) ** 2)))
        below = 2 * np.prod(1 - m**2 / orders[orders != m] ** 2.0)
        found.append(float((-1) ** (m + 1) * above / below))
    return found


def taper(scan: Scan, name: str) -> Scan:
    """Weigh a scan's samples by a window along x and y of the aperture and along the sweep.

    Along a direction in which the antennas surround the target (circular scans) there is no edge to taper: the window
    then runs along y alone.

    Raises:
        ConfigError: No such window.
    """
    if name == "none":
        return scan
    middle = scan.virtual
    along = (1,) if scan.geometry in ("cylindrical", "circular") else (0, 1)
    weight = np.ones(middle.shape[:2])
    for axis in along:
        low, spread = middle[..., axis].min(), np.ptp(middle[..., axis])
        if spread > 1e-6:
            # Half a step outside at each end, so that the outermost elements still count.
            count = max(2, len(np.unique(np.round(middle[..., axis] / spread, 4))))
            place = ((middle[..., axis] - low) / spread * (count - 1) + 0.5) / count
            weight = weight * window_at(name, place)
    length = scan.samples.shape[2]
    sweep = window_at(name, (np.arange(length) + 0.5) / length)
    return dataclasses.replace(scan, samples=scan.samples * (weight[..., None] * sweep).astype(np.float32))
