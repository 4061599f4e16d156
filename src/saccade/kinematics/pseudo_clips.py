"""Plain videos cut into clips, and the frames of a clip at the instants of a label's grid.

A video of any length becomes clips of equal length, none longer than a label's grid, so that no short rest is lost at
the end. Frames are chosen and dated by the times written in the file, so variable frame rates are right; where the
picture stands still for longer than frames lie apart there is no frame, and the label bridges the hole or ends there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from saccade.errors import ConfigError, DataError
from saccade.kinematics.engine import Job
from saccade.kinematics.settings import Settings
from saccade.kinematics.video import TOLERANCE_S, VIDEOS, frame_times, read_frames, video_facts


@dataclass(frozen=True)
class Piece:
    """A clip to be cut out of a video."""

    path: str
    name: str
    """Of the video, relative to the folder that was given."""
    clip_id: str
    begin_s: float
    count: int
    """Points of the grid; 0 where the video says nothing of its length."""


@dataclass(frozen=True, eq=False)
class Frames:
    """A clip as decoded."""

    piece: Piece
    images: np.ndarray
    """(T, H, W, 3) uint8 RGB."""
    times_s: np.ndarray
    """(T,) seconds from the clip's first frame."""
    video_times_s: np.ndarray
    """(T,) seconds from the video's first frame."""
    size: tuple[int, int]
    """Width and height of the video, which may be larger than the frames."""


def find_videos(source: Path) -> list[tuple[Path, str]]:
    """List videos with their names relative to the folder.

    Raises:
        DataError: Nothing there.
    """
    if source.is_file():
        return [(source, source.name)]
    if not source.is_dir():
        raise DataError(f"{source}: no such file or folder; expected a video or a folder of videos")
    paths = sorted(path for path in source.rglob("*") if path.suffix.lower() in VIDEOS and path.is_file())
    if not paths:
        raise DataError(f"{source}: no videos in this folder; expected names that end in {', '.join(VIDEOS)}")
    return [(path, path.relative_to(source).as_posix()) for path in paths]


def plan_clips(source: Path, settings: Settings) -> Iterator[Job]:
    """Cut videos into clips, by what they say of themselves.

    A video that cannot be read is one clip all the same, so that it ends up in the dead-letter table.

    Args:
        source: Video or folder.
        settings: dt and max_points are used.

    Yields:
        Jobs whose `spec` is a `Piece`.

    Raises:
        DataError: Nothing there.
    """
    for path, name in find_videos(source):
        try:
            points = _points(path, settings)
        except DataError:
            points = 0
        pieces = max(1, math.ceil(points / settings.max_points))
        begin = 0
        for index in range(pieces):
            count = points // pieces + (index < points % pieces)
            clip_id = name if pieces == 1 else f"{name}#{index:03d}"
            yield Job(clip_id, Piece(str(path), name, clip_id, begin * settings.dt, count))
            begin += count


def _points(path: Path, settings: Settings) -> int:
    """Points of the grid before a video's end; how long its last frame lasts shows when it is decoded."""
    seconds = video_facts(path).duration_s or float(frame_times(path)[-1]) + settings.dt / 2
    return math.ceil(seconds / settings.dt - 1e-3)


def decode(piece: Piece, settings: Settings, size: int) -> Frames:
    """Decode the frames of a clip.

    Args:
        piece: Which.
        settings: dt and min_points are used.
        size: Longer side of the frames, pixels; smaller videos stay as they are.

    Raises:
        DataError: A video that cannot be read, or one that is too short for a label.
    """
    times = frame_times(piece.path)
    grid = piece.begin_s + settings.dt * np.arange(piece.count)
    after = (
        np.clip(np.searchsorted(times, grid), 1, len(times) - 1)
        if len(times) > 1
        else np.zeros(len(grid), int)
    )
    before = np.maximum(after - 1, 0)
    nearest = np.where(grid - times[before] <= times[after] - grid, before, after)
    # Half a step, so that one frame does not stand for two points.
    near = np.abs(times[nearest] - grid) <= min(TOLERANCE_S, settings.dt / 2) + 1e-9
    chosen = times[np.unique(nearest[near])]
    if len(chosen) < settings.min_points:
        raise DataError(
            f"{piece.path}: {len(chosen)} frames {settings.dt:g} s apart from {piece.begin_s:g} s on; expected at "
            f"least {settings.min_points}, so a longer video"
        )
    # Reduced one by one: all frames of a clip at full size may not fit into memory.
    found = [
        (time, image.shape[:2], smaller(image, size))
        for time, image in read_frames(piece.path, chosen.tolist())
    ]
    exact = np.array([time for time, _, _ in found])
    high, wide = found[0][1]
    images = [image for _, _, image in found]
    if any(image.shape != images[0].shape for image in images):
        raise DataError(f"{piece.path}: the size of its frames changes; expected one size")
    return Frames(piece, np.stack(images), exact - exact[0], exact, (wide, high))


def smaller(image: np.ndarray, size: int) -> np.ndarray:
    """Reduce a frame (H, W, 3) to `size` pixels on its longer side; smaller ones stay as they are."""
    high, wide = image.shape[:2]
    if max(high, wide) <= size:
        return image
    scale = size / max(high, wide)
    shape = max(1, round(wide * scale)), max(1, round(high * scale))
    return np.asarray(
        Image.fromarray(image).resize(
            shape, Image.Resampling.BOX if scale < 0.5 else Image.Resampling.BICUBIC
        )
    )


def intrinsics_of(frames: Frames, focal_px: float) -> np.ndarray:
    """Camera matrix of the frames from the focal length of the video, with the principal point in the middle.

    Args:
        frames: Clip.
        focal_px: In pixels of the video.

    Returns:
        (3, 3) pixels, pixel centres at whole numbers.

    Raises:
        ConfigError: No positive number.
    """
    if not 0 < focal_px < float("inf"):
        raise ConfigError(f"focal length is {focal_px} pixels; expected a number above 0")
    high, wide = frames.images.shape[1:3]
    fx, fy = focal_px * wide / frames.size[0], focal_px * high / frames.size[1]
    return np.array([[fx, 0, (wide - 1) / 2], [0, fy, (high - 1) / 2], [0, 0, 1]])
