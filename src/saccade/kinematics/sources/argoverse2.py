"""Argoverse 2 Sensor: Feather tables and images. Boxes are in the vehicle's frame of their own sweep, at 10 Hz.

Layout: `ROOT/<split>/<log>/{annotations,city_SE3_egovehicle}.feather`, `calibration/*.feather` and
`sensors/cameras/<camera>/<timestamp_ns>.jpg`. Every sweep and every image has a pose of the car at exactly its time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from saccade.errors import DataError, did_you_mean
from saccade.extras import require
from saccade.kinematics.answers import LARGEST
from saccade.kinematics.geometry import Lens, rigid, unit_quaternion
from saccade.kinematics.parquet import opened_arrow
from saccade.kinematics.records import Rejected, Track
from saccade.kinematics.settings import DEFAULT, Settings
from saccade.kinematics.sources.assemble import (
    Camera,
    Scene,
    Thing,
    clip_tracks,
    intrinsic_matrix,
    pixels,
    require_file,
)

_POSE = ("qw", "qx", "qy", "qz", "tx_m", "ty_m", "tz_m")
_ANNOTATION = (
    "timestamp_ns", "track_uuid", "category", "length_m", "width_m", "height_m", *_POSE, "num_interior_pts",
)  # fmt: skip


def read(
    root: Path | str,
    *,
    cameras: Sequence[str] = ("ring_front_center",),
    need_images: bool = True,
    rejected: list[Rejected] | None = None,
    settings: Settings = DEFAULT,
) -> Iterator[Track]:
    """Read the tracks of every log, once for each camera.

    Args:
        root: Folder of splits, or of logs, or one log.
        cameras: Names, such as ring_front_center.
        need_images: Refuse logs whose images are not there.
        rejected: Logs that cannot be used are added here and the rest goes on; by default the first one raises.
        settings: Grid.

    Raises:
        DataError: Missing files, columns, poses or cameras, rows that occur twice, numbers that are none.
        MissingExtraError: pyarrow (extra `kinematics`) is not installed.
    """
    root = Path(root)
    for log in _logs(root):
        try:
            yield from _log(log, cameras, need_images, settings)
        except DataError as error:
            if rejected is None:
                raise
            rejected.append(Rejected(log.name, f"log {log.name}", str(error)))


def _logs(root: Path) -> list[Path]:
    """Folders of logs: whatever holds a calibration or annotations."""
    marks = ("annotations.feather", "city_SE3_egovehicle.feather", "calibration")
    folders = [root, *sorted(path for depth in ("*", "*/*") for path in root.glob(depth) if path.is_dir())]
    found = [path for path in folders if any((path / mark).exists() for mark in marks)]
    if not found:
        raise DataError(
            f"{root}: no folder with annotations.feather; expected logs of the Argoverse 2 Sensor set"
        )
    return found


def _log(log: Path, cameras: Sequence[str], need_images: bool, settings: Settings) -> Iterator[Track]:
    """Read one log."""
    annotations = require_file(log / "annotations.feather", "the boxes of this log (test logs have none)")
    boxes = _columns(annotations, _ANNOTATION)
    poses_file = require_file(log / "city_SE3_egovehicle.feather", "the car's poses")
    poses = _columns(poses_file, ("timestamp_ns", *_POSE))
    times = poses["timestamp_ns"]
    values, first, counts = np.unique(times, return_index=True, return_counts=True)
    if not len(times):
        raise DataError(f"{poses_file}: holds no rows; expected one pose for every sweep and image")
    if (counts > 1).any():
        at = values[int(np.argmax(counts > 1))]
        raise DataError(f"{poses_file}: timestamp_ns {at} occurs twice; expected one pose for each time")
    motions = _motions(poses_file, poses)

    def city_from_ego(wanted: np.ndarray, whose: str) -> np.ndarray:
        place = np.clip(np.searchsorted(values, wanted), 0, len(values) - 1)
        missing = values[place] != wanted
        if missing.any():
            raise DataError(
                f"{poses_file}: no pose at timestamp_ns {wanted[int(np.argmax(missing))]} of {whose}; "
                "expected one for every sweep and image"
            )
        return motions[first[place]]

    start = int(boxes["timestamp_ns"].min()) if len(boxes["timestamp_ns"]) else 0
    things = _things(annotations, boxes, city_from_ego, start)
    split = log.parent.name if log.parent.name in ("train", "val", "test") else "train"
    scene = Scene(log.name, log.name, "argoverse2", split, "gt", annotations)
    for name in cameras:
        yield from clip_tracks(scene, things, _camera(log, name, city_from_ego, start, need_images), settings)


def _things(path: Path, boxes: dict[str, Any], city_from_ego: Any, start: int) -> list[Thing]:
    """Group the boxes by object and bring each to the city with the pose of its own sweep."""
    times = boxes["timestamp_ns"]
    if not len(times):
        return []
    motions = city_from_ego(times, path.name) @ _motions(path, boxes)
    sizes = np.stack([boxes[name] for name in ("length_m", "width_m", "height_m")], 1)
    _finite(path, sizes, "length_m, width_m or height_m", above=0.0)
    _finite(path, boxes["num_interior_pts"][:, None], "num_interior_pts")
    names, index = np.unique(np.asarray(boxes["track_uuid"], dtype=str), return_inverse=True)
    things = []
    for number, name in enumerate(names):
        rows = np.flatnonzero(index == number)
        rows = rows[np.argsort(times[rows], kind="stable")]
        if (np.diff(times[rows]) == 0).any():
            at = int(times[rows][int(np.argmax(np.diff(times[rows]) == 0))])
            raise DataError(
                f"{path}: track_uuid {name} has two boxes at timestamp_ns {at}; expected one for each sweep"
            )
        size = np.median(sizes[rows], 0)
        things.append(
            Thing(
                str(name),
                str(boxes["category"][rows[0]]),
                (float(size[0]), float(size[1]), float(size[2])),
                (times[rows] - start) / 1e9,
                motions[rows, :3, 3],
                motions[rows, :3, :3],
                None,
                [float(count) for count in boxes["num_interior_pts"][rows]],
            )
        )
    return things


def _camera(log: Path, name: str, city_from_ego: Any, start: int, need_images: bool) -> Camera | None:
    """Read one camera of a log: its optics, its mounting, its images."""
    folder = log / "sensors" / "cameras" / name
    images = sorted(
        (path for path in folder.glob("*.jpg") if path.stem.isdigit()), key=lambda path: int(path.stem)
    )
    if not images:
        if need_images:
            raise DataError(f"{folder}: no images TIMESTAMP_NS.jpg; expected those of camera {name}")
        return None
    mounts_file = require_file(
        log / "calibration" / "egovehicle_SE3_sensor.feather", "where the sensors are mounted"
    )
    mounts = _columns(mounts_file, ("sensor_name", *_POSE))
    optics_file = require_file(log / "calibration" / "intrinsics.feather", "the cameras' optics")
    optics = _columns(
        optics_file, ("sensor_name", "fx_px", "fy_px", "cx_px", "cy_px", "height_px", "width_px")
    )
    mount = _row_of(mounts_file, mounts, name)
    row = _row_of(optics_file, optics, name)
    fx, fy, cx, cy = (float(optics[column][row]) for column in ("fx_px", "fy_px", "cx_px", "cy_px"))
    matrix = intrinsic_matrix(
        [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], f"{optics_file}: record {name}: the intrinsics"
    )
    # The images are rectified well enough for boxes; the API of the data set leaves k1, k2, k3 out as well.
    width, height = (
        pixels(optics[column][row], f"{optics_file}: record {name}: {column}")
        for column in ("width_px", "height_px")
    )
    lens = Lens(matrix, width, height)
    times = np.array([int(path.stem) for path in images], np.int64)
    world_from_camera = city_from_ego(times, f"camera {name}") @ _motions(mounts_file, mounts)[mount]
    return Camera(name, lens, (times - start) / 1e9, [path.as_posix() for path in images], world_from_camera)


def _row_of(path: Path, columns: dict[str, Any], name: str) -> int:
    """Find the one row of a sensor."""
    found = [index for index, sensor in enumerate(columns["sensor_name"]) if sensor == name]
    if len(found) != 1:
        raise DataError(
            f"{path}: {len(found)} rows for sensor {name!r}; expected one"
            f"{did_you_mean(name, set(columns['sensor_name']) - {name})}"
        )
    return found[0]


def _motions(path: Path, columns: dict[str, Any]) -> np.ndarray:
    """Rigid motions of every row."""
    quaternions = np.stack([columns[name] for name in _POSE[:4]], 1)
    bad = ~np.all(np.abs(quaternions) <= 1e6, axis=1)
    bad |= np.linalg.norm(np.where(bad[:, None], 1.0, quaternions), axis=1) < 1e-6
    if bad.any():
        at = int(np.argmax(bad))
        unit_quaternion(quaternions[at], f"{path}: record {at + 1}: qw qx qy qz")
    places = np.stack([columns[name] for name in _POSE[4:]], 1)
    _finite(path, places, "tx_m, ty_m or tz_m")
    return rigid(unit_quaternion(quaternions, str(path)), places) if len(places) else np.zeros((0, 4, 4))


def _finite(path: Path, values: np.ndarray, names: str, above: float = -np.inf) -> None:
    """Refuse rows with numbers that are none."""
    bad = ~((np.abs(values) <= LARGEST) & (values > above)).all(1)
    if bad.any():
        at = int(np.argmax(bad))
        expected = "finite numbers above 0" if above == 0 else "finite numbers"
        raise DataError(f"{path}: record {at + 1}: {names} is {values[at].tolist()}; expected {expected}")


def _columns(path: Path, names: Sequence[str]) -> dict[str, Any]:
    """Read columns of a Feather file: float64, int64, or lists of texts."""
    feather = require("pyarrow.feather", "kinematics", "to read Feather files")
    arrow = require("pyarrow", "kinematics", "to read Feather files")
    with opened_arrow(path, "Feather"):
        table = feather.read_table(path)
        table.validate(full=True)
    found: dict[str, Any] = {}
    for name in names:
        if name not in table.column_names:
            raise DataError(f"{path}: no column {name}{did_you_mean(name, table.column_names)}")
        column = table.column(name)
        if column.null_count:
            at = column.is_null().to_pylist().index(True)
            raise DataError(f"{path}: record {at + 1}: {name} is empty; expected a value")
        if name in ("track_uuid", "category", "sensor_name"):
            found[name] = [str(value) for value in column.to_pylist()]
        else:
            whole = name == "timestamp_ns"
            fits = arrow.types.is_integer if whole else lambda kind: arrow.types.is_primitive(kind)
            try:
                if not fits(column.type):
                    raise TypeError(column.type)
                found[name] = np.asarray(column.to_numpy()).astype(np.int64 if whole else np.float64)
            except (TypeError, ValueError):
                expected = "whole numbers" if whole else "numbers"
                raise DataError(f"{path}: column {name} is {column.type}; expected {expected}") from None
    return found
