"""nuScenes: JSON tables and key frames. Boxes are annotated in the global frame at 2 Hz.

Layout: `ROOT/v1.0-*/{scene,sample,...}.json`, images under `ROOT/samples/CAM_FRONT/`. The object's path needs no pose
of the car; only its projection does, and that takes the pose at the image's own time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from saccade.errors import DataError, did_you_mean
from saccade.files import read_json
from saccade.kinematics.geometry import Lens, rigid, unit_quaternion
from saccade.kinematics.records import Rejected, Track
from saccade.kinematics.settings import DEFAULT, Settings
from saccade.kinematics.sources.assemble import (
    Camera,
    Scene,
    Thing,
    clip_tracks,
    inside,
    intrinsic_matrix,
    numbers,
    one_number,
    pixels,
    require_file,
    shortened,
    text,
)
from saccade.rotations import rotation

# Fields that are used; the rest is dropped while reading, since the annotation table has a million rows.
MAX_TABLE = 4 << 30
"""Bytes of one table; the longest of the full set takes more than 1 GB."""
TABLES = {
    "scene": ("name", "first_sample_token", "log_token"),
    "sample": ("timestamp", "scene_token", "next"),
    "sample_annotation": (
        "sample_token", "instance_token", "translation", "size", "rotation", "visibility_token", "num_lidar_pts",
        "num_radar_pts", "next",
    ),
    "instance": ("category_token", "first_annotation_token", "last_annotation_token"),
    "category": ("name",),
    "sample_data": (
        "sample_token", "ego_pose_token", "calibrated_sensor_token", "filename", "timestamp", "is_key_frame",
        "width", "height",
    ),
    "ego_pose": ("translation", "rotation"),
    "calibrated_sensor": ("sensor_token", "translation", "rotation", "camera_intrinsic"),
    "sensor": ("channel",),
}  # fmt: skip
_OPTIONAL = ("visibility_token", "num_lidar_pts", "num_radar_pts", "log_token", "last_annotation_token")


def read(
    root: Path | str,
    *,
    version: str | None = None,
    cameras: Sequence[str] = ("CAM_FRONT",),
    splits: Mapping[str, str] | None = None,
    need_images: bool = True,
    rejected: list[Rejected] | None = None,
    settings: Settings = DEFAULT,
) -> Iterator[Track]:
    """Read the tracks of every scene, once for each camera.

    Args:
        root: Folder that holds the tables' folder and `samples/`.
        version: Name of the tables' folder, such as v1.0-mini; not needed when there is only one.
        cameras: Channels.
        splits: {scene name: split}, such as the official lists; the tables do not say. By default the version.
        need_images: Refuse scenes whose images are not there.
        rejected: Scenes that cannot be used are added here and the rest goes on; by default the first one raises.
        settings: Grid.

    Raises:
        DataError: Missing tables, records that occur twice, links that lead nowhere, numbers that are none.
    """
    root = Path(root)
    tables = _Tables(root, _version(root, version), cameras)
    channels = {row["channel"] for row in tables["sensor"].values()}
    for name in cameras:
        if name not in channels:
            raise DataError(
                f"{tables.path('sensor')}: no sensor has the channel {name!r}{did_you_mean(name, channels)}"
            )
    instances = tables.instances_by_scene(rejected)
    images = tables.images_by_scene(cameras)
    for token, row in tables["scene"].items():
        name = row["name"]
        try:
            split = (splits or {}).get(name, tables.version.removeprefix("v1.0-"))
            group = str(row.get("log_token") or name)
            scene = Scene(name, group, "nuscenes", split, "gt", tables.path("sample_annotation"))
            start = _first_time(tables, token)
            things = [_thing(tables, instance, start) for instance in instances.get(token, ())]
            for channel in cameras:
                rows = images.get((token, channel), [])
                camera = _camera(tables, root, channel, rows, start, need_images, f"scene {name}")
                yield from clip_tracks(scene, things, camera, settings)
        except DataError as error:
            if rejected is None:
                raise
            rejected.append(Rejected(name, f"scene {token}", str(error)))


def _version(root: Path, version: str | None) -> str:
    """Find the folder of the tables."""
    found = sorted(path.name for path in root.glob("v1.0-*") if path.is_dir())
    if version is not None and version in found:
        return version
    if version is not None or not found:
        raise DataError(
            f"{root}: no folder {version or 'v1.0-*'}; expected nuScenes' tables{did_you_mean(version or '', found)}"
        )
    if len(found) > 1:
        raise DataError(f"{root}: {', '.join(found)} are all here; expected one, so say which version")
    return found[0]


class _Tables:
    """The tables, read when first needed, with links that are checked when followed."""

    def __init__(self, root: Path, version: str, cameras: Sequence[str]) -> None:
        self.folder, self.version = root / version, version
        small = [name for name in TABLES if name not in ("sample_data", "ego_pose")]
        self._rows = {name: self._load(name) for name in small}
        # Of the two longest tables, with millions of rows, only key frames of the cameras are kept.
        unwanted = {
            token
            for token in self["calibrated_sensor"]
            if self.follow("calibrated_sensor", token, "sensor_token", "sensor")["channel"] not in cameras
        }
        self._rows["sample_data"] = self._load(
            "sample_data",
            lambda row: row.get("calibrated_sensor_token") not in unwanted and row.get("is_key_frame", True),
        )
        self.num_annotations = Counter(row["instance_token"] for row in self["sample_annotation"].values())
        used = {row["ego_pose_token"] for row in self["sample_data"].values()}
        self._rows["ego_pose"] = self._load("ego_pose", lambda row: row.get("token") in used)

    def __getitem__(self, name: str) -> dict[str, dict[str, Any]]:
        return self._rows[name]

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def where(self, name: str, token: str, field: str) -> str:
        return f"{self.path(name)}: record {token}: field {field}"

    def follow(self, name: str, token: str, field: str, target: str) -> dict[str, Any]:
        """Return the row that a field points to."""
        key = self[name][token][field]
        if key not in self[target]:
            raise DataError(f"{self.where(name, token, field)} is {key!r}, which {target}.json does not hold")
        return self[target][key]

    def _load(
        self, name: str, keep: Callable[[dict[str, Any]], Any] = lambda row: True
    ) -> dict[str, dict[str, Any]]:
        path = require_file(self.path(name), f"nuScenes' table {name}")
        wanted = {*TABLES[name], "token"}

        def cut(pairs: list[tuple[str, Any]]) -> Any:
            row = {key: value for key, value in pairs if key in wanted}
            return row if keep(row) else str(row.get("token") or "")

        rows = read_json(path, max_bytes=MAX_TABLE, pairs=cut)
        if not isinstance(rows, list):
            raise DataError(f"{path}: holds no list; expected a list of records")
        found: dict[str, dict[str, Any]] = {}
        seen: set[str] = set()
        for number, row in enumerate(rows, 1):
            token = row.get("token") if isinstance(row, dict) else row
            if not isinstance(token, str) or not token:
                raise DataError(f"{path}: record {number}: field token is missing; expected a name")
            if token in seen:
                raise DataError(
                    f"{path}: record {number}: token {token} was there before; expected each only once"
                )
            seen.add(token)
            if isinstance(row, dict):
                self._check(name, token, row)
                found[token] = row
        return found

    def _check(self, name: str, token: str, row: dict[str, Any]) -> None:
        """Refuse a row without a field, or without a time."""
        for field in TABLES[name]:
            if field not in row and field not in _OPTIONAL:
                raise DataError(f"{self.path(name)}: record {token}: field {field} is missing")
            if field.endswith(("_token", "next")) and not isinstance(row.get(field, ""), str):
                raise DataError(
                    f"{self.where(name, token, field)} is {shortened(row[field])}; expected a token"
                )
            if field in ("name", "channel"):
                text(row[field], self.where(name, token, field))
        if "timestamp" in row and not _is_time(row["timestamp"]):
            raise DataError(
                f"{self.where(name, token, 'timestamp')} is {shortened(row['timestamp'])}; expected microseconds"
            )

    def instances_by_scene(self, rejected: list[Rejected] | None) -> dict[str, list[str]]:
        """Instances of each scene, by where their first annotation is."""
        found: dict[str, list[str]] = {}
        if strangers := self.num_annotations.keys() - self["instance"].keys():
            name = min(strangers)
            raise DataError(
                f"{self.path('sample_annotation')}: {self.num_annotations[name]} records have the instance_token "
                f"{name!r}, which instance.json does not hold"
            )
        for token in self["instance"]:
            try:
                first = self.follow("instance", token, "first_annotation_token", "sample_annotation")
                sample = self.follow("sample_annotation", first["token"], "sample_token", "sample")
                self.follow("sample", sample["token"], "scene_token", "scene")
            except DataError as error:
                if rejected is None:
                    raise
                rejected.append(Rejected("?", f"instance {token}", str(error)))
                continue
            found.setdefault(sample["scene_token"], []).append(token)
        return found

    def images_by_scene(self, cameras: Sequence[str]) -> dict[tuple[str, str], list[dict[str, Any]]]:
        """Key frames of each scene and camera, in order of time."""
        channel_of = {
            token: self.follow("calibrated_sensor", token, "sensor_token", "sensor")["channel"]
            for token in self["calibrated_sensor"]
        }
        found: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for token, row in self["sample_data"].items():
            if row["calibrated_sensor_token"] not in channel_of:
                self.follow("sample_data", token, "calibrated_sensor_token", "calibrated_sensor")
            channel = channel_of[row["calibrated_sensor_token"]]
            if channel in cameras and row["is_key_frame"]:
                sample = self.follow("sample_data", token, "sample_token", "sample")
                found.setdefault((sample["scene_token"], channel), []).append(row)
        for rows in found.values():
            rows.sort(key=lambda row: row["timestamp"])
        return found


def _is_time(value: Any) -> bool:
    """Whether a value is a number of microseconds."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1 << 60


