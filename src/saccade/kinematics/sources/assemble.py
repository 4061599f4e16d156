"""From boxes in the world and a camera's images to track records: the part that all data sets share."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from saccade.errors import DataError
from saccade.kinematics.answers import LARGEST
from saccade.kinematics.geometry import Lens, corners, inverse, move, yaw_of
from saccade.kinematics.records import LONGEST_S, Track
from saccade.kinematics.settings import DEFAULT, Settings
from saccade.kinematics.validation import is_writable

MOST_PIXELS = 1 << 20
"""Longest side of a picture."""
IMAGE_GAP_S = 0.25
"""An image farther than this from an annotation does not show it, seconds."""


@dataclass(frozen=True, eq=False)
class Thing:
    """One annotated object of a scene, in the world. Rows rise in time."""

    track_id: str
    category: str
    size_lwh: tuple[float, float, float]
    times: np.ndarray
    """(n,) seconds from the scene's start."""
    centres: np.ndarray
    """(n, 3) metres."""
    turns: np.ndarray
    """(n, 3, 3) rotations of the box."""
    visibility: list[float | None] | None = None
    num_points: list[float | None] | None = None
    centre_offset: np.ndarray | None = None
    """(3,) metres from the tracked point to the middle of the box; none where the point is the middle."""


@dataclass(frozen=True, eq=False)
class Camera:
    """One camera of a scene and its images, in order of time."""

    name: str
    lens: Lens
    times: np.ndarray
    """(m,) seconds from the scene's start: when the images were taken, not when the LiDAR was read."""
    paths: list[str]
    world_from_camera: np.ndarray
    """(m, 4, 4) at those times."""


@dataclass(frozen=True, eq=False)
class Scene:
    """What a scene's tracks have in common."""

    name: str
    group: str
    source: str
    split: str
    label_origin: str
    file: Path
    """What an error about it names."""
    up: list[float] = field(default_factory=lambda: [0.0, 0.0, 1.0])


