"""Limits of lifting: a ground that too little lies on, observations that fit nothing, points behind the camera."""

import numpy as np
import pytest

pytest.importorskip("cv2")
pytest.importorskip("numba")

from saccade.kinematics.lift.classical import ClassicalPose, _Mapper
from saccade.kinematics.lift.ground import LEAST_SHARE, find_ground
from saccade.kinematics.lift.stages import ClipRejected

HEIGHT, WIDTH, FOCAL = 240, 320, 300.0
LENS = np.array([[FOCAL, 0, 159.5], [0, FOCAL, 119.5], [0, 0, 1]])
UP = np.array([0.0, -1.0, 0.0])


@pytest.mark.parametrize(("share", "found"), [(0.08, False), (0.11, False), (0.25, True), (0.5, True)])
def test_a_plane_needs_its_share_of_what_lies_below_the_horizon(share, found):
    """The rest lies on no plane: at depths that differ too much from the ground's, each by its own factor."""
    rng = np.random.default_rng(0)
    rays = np.stack([rng.uniform(-0.5, 0.5, 3000), rng.uniform(0.1, 0.5, 3000), np.ones(3000)], 1)
    depths = 1.5 / rays[:, 1]
    off = rng.random(3000) > share
    depths[off] *= np.exp(rng.uniform(0.8, 4.0, off.sum()))
    ground = find_ground(np.zeros_like(rays), rays, depths, UP)
    assert (ground is not None) == found
    if ground is not None:
        assert ground.share >= LEAST_SHARE
        assert ground.share == pytest.approx(share, abs=0.06)
        assert ground.height == pytest.approx(1.5, rel=0.1)


def mapper(outliers=0, behind=0, seed=0):
    """A camera that goes straight on over five frames past points whose places and pixels are exact."""
    rng = np.random.default_rng(seed)
    shifts = [np.array([0.0, 0.0, -0.2 * frame]) for frame in range(5)]
    y, x = np.mgrid[20:220:28, 20:300:28]
    pixels = np.stack([x.ravel(), y.ravel()], 1).astype(float)
    rays = np.concatenate([pixels, np.ones((len(pixels), 1))], 1) @ np.linalg.inv(LENS).T
    points = rays * rng.uniform(4, 12, len(rays))[:, None]
    points = np.concatenate([points, np.tile([0.0, 0.0, -3.0], (behind, 1))])
    depths = np.full((5, HEIGHT, WIDTH), np.nan, np.float32)
    made = _Mapper(
        ClassicalPose(),
        np.zeros((5, HEIGHT, WIDTH, 3), np.uint8),
        np.zeros((5, HEIGHT, WIDTH), bool),
        depths,
        LENS,
    )
    made.turns, made.shifts, made.points = [np.eye(3)] * 5, shifts, points
    made.flat = np.zeros(len(points), bool)
    for frame, shift in enumerate(shifts):
        camera = points + shift
        seen = (camera / camera[:, 2:]) @ LENS.T
        inside = np.flatnonzero((seen[:, 0] > 4) & (seen[:, 0] < 316) & (seen[:, 1] > 4) & (seen[:, 1] < 236))
        at = seen[inside, :2]
        for (column, row), deep in zip(np.rint(at).astype(int), camera[inside, 2], strict=True):
            if deep > 0:
                depths[frame, row - 2 : row + 3, column - 2 : column + 3] = deep
        if frame and outliers:
            at[rng.permutation(np.flatnonzero(inside < 60))[:outliers]] += [14.0, 9.0]
        made.seen.append((inside, at))
    return made, np.stack(shifts)


def test_what_does_not_fit_at_first_has_no_say_in_the_end():
    made, shifts = mapper(outliers=14)
    found = made._finish()
    assert np.abs(found.world_from_camera[:, :3, 3] + shifts).max() < 1e-3
    assert found.reprojection_px < 0.02


def test_points_behind_the_camera_have_no_depth():
    plain, _ = mapper()
    made, _ = mapper(behind=3)
    found, without = made._finish(), plain._finish()
    assert all((depths > 0).all() for depths in found.depths)
    assert [len(pixels) for pixels in found.pixels] == [len(pixels) for pixels in without.pixels]
    assert all(len(pixels) == len(depths) for pixels, depths in zip(found.pixels, found.depths, strict=True))


def test_too_few_points_that_are_seen_twice():
    made, _ = mapper()
    made.seen = [
        (numbers[11 * k : 11 * k + 11], pixels[11 * k : 11 * k + 11])
        for k, (numbers, pixels) in enumerate(made.seen)
    ]
    with pytest.raises(ClipRejected) as caught:
        made._finish()
    assert caught.value.reason == "too_few_features"
