"""Bundle adjustment with depth priors, against known solutions and finite differences."""

import numpy as np
import pytest
import torch

from saccade.kinematics.lift import bundle
from saccade.kinematics.lift.bundle import Observations, solve


def turn_about(axis, angle):
    """Rotation matrix by the matrix exponential: another way than the one under test."""
    x, y, z = np.asarray(axis, float) * angle
    return torch.matrix_exp(torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)).numpy()


def street(rng, frames=6, points=40):
    """A camera that drives and turns before points at rest: turns, shifts, points, exact observations."""
    world = np.stack([rng.uniform(-6, 6, points), rng.uniform(-2, 2, points), rng.uniform(8, 25, points)], 1)
    turns = np.stack([turn_about((0, 1, 0), 0.03 * k) for k in range(frames)])
    shifts = np.stack([-turns[k] @ np.array([0.1 * k, 0.0, 0.6 * k]) for k in range(frames)])
    pose, point = (grid.ravel() for grid in np.meshgrid(np.arange(frames), np.arange(points), indexing="ij"))
    camera = np.einsum("nij,nj->ni", turns[pose], world[point]) + shifts[pose]
    return (
        turns,
        shifts,
        world,
        Observations(pose, point, camera[:, :2] / camera[:, 2:], np.log(camera[:, 2])),
    )


@pytest.mark.parametrize("length", [0.0, 1e-9, 1e-3, 1.0, 3.0])
def test_rotations_are_matrix_exponentials(length):
    axis = np.array([0.6, -0.48, 0.64])
    assert np.allclose(bundle._exp((axis * length)[None])[0], turn_about(axis, length), atol=1e-12)


@pytest.mark.parametrize("directions", [6, 4])
def test_derivatives_are_those_of_finite_differences(directions):
    rng = np.random.default_rng(1)
    turns, shifts, world, seen = street(rng, frames=3, points=5)
    # Off the solution, with errors on both sides of where the robust functions bend.
    shifts, world = shifts + 0.02 * rng.standard_normal(shifts.shape), world * 1.05
    seen = Observations(seen.pose, seen.point, seen.rays, np.where(np.arange(15) % 4, seen.log_depth, np.nan))
    basis = rng.standard_normal((3, 6, directions))
    ray, deep = np.full(15, 1e-3), np.linspace(0.02, 0.2, 15)

    def cost(step_pose, step_point):
        change = np.einsum("tij,tj->ti", basis, step_pose)
        moved = np.stack([turn_about(w, 1.0) @ turn for w, turn in zip(change[:, :3], turns, strict=True)])
        state = np.zeros((3, directions))
        return bundle._cost(moved, shifts + change[:, 3:], world + step_point, seen, ray, deep, state, None)

    zero = np.zeros((3, directions)), np.zeros((5, 3))
    _, parts = cost(*zero)
    sizes = np.linalg.norm(parts.flat, axis=1)
    assert (sizes > bundle.PIXEL_HUBER).any()
    assert (sizes < bundle.PIXEL_HUBER).any()
    *_, right_pose, right_point = bundle._normal(turns, world, seen, parts, ray, deep, basis, 3, 5)
    for at, right in ((0, right_pose), (1, right_point)):
        for index in np.ndindex(right.shape):
            ends = []
            for sign in (1, -1):
                steps = [part.copy() for part in zero]
                steps[at][index] = sign * 1e-6
                ends.append(cost(*steps)[0])
            assert -2 * right[index] == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-4, abs=1e-3)


def test_exact_observations_give_the_exact_scene():
    rng = np.random.default_rng(2)
    turns, shifts, world, seen = street(rng)
    start = np.stack([turn_about(rng.standard_normal(3), 0.01) @ turn for turn in turns])
    start[0] = turns[0]
    moved = shifts + 0.1 * rng.standard_normal(shifts.shape)
    moved[0] = shifts[0]
    out = solve(start, moved, world + 0.3 * rng.standard_normal(world.shape), seen,
                ray_sigma=1e-3, depth_sigma=0.1, rounds=40)  # fmt: skip
    assert np.abs(out.turns - turns).max() < 1e-6
    assert np.abs(out.shifts - shifts).max() < 1e-5
    assert np.abs(out.points - world).max() < 1e-4
    assert out.errors.max() < 1e-3


