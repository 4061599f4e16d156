"""Bundle adjustment with depth priors: poses and points that agree with where points are seen and how far they seem.

Levenberg-Marquardt with the points eliminated first (Schur complement), dense over the poses: clips have tens of
frames. The same solver serves a moving camera in front of things at rest and a moving thing in front of a camera
whose path is known: only the directions in which a pose may change differ.

A pose takes a point X to the camera as R X + t. Its change is a rotation w and a shift s in the camera's frame:
R <- exp(w) R, t <- t + s, (w, s) = basis @ step.

Shape legend: T poses, P points, N observations, D degrees of freedom of a pose.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PIXEL_HUBER = 2.0
"""Reprojection errors count linearly from so many standard deviations."""
NEAREST = 1e-3
"""Depths below this share of the median are behind the camera for all we know."""


@dataclass(frozen=True, eq=False)
class Observations:
    """Who saw what where."""

    pose: np.ndarray
    """(N,) int: place of the pose."""
    point: np.ndarray
    """(N,) int: place of the point."""
    rays: np.ndarray
    """(N, 2): x / z and y / z."""
    log_depth: np.ndarray
    """(N,): logarithm of the measured depth; NaN where there is none."""


@dataclass(frozen=True, eq=False)
class Bundle:
    """What came out."""

    turns: np.ndarray
    """(T, 3, 3)."""
    shifts: np.ndarray
    """(T, 3)."""
    points: np.ndarray
    """(P, 3)."""
    steps: np.ndarray
    """(T, D): all changes of the poses, summed."""
    errors: np.ndarray
    """(N,) distances in the image, in units of `ray_sigma`."""


def solve(
    turns: np.ndarray,
    shifts: np.ndarray,
    points: np.ndarray,
    seen: Observations,
    *,
    ray_sigma: float | np.ndarray,
    depth_sigma: float | np.ndarray,
    basis: np.ndarray | None = None,
    fixed: np.ndarray | None = None,
    prior: np.ndarray | None = None,
    start: np.ndarray | None = None,
    fix_points: bool = False,
    rounds: int = 12,
) -> Bundle:
    """Adjust poses and points.

    Args:
        turns: (T, 3, 3) rotations of the poses.
        shifts: (T, 3).
        points: (P, 3).
        seen: Observations.
        ray_sigma: Standard deviation of an observed ray, pixels over focal length: one, or (N,).
        depth_sigma: Standard deviation of a measured logarithm of depth, one or (N,); gross errors are expected.
        basis: (T, 6, D) directions in which poses may change; all six by default.
        fixed: (T,) bool: poses that stay; the first by default where there is no prior.
        prior: (T * D, T * D) quadratic form on `start` plus all changes, such as smoothness.
        start: (T, D) value of the parameters that the prior is about; zeros by default.
        fix_points: Points stay where they are.
        rounds: At most so many steps.
    """
    turns, shifts, points = turns.copy(), shifts.copy(), points.copy()
    count = len(turns)
    ray_sigma = np.broadcast_to(np.asarray(ray_sigma, np.float64), len(seen.pose))
    depth_sigma = np.broadcast_to(np.asarray(depth_sigma, np.float64), len(seen.pose))
    basis = np.tile(np.eye(6), (count, 1, 1)) if basis is None else basis
    dim = basis.shape[2]
    if fixed is None:
        fixed = np.zeros(count, bool)
        fixed[0] = prior is None
    state = np.zeros((count, dim)) if start is None else start.copy()
    began = state.copy()
    free = np.repeat(~fixed, dim)
    damping = 1e-3
    cost, parts = _cost(turns, shifts, points, seen, ray_sigma, depth_sigma, state, prior)
    for _ in range(rounds):
        normal = _normal(turns, points, seen, parts, ray_sigma, depth_sigma, basis, count, len(points))
        improved = False
        for _ in range(4):
            step_pose, step_point = _step(normal, free, damping, prior, state, dim, fix_points)
            change = (basis @ step_pose[..., None])[..., 0]
            new_turns = _exp(change[:, :3]) @ turns
            new_shifts, new_points = shifts + change[:, 3:], points + step_point
            new_state = state + step_pose
            new_cost, new_parts = _cost(
                new_turns, new_shifts, new_points, seen, ray_sigma, depth_sigma, new_state, prior
            )
            if new_cost < cost:
                improved = True
                break
            damping *= 8
        if not improved:
            break
        gain = (cost - new_cost) / max(cost, 1e-12)
        turns, shifts, points, state = new_turns, new_shifts, new_points, new_state
        cost, parts, damping = new_cost, new_parts, max(damping / 5, 1e-9)
        if gain < 1e-5:
            break
    return Bundle(turns, shifts, points, state - began, np.linalg.norm(parts.flat, axis=1))


@dataclass(frozen=True, eq=False)
class _Parts:
    camera: np.ndarray
    """(N, 3) points in their cameras."""
    flat: np.ndarray
    """(N, 2) ray errors over sigma."""
    deep: np.ndarray
    """(N,) log depth errors over sigma; 0 where not measured."""
    weight_flat: np.ndarray
    weight_deep: np.ndarray


def _cost(
    turns: np.ndarray, shifts: np.ndarray, points: np.ndarray, seen: Observations,
    ray_sigma: np.ndarray, depth_sigma: np.ndarray, state: np.ndarray, prior: np.ndarray | None,
) -> tuple[float, _Parts]:  # fmt: skip
    """Sum of robust errors."""
    camera = (turns[seen.pose] @ points[seen.point][..., None])[..., 0] + shifts[seen.pose]
    depth = np.maximum(camera[:, 2], NEAREST * max(float(np.median(np.abs(camera[:, 2]))), 1e-9))
    camera = np.concatenate([camera[:, :2], depth[:, None]], 1)
    flat = (camera[:, :2] / depth[:, None] - seen.rays) / ray_sigma[:, None]
    have = np.isfinite(seen.log_depth)
    deep = np.where(have, np.log(depth) - np.where(have, seen.log_depth, 0.0), 0.0) / depth_sigma
    # Huber for the image, Cauchy for depths, whose gross errors are frequent.
    size = np.linalg.norm(flat, axis=1)
    inner = size <= PIXEL_HUBER
    rho = np.where(inner, size**2, 2 * PIXEL_HUBER * size - PIXEL_HUBER**2)
    cost = float(rho.sum() + 4.0 * np.log1p(deep**2 / 4.0).sum())
    if prior is not None:
        cost += float(state.ravel() @ prior @ state.ravel())
    weight_flat = np.where(inner, 1.0, PIXEL_HUBER / np.maximum(size, 1e-12))
    weight_deep = np.where(have, 1.0 / (1.0 + deep**2 / 4.0), 0.0)
    return cost, _Parts(camera, flat, deep, weight_flat, weight_deep)


def _normal(
    turns: np.ndarray, points: np.ndarray, seen: Observations, parts: _Parts,
    ray_sigma: np.ndarray, depth_sigma: np.ndarray, basis: np.ndarray, count: int, number: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Blocks of the normal equations: poses (T, D, D), points (P, 3, 3), mixed (T D, P, 3) and both right sides."""
    x, y, z = parts.camera.T
    zero = np.zeros_like(z)
    to_error = np.stack(
        [
            np.stack([1 / z, zero, -x / z**2], 1) / ray_sigma[:, None],
            np.stack([zero, 1 / z, -y / z**2], 1) / ray_sigma[:, None],
            np.stack([zero, zero, 1 / z], 1) / depth_sigma[:, None],
        ],
        1,
    )
    error = np.concatenate([parts.flat, parts.deep[:, None]], 1)
    root = np.sqrt(np.stack([parts.weight_flat, parts.weight_flat, parts.weight_deep], 1))
    to_error, error = to_error * root[..., None], error * root
    turned = (turns[seen.pose] @ points[seen.point][..., None])[..., 0]
    a, b, c = turned.T
    # w x v = -[v] w
    minus_cross = np.stack([zero, c, -b, -c, zero, a, b, -a, zero], 1).reshape(-1, 3, 3)
    own = basis[seen.pose]
    by_pose = to_error @ (minus_cross @ own[:, :3] + own[:, 3:])
    by_point = to_error @ turns[seen.pose]
    dim = basis.shape[2]
    poses = np.zeros((count, dim, dim))
    np.add.at(poses, seen.pose, by_pose.transpose(0, 2, 1) @ by_pose)
    ends = np.zeros((number, 3, 3))
    np.add.at(ends, seen.point, by_point.transpose(0, 2, 1) @ by_point)
    mixed = np.zeros((count, number, dim, 3))
    np.add.at(mixed, (seen.pose, seen.point), by_pose.transpose(0, 2, 1) @ by_point)
    right_pose, right_point = np.zeros((count, dim)), np.zeros((number, 3))
    np.add.at(right_pose, seen.pose, -(by_pose.transpose(0, 2, 1) @ error[..., None])[..., 0])
    np.add.at(right_point, seen.point, -(by_point.transpose(0, 2, 1) @ error[..., None])[..., 0])
    return poses, ends, mixed.transpose(0, 2, 1, 3).reshape(count * dim, number, 3), right_pose, right_point


