"""Which way is up: the plane under the camera, from everything at rest that seems to lie on it.

A plane n X + h = 0 gives every pixel a depth, and pixels whose measured depth is near that one agree with it. Errors
of depth are relative, so agreement is a ratio and planes of all heights are judged alike. What is left between plane
and points is then the error of depth times the camera's height, equal for all pixels near and far, and least squares
is the right way to refine it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TRIES = 200
"""Planes that are tried."""
RATIO = 0.15
"""Largest difference between measured and expected depth, of the logarithm."""
LEAST_SHARE = 0.15
"""A plane that explains a smaller share of what is below the horizon is none."""
MOST_TILT = 40.0
"""Up is no farther than this from the camera's own, degrees."""


@dataclass(frozen=True, eq=False)
class Ground:
    """The plane up . X + height = 0."""

    up: np.ndarray
    """(3,) unit vector against gravity."""
    height: float
    """Of the world's origin above the plane."""
    share: float
    """Of the pixels below the horizon that lie on it."""


def find_ground(eyes: np.ndarray, rays: np.ndarray, depths: np.ndarray, up: np.ndarray) -> Ground | None:
    """Find the plane that explains most of what is seen below the horizon.

    Args:
        eyes: (n, 3) where the camera was for each point.
        rays: (n, 3) directions in the world, of length 1 along the optical axis.
        depths: (n,) along the optical axis, at rest, outside masks.
        up: (3,) the camera's own up axis, on the average.

    Returns:
        The plane, or None where there is no plane that explains enough.
    """
    good = np.isfinite(depths) & (depths > 0) & (rays @ up < 0.35)
    eyes, rays, depths = eyes[good], rays[good], depths[good]
    if len(depths) < 50:
        return None
    points = eyes + depths[:, None] * rays
    below = np.flatnonzero(rays @ up < 0)
    rng = np.random.default_rng(0)
    best, most = None, 0
    for _ in range(TRIES):
        if len(below) < 3:
            return None
        a, b, c = points[rng.choice(below, 3, replace=False)]
        normal = np.cross(b - a, c - a)
        length = np.linalg.norm(normal)
        if length < 1e-9:
            continue
        normal *= np.sign(normal @ up or 1.0) / length
        if normal @ up < np.cos(np.radians(MOST_TILT)):
            continue
        count = int(_agrees(normal, -float(normal @ a), eyes, rays, depths, RATIO).sum())
        if count > most:
            best, most = (normal, -float(normal @ a)), count
    if best is None:
        return None
    normal, height = best
    for ratio in (1.5 * RATIO, RATIO, RATIO, RATIO):
        chosen = _agrees(normal, height, eyes, rays, depths, ratio)
        if chosen.sum() < 20:
            return None
        normal, height = _refine(points[chosen], normal)
    share = float(
        _agrees(normal, height, eyes, rays, depths, RATIO).sum() / max(1, (rays @ normal < -1e-6).sum())
    )
    return Ground(normal, height, share) if share >= LEAST_SHARE else None


def _agrees(
    normal: np.ndarray, height: float, eyes: np.ndarray, rays: np.ndarray, depths: np.ndarray, ratio: float
) -> np.ndarray:
    """Which pixels (n,) are about as far away as the plane is there."""
    fall = -(rays @ normal)
    above = eyes @ normal + height
    seen = (fall > 1e-6) & (above > 0)
    expected = np.where(seen, above, 1.0) / np.where(seen, fall, 1.0)
    return seen & (np.abs(np.log(depths / expected)) < ratio)


def _refine(points: np.ndarray, normal: np.ndarray) -> tuple[np.ndarray, float]:
    """Plane with the least squares of heights above it, tilted from a normal."""
    side = np.linalg.svd(normal[None])[2][1:]
    flat, tall = points @ side.T, points @ normal
    slope = np.linalg.lstsq(np.concatenate([flat, np.ones((len(flat), 1))], 1), tall, rcond=None)[0]
    tilted = normal - slope[:2] @ side
    length = float(np.linalg.norm(tilted))
    return tilted / length, -float(slope[2]) / length
