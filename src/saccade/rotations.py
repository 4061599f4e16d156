"""Turns in space; quaternions are w x y z."""

import numpy as np


def rotation(quaternion: np.ndarray) -> np.ndarray:
    """Rotation matrices (..., 3, 3) of unit quaternions (..., 4), w x y z."""
    scalar, vector = quaternion[..., 0, None, None], quaternion[..., 1:]
    x, y, z = np.moveaxis(vector, -1, 0)
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*x.shape, 3, 3)
    return np.eye(3) + 2 * scalar * cross + 2 * cross @ cross
