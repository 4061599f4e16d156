"""The camera's path from pixels: followed points, the ground, and the classical stage on rendered clips."""

import numpy as np
import pytest

pytest.importorskip("cv2")
pytest.importorskip("numba")

from saccade.kinematics.lift.classical import ClassicalPose
from saccade.kinematics.lift.features import corners, depth_at, flow, follow, follow_plane
from saccade.kinematics.lift.ground import find_ground
from saccade.kinematics.lift.stages import ClipRejected
from saccade.worlds import make_world, render


def texture(height=120, width=160, seed=0):
    """A smooth random picture (H, W) as a function of place, so that it can be drawn moved exactly."""
    rng = np.random.default_rng(seed)
    waves = rng.uniform(-0.35, 0.35, (24, 2)), rng.uniform(0, 6.3, 24)

    def draw(x, y):
        total = sum(np.sin(wx * x + wy * y + shift) for (wx, wy), shift in zip(*waves, strict=True))
        return np.clip(128 + 14 * total, 0, 255).astype(np.uint8)

    y, x = np.mgrid[:height, :width].astype(float)
    return draw, x, y


def test_points_are_found_where_the_picture_moved_to():
    draw, x, y = texture()
    before, after = draw(x, y), draw(x - 3.3, y + 1.7)
    points = corners(before, np.ones(before.shape, bool), np.empty((0, 2)), 40, 6)
    assert len(points) > 15
    there, found = follow(before, after, points, None, 13, 3)
    assert found.mean() > 0.7
    gap = np.linalg.norm(there[found] - points[found] - [3.3, -1.7], axis=1)
    assert np.quantile(gap, 0.8) < 0.1
    dense = flow(before, after)[20:-20, 20:-20]
    assert np.abs(np.median(dense, axis=(0, 1)) - [3.3, -1.7]).max() < 0.2


def test_new_corners_keep_away_from_old_ones_and_from_where_they_may_not_be():
    draw, x, y = texture()
    picture = draw(x, y)
    where = np.zeros(picture.shape, bool)
    where[:, 80:] = True
    old = corners(picture, where, np.empty((0, 2)), 10, 8)
    new = corners(picture, where, old, 30, 8)
    assert len(new)
    assert (new[:, 0] > 76).all()
    assert np.linalg.norm(new[:, None] - old[None], axis=2).min() > 4
    assert len(corners(picture, where, old, 0, 8)) == 0


def test_points_of_a_plane_are_found_although_their_surroundings_change_shape():
    draw, x, y = texture(seed=3)
    plane = np.array([[1.7, 0.3, -60.0], [0.0, 1.7, -30.0], [0.0, 1e-3, 1.0]])
    before = draw(x, y)
    back = np.linalg.inv(plane)
    flat = np.stack([x, y, np.ones_like(x)], -1) @ back.T
    after = draw(flat[..., 0] / flat[..., 2], flat[..., 1] / flat[..., 2])
    points = corners(before, np.ones(before.shape, bool), np.empty((0, 2)), 60, 6)
    ends = np.concatenate([points, np.ones((len(points), 1))], 1) @ plane.T
    truth = ends[:, :2] / ends[:, 2:]
    inside = (truth > 8).all(1) & (truth < [152, 112]).all(1)
    there, found = follow_plane(before, after, points, plane, 13, 2)
    assert found[inside].mean() > 0.8
    assert np.median(np.linalg.norm(there - truth, axis=1)[found & inside]) < 0.3
    _, plainly = follow(before, after, points, truth.astype(np.float32), 13, 2)
    assert found[inside].sum() > plainly[inside].sum()


def test_depth_of_a_point_is_that_of_its_own_surface():
    depth = np.full((20, 20), 10.0)
    depth[:, 10:] = 3.0
    depth[5, 5] = np.nan
    where = np.zeros((20, 20), bool)
    where[:, 10:] = True
    points = np.array([[5.0, 5.0], [10.4, 9.0], [10.4, 9.0], [0.0, 0.0]])
    assert depth_at(depth, points[:1])[0] == 10.0
    assert depth_at(depth, points, where)[1] == 3.0
    assert np.isnan(depth_at(depth, points, where)[3])
    assert depth_at(depth, np.empty((0, 2))).shape == (0,)


