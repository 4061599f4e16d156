"""Rigid motions, quaternions and pinhole projection.

`world_from_camera` maps camera coordinates to the world. Quaternions are w x y z. Cameras look along +z with x right
and y down; vehicles look along +x with y left and z up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from saccade.errors import DataError, ShapeError
from saccade.rotations import rotation

NEAR_M = 0.1
"""Nothing nearer to the camera than this is projected."""

_EDGES = np.array([(a, b) for a in range(8) for b in range(a + 1, 8) if bin(a ^ b).count("1") == 1])


def unit_quaternion(value: Any, where: str) -> np.ndarray:
    """Check and normalise quaternions.

    Args:
        value: (..., 4), w x y z, of any length but 0.
        where: What an error names: file, record and field.

    Raises:
        DataError: Not four finite numbers, or length 0.
    """
    try:
        found = np.asarray(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        found = np.empty(0)
    if found.shape[-1:] != (4,) or not np.isfinite(found).all():
        raise DataError(f"{where} is {_short(value)}; expected four finite numbers of a quaternion, w x y z")
    if (np.abs(found) > 1e6).any():
        raise DataError(f"{where} is {_short(value)}; expected a quaternion of length 1, w x y z")
    length = np.linalg.norm(found, axis=-1, keepdims=True)
    if (length < 1e-6).any():
        raise DataError(f"{where} is a quaternion of length 0; expected length 1, so the record is damaged")
    return found / length


def rigid(quaternion: np.ndarray, translation: Any) -> np.ndarray:
    """Rigid motions (..., 4, 4) of unit quaternions (..., 4) and translations (..., 3)."""
    turn = rotation(np.asarray(quaternion, np.float64))
    motion = np.zeros((*turn.shape[:-2], 4, 4))
    motion[..., :3, :3] = turn
    motion[..., :3, 3] = translation
    motion[..., 3, 3] = 1
    return motion


def inverse(motion: np.ndarray) -> np.ndarray:
    """Invert rigid motions (..., 4, 4)."""
    turned = np.swapaxes(motion[..., :3, :3], -1, -2)
    back = np.zeros_like(motion)
    back[..., :3, :3] = turned
    back[..., :3, 3] = -(turned @ motion[..., :3, 3, None])[..., 0]
    back[..., 3, 3] = 1
    return back


def move(motion: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply rigid motions (..., 4, 4) to points (..., 3)."""
    return (motion[..., :3, :3] @ points[..., None])[..., 0] + motion[..., :3, 3]


def world_points(points: Any, *motions: Any, scale: float = 1.0) -> np.ndarray:
    """Bring the observations of a track into the world, then apply a metric scale.

    Args:
        points: (n, 3) in the frame they were measured in; None where missing.
        motions: Applied in this order, each (n, 4, 4) or one (4, 4): sensor to vehicle, then vehicle to world.
        scale: Metres per unit of the world, for reconstructions known up to scale.

    Returns:
        (n, 3) float64; NaN where missing.

    Raises:
        ShapeError: Motions that do not fit the points.
    """
    if not isinstance(points, np.ndarray):
        points = [(None, None, None) if row is None else row for row in points]
    places = np.asarray(points, np.float64).reshape(-1, 3)
    for motion in motions:
        motion = np.asarray(motion, np.float64)
        if motion.shape not in ((4, 4), (len(places), 4, 4)):
            raise ShapeError(
                f"a motion has shape {motion.shape}; expected (4, 4) or ({len(places)}, 4, 4), one for each point"
            )
        places = move(motion, places)
    return places * scale