def test_noisy_depth_with_gross_errors_moves_the_scale_a_little_and_the_shape_less():
    rng = np.random.default_rng(3)
    turns, shifts, world, seen = street(rng, frames=8, points=60)
    count = len(seen.pose)
    log_depth = seen.log_depth + 0.08 * rng.standard_normal(count)
    log_depth[rng.random(count) < 0.1] += 1.0
    rays = seen.rays + 5e-4 * rng.standard_normal(seen.rays.shape)
    noisy = Observations(seen.pose, seen.point, rays, log_depth)
    start = np.tile(np.eye(3), (8, 1, 1))
    out = solve(start, 0.8 * shifts, world * 1.1, noisy, ray_sigma=5e-4, depth_sigma=0.1, rounds=40)
    scale = np.linalg.norm(out.shifts[-1]) / np.linalg.norm(shifts[-1])
    assert scale == pytest.approx(1, abs=0.03)
    assert np.abs(out.shifts / scale - shifts).max() < 0.05
    assert np.abs(out.turns - turns).max() < 3e-3


def test_one_deviation_for_all_and_one_for_each_are_the_same():
    rng = np.random.default_rng(4)
    turns, shifts, world, seen = street(rng, frames=3, points=12)
    start = world + 0.2 * rng.standard_normal(world.shape)
    one = solve(turns, shifts, start, seen, ray_sigma=1e-3, depth_sigma=0.1)
    each = solve(turns, shifts, start, seen, ray_sigma=np.full(36, 1e-3), depth_sigma=np.full(36, 0.1))
    assert np.array_equal(one.points, each.points)


def test_a_body_turns_upright_before_a_known_camera():
    rng = np.random.default_rng(5)
    count, body = 7, rng.uniform(-0.8, 0.8, (25, 3))
    up = np.array([0.0, -0.96, -0.28])
    truth = np.stack([turn_about(up, 0.12 * k) for k in range(count)])
    places = np.stack([[0.5 * k - 1.5, 0.3, 9 + 0.1 * k] for k in range(count)])
    pose, point = (grid.ravel() for grid in np.meshgrid(np.arange(count), np.arange(25), indexing="ij"))
    camera = np.einsum("nij,nj->ni", truth[pose], body[point]) + places[pose]
    seen = Observations(pose, point, camera[:, :2] / camera[:, 2:], np.log(camera[:, 2]))
    basis = np.zeros((count, 6, 4))
    basis[:, :3, 0], basis[:, 3:, 1:] = up, np.eye(3)
    fixed = np.arange(count) == 0
    out = solve(np.tile(np.eye(3), (count, 1, 1)), places + 0.2 * rng.standard_normal((count, 3)) * ~fixed[:, None],
                body + 0.1 * rng.standard_normal(body.shape), seen, ray_sigma=1e-3, depth_sigma=0.05,
                basis=basis, fixed=fixed, rounds=60)  # fmt: skip
    assert np.allclose(out.turns @ up, up, atol=1e-9)
    assert np.abs(out.turns - truth).max() < 1e-3
    assert np.abs(out.shifts - places).max() < 0.02
    assert np.array_equal(out.steps[0], np.zeros(4))


def test_poses_that_are_fixed_and_points_that_are_stay():
    rng = np.random.default_rng(6)
    turns, shifts, world, seen = street(rng, frames=4, points=20)
    moved = shifts + 0.1
    out = solve(turns, moved, world, seen, ray_sigma=1e-3, depth_sigma=0.1, fix_points=True,
                fixed=np.array([False, True, False, False]))  # fmt: skip
    assert np.array_equal(out.points, world)
    assert np.array_equal(out.shifts[1], moved[1])
    assert np.abs(out.shifts[[0, 2, 3]] - shifts[[0, 2, 3]]).max() < 1e-4


def test_a_prior_carries_poses_that_nothing_sees():
    rng = np.random.default_rng(7)
    turns, shifts, world, seen = street(rng, frames=5, points=20)
    kept = seen.pose != 2
    partly = Observations(seen.pose[kept], seen.point[kept], seen.rays[kept], seen.log_depth[kept])
    basis = np.zeros((5, 6, 3))
    basis[:, 3:] = np.eye(3)
    bend = np.zeros((3, 5))
    for row in range(3):
        bend[row, row : row + 3] = 1, -2, 1
    prior = np.kron(bend.T @ bend, np.eye(3)) * 100.0
    start = shifts.copy()
    start[2] += 3.0
    out = solve(turns, start, world, partly, ray_sigma=1e-3, depth_sigma=0.1, basis=basis, prior=prior,
                start=start, fixed=np.arange(5) == 0, rounds=30)  # fmt: skip
    assert np.linalg.norm(out.shifts[2] - (shifts[1] + shifts[3]) / 2) < 0.05
