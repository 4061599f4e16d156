"""Pictures of the synthetic world against its exact truth."""

import dataclasses
import math

import numpy as np
import pytest

from saccade.errors import ConfigError
from saccade.worlds import CLASSES, SURFACES, Camera, Motion, Thing, World, make_world, render
from saccade.worlds.render import BOX, CONE, CYLINDER, ELLIPSOID

LOOK = np.array([0.8, 0.2, 0.2, 0.4, 0.1, 0.1, 1.0, 0.5, 3])
STILL = np.array([[1.0, 0.0, 0.0]])


def alone(shape, size=(2.0, 2.0, 2.0), place=(10.0, 0.0), yaw=0.0, height=1.0, pitch=0.0, focal=1.0) -> World:
    """One thing straight ahead of a level camera that looks along x."""
    motion = Motion("rest", place, yaw, STILL)
    thing = Thing(CLASSES[shape], shape, size, motion, LOOK)
    camera = Camera(Motion("camera", (0.0, 0.0), 0.0, STILL), height, pitch, focal)
    light = np.array([0.0, 0.0, 1.0, 0.5, 0.8, 0.6, 0.7, 0.9])
    return World(0, 0.0, (thing,), (), camera, light, LOOK)


def test_equal_seeds_equal_pictures():
    first, second = (render(make_world(5), [0.0, 2.5], (48, 64)) for _ in range(2))
    for name in ("images", "instances", "classes", "depth", "centres"):
        assert np.array_equal(getattr(first, name), getattr(second, name))
    assert not np.array_equal(first.images[0], render(make_world(6), [0.0], (48, 64)).images[0])


def test_threads_change_nothing():
    world = make_world(8)
    one, two = (render(world, np.linspace(0, 5, 6), (32, 32), threads=n) for n in (1, 2))
    assert np.array_equal(one.images, two.images)
    assert np.array_equal(one.instances, two.instances)


def test_a_ball_has_the_outline_of_a_sphere():
    clip = render(alone(ELLIPSOID), [0.0], (201, 201))
    assert clip.depth[0, 100, 100] == pytest.approx(9.0, abs=1e-4)
    radius = 201 * math.tan(math.asin(1 / 10))
    assert clip.instances.sum() == pytest.approx(math.pi * radius**2, rel=0.01)
    boxes, areas = clip.boxes()
    assert boxes[0, 0] == pytest.approx(
        [100.5 - radius, 100.5 - radius, 100.5 + radius, 100.5 + radius], abs=1
    )
    assert areas[0, 0] == clip.instances.sum()


def test_a_box_has_the_outline_and_depth_of_its_front():
    clip = render(alone(BOX), [0.0], (201, 201))
    half = 201 * 1 / 9
    assert clip.instances.sum() == pytest.approx((2 * half) ** 2, rel=0.02)
    assert np.allclose(clip.depth[clip.instances == 1], 9.0, atol=1e-4)


@pytest.mark.parametrize(("shape", "share"), [(CYLINDER, 1.0), (CONE, 0.5)])
def test_round_things_have_the_outline_of_their_side(shape, share):
    # From far away the outline is nearly the side view: a rectangle, or half of it.
    clip = render(alone(shape, place=(80.0, 0.0), focal=10.0), [0.0], (401, 401))
    side = 4010 * 2 / 80
    assert clip.instances.sum() == pytest.approx(share * side**2, rel=0.03)


def test_turned_boxes_are_wider():
    straight, turned = (render(alone(BOX, yaw=yaw), [0.0], (128, 128)) for yaw in (0.0, math.pi / 4))
    width = [float(clip.boxes()[0][0, 0, 2] - clip.boxes()[0][0, 0, 0]) for clip in (straight, turned)]
    assert width[1] > 1.25 * width[0]


