"""A clip seen from above: the paths of its objects and of the camera, in metres, as SVG or drawn into a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from saccade.kinematics.labels import TrackLabel, unit_up
from saccade.kinematics.records import Track
from saccade.page.charts import GREY, svg
from saccade.shown import html

PALETTE = (
    "#e5383b", "#3a86ff", "#12a150", "#e09f00", "#9b5de5", "#f3722c", "#0aa6b7", "#e0479e",
)  # fmt: skip
"""Colours of objects, which stand out from pictures, from white paper and from black; reused after eight."""
NARROWEST_M = 8.0
"""A clip in which nothing moves is still drawn this wide."""


@dataclass(frozen=True, eq=False)
class Plane:
    """The ground as a page: where the camera looks first is up."""

    right: np.ndarray
    """(3,) unit vector."""
    ahead: np.ndarray
    """(3,) unit vector."""

    def flat(self, points: np.ndarray) -> np.ndarray:
        """Drop the height of points (..., 3): metres to the right and ahead, (..., 2)."""
        return np.stack([points @ self.right, points @ self.ahead], -1)


@dataclass(frozen=True, eq=False)
class Map:
    """A part of the plane and its place on a page; y of the page goes down."""

    plane: Plane
    low: np.ndarray
    """(2,) metres at the lower left corner."""
    metres: np.ndarray
    """(2,) that are shown, across and along."""
    scale: float
    """Page units of a metre."""
    margin: float

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the page."""
        width, height = self.metres * self.scale + 2 * self.margin
        return float(width), float(height)

    def page(self, points: np.ndarray) -> np.ndarray:
        """Place points of the world (..., 3) on the page (..., 2)."""
        flat = (self.plane.flat(points) - self.low) * self.scale
        return np.stack([flat[..., 0] + self.margin, self.size[1] - self.margin - flat[..., 1]], -1)


def plane_of(tracks: Sequence[Track]) -> Plane:
    """Choose which way is up on the page: the camera's first view, else the world's y axis."""
    up = unit_up(tracks[0].up)
    poses = camera_poses(tracks)
    views = [poses[0][:3, 2]] if len(poses) else []
    for view in (*views, np.array([0.0, 1.0, 0.0]), np.array([1.0, 0.0, 0.0])):
        flat = view - (view @ up) * up
        if np.linalg.norm(flat) > 1e-3:
            ahead = flat / np.linalg.norm(flat)
            return Plane(np.cross(ahead, up), ahead)
    raise AssertionError("two axes cannot both be up")


def camera_poses(tracks: Sequence[Track]) -> np.ndarray:
    """Poses (n, 4, 4) of the camera in the order of time, from the track that has most of them."""
    best: list[list[list[float]]] = []
    for track in tracks:
        poses = [pose for pose in track.T_world_cam or () if pose is not None]
        best = poses if len(poses) > len(best) else best
    return np.asarray(best, np.float64).reshape(-1, 4, 4)


def map_of(tracks: Sequence[Track], paths: Sequence[np.ndarray], width: float, margin: float = 26) -> Map:
    """Choose a map that holds paths and the camera's way.

    Args:
        tracks: Of one clip.
        paths: (n, 3) metres, of the objects that are shown.
        width: Longer side of the page.
        margin: Around the paths.
    """
    plane = plane_of(tracks)
    points = np.concatenate([camera_poses(tracks)[:, :3, 3], *[path.reshape(-1, 3) for path in paths]])
    points = points[np.isfinite(points).all(1)]
    flat = plane.flat(points if len(points) else np.zeros((1, 3)))
    low, high = flat.min(0), flat.max(0)
    middle, span = (low + high) / 2, np.maximum(high - low, NARROWEST_M)
    # Neither a ribbon nor a pillar.
    span = np.maximum(span, 0.4 * span.max())
    return Map(plane, middle - span / 2, span, (width - 2 * margin) / float(span.max()), margin)


