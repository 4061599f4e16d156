"""Draw a small world from a seed: what stands in it, what moves, where the camera is, how the light falls.

Sizes, places, speeds, colours, the camera's height, focal length, tilt and motion are all drawn anew for every world,
so that neither size nor rig can be learned by heart. Objects keep apart from each other and from the camera over the
whole clip, and each is inside the picture during at least part of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from saccade.errors import ConfigError, did_you_mean
from saccade.worlds.motion import KINDS, Motion, make_motion
from saccade.worlds.render import BOX, CONE, CYLINDER, ELLIPSOID, ROW

CLASSES = ("box", "ball", "cylinder", "cone")
"""What objects are called, in the order of their class numbers."""
SURFACES = ("sky", "ground", "wall", "clutter", *CLASSES)
"""The classes of a class map, in order."""
CAMERAS = ("stand", "drive", "turn", "drive_and_turn")
"""What the camera may do."""
SHAPES = {"box": BOX, "ball": ELLIPSOID, "cylinder": CYLINDER, "cone": CONE}
TRIES = 60
"""Draws of one object before the world goes without it."""
CHECKED = 17
"""Moments of a clip at which objects are kept apart."""


@dataclass(frozen=True)
class Thing:
    """Something solid on the ground."""

    name: str
    """Its class, one of `SURFACES` but sky and ground."""
    shape: int
    size: tuple[float, float, float]
    """Length, width and height in metres; length lies along the heading."""
    motion: Motion
    look: np.ndarray
    """(9,) two colours 6, texture size in metres, contrast, seed."""


@dataclass(frozen=True)
class Camera:
    """A camera on a path over the ground."""

    motion: Motion
    """It looks along the heading of its motion."""
    height_m: float
    pitch: float
    """Downward tilt in radians."""
    focal: float
    """Focal length as a share of the picture's width."""

    def intrinsics(self, height: int, width: int) -> np.ndarray:
        """Return the (3, 3) matrix of a picture of that size; pixel centres are at whole numbers."""
        f = self.focal * width
        return np.array([[f, 0, (width - 1) / 2], [0, f, (height - 1) / 2], [0, 0, 1]], dtype=np.float64)

    def world_from_camera(self, times: np.ndarray) -> np.ndarray:
        """Return poses (T, 4, 4) that take camera coordinates (x right, y down, z forward) to the world."""
        place, heading = self.motion.at(times)
        zero = np.zeros_like(heading)
        forward = np.stack([np.cos(heading), np.sin(heading), zero], 1)
        right = np.stack([np.sin(heading), -np.cos(heading), zero], 1)
        up = np.broadcast_to([0.0, 0.0, 1.0], forward.shape)
        c, s = math.cos(self.pitch), math.sin(self.pitch)
        poses = np.tile(np.eye(4), (len(heading), 1, 1))
        poses[:, :3, 0] = right
        poses[:, :3, 1] = -c * up - s * forward
        poses[:, :3, 2] = c * forward - s * up
        poses[:, :2, 3], poses[:, 2, 3] = place, self.height_m
        return poses