def _first_time(tables: _Tables, scene: str) -> int:
    """Microseconds at which a scene starts."""
    return int(tables.follow("scene", scene, "first_sample_token", "sample")["timestamp"])


def _thing(tables: _Tables, instance: str, start: int) -> Thing:
    """Follow one object through its scene."""
    row = tables["instance"][instance]
    category = tables.follow("instance", instance, "category_token", "category")["name"]
    token, rows, seen = row["first_annotation_token"], [], set()
    while token:
        if token in seen:
            raise DataError(
                f"{tables.where('sample_annotation', token, 'next')}: leads back to itself; expected an end"
            )
        seen.add(token)
        found = tables["sample_annotation"][token]
        if found["instance_token"] != instance:
            raise DataError(
                f"{tables.where('sample_annotation', token, 'instance_token')} is {found['instance_token']!r}; "
                f"expected {instance!r}, whose annotations lead here"
            )
        rows.append((tables.follow("sample_annotation", token, "sample_token", "sample")["timestamp"], found))
        if found["next"] and found["next"] not in tables["sample_annotation"]:
            tables.follow("sample_annotation", token, "next", "sample_annotation")
        token = found["next"]
    last = row.get("last_annotation_token")
    if last and last != rows[-1][1]["token"]:
        raise DataError(
            f"{tables.where('instance', instance, 'last_annotation_token')} is {last!r}, but its annotations end at "
            f"{rows[-1][1]['token']!r}; a link next is unreadable"
        )
    if len(rows) != tables.num_annotations[instance]:
        raise DataError(
            f"{tables.path('instance')}: record {instance}: {tables.num_annotations[instance]} annotations belong to "
            f"it, but its links lead through {len(rows)}; a link is unreadable"
        )
    rows.sort(key=lambda pair: pair[0])

    def values(field: str, count: int) -> np.ndarray:
        return np.stack(
            [
                numbers(found[field], count, tables.where("sample_annotation", found["token"], field))
                for _, found in rows
            ]
        )

    sizes = values("size", 3)
    if (sizes <= 0).any():
        bad = rows[int(np.argmax((sizes <= 0).any(1)))][1]
        raise DataError(
            f"{tables.where('sample_annotation', bad['token'], 'size')} is {bad['size']}; expected metres above 0"
        )
    quaternions = [
        unit_quaternion(found["rotation"], tables.where("sample_annotation", found["token"], "rotation"))
        for _, found in rows
    ]
    width, length, height = np.median(sizes, 0)
    levels = [str(found.get("visibility_token") or "") for _, found in rows]
    return Thing(
        instance,
        str(category),
        (float(length), float(width), float(height)),
        (np.array([time for time, _ in rows], np.int64) - start) / 1e6,
        values("translation", 3),
        rotation(np.stack(quaternions)),
        [float(level) if level.isdigit() else None for level in levels],
        [_points(tables, found) for _, found in rows],
    )


