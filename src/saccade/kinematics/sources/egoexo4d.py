"""Ego-Exo4D: the person who wears the glasses, seen by a camera that stands still.

Layout: `ROOT/takes.json` and `ROOT/takes/<take>/trajectory/{closed_loop_trajectory,gopro_calibs}.csv` beside
`frame_aligned_videos/cam01.mp4`. The position is that of the glasses, at head height, from visual-inertial SLAM at
1 kHz. The data set has no box of the wearer; ours is an upright cuboid that hangs from the glasses. Quaternions are
x y z w here.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from saccade.errors import DataError, did_you_mean
from saccade.files import read_json
from saccade.kinematics.answers import LARGEST
from saccade.kinematics.geometry import Lens, rigid, unit_quaternion
from saccade.kinematics.records import LONGEST_S, Rejected, Track
from saccade.kinematics.settings import DEFAULT, Settings
from saccade.kinematics.sources.assemble import (
    Camera,
    Scene,
    Thing,
    clip_tracks,
    inside,
    intrinsic_matrix,
    pixels,
    require_file,
    shortened,
    text,
)

BODY_LWH = (0.6, 0.6, 1.8)
"""Length, width and height of the wearer's cuboid, metres."""
KEPT_S = 0.05
"""Seconds between the positions that are kept of 1000 a second."""
MAX_TAKES = 1 << 30
"""Bytes of the list of takes."""
FRAME_RATE = 30.0
"""Of the frame-aligned videos."""
SPORTS = ("Basketball", "Soccer", "Dance", "Rock Climbing", "Bouldering")
"""Values of parent_task_name that are about moving."""
_PLACE = ("tx_world_device", "ty_world_device", "tz_world_device")
_TURN = ("qw_world_device", "qx_world_device", "qy_world_device", "qz_world_device")
_GRAVITY = ("gravity_x_world", "gravity_y_world", "gravity_z_world")


def read(
    root: Path | str,
    *,
    cameras: Sequence[str] | None = None,
    tasks: Sequence[str] | None = None,
    split: str = "train",
    need_images: bool = True,
    rejected: list[Rejected] | None = None,
    settings: Settings = DEFAULT,
) -> Iterator[Track]:
    """Read the wearer's track of every take, once for each still camera.

    The first row of the trajectory is taken as the first frame of the videos.

    Args:
        root: Folder that holds takes.json and takes/.
        cameras: Still cameras, such as cam01; by default all.
        tasks: Values of parent_task_name, such as `SPORTS`; by default all takes.
        split: The takes' split, which takes.json does not say.
        need_images: Refuse takes whose videos are not there.
        rejected: Takes that cannot be used are added here and the rest goes on; by default the first one raises.
        settings: Grid.

    Raises:
        DataError: Missing files or columns, cameras of another map, rows with numbers that are none.
    """
    root = Path(root)
    path = require_file(root / "takes.json", "the list of takes of Ego-Exo4D")
    takes = read_json(path, max_bytes=MAX_TAKES)
    if not isinstance(takes, list) or not takes:
        raise DataError(f"{path}: holds no list of takes; expected at least one")
    seen: set[str] = set()
    for number, take in enumerate(takes, 1):
        name: Any = take.get("take_name") if isinstance(take, dict) else None
        where = f"{path}: record {number}"
        try:
            if Path(text(name, f"{where}: field take_name")).name != name or name == "..":
                raise DataError(
                    f"{where}: field take_name is {shortened(name)}; expected the name of a folder"
                )
            if name in seen:
                raise DataError(f"{where}: take {name} was there before; expected each only once")
            seen.add(name)
            if tasks is not None and take.get("parent_task_name") not in tasks:
                continue
            yield from _take(root / "takes" / name, name, cameras, split, need_images, settings)
        except DataError as error:
            if rejected is None:
                raise
            rejected.append(Rejected(str(name or "?"), f"take {number}", str(error)))


