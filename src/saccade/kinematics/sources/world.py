"""The synthetic world as a source: tracks with exact truth, and the frames that show them.

Nothing is read: every clip is drawn from a seed, so the same numbers give the same clips everywhere. The camera
looks along +z with x right and y down; the world has z up.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from saccade.errors import ConfigError, did_you_mean
from saccade.files import replacing
from saccade.kinematics.records import Rejected, Track
from saccade.kinematics.settings import DEFAULT, Settings
from saccade.worlds import CAMERAS, Clip, make_world, render

LEAST_AREA_PX = 12
"""A thing of which less is seen has no box in that frame."""
SIZES = (32, 4096)
"""Longer side of a frame, pixels."""
PER_SEED = 1_000_000
"""Clips that one seed can have."""


def read(
    root: Path | str,
    *,
    clips: int = 20,
    seed: int = 0,
    seconds: float = 10.0,
    size: int = 320,
    split: str = "train",
    cameras: Sequence[str] | None = None,
    need_images: bool = True,
    rejected: list[Rejected] | None = None,
    settings: Settings = DEFAULT,
) -> Iterator[Track]:
    """Draw worlds and give the exact track of every object in them.

    Args:
        root: Folder that the frames are written to, as `frames/<clip>/000.png`.
        clips: How many.
        seed: Of the first; equal arguments give equal clips.
        seconds: Length of a clip; a frame every `settings.dt`.
        size: Width of the frames in pixels; they are three quarters as high.
        split: Of all of them.
        cameras: What the camera may do, from `saccade.worlds.CAMERAS`; by default all of it.
        need_images: Write the frames; without, tracks have boxes and no pictures.
        rejected: Not used; nothing of the world is unreadable.
        settings: Grid.

    Raises:
        ConfigError: Numbers out of range, or a camera that does not exist.
        MissingExtraError: numba (extra `worlds`) is not installed.
    """
    for number, clip in enumerate(worlds(clips, seed, seconds, size, cameras, settings)):
        name = clip_name(seed, number)
        paths = _write(clip, Path(root) / "frames" / name) if need_images else None
        yield from tracks_of(clip, name, split, paths)


def clip_name(seed: int, number: int) -> str:
    """Name of one clip of a seed."""
    return f"world-{seed}-{number:06d}"


def worlds(
    clips: int,
    seed: int = 0,
    seconds: float = 10.0,
    size: int = 320,
    cameras: Sequence[str] | None = None,
    settings: Settings = DEFAULT,
) -> Iterator[Clip]:
    """Render clips of worlds, one after the other. Arguments and errors as for `read`."""
    if not 1 <= clips <= PER_SEED or seed < 0:
        raise ConfigError(
            f"clips is {clips} and seed {seed}; expected 1 to {PER_SEED} clips and a seed from 0"
        )
    if not SIZES[0] <= size <= SIZES[1]:
        raise ConfigError(f"size is {size}; expected {SIZES[0]} to {SIZES[1]} pixels")
    least, most = settings.dt * settings.min_points, settings.dt * settings.max_points
    if not least <= seconds <= most:
        raise ConfigError(
            f"seconds is {seconds}; expected {least:g} to {most:g}, the shortest and longest clip that has labels"
        )
    for name in cameras or ():
        if name not in CAMERAS:
            raise ConfigError(f"cameras: the world has no camera {name!r}{did_you_mean(name, CAMERAS)}")
    times = settings.dt * np.arange(min(math.floor(seconds / settings.dt + 1e-6) + 1, settings.max_points))
    for number in range(clips):
        world = make_world(seed * PER_SEED + number, seconds=seconds, cameras=tuple(cameras or CAMERAS))
        yield render(world, times, (3 * size // 4, size))


def tracks_of(clip: Clip, name: str, split: str = "train", paths: list[str] | None = None) -> list[Track]:
    """Write down the truth of a clip.

    Boxes are those of what is seen, in pixels whose corners are whole numbers: a box reaches from 0 to the width.
    The world's own intrinsics put pixel centres there, so the principal point moves by half a pixel.

    Args:
        clip: Rendered.
        name: Its clip_id.
        split: Its split.
        paths: Of its frames.
    """
    count, height, width = clip.instances.shape
    boxes, areas = clip.boxes()
    intrinsics = clip.intrinsics.copy()
    intrinsics[:2, 2] += 0.5
    times = [round(float(time), 9) for time in clip.times_s]
    found = []
    for index, thing in enumerate(clip.world.objects):
        seen = areas[:, index] >= LEAST_AREA_PX
        found.append(
            Track(
                clip_id=name,
                source="world",
                split=split,
                track_id=f"{index + 1}",
                category=thing.name,
                timestamps_s=times,
                xyz_world=clip.centres[:, index].tolist(),
                label_origin="synthetic",
                size_lwh=[float(part) for part in thing.size],
                yaw=_wrapped(clip.headings[:, index]).tolist(),
                boxes_2d=[boxes[t, index].tolist() if seen[t] else None for t in range(count)],
                camera={"K": intrinsics.tolist(), "width": width, "height": height, "name": "camera"},
                T_world_cam=clip.world_from_camera.tolist(),
                image_paths=None if paths is None else list(paths),
                image_times_s=None if paths is None else list(times),
            )
        )
    return found


def _wrapped(angles: np.ndarray) -> np.ndarray:
    """Angles in (-pi, pi]."""
    return np.arctan2(np.sin(angles), np.cos(angles))


def _write(clip: Clip, folder: Path) -> list[str]:
    """Write the frames of a clip, all or none."""
    with replacing(folder) as temporary:
        temporary.mkdir()
        for index, image in enumerate(clip.images):
            Image.fromarray(image).save(temporary / f"{index:03d}.png", compress_level=1)
    return [str(folder / f"{index:03d}.png") for index in range(len(clip.images))]