def _points(tables: _Tables, row: dict[str, Any]) -> float:
    """Measured points in a box."""
    return sum(
        one_number(row.get(field) or 0, tables.where("sample_annotation", row["token"], field), 0)
        for field in ("num_lidar_pts", "num_radar_pts")
    )


def _camera(
    tables: _Tables,
    root: Path,
    channel: str,
    rows: list[dict[str, Any]],
    start: int,
    need_images: bool,
    scene: str,
) -> Camera | None:
    """Gather one camera's images of a scene."""
    if not rows:
        if need_images:
            raise DataError(
                f"{tables.path('sample_data')}: {scene} has no key frame of {channel}; expected its images"
            )
        return None
    motions, paths = [], []
    for row in rows:
        token = row["token"]
        sensor = tables.follow("sample_data", token, "calibrated_sensor_token", "calibrated_sensor")
        ego = tables.follow("sample_data", token, "ego_pose_token", "ego_pose")
        motions.append(_pose(tables, "ego_pose", ego) @ _pose(tables, "calibrated_sensor", sensor))
        path = inside(root, row["filename"], tables.where("sample_data", token, "filename"))
        if need_images:
            require_file(path, f"the image of {tables.where('sample_data', token, 'filename')}")
        paths.append(path.as_posix())
    sensor = tables["calibrated_sensor"][rows[0]["calibrated_sensor_token"]]
    matrix = intrinsic_matrix(
        sensor["camera_intrinsic"], tables.where("calibrated_sensor", sensor["token"], "camera_intrinsic")
    )
    width, height = (
        pixels(rows[0][field], tables.where("sample_data", rows[0]["token"], field))
        for field in ("width", "height")
    )
    lens = Lens(matrix, width, height)
    times = (np.array([row["timestamp"] for row in rows], np.int64) - start) / 1e6
    return Camera(channel, lens, times, paths, np.stack(motions))


def _pose(tables: _Tables, name: str, row: dict[str, Any]) -> np.ndarray:
    """Rigid motion of a row with a rotation and a translation."""
    quaternion = unit_quaternion(row["rotation"], tables.where(name, row["token"], "rotation"))
    return rigid(quaternion, numbers(row["translation"], 3, tables.where(name, row["token"], "translation")))