def birdseye_svg(
    tracks: Sequence[Track],
    labels: Mapping[str, TrackLabel],
    colours: Mapping[str, str],
    *,
    width: float = 460,
) -> str:
    """Draw a clip from above: a dot each second, an arrow where an object ends, the camera in grey.

    Args:
        tracks: Of one clip.
        labels: By track_id; paths are those the labels were measured on, where there are any.
        colours: By track_id; tracks without one are drawn thin and grey.
        width: Longer side, page units.
    """
    paths = {track.track_id: path_of(track, labels.get(track.track_id)) for track in tracks}
    page = map_of(tracks, list(paths.values()), width)
    wide, tall = page.size
    parts = [_grid(page)]
    camera = camera_poses(tracks)
    if len(camera):
        parts.append(_camera_svg(page, camera))
    for track in sorted(tracks, key=lambda track: track.track_id in colours):
        parts.append(_path_svg(page, track, paths[track.track_id], labels.get(track.track_id), colours))
    # It is shown on its own too, without a style sheet.
    alone = 'xmlns="http://www.w3.org/2000/svg" font-family="system-ui,sans-serif" font-size="11"'
    return svg(round(wide), round(tall), "".join(parts), "bird's-eye view", alone)


def birdseye_inset(
    tracks: Sequence[Track],
    colours: Mapping[str, str],
    paths: Mapping[str, np.ndarray],
    time_s: float,
    side: int,
) -> Image.Image:
    """Draw the same into a small picture, up to a moment.

    Args:
        tracks: Of one clip.
        colours: By track_id; the others are left out.
        paths: (n, 3) metres by track_id, whole; so that the map stands still.
        time_s: Moment.
        side: Longer side, pixels.

    Returns:
        RGBA.
    """
    shown = [track for track in tracks if track.track_id in colours]
    page = map_of(tracks, [paths[track.track_id] for track in shown], side, margin=max(6, side / 16))
    image = Image.new("RGBA", (round(page.size[0]), round(page.size[1])), (16, 19, 24, 190))
    pen = ImageDraw.Draw(image)
    thick = max(2, side // 90)
    for track in shown:
        path = paths[track.track_id]
        places = page.page(path)
        known = np.isfinite(path).all(1)
        past = places[known & (track.times <= time_s + 1e-6)]
        pen.line([tuple(place) for place in places[known]], fill=f"{colours[track.track_id]}66", width=1)
        if len(past):
            pen.line([tuple(place) for place in past], fill=colours[track.track_id], width=thick)
            (x, y), r = past[-1], 1.6 * thick
            pen.ellipse((x - r, y - r, x + r, y + r), fill=colours[track.track_id])
    for track in tracks:
        poses = [
            (time, pose)
            for time, pose in zip(track.timestamps_s, track.T_world_cam or (), strict=False)
            if pose
        ]
        if poses:
            pose = np.asarray(min(poses, key=lambda item: abs(item[0] - time_s))[1])
            tip, left, right = (page.page(point) for point in _wedge(page, pose, 2.2 * side / 40))
            pen.polygon([tuple(tip), tuple(left), tuple(right)], fill="#ffffffcc")
            break
    return image


def path_of(track: Track, label: TrackLabel | None) -> np.ndarray:
    """Points (n, 3) of an object's path: those its label was measured on, else all that are known."""
    if label is not None and label.distance_m is not None:
        return label.points
    points = track.points
    return points[np.isfinite(points).all(1)]


def _grid(page: Map) -> str:
    """Lines every 1, 2, 5, 10 ... metres, and how many that is."""
    longest = float(page.metres.max())
    step = next(m * 10.0**p for p in range(-1, 6) for m in (1, 2, 5) if m * 10.0**p >= longest / 7)
    wide, tall = page.size
    parts = []
    for axis, (length, other) in enumerate(((wide, tall), (tall, wide))):
        first = page.low[axis] - page.margin / page.scale
        for index in range(math.ceil(first / step), math.floor((first + length / page.scale) / step) + 1):
            at = (index * step - first) * page.scale
            ends = f'x1="{at:.1f}" x2="{at:.1f}" y1="0" y2="{other:.1f}"'
            if axis:
                ends = f'y1="{length - at:.1f}" y2="{length - at:.1f}" x1="0" x2="{other:.1f}"'
            parts.append(f'<line class="grid" stroke="{GREY}" stroke-opacity=".22" {ends}/>')
    bar = step * page.scale
    parts.append(
        f'<path d="M10 {tall - 12:.1f}v4h{bar:.1f}v-4" fill="none" stroke="{GREY}" stroke-width="1.5"/>'
        f'<text x="{16 + bar:.1f}" y="{tall - 7:.1f}" fill="{GREY}">{step:g} m</text>'
    )
    return "".join(parts)


def _camera_svg(page: Map, poses: np.ndarray) -> str:
    """The camera's way, and where it looks at its start and end."""
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in page.page(poses[:, :3, 3]))
    parts = [
        f'<polyline points="{line}" fill="none" stroke="{GREY}" stroke-width="1.6" stroke-dasharray="4 4"/>'
    ]
    for pose, opacity in ((poses[0], 0.3), (poses[-1], 0.65)):
        corners = " ".join(
            f"{x:.1f},{y:.1f}" for x, y in (page.page(point) for point in _wedge(page, pose, 22))
        )
        parts.append(f'<polygon points="{corners}" fill="{GREY}" fill-opacity="{opacity}"/>')
    return f"<g><title>camera</title>{''.join(parts)}</g>"


