"""A scene for lifting that needs no renderer: a sphere on flat ground, its depth and masks drawn by formula."""

import numpy as np

from saccade.kinematics.lift.stages import MaskTrack, MetricScene

HEIGHT, WIDTH, FOCAL = 120, 160, 150.0
LENS = np.array([[FOCAL, 0, (WIDTH - 1) / 2], [0, FOCAL, (HEIGHT - 1) / 2], [0, 0, 1]])
EYE_M = 1.5
"""Height of the camera."""


def sphere_scene(places, radius=0.6, eyes=None, times=None, noise=0.0, seed=0):
    """A sphere at places (T, 3) in a world with y down and the ground at y = EYE_M, seen by a camera that moves.

    Args:
        places: Middles of the sphere.
        radius: Metres.
        eyes: (T, 3) of the camera, which looks along z.
        times: (T,) seconds; every half by default.
        noise: Relative error of depth.
        seed: Of that.

    Returns:
        Track and scene; pictures are grey noise fixed to sphere and ground.
    """
    places = np.asarray(places, float)
    eyes = np.zeros_like(places) if eyes is None else np.asarray(eyes, float)
    times = 0.5 * np.arange(len(places)) if times is None else np.asarray(times, float)
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    rays = np.stack([(x - LENS[0, 2]) / FOCAL, (y - LENS[1, 2]) / FOCAL, np.ones((HEIGHT, WIDTH))], -1)
    depths, masks, images = [], [], []
    poses = np.tile(np.eye(4), (len(places), 1, 1))
    poses[:, :3, 3] = eyes
    for place, eye in zip(places, eyes, strict=True):
        gap = place - eye
        a, b, c = (rays**2).sum(-1), rays @ gap, gap @ gap - radius**2
        root = b**2 - a * c
        hit = root > 0
        near = np.where(hit, (b - np.sqrt(np.maximum(root, 0))) / a, np.inf)
        ground = np.where(rays[..., 1] > 1e-3, (EYE_M - eye[1]) / np.maximum(rays[..., 1], 1e-3), 100.0)
        depth = np.minimum(near, np.minimum(ground, 100.0))
        at = eye + depth[..., None] * rays
        own = np.where(hit[..., None], at - place, at)
        bright = 128 + 60 * np.sin(7 * own[..., 0]) * np.cos(9 * own[..., 1]) * np.sin(5 * own[..., 2] + 1)
        images.append(np.repeat(np.clip(bright, 0, 255).astype(np.uint8)[..., None], 3, -1))
        masks.append(hit if hit.any() else None)
        depths.append((depth * np.exp(noise * rng.standard_normal(depth.shape))).astype(np.float32))
    up = np.array([0.0, -1.0, 0.0])
    # The ground is where up . X + EYE_M = 0.
    scene = MetricScene(np.stack(images), times, np.stack(depths), poses, LENS.copy(), up, EYE_M)
    return MaskTrack("1", "car", masks), scene