def _take(
    folder: Path, name: str, wanted: Sequence[str] | None, split: str, need_images: bool, settings: Settings
) -> Iterator[Track]:
    """Read one take."""
    calibration = require_file(folder / "trajectory" / "gopro_calibs.csv", "the still cameras")
    rows: dict[str, list[dict[str, str]]] = {}
    for number, row in enumerate(_rows(calibration, ("cam_uid", "graph_uid")), 2):
        for field in ("cam_uid", "graph_uid"):
            text(row[field], f"{calibration}: line {number}: {field}")
        inside(folder, row["cam_uid"], f"{calibration}: line {number}: cam_uid")
        rows.setdefault(row["cam_uid"], []).append(row)
    if not rows:
        raise DataError(f"{calibration}: no rows; expected one for each still camera")
    for camera in wanted or ():
        if camera not in rows:
            raise DataError(f"{calibration}: no camera {camera!r}{did_you_mean(camera, rows)}")
    trajectory = require_file(folder / "trajectory" / "closed_loop_trajectory.csv", "the wearer's path")
    paths = _trajectories(trajectory)
    for uid in wanted or rows:
        graphs = {row["graph_uid"] for row in rows[uid]}
        if not graphs <= paths.keys() or len(graphs) > 1:
            raise DataError(
                f"{calibration}: camera {uid} belongs to graph_uid {' and '.join(sorted(graphs))}, and "
                f"{trajectory.name} has {' and '.join(sorted(paths))}; poses of different maps cannot be compared"
            )
        thing, up = paths[graphs.pop()]
        video = folder / "frame_aligned_videos" / f"{uid}.mp4"
        if need_images:
            require_file(video, f"the video of camera {uid}")
        scene = Scene(name, name, "egoexo4d", split, "slam", trajectory, up)
        yield from clip_tracks(
            scene, [thing], _camera(calibration, rows[uid], video, float(thing.times[-1])), settings
        )


def _trajectories(path: Path) -> dict[str, tuple[Thing, list[float]]]:
    """Read the wearer's path in each map, thinned, with the map's up axis."""
    kept: dict[str, list[list[float]]] = {}
    gravity: dict[str, list[float]] = {}
    start: int | None = None
    last: dict[str, int] = {}
    names = ("graph_uid", "tracking_timestamp_us", *_PLACE, *_TURN)
    for number, row in enumerate(_rows(path, names), 2):
        time = _number(path, number, row, "tracking_timestamp_us")
        start = int(time) if start is None else start
        graph = text(row["graph_uid"], f"{path}: line {number}: graph_uid")
        if graph in last and int(time) <= last[graph]:
            raise DataError(
                f"{path}: line {number}: tracking_timestamp_us {int(time)} does not come after the row before; "
                "expected rising times"
            )
        if int(time) - start > LONGEST_S * 1e6:
            raise DataError(
                f"{path}: line {number}: tracking_timestamp_us {int(time)} is more than a day after the first; "
                "expected microseconds"
            )
        last[graph] = int(time)
        have = kept.setdefault(graph, [])
        seconds = (int(time) - start) / 1e6
        if have and seconds < have[-1][0] + KEPT_S - 1e-6:
            continue
        values = [_number(path, number, row, name) for name in (*_PLACE, *_TURN)]
        unit_quaternion(values[3:], f"{path}: line {number}: the quaternion of the device")
        have.append([seconds, *values])
        if graph not in gravity and all(row.get(name) for name in _GRAVITY):
            gravity[graph] = [_number(path, number, row, name) for name in _GRAVITY]
    if not kept:
        raise DataError(f"{path}: no rows; expected the wearer's path")
    found = {}
    for graph, rows in kept.items():
        table = np.array(rows)
        up = -np.array(gravity.get(graph, [0.0, 0.0, -1.0]))
        if not np.linalg.norm(up) > 1e-6:
            raise DataError(f"{path}: {', '.join(_GRAVITY)} are all zero; expected the direction of gravity")
        up = up / np.linalg.norm(up)
        # The cuboid stands upright, whichever way the head leans: its top is at the glasses.
        turn = _upright(up)
        thing = Thing(
            "wearer", "person", BODY_LWH, table[:, 0], table[:, 1:4], np.broadcast_to(turn, (len(table), 3, 3)),
            centre_offset=(-BODY_LWH[2] / 2 * up),
        )  # fmt: skip
        found[graph] = thing, up.tolist()
    return found


