"""nuPlan: one SQLite file a log. Boxes are global, at 20 Hz, and made by a perception system, not by people.

Layout: `ROOT/splits/<split>/<log>.db` and `ROOT/sensor_blobs/<log>/CAM_F0/<token>.jpg`. The velocities in the file
come from a network and may disagree with the positions; they are not read.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from saccade.errors import DataError, did_you_mean
from saccade.kinematics.geometry import Lens, rigid, unit_quaternion, yaw_turn
from saccade.kinematics.records import LONGEST_S, Rejected, Track
from saccade.kinematics.settings import DEFAULT, Settings
from saccade.kinematics.sources.assemble import (
    Camera,
    Scene,
    Thing,
    clip_tracks,
    inside,
    intrinsic_matrix,
    numbers,
    pixels,
    require_file,
    shortened,
    text,
)
from saccade.kinematics.sources.blobs import read_numbers

IMAGE_SIZE = (1920, 1080)
"""Of every camera, where the file does not say."""
_BOXES = """
    SELECT lidar_box.token, lidar_box.track_token, lidar_pc.timestamp, lidar_box.x, lidar_box.y, lidar_box.z,
        lidar_box.yaw, lidar_box.length, lidar_box.width, lidar_box.height, track.token, category.name
    FROM lidar_pc JOIN lidar_box ON lidar_box.lidar_pc_token = lidar_pc.token
    LEFT JOIN track ON track.token = lidar_box.track_token
    LEFT JOIN category ON category.token = track.category_token
    WHERE lidar_pc.scene_token = ? ORDER BY lidar_pc.timestamp
"""
_IMAGES = """
    SELECT image.token, image.timestamp, image.filename_jpg, ego_pose.token, ego_pose.x, ego_pose.y, ego_pose.z,
        ego_pose.qw, ego_pose.qx, ego_pose.qy, ego_pose.qz
    FROM image LEFT JOIN ego_pose ON ego_pose.token = image.ego_pose_token
    WHERE image.camera_token = ? AND image.timestamp BETWEEN ? AND ? ORDER BY image.timestamp