def clip_tracks(
    scene: Scene, things: Sequence[Thing], camera: Camera | None, settings: Settings = DEFAULT
) -> Iterator[Track]:
    """Cut a scene into clips and make the track records of each.

    A clip is max_points * dt long (20 s); most scenes are one. The box of an image is that of the object at the
    image's own time, seen from where the camera was then.

    Args:
        scene: Names.
        things: Objects.
        camera: Whose images are shown; None gives tracks without boxes.
        settings: dt, max_points, min_points and max_gap_s are used.

    Raises:
        DataError: No objects, or times that cannot belong to one scene.
    """
    things = [thing for thing in things if len(thing.times)]
    if not things:
        raise DataError(f"{scene.file}: scene {scene.name}: holds no boxes; expected at least one object")
    for thing in things:
        for time in (float(thing.times[0]), float(thing.times[-1])):
            if not -1e-6 <= time <= LONGEST_S:
                raise DataError(
                    f"{scene.file}: scene {scene.name}: object {thing.track_id}: a timestamp lies {time:g} s after "
                    "the scene's start; expected between its start and a day later"
                )
    length = settings.max_points * settings.dt
    last = max(float(thing.times[-1]) for thing in things)
    name = scene.name if camera is None else f"{scene.name}:{camera.name}"
    for number in range(int(last // length) + 1):
        start = number * length
        if number and last - start < settings.min_points * settings.dt:
            break
        for thing in things:
            rows = np.flatnonzero((thing.times >= start - 1e-6) & (thing.times < start + length - 1e-6))
            if len(rows):
                clip = f"{name}#{number}" if number else name
                yield _track(scene, clip, thing, rows, start, camera, settings)


def _track(
    scene: Scene,
    clip: str,
    thing: Thing,
    rows: np.ndarray,
    start: float,
    camera: Camera | None,
    settings: Settings,
) -> Track:
    """Make one track record."""
    times, centres = thing.times[rows], thing.centres[rows]
    track = Track(
        clip_id=clip,
        source=scene.source,
        split=scene.split,
        track_id=thing.track_id,
        category=thing.category,
        timestamps_s=[round(float(time - start), 9) for time in times],
        xyz_world=centres.tolist(),
        label_origin=scene.label_origin,
        group=scene.group,
        size_lwh=[float(part) for part in thing.size_lwh],
        yaw=yaw_of(thing.turns[rows]).tolist(),
        up=list(scene.up),
        visibility=None if thing.visibility is None else [thing.visibility[row] for row in rows],
        num_points=None if thing.num_points is None else [thing.num_points[row] for row in rows],
    )
    if camera is None or not len(camera.times):
        return track
    nearest = _nearest(camera.times, times)
    shown = np.abs(camera.times[nearest] - times) <= IMAGE_GAP_S + 1e-6
    boxes: list[list[float] | None] = []
    for row, image, is_shown in zip(rows, nearest, shown, strict=True):
        boxes.append(_box(thing, int(row), camera, int(image), settings) if is_shown else None)

    def where_shown(values: Sequence) -> list:
        return [values[image] if is_shown else None for image, is_shown in zip(nearest, shown, strict=True)]

    image_times = [round(float(time - start), 9) for time in camera.times]
    return dataclasses.replace(
        track,
        boxes_2d=boxes,
        camera=camera.lens.to_dict(camera.name),
        T_world_cam=where_shown(camera.world_from_camera.tolist()),
        image_paths=where_shown(camera.paths),
        image_times_s=where_shown(image_times),
    )


def _box(thing: Thing, row: int, camera: Camera, image: int, settings: Settings) -> list[float] | None:
    """Rectangle around an object in one image, where its centre is in it."""
    centre = _at(thing, row, float(camera.times[image]), settings)
    centre = centre if thing.centre_offset is None else centre + thing.centre_offset
    camera_from_world = inverse(camera.world_from_camera[image])
    if not camera.lens.sees(move(camera_from_world, centre)):
        return None
    return camera.lens.box(move(camera_from_world, corners(centre, thing.size_lwh, thing.turns[row])))


def _at(thing: Thing, row: int, time: float, settings: Settings) -> np.ndarray:
    """Position at an image's time: on the line to the neighbouring annotation, not beyond the first and last."""
    other = row + 1 if time > thing.times[row] else row - 1
    if not 0 <= other < len(thing.times):
        return thing.centres[row]
    gap = thing.times[other] - thing.times[row]
    if not 0 < abs(gap) <= settings.max_gap_s + 1e-6:
        return thing.centres[row]
    return thing.centres[row] + (time - thing.times[row]) / gap * (thing.centres[other] - thing.centres[row])


def _nearest(sorted_times: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Index of the nearest of rising times."""
    after = np.clip(np.searchsorted(sorted_times, wanted), 0, len(sorted_times) - 1)
    before = np.clip(after - 1, 0, None)
    return np.where(
        np.abs(sorted_times[before] - wanted) <= np.abs(sorted_times[after] - wanted), before, after
    )


def numbers(value: object, count: int, where: str) -> np.ndarray:
    """Check a list of finite numbers.

    Args:
        value: What the file holds.
        count: How many are expected.
        where: File, record and field.

    Raises:
        DataError: Anything else, or numbers beyond `LARGEST`.
    """
    found = _array(value)
    if found.shape != (count,) or not (np.abs(found) <= LARGEST).all():
        raise DataError(f"{where} is {shortened(value)}; expected {count} finite numbers")
    return found


def one_number(value: object, where: str, low: float = -LARGEST, high: float = LARGEST) -> float:
    """Check one number.

    Raises:
        DataError: No number, not finite, or out of range.
    """
    found = _array(value)
    if found.shape != () or isinstance(value, bool | str) or not low <= float(found) <= high:
        raise DataError(f"{where} is {shortened(value)}; expected a finite number from {low:g} to {high:g}")
    return float(found)


def pixels(value: object, where: str) -> int:
    """Check the width or height of a picture. Errors as for `one_number`."""
    return int(one_number(value, where, 1, MOST_PIXELS))


def text(value: object, where: str) -> str:
    """Check a name.

    Raises:
        DataError: No text, an empty one, or one that cannot be written.
    """
    if not isinstance(value, str) or not value or not is_writable(value) or "\0" in value:
        raise DataError(f"{where} is {shortened(value)}; expected a text")
    return value


def inside(root: Path, value: object, where: str) -> Path:
    """Path of a file that a record names, which has to lie in the data set's folder.

    Raises:
        DataError: No relative path, or one that leads out of the folder.
    """
    name = Path(text(value, where))
    if name.is_absolute() or ".." in name.parts:
        raise DataError(f"{where} is {shortened(value)}; expected a path inside {root}")
    return root / name


def shortened(value: object) -> str:
    """Value as an error shows it."""
    found = repr(value) if isinstance(value, str | bytes) or value is None else str(value)
    return found if len(found) <= 60 else found[:57] + "..."


def _array(value: object) -> np.ndarray:
    """Numbers of a value; an array that is empty for anything else."""
    try:
        return np.asarray(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        return np.empty(0)


def intrinsic_matrix(value: object, where: str) -> np.ndarray:
    """Check a 3 x 3 matrix of a camera.

    Raises:
        DataError: Not nine finite numbers, or no positive focal length.
    """
    found = _array(value)
    if found.shape != (3, 3) or not (np.abs(found) <= LARGEST).all() or min(found[0, 0], found[1, 1]) <= 0:
        raise DataError(f"{where} is {shortened(value)}; expected a 3 x 3 matrix with positive focal lengths")
    return found


def require_file(path: Path, what: str) -> Path:
    """Return a path that is a file.

    Raises:
        DataError: It is not there.
    """
    try:
        found = path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        found = False
    if not found:
        raise DataError(f"{str(path)[:300]}: no such file; expected {what}")
    return path