def _upright(up: np.ndarray) -> np.ndarray:
    """Rotation (3, 3) whose z axis is up."""
    side = np.cross([0.0, 1.0, 0.0] if abs(up[1]) < 0.9 else [1.0, 0.0, 0.0], up)
    side = side / np.linalg.norm(side)
    return np.stack([side, np.cross(up, side), up], 1)


def _camera(path: Path, rows: list[dict[str, str]], video: Path, stop: float) -> Camera:
    """Read a still camera; its frames are those of the aligned video. One that was moved has a row for each place."""
    uid = rows[0]["cam_uid"]
    where = f"{path}: camera {uid}"
    parts = sorted(
        (_still(path, row, stop) for row in rows), key=lambda part: part[1][0] if len(part[1]) else 0
    )
    frames = np.concatenate([frames for _, frames, _ in parts])
    if (np.diff(frames) <= 0).any():
        at = int(frames[int(np.argmax(np.diff(frames) <= 0)) + 1])
        raise DataError(
            f"{where}: frame {at} belongs to two rows; expected start_frame_idx and end_frame_idx apart"
        )
    motions = np.concatenate([np.broadcast_to(motion, (len(frames), 4, 4)) for _, frames, motion in parts])
    times = frames / FRAME_RATE
    names = [f"{video.as_posix()}#t={time:.3f}" for time in times]
    return Camera(uid, parts[0][0], times, names, motions)


def _still(path: Path, row: dict[str, str], stop: float) -> tuple[Lens, np.ndarray, np.ndarray]:
    """Read one place of a camera: its optics, its frames, its pose."""
    where = f"camera {row['cam_uid']}"

    def value(name: str) -> float:
        return _number(path, where, row, name)

    kind = row.get("intrinsics_type", "")
    if kind != "KANNALABRANDTK3":
        raise DataError(f"{path}: {where}: intrinsics_type is {kind!r}; expected KANNALABRANDTK3")
    fx, fy, cx, cy, *bend = (value(f"intrinsics_{index}") for index in range(8))
    matrix = intrinsic_matrix([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], f"{path}: {where}: the intrinsics")
    width, height = (
        pixels(value(name), f"{path}: {where}: {name}") for name in ("image_width", "image_height")
    )
    lens = Lens(matrix, width, height, tuple(bend))
    quaternion = unit_quaternion(
        [value(f"q{axis}_world_cam") for axis in "wxyz"], f"{path}: {where}: its quaternion"
    )
    motion = rigid(quaternion, [value(f"t{axis}_world_cam") for axis in "xyz"])
    first, last = int(value("start_frame_idx")), int(value("end_frame_idx"))
    # A camera may run longer than the glasses; frames without a wearer are of no use.
    end = int(stop * FRAME_RATE) + 1
    frames = np.arange(max(first, 0), end if last < 0 else min(last, end) + 1)
    return lens, frames, motion


def _rows(path: Path, names: Sequence[str]) -> Iterator[dict[str, str]]:
    """Yield the rows of a CSV file that has the columns."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        try:
            columns = reader.fieldnames or []
            for name in names:
                if name not in columns:
                    raise DataError(f"{path}: no column {name}{did_you_mean(name, columns)}")
            yield from reader
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read as CSV ({str(error)[:80]})") from None


def _number(path: Path, place: Any, row: dict[str, str], name: str) -> float:
    """Read a finite number of a row."""
    text = row.get(name)
    try:
        value = float(text or "")
    except ValueError:
        value = np.nan
    if not abs(value) <= LARGEST * (1e6 if name.endswith("_us") else 1):
        where = f"line {place}" if isinstance(place, int) else place
        raise DataError(f"{path}: {where}: {name} is {(text or 'missing')[:40]!r}; expected a finite number")
    return value
