"""A moment of a clip as people want to see it: boxes and paths on the frame, metres and km/h beside them.

Boxes and camera poses are known at the times of the annotation; between them a video has more frames, for which both
are interpolated. Paths lie on the ground where sizes are known, and are drawn only where the camera's pose is.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from saccade.errors import DataError
from saccade.kinematics.birdseye import PALETTE, birdseye_inset
from saccade.kinematics.geometry import Lens, inverse, move
from saccade.kinematics.labels import TrackLabel, hour_at, label_track, unit_up
from saccade.kinematics.records import Track
from saccade.kinematics.selection import select
from saccade.kinematics.settings import DEFAULT, Settings
from saccade.page.charts import GREY


@dataclass(frozen=True, eq=False)
class Scene:
    """The tracks of one clip with their labels, ready to be drawn."""

    tracks: list[Track]
    labels: dict[str, TrackLabel]
    """By track_id."""
    verdicts: dict[str, str]
    """By track_id: ok, or why it may not be asked about."""
    colours: dict[str, str]
    """By track_id, of those that are asked about; all where none is."""
    grounds: dict[str, np.ndarray]
    """By track_id: (n, 3) metres, under the object's middle."""
    pose_times: np.ndarray
    """(m,) rising seconds."""
    poses: np.ndarray
    """(m, 4, 4) camera to world at those times."""


def open_scene(tracks: Sequence[Track], settings: Settings = DEFAULT) -> Scene:
    """Label the tracks of a clip and give them colours.

    Raises:
        DataError: No tracks.
    """
    if not tracks:
        raise DataError("the clip has no tracks; expected at least one")
    labels, verdicts, grounds = {}, {}, {}
    for track in tracks:
        label = label_track(track.timestamps_s, track.points, up=track.up, settings=settings)
        labels[track.track_id] = label
        verdicts[track.track_id] = select(track, label, settings).reason
        drop = track.size_lwh[2] / 2 if track.size_lwh else 0.0
        grounds[track.track_id] = track.points - drop * unit_up(track.up)
    named = [track.track_id for track in tracks if verdicts[track.track_id] == "ok"]
    named = named or [track.track_id for track in tracks if track.boxes_2d is not None]
    colours = {name: PALETTE[index % len(PALETTE)] for index, name in enumerate(named)}
    return Scene(list(tracks), labels, verdicts, colours, grounds, *_poses(tracks))