def _wedge(page: Map, pose: np.ndarray, length: float) -> list[np.ndarray]:
    """Three points of the world that mark a camera: its place and two ahead of it, `length` page units away."""
    up = np.cross(page.plane.right, page.plane.ahead)
    view = pose[:3, 2] - (pose[:3, 2] @ up) * up
    view = view / max(float(np.linalg.norm(view)), 1e-9)
    side = np.cross(view, up)
    reach = length / page.scale
    return [
        pose[:3, 3],
        pose[:3, 3] + reach * (view - 0.45 * side),
        pose[:3, 3] + reach * (view + 0.45 * side),
    ]


def _path_svg(
    page: Map, track: Track, path: np.ndarray, label: TrackLabel | None, colours: Mapping[str, str]
) -> str:
    """One object's path."""
    if not len(path):
        return ""
    asked = track.track_id in colours
    colour = colours.get(track.track_id, GREY)
    places = page.page(path)
    still = label is None or label.distance_m is None or label.status != "ok"
    words = f"{track.category} {track.track_id}"
    if label is not None and label.distance_m is not None:
        words += f": {label.distance_m:.1f} m, {label.speed_kmh or 0:.1f} km/h"
    parts = [f"<title>{html(words)}</title>"]
    if still:
        x, y = places[0]
        parts.append(
            f'<rect x="{x - 3.5:.1f}" y="{y - 3.5:.1f}" width="7" height="7" rx="1.5" fill="{colour}"/>'
        )
        return f"<g>{''.join(parts)}</g>"
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    thick = 2.4 if asked else 1.2
    parts.append(
        f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="{thick}" stroke-linejoin="round" '
        'stroke-linecap="round"/>'
    )
    if asked and label is not None:
        whole = np.abs(label.times - np.round(label.times)) < 1e-6
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{colour}"/>' for x, y in places[whole]]
    parts.append(_arrow(places, colour, 9 if asked else 6))
    return f"<g>{''.join(parts)}</g>"


def _arrow(places: np.ndarray, colour: str, size: float) -> str:
    """A head at the end of a path, along its last step that is long enough to see."""
    back = np.flatnonzero(np.linalg.norm(places - places[-1], axis=1) > 1.5)
    if not len(back):
        return ""
    along = places[-1] - places[back[-1]]
    along = along / np.linalg.norm(along)
    aside = np.array([-along[1], along[0]])
    tip, base = places[-1] + 0.6 * size * along, places[-1] - 0.5 * size * along
    corners = [tip, base + 0.55 * size * aside, base - 0.55 * size * aside]
    return f'<polygon points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in corners)}" fill="{colour}"/>'
