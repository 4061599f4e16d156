"""Scale, depth drawn to what is at rest, and the two ways to place an object."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("cv2")

from saccade.errors import ConfigError
from saccade.kinematics import Settings, label_track
from saccade.kinematics.lift.barycentre import Barycentre, narrow, smooth_on_grid, surface_middles
from saccade.kinematics.lift.metric import (
    draw_to,
    guess_intrinsics,
    measure,
    measure_depths,
    metric_scene,
    scale_of,
)
from saccade.kinematics.lift.rigid import Rigid
from saccade.kinematics.lift.settings import PseudoSettings
from saccade.kinematics.lift.stages import ClipRejected, DepthMap, MaskTrack, Reconstruction

from .lift_scenes import EYE_M, FOCAL, HEIGHT, LENS, WIDTH, sphere_scene


def straight(count=10, step=0.8, depth=8.0):
    return np.stack([-3 + step * np.arange(count), np.full(count, EYE_M - 0.6), np.full(count, depth)], 1)


def reconstruction(scale=2.0, frames=4, error=None, reprojection=0.3):
    """Points at rest with exact depth in a unit of 1 / scale metres, and the metric depth of the frames."""
    rng = np.random.default_rng(0)
    depths = np.tile(np.linspace(5, 12, WIDTH), (frames, HEIGHT, 1)).astype(np.float32)
    factors = np.ones(frames) if error is None else np.asarray(error)
    pixels = [
        np.stack([rng.uniform(5, WIDTH - 5, 60), rng.uniform(5, HEIGHT - 5, 60)], 1) for _ in range(frames)
    ]
    at_rest = [depths[0, np.rint(p[:, 1]).astype(int), np.rint(p[:, 0]).astype(int)] / scale for p in pixels]
    poses = np.tile(np.eye(4), (frames, 1, 1))
    poses[:, 2, 3] = 0.5 * np.arange(frames)
    found = Reconstruction(
        poses, LENS, pixels, at_rest, np.empty((0, 3)), np.array([0.0, -1.0, 0.0]), reprojection
    )
    return found, depths * factors[:, None, None].astype(np.float32)


def test_scale_is_the_median_of_frames_and_reaches_the_poses():
    found, depths = reconstruction(2.0, error=[1.0, 1.0, 1.3, 1.0])
    scale = scale_of(found, depths)
    assert scale.scale == pytest.approx(2.0, rel=0.01)
    still = np.zeros(depths.shape, bool)
    images = np.zeros((*depths.shape, 3), np.uint8)
    scene = metric_scene(images, np.arange(4.0), still, depths, found, scale.scale)
    assert np.allclose(scene.world_from_camera[:, 2, 3], np.arange(4), rtol=0.01)
    # The frame whose depth was 30 % off has been drawn to the others.
    assert np.median(scene.depths[2] / depths[0]) == pytest.approx(1.0, abs=0.02)


def test_clips_without_a_steady_scale_or_without_points_are_rejected():
    found, depths = reconstruction(error=[1.0, 1.6, 0.6, 1.4])
    with pytest.raises(ClipRejected, match="spread") as caught:
        scale_of(found, depths)
    assert caught.value.reason == "unsteady_scale"
    assert scale_of(found, depths, Settings(max_scale_spread=0.5)).status == "ok"
    with pytest.raises(ClipRejected) as caught:
        scale_of(found, np.full_like(depths, np.nan))
    assert caught.value.reason == "no_scale"


class Path:
    """A pose stage that gives prepared reconstructions, one a call."""

    def __init__(self, *found):
        self.found = list(found)

    def __call__(self, images, moving, depths, intrinsics):
        found = self.found.pop(0)
        if isinstance(found, Exception):
            raise found
        return found


def run(path, depths, **settings):
    images, still = np.zeros((*depths.shape, 3), np.uint8), np.zeros(depths.shape, bool)
    return measure(images, np.arange(4.0), still, depths, LENS, path, PseudoSettings(**settings))


def test_a_path_that_does_not_hold_is_rejected():
    found, depths = reconstruction()
    moved, _ = reconstruction(reprojection=2.5)
    with pytest.raises(ClipRejected) as caught:
        run(Path(moved), depths)
    assert caught.value.reason == "background_moves"
    assert run(Path(moved, moved), depths, max_reprojection_px=3).scale.status == "ok"
    longer = dataclasses.replace(found, world_from_camera=found.world_from_camera.copy())
    longer.world_from_camera[:, 2, 3] *= 1.3
    for back in (longer, ClipRejected("lost_camera", "lost")):
        with pytest.raises(ClipRejected) as caught:
            run(Path(found, back), depths)
        assert caught.value.reason == "reversal_differs"
    assert run(Path(found, found), depths).scale.scale == pytest.approx(2.0, rel=0.01)
    assert run(Path(found), depths, max_reversal_gap=0.0).scale.status == "ok"
    assert run(Path(found, longer), depths, reversal_min_m=10.0).scale.status == "ok"


def test_a_smooth_factor_of_depth_is_taken_out_and_gross_errors_do_not_matter():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    true = 5 + 0.05 * x + 0.02 * y
    field = 0.08 * np.sin(2.2 * x / WIDTH) - 0.06 * (y / HEIGHT) ** 2 + 0.05
    pixels = np.stack([rng.uniform(0, WIDTH - 1, 400), rng.uniform(0, HEIGHT - 1, 400)], 1)
    known = true[np.rint(pixels[:, 1]).astype(int), np.rint(pixels[:, 0]).astype(int)].astype(float)
    known[::10] *= 3.0
    drawn = draw_to((true * np.exp(field)).astype(np.float32), pixels, known)
    assert np.abs(np.log(drawn / true)).max() < 0.02
    few = draw_to(true, pixels[:2], known[:2])
    assert np.array_equal(few, true)


def test_focal_length_is_the_median_of_the_frames():
    lens = guess_intrinsics(np.array([200.0, np.nan, 100.0, 1000.0]), 48, 64)
    assert np.array_equal(lens, [[200, 0, 31.5], [0, 200, 23.5], [0, 0, 1]])
    with pytest.raises(ConfigError, match="focal"):
        guess_intrinsics(np.array([np.nan]), 48, 64)
    images = np.zeros((2, 4, 5, 3), np.uint8)
    depths, focals = measure_depths(images, lambda image: DepthMap(np.array([[1.0, -1.0], [np.inf, 0.0]])))
    assert np.array_equal(np.isfinite(depths[0]), [[True, False], [False, False]])
    assert np.isnan(focals).all()


def test_the_barycentre_lies_on_the_visible_side():
    track, scene = sphere_scene(straight())
    points = surface_middles(track, scene)
    gap = points - straight()
    assert np.abs(gap[2:-2, 1]).max() < 0.1
    depth = -gap[:, 2]
    assert ((depth > 0.4 * 0.6) & (depth < 0.6)).all()
    # Masks and depth are looked at well inside only; what the outline holds of the background does not count.
    scene.depths[:, :, 1:] = np.where(
        narrow(track.masks[4], 1)[:, 1:] | ~track.masks[4][:, 1:], scene.depths[:, :, 1:], 50.0
    )
    assert surface_middles(track, scene)[4] == pytest.approx(points[4], abs=0.05)


def test_too_small_masks_place_nothing():
    track, scene = sphere_scene(straight(4, depth=40.0))
    for lift in (Barycentre(), Rigid()):
        with pytest.raises(ClipRejected) as caught:
            lift(track, scene)
        assert caught.value.reason == "too_few_pixels"
    some = MaskTrack("1", "car", [None, *sphere_scene(straight(4))[0].masks[1:]])
    points = Barycentre()(some, sphere_scene(straight(4))[1]).points
    assert np.isnan(points[0]).all()
    assert np.isfinite(points[1:]).all()


def test_smoothing_is_a_median_and_a_mean_of_three_on_the_grid():
    times = 0.5 * np.arange(7)
    points = np.zeros((7, 3))
    points[:, 0] = [0, 1, 9, 3, 4, 5, 6]
    expected = np.convolve([0, 1, 3, 4, 4, 5, 6], np.ones(3) / 3, "valid")
    smoothed = smooth_on_grid(times, points)
    assert smoothed[1:-1, 0] == pytest.approx(expected)
    assert smoothed[0, 0] == pytest.approx(0.5)
    assert smoothed[-1, 0] == pytest.approx(5.5)
    points[3] = np.nan
    assert np.isnan(smooth_on_grid(times, points)[3]).all()
    assert np.isfinite(smooth_on_grid(times, points)[[0, 1, 2, 4, 5, 6]]).all()


@pytest.mark.parametrize("camera", ["stands", "drives"])
def test_a_body_is_placed_better_than_its_surface(camera):
    count = 14
    angle = np.linspace(0, np.pi * 0.8, count)
    path = np.stack([4 * np.sin(angle) - 2.5, np.full(count, EYE_M - 0.6), 8 - 3 * np.cos(angle)], 1)
    eyes = np.zeros((count, 3))
    if camera == "drives":
        eyes[:, 2] = 0.15 * np.arange(count)
    track, scene = sphere_scene(path, eyes=eyes, noise=0.1)
    body, surface = Rigid()(track, scene), Barycentre()(track, scene)
    assert body.notes["points"] > 0
    seen = np.isfinite(body.points).all(1)
    assert seen.sum() >= count - 2
    gap = np.linalg.norm(body.points - path, axis=1)[seen]
    assert np.median(gap) < 0.2
    assert np.median(gap) < 0.7 * np.median(np.linalg.norm(surface.points - path, axis=1)[seen])
    times = scene.times_s[seen]
    truth = label_track(times, path[seen], up=[0, -1, 0], clip_start_s=times[0])
    label = label_track(times, body.points[seen], up=[0, -1, 0], clip_start_s=times[0])
    assert label.distance_m == pytest.approx(truth.distance_m, rel=0.05)


def test_what_stands_still_is_labelled_static():
    track, scene = sphere_scene(np.tile([1.0, EYE_M - 0.6, 9.0], (10, 1)), noise=0.1)
    label = label_track(scene.times_s, Rigid()(track, scene).points, up=[0, -1, 0])
    assert label.status == "static"
    assert label.distance_m < 0.5


def test_a_hole_in_the_depth_is_no_hole_in_the_path():
    track, scene = sphere_scene(straight())
    middle = np.argwhere(track.masks[5]).mean(0).astype(int)
    scene.depths[5, middle[0] - 8 : middle[0] + 8, middle[1] - 8 : middle[1] + 8] = np.nan
    points = Rigid()(track, scene).points
    assert np.linalg.norm(points[5] - straight()[5]) < 0.2


def test_half_an_object_at_the_border_does_not_drag_it_along():
    path = straight(10, step=0.9)
    path[:, 0] += 2.2
    track, scene = sphere_scene(path)
    edge = LENS[0, 2] / FOCAL * 8.0
    cut = (np.abs(path[:, 0]) > edge - 0.6) & np.array([mask is not None for mask in track.masks])
    assert cut.any()
    points = Rigid()(track, scene).points
    placed = np.isfinite(points).all(1)
    assert placed.sum() >= 5
    assert np.linalg.norm(points - path, axis=1)[placed].max() < 0.35


@pytest.mark.parametrize(
    ("values", "words"),
    [({"lift": "ridgid"}, "rigid"), ({"names": ()}, "names"), ({"erode_px": -1}, "erode_px"),
     ({"trim_share": 0.5}, "trim_share"), ({"max_speed_mps": float("nan")}, "max_speed")],
)  # fmt: skip
def test_settings_out_of_range(values, words):
    with pytest.raises(ConfigError, match=words):
        PseudoSettings(**values)