@dataclass(frozen=True)
class World:
    """Everything there is, at all times of a clip."""

    seed: int
    seconds: float
    objects: tuple[Thing, ...]
    """What may move and is to be found; numbered from 1 in masks."""
    scenery: tuple[Thing, ...]
    """Walls and clutter, which never move."""
    camera: Camera
    light: np.ndarray
    """(8,) as the renderer takes it."""
    ground: np.ndarray
    """(9,) as the renderer takes it."""

    def tracks(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the exact centres (T, N, 3) in metres and headings (T, N) in radians of all objects."""
        places, headings = (
            np.zeros((len(times), len(self.objects), 3)),
            np.zeros((len(times), len(self.objects))),
        )
        for number, thing in enumerate(self.objects):
            places[:, number, :2], headings[:, number] = thing.motion.at(times)
            places[:, number, 2] = thing.size[2] / 2
        return places, headings

    def rows(self, time: float) -> np.ndarray:
        """Describe all things at one moment for the renderer, objects first: (n, ROW)."""
        rows = np.zeros((len(self.objects) + len(self.scenery), ROW))
        moment = np.array([time])
        for row, thing in zip(rows, (*self.objects, *self.scenery), strict=True):
            place, heading = thing.motion.at(moment)
            half = np.asarray(thing.size) / 2
            row[0], row[1:3], row[3] = thing.shape, place[0], half[2]
            row[4], row[5] = math.cos(heading[0]), math.sin(heading[0])
            row[6:9], row[9:18] = half, thing.look
            row[18] = np.linalg.norm(half) if thing.shape == BOX else _reach(thing.shape, half)
        return rows


def _reach(shape: int, half: np.ndarray) -> float:
    """Radius of the sphere around the centre of a round thing."""
    if shape == ELLIPSOID:
        return float(half.max())
    return float(np.hypot(max(half[0], half[1]), half[2]))


def make_world(
    seed: int,
    *,
    seconds: float = 5.0,
    objects: tuple[int, int] = (2, 5),
    motions: tuple[str, ...] = KINDS,
    cameras: tuple[str, ...] = CAMERAS,
    distance_m: tuple[float, float] = (5.0, 22.0),
    speed_mps: tuple[float, float] = (1.0, 6.0),
    visible: float = 0.6,
    height_m: tuple[float, float] = (1.2, 3.0),
    focal: tuple[float, float] = (0.65, 1.25),
) -> World:
    """Draw a world; equal arguments give equal worlds.

    Args:
        seed: Of everything in it.
        seconds: Length of the clip that will be seen; 0 for a still.
        objects: Fewest and most objects. Where they do not fit there are fewer, but at least one.
        motions: Kinds of motion that objects are given, from `KINDS`.
        cameras: What the camera may do, from `CAMERAS`.
        distance_m: Nearest and farthest distance from the camera at the moment that an object is placed for.
        speed_mps: Slowest and fastest speed while moving.
        visible: Share of the clip during which an object's centre is inside the picture, at least.
        height_m: Lowest and highest camera.
        focal: Shortest and longest focal length, as a share of the picture's width.

    Returns:
        The world.

    Raises:
        ConfigError: Unknown names, or numbers out of range.
    """
    for name, given, known in (("motions", motions, KINDS), ("cameras", cameras, CAMERAS)):
        for entry in given:
            if entry not in known:
                raise ConfigError(f"{name}: unknown {entry!r}{did_you_mean(entry, known)}")
        if not given:
            raise ConfigError(f"{name} is empty; name at least one of {', '.join(known)}")
    for name, (low, high), least in (
        ("objects", objects, 1), ("distance_m", distance_m, 2.0), ("speed_mps", speed_mps, 0.05),
        ("height_m", height_m, 0.3), ("focal", focal, 0.1),
    ):  # fmt: skip
        if not least <= low <= high:
            raise ConfigError(f"{name} should rise from at least {least}, not {(low, high)}")
    if not (math.isfinite(seconds) and seconds >= 0 and 0 <= visible <= 1):
        raise ConfigError(f"seconds should be 0 or more and visible a share, not {seconds} and {visible}")
    rng = np.random.default_rng([seed, 0x5ACC])
    camera = _camera(str(rng.choice(cameras)), max(seconds, 1e-3), height_m, focal, rng)
    found: list[Thing] = []
    for _ in range(int(rng.integers(objects[0], objects[1] + 1))):
        found += _place(found, camera, seconds, motions, distance_m, speed_mps, visible, rng)
    while not found:
        found += _place(found, camera, seconds, motions, distance_m, speed_mps, 0.0, rng)
    elevation, azimuth = rng.uniform(0.5, 1.2), rng.uniform(0, 2 * math.pi)
    sun = [
        math.cos(elevation) * math.cos(azimuth),
        math.cos(elevation) * math.sin(azimuth),
        math.sin(elevation),
    ]
    haze = rng.uniform(0.6, 0.95)
    light = np.array([*sun, rng.uniform(0.35, 0.65), haze, *np.clip(haze * rng.uniform(0.55, 1.0, 3), 0, 1)])
    ground = np.array(
        [*_two_colours(rng, 0.35), rng.uniform(1.5, 4.0), rng.uniform(0.6, 1.0), rng.integers(1 << 20)]
    )
    return World(seed, seconds, tuple(found), _scenery(camera, found, seconds, rng), camera, light, ground)


def _camera(
    kind: str,
    seconds: float,
    height_m: tuple[float, float],
    focal: tuple[float, float],
    rng: np.random.Generator,
) -> Camera:
    """Draw a camera."""
    speed = rng.uniform(0.5, 4.0) if kind.startswith("drive") else 0.0
    turn = rng.choice((-1, 1)) * rng.uniform(0.04, 0.16) if kind.endswith("turn") else 0.0
    motion = Motion("camera", (0.0, 0.0), rng.uniform(0, 2 * math.pi), np.array([[seconds, speed, turn]]))
    height, length = rng.uniform(*height_m), rng.uniform(*focal)
    return Camera(motion, height, rng.uniform(0.02, 0.12) + 0.03 * height, length)


def _place(
    found: list[Thing],
    camera: Camera,
    seconds: float,
    motions: tuple[str, ...],
    distance_m: tuple[float, float],
    speed_mps: tuple[float, float],
    visible: float,
    rng: np.random.Generator,
) -> list[Thing]:
    """Draw one object that keeps clear of camera and others and is seen; none when it cannot be had."""
    times = np.linspace(0, seconds, CHECKED)
    eye, view = camera.motion.at(times)
    others = [(thing.motion.at(times)[0], math.hypot(*thing.size[:2]) / 2) for thing in found]
    name = str(rng.choice(CLASSES))
    size = _size(name, rng)
    for _ in range(TRIES):
        moment = int(rng.integers(CHECKED))
        away = rng.uniform(*distance_m)
        aside = rng.uniform(-0.42, 0.42) / camera.focal * away
        c, s = math.cos(view[moment]), math.sin(view[moment])
        spot = eye[moment] + away * np.array([c, s]) + aside * np.array([s, -c])
        kind = str(rng.choice(motions))
        motion = make_motion(
            kind, (0.0, 0.0), rng.uniform(0, 2 * math.pi), rng.uniform(*speed_mps), max(seconds, 1e-3), rng
        )
        shift = spot - motion.at(times[[moment]])[0][0]
        motion = Motion(kind, (float(shift[0]), float(shift[1])), motion.heading, motion.pieces)
        path, reach = motion.at(times)[0], math.hypot(*size[:2]) / 2
        if (np.linalg.norm(path - eye, axis=1) < reach + 1.5).any():
            continue
        if any((np.linalg.norm(path - other, axis=1) < reach + wide + 0.2).any() for other, wide in others):
            continue
        gap = path - eye
        ahead = gap[:, 0] * np.cos(view) + gap[:, 1] * np.sin(view)
        across = gap[:, 0] * np.sin(view) - gap[:, 1] * np.cos(view)
        inside = (ahead > 1) & (np.abs(across) * camera.focal < 0.48 * ahead) & (ahead < 2 * distance_m[1])
        if inside.mean() < visible:
            continue
        look = np.array(
            [*_two_colours(rng, 0.9), rng.uniform(0.4, 1.2), rng.uniform(0.5, 1.0), rng.integers(1 << 20)]
        )
        return [Thing(name, SHAPES[name], size, motion, look)]
    return []


def _size(name: str, rng: np.random.Generator) -> tuple[float, float, float]:
    """Draw length, width and height of an object, in metres."""
    base = math.exp(rng.uniform(math.log(0.7), math.log(2.2)))
    if name == "ball":
        return base, base, base
    if name == "box":
        return base * rng.uniform(1.0, 2.0), base, base * rng.uniform(0.6, 1.1)
    return base, base, base * rng.uniform(0.9, 1.7)


def _scenery(
    camera: Camera, objects: list[Thing], seconds: float, rng: np.random.Generator
) -> tuple[Thing, ...]:
    """Draw walls around the camera and clutter between, none of it in anything's way."""
    times = np.linspace(0, seconds, CHECKED)
    paths = [(camera.motion.at(times)[0], 1.5)]
    paths += [(thing.motion.at(times)[0], math.hypot(*thing.size[:2]) / 2) for thing in objects]
    middle = paths[0][0].mean(0)
    things = []
    for kind in ("wall",) * 12 + ("clutter",) * int(rng.integers(4, 12)):
        for _ in range(TRIES // 6):
            angle = rng.uniform(0, 2 * math.pi)
            away = rng.uniform(28, 60) if kind == "wall" else rng.uniform(4, 26)
            spot = middle + away * np.array([math.cos(angle), math.sin(angle)])
            if kind == "wall":
                shape, size = BOX, (rng.uniform(6, 22), rng.uniform(1, 6), rng.uniform(2, 9))
            elif rng.random() < 0.5:
                thick = rng.uniform(0.12, 0.3)
                shape, size = CYLINDER, (thick, thick, rng.uniform(1.5, 4.0))
            else:
                shape, size = BOX, (rng.uniform(0.8, 2.5), rng.uniform(0.5, 1.5), rng.uniform(0.08, 0.2))
            reach = math.hypot(*size[:2]) / 2
            if any((np.linalg.norm(path - spot, axis=1) < reach + wide + 0.3).any() for path, wide in paths):
                continue
            rest = Motion(
                "rest", (float(spot[0]), float(spot[1])), angle + math.pi / 2, np.array([[1.0, 0.0, 0.0]])
            )
            grain = rng.uniform(1.0, 4.0) if kind == "wall" else rng.uniform(0.3, 0.8)
            look = np.array([*_two_colours(rng, 0.5), grain, rng.uniform(0.5, 1.0), rng.integers(1 << 20)])
            things.append(Thing(kind, shape, size, rest, look))
            break
    return tuple(things)


def _two_colours(rng: np.random.Generator, strength: float) -> np.ndarray:
    """Draw two colours (6,), from grey to as colourful as `strength` (0 to 1) says, the second one darker."""
    grey = rng.uniform(0.35, 0.8)
    first = np.clip(grey + strength * rng.uniform(-0.5, 0.5, 3), 0.05, 1.0)
    second = np.clip(first * rng.uniform(0.25, 0.6) + strength * rng.uniform(-0.15, 0.15, 3), 0.0, 1.0)
    return np.concatenate([first, second])
