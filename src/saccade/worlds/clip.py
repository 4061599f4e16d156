"""From a world to what a camera sees of it: pictures with masks, boxes, class maps, depth, poses and tracks."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from saccade.errors import ConfigError
from saccade.worlds.render import kernel
from saccade.worlds.world import SURFACES, World

LARGEST = 8192
"""Longest side of a picture in pixels."""


@dataclass(frozen=True)
class Clip:
    """T pictures of one world and the exact truth about them. N objects, H by W pixels."""

    world: World
    times_s: np.ndarray
    """(T,) float64 seconds."""
    images: np.ndarray
    """(T, H, W, 3) uint8 RGB."""
    instances: np.ndarray
    """(T, H, W) uint8: 0, or the number of the object from 1."""
    classes: np.ndarray
    """(T, H, W) uint8: places in `SURFACES`."""
    depth: np.ndarray
    """(T, H, W) float32: metres along the optical axis; infinite for the sky."""
    intrinsics: np.ndarray
    """(3, 3) float64, pixels; pixel centres at whole numbers."""
    world_from_camera: np.ndarray
    """(T, 4, 4) float64."""
    centres: np.ndarray
    """(T, N, 3) float64: metres in the world."""
    headings: np.ndarray
    """(T, N) float64: radians, counter-clockwise from x."""

    @property
    def camera_from_world(self) -> np.ndarray:
        """Poses the other way round, (T, 4, 4)."""
        return np.linalg.inv(self.world_from_camera)

    def boxes(self) -> tuple[np.ndarray, np.ndarray]:
        """Return what is seen of each object: boxes (T, N, 4) x0 y0 x1 y1 in pixels and areas (T, N) in pixels.

        A box holds its pixels whole (x1 is one past the last); boxes of unseen objects are all NaN.
        """
        found = [boxes_of(instances, len(self.world.objects)) for instances in self.instances]
        return np.stack([boxes for boxes, _ in found]), np.stack([areas for _, areas in found])


def boxes_of(instances: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Measure the instances 1 to `count` of a map (H, W): boxes (count, 4), NaN where unseen, and areas (count,)."""
    boxes, areas = (
        np.full((count, 4), np.nan),
        np.bincount(instances.ravel(), minlength=count + 1)[1 : count + 1],
    )
    for number in np.flatnonzero(areas):
        rows, columns = np.nonzero(instances == number + 1)
        boxes[number] = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    return boxes, areas


def render(
    world: World,
    times_s: Sequence[float] | np.ndarray,
    size: tuple[int, int] = (128, 128),
    *,
    threads: int = 1,
) -> Clip:
    """Look at a world.

    Args:
        world: From `make_world`.
        times_s: Moments, seconds from the start of the clip.
        size: (height, width) in pixels, each from 1 to 8192.
        threads: Cores that draw frames side by side.

    Returns:
        Pictures and truth, exact and equal on every machine but for rounding of colours.

    Raises:
        ConfigError: A size out of range, no moments, or moments that are not finite.
        MissingExtraError: numba (extra `worlds`) is not installed.
    """
    times = np.asarray(times_s, dtype=np.float64)
    height, width = size
    if not (min(size) >= 1 and max(size) <= LARGEST):
        raise ConfigError(f"a picture has 1 to {LARGEST} pixels a side, not {height} x {width}")
    if times.ndim != 1 or not len(times) or not np.isfinite(times).all():
        raise ConfigError("times_s should hold at least one finite moment in seconds")
    draw = kernel()
    poses = world.camera.world_from_camera(times)
    intrinsics = world.camera.intrinsics(height, width)
    flat = np.array([intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2], intrinsics[1, 2]])
    shape = (len(times), height, width)
    images, seen = np.empty((*shape, 3), np.uint8), np.empty(shape, np.int16)
    depth = np.empty(shape, np.float32)

    def one(t: int) -> None:
        rows, eye = world.rows(float(times[t])), poses[t, :3, 3].copy()
        turn = np.ascontiguousarray(poses[t, :3, :3])
        draw(rows, eye, turn, flat, world.light, world.ground, images[t], seen[t], depth[t])

    if threads > 1 and len(times) > 1:
        with ThreadPoolExecutor(min(threads, len(times))) as pool:
            list(pool.map(one, range(len(times))))
    else:
        for t in range(len(times)):
            one(t)
    names = [SURFACES.index(thing.name) for thing in (*world.objects, *world.scenery)]
    # Places -2 and -1 of the map of things are sky and ground; they come last in a table read with negative numbers.
    classes = np.array([*names, 0, 1], dtype=np.uint8)
    numbers = np.array([*range(1, len(world.objects) + 1), *[0] * (len(world.scenery) + 2)], dtype=np.uint8)
    centres, headings = world.tracks(times)
    return Clip(
        world, times, images, numbers[seen], classes[seen], depth, intrinsics, poses, centres, headings
    )