def test_depth_lifts_pixels_onto_the_ground_and_the_things():
    for seed in range(4):
        clip = render(make_world(seed), [0.0, 4.0], (40, 56))
        v, u = np.mgrid[:40, :56]
        rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(clip.intrinsics).T
        for t in range(2):
            shown = np.isfinite(clip.depth[t])
            points = rays[shown] * clip.depth[t][shown][:, None]
            lifted = points @ clip.world_from_camera[t, :3, :3].T + clip.world_from_camera[t, :3, 3]
            ground = clip.classes[t][shown] == SURFACES.index("ground")
            assert np.abs(lifted[ground, 2]).max() < 1e-3
            assert (lifted[:, 2] > -1e-3).all()
            for number, thing in enumerate(clip.world.objects):
                own = lifted[clip.instances[t][shown] == number + 1]
                reach = np.linalg.norm(thing.size) / 2
                gaps = np.linalg.norm(own - clip.centres[t, number], axis=1)
                assert (gaps < reach + 1e-3).all()


def test_maps_agree_with_each_other():
    for seed in range(6):
        clip = render(make_world(seed), [1.0], (64, 64))
        objects = np.isin(clip.classes, [SURFACES.index(name) for name in CLASSES])
        assert np.array_equal(objects, clip.instances > 0)
        assert np.array_equal(np.isinf(clip.depth), clip.classes == SURFACES.index("sky"))
        identity = clip.camera_from_world @ clip.world_from_camera
        assert np.allclose(identity, np.eye(4), atol=1e-12)


def test_shadows_darken_the_ground_under_things():
    world = alone(BOX, pitch=0.3, height=4.0)
    lit = dataclasses.replace(world, light=np.array([0.6, 0.6, 0.53, 0.6, 0.8, 0.6, 0.7, 0.9]))
    empty = dataclasses.replace(lit, objects=())
    with_box, without = render(lit, [0.0], (96, 96)), render(empty, [0.0], (96, 96))
    ground = with_box.classes[0] == SURFACES.index("ground")
    drop = without.images[0].astype(int).sum(-1) - with_box.images[0].astype(int).sum(-1)
    assert (drop[ground] >= -40).all()
    assert (drop[ground] > 60).sum() > 20


def test_outlines_are_smooth():
    clip = render(alone(ELLIPSOID, focal=4.0), [0.0], (96, 96))
    grey = clip.images[0].astype(int).sum(-1)
    mixed = total = 0
    for row in range(30, 66):
        left = int(np.flatnonzero(clip.instances[0, row])[0])
        outside, edge, inside = grey[row, left - 3], grey[row, left - 1 : left + 1], grey[row, left + 3]
        low, high = min(outside, inside) + 15, max(outside, inside) - 15
        mixed, total = mixed + bool(((edge > low) & (edge < high)).any()), total + 1
    assert mixed > 0.6 * total


def test_objects_keep_apart_and_in_view():
    for seed in range(25):
        world = make_world(seed, seconds=6.0)
        times = np.linspace(0, 6, 25)
        centres, _ = world.tracks(times)
        eye = world.camera.motion.at(times)[0]
        reach = [math.hypot(*thing.size[:2]) / 2 for thing in world.objects]
        for a in range(len(reach)):
            assert np.linalg.norm(centres[:, a, :2] - eye, axis=1).min() > reach[a]
            for b in range(a):
                assert np.linalg.norm(centres[:, a] - centres[:, b], axis=1).min() > 0.8 * (
                    reach[a] + reach[b]
                )
        clip = render(world, times, (24, 32))
        points = np.einsum(
            "tij,tnj->tni",
            clip.camera_from_world[:, :3, :3],
            centres - clip.world_from_camera[:, None, :3, 3],
        )
        pixels = points @ clip.intrinsics.T
        columns = pixels[..., 0] / pixels[..., 2]
        inside = (pixels[..., 2] > 0) & (columns > -0.5) & (columns < 31.5)
        assert (inside.mean(0) > 0.5).all()


@pytest.mark.parametrize(
    "options",
    [
        {"motions": ("fly",)},
        {"cameras": ()},
        {"objects": (0, 2)},
        {"objects": (3, 2)},
        {"distance_m": (1.0, 5.0)},
        {"speed_mps": (0.0, 1.0)},
        {"seconds": -1.0},
        {"visible": 1.5},
    ],
)
def test_refuses_settings(options):
    with pytest.raises(ConfigError):
        make_world(0, **options)


@pytest.mark.parametrize(
    ("times", "size"), [([], (8, 8)), ([math.nan], (8, 8)), ([0.0], (0, 8)), ([0.0], (8, 9000))]
)
def test_refuses_views(times, size):
    with pytest.raises(ConfigError):
        render(make_world(0), times, size)