def paint(
    image: Image.Image, scene: Scene, time_s: float, *, size: int | None = None, inset: bool = False
) -> Image.Image:
    """Draw a moment of a clip.

    Args:
        image: The frame as recorded.
        scene: From `open_scene`.
        time_s: Moment of the frame, seconds from the clip's start.
        size: Longer side of the result, pixels; as it is when None.
        inset: Draw the clip from above into a corner.

    Returns:
        RGB, both sides even, as videos need them.
    """
    scale = 1.0 if size is None else size / max(image.size)
    shape = max(2, 2 * round(image.width * scale / 2)), max(2, 2 * round(image.height * scale / 2))
    ratio = np.array([shape[0] / image.width, shape[1] / image.height])
    image = image.convert("RGB").resize(shape, Image.Resampling.BICUBIC, reducing_gap=3.0)
    # Twice as fine, for smooth lines and letters.
    whole, shape, ratio = shape, (2 * shape[0], 2 * shape[1]), 2 * ratio
    layer = Image.new("RGBA", shape)
    pen = ImageDraw.Draw(layer)
    thick = max(3, round(max(shape) / 320))
    for track in scene.tracks:
        if track.track_id in scene.colours:
            for piece in trail(track, scene, time_s):
                places = [(float(x), float(y)) for x, y in piece * ratio]
                pen.line(places, fill=scene.colours[track.track_id] + "d8", width=thick + 1, joint="curve")
    notes: list[tuple[tuple[float, float], str, str]] = []
    for track in sorted(scene.tracks, key=lambda track: track.track_id in scene.colours):
        box = box_at(track, time_s)
        if box is None:
            continue
        x0, y0, x1, y1 = (float(part) for part in np.asarray(box) * np.tile(ratio, 2))
        named = track.track_id in scene.colours
        colour = scene.colours.get(track.track_id, GREY)
        corners = (
            max(0, round(x0) - thick), max(0, round(y0) - thick),
            min(shape[0] - 1, round(x1) + thick - 1), min(shape[1] - 1, round(y1) + thick - 1),
        )  # fmt: skip
        if corners[2] > corners[0] and corners[3] > corners[1]:
            pen.rectangle(corners, outline=colour, width=thick if named else max(1, thick // 2))
        if named:
            notes.append(((corners[0], corners[1]), words(track, scene, time_s), colour))
    _write_notes(pen, notes, shape)
    if inset:
        small = birdseye_inset(
            scene.tracks, scene.colours, {t.track_id: t.points for t in scene.tracks}, time_s, max(shape) // 4
        )
        layer.alpha_composite(
            small, (max(0, shape[0] - small.width - 16), max(0, shape[1] - small.height - 16))
        )
    layer = layer.resize(whole, Image.Resampling.BOX)
    image.paste(layer, (0, 0), layer)
    return image


def words(track: Track, scene: Scene, time_s: float) -> str:
    """What is written beside a box: metres so far, the speed of now, and the hour."""
    label = scene.labels[track.track_id]
    if label.status != "ok":
        return {"static": "stands still"}.get(label.status, "too short")
    metres, speed = motion_at(label, time_s)
    if speed is None:
        return f"{metres:.1f} m"
    hour = hour_at(label, time_s)
    return f"{metres:.1f} m  {speed:.0f} km/h" + (f"  {hour} o'clock" if hour else "")


def motion_at(label: TrackLabel, time_s: float) -> tuple[float, float | None]:
    """Way up to a moment in metres, and the speed then in km/h: over half a second to either side.

    The speed is None outside the label's run.
    """
    lengths = np.linalg.norm(np.diff(label.points, axis=0), axis=1)
    way = np.concatenate([[0.0], np.cumsum(lengths)])
    first, last = float(label.times[0]), float(label.times[-1])
    metres = float(np.interp(time_s, label.times, way))
    if not first - 1e-6 <= time_s <= last + 1e-6:
        return metres, None
    reach = float(label.times[1] - label.times[0])
    begin, end = max(first, time_s - reach), min(last, time_s + reach)
    return metres, 3.6 * float(np.interp(end, label.times, way) - np.interp(begin, label.times, way)) / (
        end - begin
    )


def box_at(track: Track, time_s: float, max_gap_s: float = 1.0) -> list[float] | None:
    """Box of a track at a moment: between two boxes no farther apart than a gap, on the line between them."""
    if track.boxes_2d is None:
        return None
    times = image_times(track)
    after = int(np.searchsorted(times, time_s - 1e-6))
    if after == len(times):
        return None
    if abs(times[after] - time_s) <= 1e-6 or after == 0:
        return track.boxes_2d[after] if abs(times[after] - time_s) <= 1e-6 else None
    one, two = track.boxes_2d[after - 1], track.boxes_2d[after]
    gap = times[after] - times[after - 1]
    if one is None or two is None or gap > max_gap_s + 1e-6:
        return None
    part = (time_s - times[after - 1]) / gap
    return ((1 - part) * np.asarray(one) + part * np.asarray(two)).tolist()


def trail(track: Track, scene: Scene, time_s: float) -> list[np.ndarray]:
    """Path of an object up to a moment as the camera then sees it: pieces (n, 2) in pixels of the recorded frame."""
    pose = pose_at(scene, time_s)
    if pose is None or track.camera is None:
        return []
    camera = track.camera
    lens = Lens(
        np.asarray(camera["K"], np.float64),
        camera["width"],
        camera["height"],
        tuple(camera.get("distortion") or ()),
    )
    points, known = scene.grounds[track.track_id], np.isfinite(scene.grounds[track.track_id]).all(1)
    times, points = track.times[known], points[known]
    past = times <= time_s + 1e-6
    if not past.any():
        return []
    now = np.array([np.interp(time_s, times, points[:, axis]) for axis in range(3)])
    path = _dense(np.concatenate([points[past], now[None]]))
    pixels, front = lens.project(move(inverse(pose), path))
    # Far outside the picture lines are of no use, and a lens' polynomial is of none either.
    near = front & (np.abs(pixels - [lens.width / 2, lens.height / 2]) < [lens.width, lens.height]).all(1)
    pieces = np.split(pixels, np.flatnonzero(np.diff(near.astype(int))) + 1)
    shown = np.split(near, np.flatnonzero(np.diff(near.astype(int))) + 1)
    return [piece for piece, seen in zip(pieces, shown, strict=True) if seen[0] and len(piece) > 1]


def pose_at(scene: Scene, time_s: float, max_gap_s: float = 1.0) -> np.ndarray | None:
    """Pose (4, 4) of the camera at a moment, turned and moved evenly between two known ones; None where too far."""
    times, poses = scene.pose_times, scene.poses
    after = int(np.searchsorted(times, time_s - 1e-6))
    if after == len(times):
        return None
    if abs(times[after] - time_s) <= 1e-6:
        return poses[after]
    if after == 0 or times[after] - times[after - 1] > max_gap_s + 1e-6:
        return None
    one, two = poses[after - 1], poses[after]
    part = float((time_s - times[after - 1]) / (times[after] - times[after - 1]))
    found = one + part * (two - one)
    # The nearest rotation to the mean of two near ones is the one between them.
    left, _, right = np.linalg.svd(found[:3, :3])
    found[:3, :3] = left @ right
    return found


def image_times(track: Track) -> np.ndarray:
    """Seconds at which the boxes and poses of a track hold: those of its pictures where they are known."""
    known = track.image_times_s or [None] * len(track.timestamps_s)
    return np.array([time if at is None else at for time, at in zip(track.timestamps_s, known, strict=True)])


def _poses(tracks: Sequence[Track]) -> tuple[np.ndarray, np.ndarray]:
    """Every known pose of the camera by time, rising."""
    found: dict[float, Any] = {}
    for track in tracks:
        for time, pose in zip(image_times(track), track.T_world_cam or (), strict=False):
            if pose is not None:
                found.setdefault(round(float(time), 6), pose)
    times = sorted(found)
    return np.array(times), np.asarray([found[time] for time in times], np.float64).reshape(-1, 4, 4)


def _dense(path: np.ndarray) -> np.ndarray:
    """Add points to a path (n, 3), every half metre, to be cut well where it passes the camera."""
    way = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    at = np.union1d(way, np.linspace(0, way[-1], min(400, int(2 * way[-1]) + 2)))
    return np.stack([np.interp(at, way, path[:, axis]) for axis in range(3)], -1)


@functools.cache
def _font(size: int) -> Any:
    """The font that comes with Pillow."""
    return ImageFont.load_default(size)


def _write_notes(
    pen: ImageDraw.ImageDraw, notes: Sequence[tuple[tuple[float, float], str, str]], shape: tuple[int, int]
) -> None:
    """Write words above boxes on patches of the box's colour, inside the picture and not on one another."""
    font = _font(max(24, round(max(shape) / 44)))
    taken: list[tuple[float, float, float, float]] = []
    for (x, y), text, colour in sorted(notes, key=lambda note: note[0][1]):
        left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
        width, height = right - left + 12, bottom - top + 10
        x = min(max(0, x), shape[0] - width)
        y = min(max(0, y - height), shape[1] - height)
        while any(x < b[2] and x + width > b[0] and y < b[3] and y + height > b[1] for b in taken):
            y += 2
            if y + height > shape[1]:
                break
        taken.append((x, y, x + width, y + height))
        pen.rectangle((x, y, x + width, y + height), fill=colour)
        pen.text((x + 6 - left, y + 5 - top), text, fill="white", font=font)