def _step(
    normal: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    free: np.ndarray, damping: float, prior: np.ndarray | None, state: np.ndarray, dim: int, fix_points: bool,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Solve the damped equations for the change of poses (T, D) and points (P, 3)."""
    poses, ends, mixed, right_pose, right_point = normal
    count, number = len(poses), len(ends)
    whole = np.zeros((count, dim, count, dim))
    whole[np.arange(count), :, np.arange(count), :] = poses
    whole = whole.reshape(count * dim, count * dim)
    right = right_pose.ravel().copy()
    if prior is not None:
        whole, right = whole + prior, right - prior @ state.ravel()
    whole[np.diag_indices_from(whole)] *= 1 + damping
    whole[np.diag_indices_from(whole)] += 1e-9
    inverse = None
    if not fix_points:
        ends = ends.copy()
        diagonal = np.arange(3)
        ends[:, diagonal, diagonal] *= 1 + damping
        ends[:, diagonal, diagonal] += 1e-9
        inverse = np.linalg.inv(ends)
        reduced = (mixed.transpose(1, 0, 2) @ inverse).transpose(1, 0, 2)
        whole = whole - reduced.reshape(count * dim, -1) @ mixed.reshape(count * dim, -1).T
        right = right - np.tensordot(reduced, right_point, ((1, 2), (0, 1)))
    step = np.zeros(count * dim)
    if free.any():
        step[free] = np.linalg.lstsq(whole[np.ix_(free, free)], right[free], rcond=None)[0]
    if inverse is None:
        return step.reshape(count, dim), np.zeros((number, 3))
    rest = right_point - np.tensordot(mixed, step, ((0,), (0,)))
    return step.reshape(count, dim), (inverse @ rest[..., None])[..., 0]


def _exp(rotation: np.ndarray) -> np.ndarray:
    """Rotation matrices (..., 3, 3) of rotation vectors (..., 3)."""
    angle = np.linalg.norm(rotation, axis=-1)[..., None, None]
    x, y, z = np.moveaxis(rotation, -1, 0)
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*x.shape, 3, 3)
    small = angle < 1e-6
    safe = np.where(small, 1.0, angle)
    first = np.where(small, 1.0, np.sin(safe) / safe)
    second = np.where(small, 0.5, (1 - np.cos(safe)) / safe**2)
    return np.eye(3) + first * cross + second * cross @ cross