def rays_of(height=40, width=60, pitch=0.2):
    """Rays of a camera that looks down a little, and the true up axis in its frame."""
    y, x = np.mgrid[:height, :width]
    rays = np.stack([(x - width / 2) / 50.0, (y - height / 2) / 50.0, np.ones_like(x)], -1).reshape(-1, 3)
    return rays.astype(float), np.array([0.0, -np.cos(pitch), -np.sin(pitch)])


def test_the_ground_is_found_through_noise_and_things_that_stand_on_it():
    rng = np.random.default_rng(0)
    rays, up = rays_of()
    fall = -(rays @ up)
    depth = np.where(fall > 0.02, 1.6 / np.maximum(fall, 0.02), 80.0)
    depth[rng.random(len(depth)) < 0.3] = 6.0  # a wall of pixels at one depth
    depth *= np.exp(0.07 * rng.standard_normal(len(depth)))
    depth[::17] = np.nan
    ground = find_ground(np.zeros_like(rays), rays, depth, np.array([0.0, -1.0, 0.0]))
    assert ground is not None
    assert np.degrees(np.arccos(ground.up @ up)) < 0.7
    assert ground.height == pytest.approx(1.6, rel=0.03)


def test_no_ground_where_depth_is_none_or_means_nothing():
    rays, _ = rays_of()
    rng = np.random.default_rng(0)
    axis = np.array([0.0, -1.0, 0.0])
    assert find_ground(np.zeros_like(rays), rays, np.full(len(rays), np.nan), axis) is None
    assert find_ground(np.zeros_like(rays), rays, np.exp(rng.uniform(-3, 3, len(rays))), axis) is None


def clip_of(camera, seed, frames=7):
    return render(make_world(seed, seconds=4.0, cameras=(camera,)), 0.5 * np.arange(frames), (240, 320))


@pytest.mark.parametrize(("camera", "seed"), [("drive", 9001), ("turn", 9010), ("drive_and_turn", 9003)])
def test_the_path_of_a_rendered_clip(camera, seed):
    clip = clip_of(camera, seed)
    rng = np.random.default_rng(seed)
    depth = 1.7 * clip.depth * np.exp(0.07 * rng.standard_normal(clip.depth.shape)).astype(np.float32)
    found = ClassicalPose()(clip.images, clip.instances > 0, depth, clip.intrinsics)
    truth = np.linalg.inv(clip.world_from_camera[0]) @ clip.world_from_camera
    way = np.linalg.norm(np.diff(truth[:, :3, 3], axis=0), axis=1).sum()
    gap = np.linalg.norm(found.world_from_camera[:, :3, 3] / 1.7 - truth[:, :3, 3], axis=1)
    assert gap.max() < 0.05 * way + 0.1
    turned = found.world_from_camera[:, :3, :3].transpose(0, 2, 1) @ truth[:, :3, :3]
    cosine = (np.trace(turned, axis1=1, axis2=2) - 1) / 2
    assert np.degrees(np.arccos(np.clip(cosine, -1, 1))).max() < 1.5
    assert found.reprojection_px < 1.0
    # Points at rest lie where they are seen, at the depth that was given.
    true_depth = 1.7 * depth_at(clip.depth[4], found.pixels[4])
    near = np.isfinite(true_depth)
    assert np.median(np.abs(np.log(found.depths[4][near] / true_depth[near]))) < 0.05


def test_no_path_without_texture_and_none_between_two_places():
    blank = np.full((3, 240, 320, 3), 120, np.uint8)
    still = np.zeros((3, 240, 320), bool)
    depth = np.full((3, 240, 320), 8.0, np.float32)
    lens = np.array([[300.0, 0, 159.5], [0, 300.0, 119.5], [0, 0, 1]])
    with pytest.raises(ClipRejected) as caught:
        ClassicalPose()(blank, still, depth, lens)
    assert caught.value.reason == "too_few_features"
    one, two = clip_of("stand", 9000, 1), clip_of("stand", 9008, 1)
    images, depth = np.concatenate([one.images, two.images]), np.concatenate([one.depth, two.depth])
    with pytest.raises(ClipRejected) as caught:
        ClassicalPose()(images, still[:2], depth, one.intrinsics)
    assert caught.value.reason == "lost_camera"