"""


def read(
    root: Path | str,
    *,
    cameras: Sequence[str] = ("CAM_F0",),
    need_images: bool = True,
    rejected: list[Rejected] | None = None,
    settings: Settings = DEFAULT,
) -> Iterator[Track]:
    """Read the tracks of every scene of every log, once for each camera.

    Args:
        root: Folder with `splits/` and `sensor_blobs/`, or one .db file.
        cameras: Channels.
        need_images: Refuse scenes whose images are not there.
        rejected: Scenes that cannot be used are added here and the rest goes on; by default the first one raises.
        settings: Grid.

    Raises:
        DataError: Missing files, tables, columns or links, numbers that are none, or a blob that is not just numbers.
    """
    root = Path(root)
    files = [root] if root.is_file() else sorted(root.rglob("*.db"))
    if not files:
        raise DataError(f"{root}: no .db file here; expected nuPlan's splits/<split>/<log>.db")
    for file in files:
        base = _base(file)
        try:
            with contextlib.closing(_open(file)) as data:
                yield from _log(data, file, base, cameras, need_images, rejected, settings)
        except (DataError, sqlite3.Error) as error:
            problem = error if isinstance(error, DataError) else DataError(f"{file}: {_explain(error)}")
            if rejected is None:
                raise problem from None
            rejected.append(Rejected(file.stem, f"log {file.stem}", str(problem)))


def _base(file: Path) -> Path:
    """Folder that holds `splits` and `sensor_blobs`."""
    for folder in file.parents:
        if (folder / "sensor_blobs").is_dir() or (folder / "splits").is_dir():
            return folder
    return file.parent


def _open(file: Path) -> sqlite3.Connection:
    """Open a log so that nothing in it can be changed."""
    require_file(file, "a log of nuPlan")
    return sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro&immutable=1", uri=True)


def _explain(error: sqlite3.Error) -> str:
    """Say what SQLite found wrong."""
    text = str(error)
    for start, what in (("no such table: ", "table"), ("no such column: ", "column")):
        if text.startswith(start):
            return f"no {what} {text.removeprefix(start)}; expected the layout of a nuPlan log"
    return f"cannot be read as SQLite ({text[:80]}); expected a log of nuPlan"


def _log(
    data: sqlite3.Connection,
    file: Path,
    base: Path,
    cameras: Sequence[str],
    need_images: bool,
    rejected: list[Rejected] | None,
    settings: Settings,
) -> Iterator[Track]:
    """Read one log."""
    columns = {row[1] for row in data.execute("PRAGMA table_info(camera)")}
    size = "width, height" if {"width", "height"} <= columns else "NULL, NULL"
    found = {
        row[1]: row
        for row in data.execute(
            f"SELECT token, channel, translation, rotation, intrinsic, distortion, {size} FROM camera"
        )
    }
    for name in found:
        text(name, f"{file}: table camera: field channel")
    for name in cameras:
        if name not in found:
            raise DataError(f"{file}: table camera has no channel {name!r}{did_you_mean(name, found)}")
    for table, field, target in (
        ("lidar_box", "lidar_pc_token", "lidar_pc"),
        ("lidar_pc", "scene_token", "scene"),
    ):
        lost = data.execute(
            f"SELECT {table}.token, {table}.{field} FROM {table} "
            f"LEFT JOIN {target} ON {target}.token = {table}.{field} WHERE {target}.token IS NULL LIMIT 1"
        ).fetchone()
        if lost:
            where = f"{file}: {table} {_shown(lost[0])}: field {field}"
            raise DataError(f"{where} is {_shown(lost[1])}, which table {target} does not hold")
    split = file.parent.name if file.parent.name != "splits" else "train"
    for (token,) in list(data.execute("SELECT token FROM scene")):
        name = f"{file.stem}/{_shown(token)}"
        try:
            things, start, stop = _things(data, file, token)
            scene = Scene(name, file.stem, "nuplan", split, "offline_perception", file)
            for channel in cameras:
                camera = _camera(data, file, base, found[channel], start, stop, need_images)
                yield from clip_tracks(scene, things, camera, settings)
        except DataError as error:
            if rejected is None:
                raise
            rejected.append(Rejected(name, f"scene {_shown(token)}", str(error)))


def _shown(token: Any) -> str:
    """Token as people and file names write it."""
    return token.hex() if isinstance(token, bytes) else str(token)


def _things(data: sqlite3.Connection, file: Path, scene: Any) -> tuple[list[Thing], int, int]:
    """Gather the boxes of a scene by track; and its first and last time in microseconds."""
    span = data.execute(
        "SELECT min(timestamp), max(timestamp) FROM lidar_pc WHERE scene_token = ?", (scene,)
    ).fetchone()
    if span[0] is None:
        raise DataError(
            f"{file}: scene {_shown(scene)}: no row of lidar_pc belongs to it; expected its sweeps"
        )
    if not all(isinstance(time, int) for time in span) or span[1] - span[0] > LONGEST_S * 1e6:
        raise DataError(
            f"{file}: scene {_shown(scene)}: field timestamp of lidar_pc goes from {shortened(span[0])} to "
            f"{shortened(span[1])}; expected microseconds, at most a day of them"
        )
    unknown = data.execute(
        "SELECT token FROM lidar_pc WHERE scene_token = ? AND typeof(timestamp) != 'integer' LIMIT 1",
        (scene,),
    ).fetchone()
    if unknown:
        raise DataError(
            f"{file}: lidar_pc {_shown(unknown[0])}: field timestamp is no time; expected microseconds"
        )
    rows: dict[Any, list[tuple[int, np.ndarray]]] = {}
    names: dict[Any, str] = {}
    for token, track, time, *values, known, category in data.execute(_BOXES, (scene,)):
        where = f"{file}: lidar_box {_shown(token)}"
        if known is None:
            raise DataError(f"{where}: field track_token is {_shown(track)}, which table track does not hold")
        if category is None:
            raise DataError(f"{where}: the category of its track {_shown(track)} is not in table category")
        box = numbers(
            [np.nan if value is None else value for value in values],
            7,
            f"{where}: x y z yaw length width height",
        )
        if (box[4:] <= 0).any():
            raise DataError(f"{where}: length width height is {box[4:].tolist()}; expected metres above 0")
        have = rows.setdefault(track, [])
        if have and have[-1][0] == time:
            raise DataError(
                f"{where}: track {_shown(track)} has two boxes at timestamp {time}; expected one a sweep"
            )
        have.append((time, box))
        names[track] = text(category, f"{where}: the category of its track {_shown(track)}")
    things = []
    for track, pairs in rows.items():
        boxes = np.stack([box for _, box in pairs])
        length, width, height = np.median(boxes[:, 4:], 0)
        things.append(
            Thing(
                _shown(track),
                names[track],
                (float(length), float(width), float(height)),
                (np.array([time for time, _ in pairs], np.int64) - span[0]) / 1e6,
                boxes[:, :3],
                np.stack([yaw_turn(yaw) for yaw in boxes[:, 3]]),
            )
        )
    return things, int(span[0]), int(span[1])


def _camera(
    data: sqlite3.Connection,
    file: Path,
    base: Path,
    row: tuple[Any, ...],
    start: int,
    stop: int,
    need_images: bool,
) -> Camera | None:
    """Read one camera and its images between two times."""
    token, channel, translation, turn, intrinsic, distortion, width, height = row
    where = f"{file}: camera {channel}: field"
    mount = rigid(
        unit_quaternion(read_numbers(turn, f"{where} rotation"), f"{where} rotation"),
        numbers(read_numbers(translation, f"{where} translation"), 3, f"{where} translation"),
    )
    matrix = intrinsic_matrix(read_numbers(intrinsic, f"{where} intrinsic"), f"{where} intrinsic")
    bend = (
        ()
        if distortion is None
        else tuple(numbers(read_numbers(distortion, f"{where} distortion"), 5, f"{where} distortion"))
    )
    lens = Lens(
        matrix,
        pixels(IMAGE_SIZE[0] if width is None else width, f"{where} width"),
        pixels(IMAGE_SIZE[1] if height is None else height, f"{where} height"),
        tuple(float(k) for k in bend) if any(bend) else (),
    )
    times, paths, motions = [], [], []
    for image, time, name, pose, *values in data.execute(_IMAGES, (token, start - 500_000, stop + 500_000)):
        where = f"{file}: image {_shown(image)}"
        if pose is None:
            raise DataError(f"{where}: field ego_pose_token leads nowhere; expected a row of ego_pose")
        at = f"{file}: ego_pose {_shown(pose)}"
        place = numbers([np.nan if value is None else value for value in values[:3]], 3, f"{at}: x y z")
        quaternion = unit_quaternion(
            [np.nan if value is None else value for value in values[3:]], f"{at}: qw qx qy qz"
        )
        path = inside(base / "sensor_blobs", name, f"{where}: field filename_jpg") if name else base
        if not path.is_file():
            path = base / "sensor_blobs" / file.stem / channel / f"{_shown(image)}.jpg"
        if need_images:
            require_file(path, f"the image of {where}")
        times.append(time)
        paths.append(path.as_posix())
        motions.append(rigid(quaternion, place) @ mount)
    if not times:
        if need_images:
            raise DataError(
                f"{file}: table image has none of {channel} during the scene; expected its images"
            )
        return None
    return Camera(channel, lens, (np.array(times, np.int64) - start) / 1e6, paths, np.stack(motions))