@dataclass(frozen=True, eq=False)
class Lens:
    """A camera's optics: from its frame to pixels."""

    intrinsic: np.ndarray
    """(3, 3), fx and fy on the diagonal, cx and cy in the last column."""
    width: int
    height: int
    distortion: tuple[float, ...] = ()
    """None for a pinhole; 4 numbers k1..k4 for a fisheye (Kannala-Brandt); 5 for k1 k2 p1 p2 k3 (Brown)."""

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Project points of the camera frame.

        Args:
            points: (..., 3) metres.

        Returns:
            (..., 2) pixels, NaN where not in front of the camera, and (...) which are in front.
        """
        depth = points[..., 2]
        front = depth > NEAR_M
        flat = points[..., :2] / np.where(front, depth, 1.0)[..., None]
        if len(self.distortion) == 4:
            flat = _fisheye(flat, self.distortion)
        elif len(self.distortion) == 5:
            flat = _brown(flat, self.distortion)
        ones = np.ones((*flat.shape[:-1], 1))
        image = (np.concatenate([flat, ones], -1) @ self.intrinsic.T)[..., :2]
        return np.where(front[..., None], image, np.nan), front

    def sees(self, point: np.ndarray) -> bool:
        """Whether a point (3,) of the camera frame lies in the image."""
        (x, y), front = self.project(point)
        return bool(front and 0 <= x < self.width and 0 <= y < self.height)

    def box(self, camera_corners: np.ndarray) -> list[float] | None:
        """Rectangle around a projected box, cut at the image's border.

        Args:
            camera_corners: (8, 3) from `corners`, in the camera frame, metres.

        Returns:
            x0, y0, x1, y1 in pixels, or None where nothing of it is in the image.
        """
        front = camera_corners[:, 2] > NEAR_M
        if not front.any():
            return None
        kept = [camera_corners[front]]
        # Edges that pass the camera are cut there: their visible end bounds the rectangle.
        for a, b in _EDGES[front[_EDGES[:, 0]] != front[_EDGES[:, 1]]]:
            one, two = camera_corners[a], camera_corners[b]
            part = (1.001 * NEAR_M - one[2]) / (two[2] - one[2])
            kept.append((one + part * (two - one))[None])
        pixels, _ = self.project(np.concatenate(kept))
        low = np.clip(pixels.min(0), 0, (self.width, self.height))
        high = np.clip(pixels.max(0), 0, (self.width, self.height))
        if (high - low <= 0).any():
            return None
        return [float(low[0]), float(low[1]), float(high[0]), float(high[1])]

    def to_dict(self, name: str) -> dict[str, Any]:
        """Return the `camera` field of a track."""
        found: dict[str, Any] = {
            "K": self.intrinsic.tolist(), "width": int(self.width), "height": int(self.height), "name": name,
        }  # fmt: skip
        return {**found, "distortion": list(self.distortion)} if self.distortion else found


def _fisheye(flat: np.ndarray, k: tuple[float, ...]) -> np.ndarray:
    """Bend rays (x / z, y / z) as a fisheye does (Kannala and Brandt, 2006)."""
    radius = np.linalg.norm(flat, axis=-1, keepdims=True)
    angle = np.arctan(radius)
    square = angle * angle
    bent = angle * (1 + square * (k[0] + square * (k[1] + square * (k[2] + square * k[3]))))
    return flat * np.where(radius > 1e-12, bent / np.maximum(radius, 1e-12), 1.0)


def _brown(flat: np.ndarray, k: tuple[float, ...]) -> np.ndarray:
    """Bend rays (x / z, y / z) by radial and tangential terms (Brown, 1966)."""
    k1, k2, p1, p2, k3 = k
    # Far outside the image the polynomial turns back and would fold a box into it: rays are held where it peaks.
    steps = np.linspace(0, 3, 301)
    bent = steps * (1 + k1 * steps**2 + k2 * steps**4 + k3 * steps**6)
    falling = np.flatnonzero(np.diff(bent) <= 0)
    limit = steps[falling[0]] if len(falling) else np.inf
    radius = np.linalg.norm(flat, axis=-1, keepdims=True)
    flat = flat * np.minimum(1.0, limit / np.maximum(radius, 1e-12))
    x, y = flat[..., 0], flat[..., 1]
    square = x * x + y * y
    radial = 1 + square * (k1 + square * (k2 + square * k3))
    return np.stack(
        [
            x * radial + 2 * p1 * x * y + p2 * (square + 2 * x * x),
            y * radial + p1 * (square + 2 * y * y) + 2 * p2 * x * y,
        ],
        -1,
    )


def corners(centre: np.ndarray, size_lwh: Sequence[float], turn: np.ndarray) -> np.ndarray:
    """Corners (8, 3) of a box: its centre (3,), length, width, height in metres, and its (3, 3) rotation."""
    signs = np.array([[(index >> bit & 1) - 0.5 for bit in range(3)] for index in range(8)])
    return centre + (signs * np.asarray(size_lwh, np.float64)) @ turn.T


def yaw_of(turn: np.ndarray) -> np.ndarray:
    """Angle of the x axis of rotations (..., 3, 3) about z, radians, anticlockwise seen from above."""
    return np.arctan2(turn[..., 1, 0], turn[..., 0, 0])


def yaw_turn(yaw: float) -> np.ndarray:
    """Rotation (3, 3) about z by radians."""
    sine, cosine = np.sin(yaw), np.cos(yaw)
    return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1.0]])


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
