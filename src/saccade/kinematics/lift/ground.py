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
JUDGES = 800
"""Pixels that choose among them."""
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
    if len(below) < 3:
        return None
    rng = np.random.default_rng(0)
    corners = points[below[rng.integers(0, len(below), (TRIES, 3))]]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1)
    normals = normals * np.where(normals @ up < 0, -1, 1)[:, None] / np.maximum(lengths, 1e-12)[:, None]
    upright = (lengths > 1e-9) & (normals @ up > np.cos(np.radians(MOST_TILT)))
    if not upright.any():
        return None
    normals, heights = normals[upright], -np.einsum("ij,ij->i", normals, corners[:, 0])[upright]
    few = rng.permutation(len(depths))[:JUDGES]
    votes = _agrees(normals, heights, eyes[few], rays[few], depths[few], RATIO).sum(1)
    best = normals[np.argmax(votes)], float(heights[np.argmax(votes)])
    normal, height = best
    for ratio in (1.5 * RATIO, RATIO, RATIO, RATIO):
        chosen = _agrees(normal[None], np.array([height]), eyes, rays, depths, ratio)[0]
        if chosen.sum() < 20:
            return None
        normal, height = _refine(points[chosen], normal)
    found = _agrees(normal[None], np.array([height]), eyes, rays, depths, RATIO)[0]
    share = float(found.sum() / max(1, (rays @ normal < -1e-6).sum()))
    return Ground(normal, height, share) if share >= LEAST_SHARE else None


def _agrees(
    normals: np.ndarray,
    heights: np.ndarray,
    eyes: np.ndarray,
    rays: np.ndarray,
    depths: np.ndarray,
    ratio: float,
) -> np.ndarray:
    """For planes (k, 3), (k,): which pixels (k, n) are about as far away as the plane is there."""
    fall = -(normals @ rays.T) * depths
    above = normals @ eyes.T + heights[:, None]
    # Measured over expected depth is fall over height.
    return (fall > np.exp(-ratio) * above) & (fall < np.exp(ratio) * above) & (above > 0)


def _refine(points: np.ndarray, normal: np.ndarray) -> tuple[np.ndarray, float]:
    """Plane with the least squares of heights above it, tilted from a normal."""
    side = np.linalg.svd(normal[None])[2][1:]
    flat, tall = points @ side.T, points @ normal
    slope = np.linalg.lstsq(np.concatenate([flat, np.ones((len(flat), 1))], 1), tall, rcond=None)[0]
    tilted = normal - slope[:2] @ side
    length = float(np.linalg.norm(tilted))
    return tilted / length, -float(slope[2]) / length
