"""The same truth shown differently: what an honest answerer must follow, and what must not touch it.

Mirrored video mirrors hours; exchanged colours exchange answers; another frame spacing and a crop change nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from saccade.errors import ConfigError, did_you_mean
from saccade.kinematics.directions import mirror_hour
from saccade.kinematics.kinds import kind_of
from saccade.kinematics.questions import rendered
from saccade.kinematics.records import Question, Track
from saccade.kinematics.settings import DEFAULT, Settings


def mirror_track(track: Track) -> Track:
    """Mirror a track as flipping its video left to right does.

    The world is reflected through an upright plane and the camera's x axis with it, so that boxes, projection and
    labels still agree.
    """
    up = np.asarray(track.up, np.float64)
    up = up / np.linalg.norm(up)
    side = np.array([0.0, 1.0, 0.0]) if abs(up[1]) < 0.9 else np.array([1.0, 0.0, 0.0])
    side = side - (side @ up) * up
    side = side / np.linalg.norm(side)
    flip = np.eye(4)
    flip[:3, :3] -= 2 * np.outer(side, side)
    camera = track.camera
    changes: dict[str, Any] = {
        "clip_id": f"{track.clip_id}~mirror",
        "xyz_world": [
            None if row is None or None in row else (flip[:3, :3] @ np.asarray(row, np.float64)).tolist()
            for row in track.xyz_world
        ],
        # Yaw is about z; it mirrors into itself only where z is up.
        "yaw": None
        if track.yaw is None or abs(up[2]) < 1 - 1e-6
        else [None if yaw is None else -yaw for yaw in track.yaw],
    }
    if track.T_world_cam is not None:
        back = np.diag([-1.0, 1.0, 1.0, 1.0])
        changes["T_world_cam"] = [
            None if pose is None else (flip @ np.asarray(pose, np.float64) @ back).tolist()
            for pose in track.T_world_cam
        ]
    if camera is not None:
        width = camera["width"]
        matrix = np.asarray(camera["K"], np.float64)
        matrix[0, 1:] = -matrix[0, 1], width - matrix[0, 2]
        changes["camera"] = {**camera, "K": matrix.tolist()}
        if len(bend := camera.get("distortion") or []) == 5:
            changes["camera"]["distortion"] = [bend[0], bend[1], bend[2], -bend[3], bend[4]]
        if track.boxes_2d is not None:
            changes["boxes_2d"] = [
                None if box is None else [width - box[2], box[1], width - box[0], box[3]]
                for box in track.boxes_2d
            ]
    return dataclasses.replace(track, **changes)


def mirror_question(question: Question) -> Question:
    """Mirror a question: hours go round the other way, everything else stays."""
    changes: dict[str, Any] = {"id": f"{question.id}~mirror", "clip_id": f"{question.clip_id}~mirror"}
    changes["value"] = kind_of(question.task).mirrored(question)
    if question.clock is not None:
        changes["clock"] = mirror_hour(question.clock)
    return rendered(dataclasses.replace(question, **changes))


def swap_colours(question: Question, colours: tuple[str, str] = ("red", "blue")) -> Question:
    """Exchange the colours of the boxes.

    Questions about two objects keep their words, so that the right colour changes; questions about one name the new
    colour and keep their answer.

    Raises:
        ConfigError: A question about boxes of other colours.
    """
    other = dict(zip(colours, colours[::-1], strict=True))
    if any(thing["colour"] not in other for thing in question.objects):
        raise ConfigError(
            f"question {question.id} has other colours than {' and '.join(colours)}; name its own"
        )
    changes: dict[str, Any] = {
        "id": f"{question.id}~swap",
        "objects": [{**thing, "colour": other[thing["colour"]]} for thing in question.objects],
        "value": kind_of(question.task).recoloured(question, other, question.polarity),
    }
    return rendered(dataclasses.replace(question, **changes))


def respace(question: Question, factor: float, pictures_s: Sequence[float] = ()) -> Question:
    """Show the frames farther apart or nearer together; the last frame is always shown.

    Args:
        question: With frame times.
        factor: Of the spacing, such as 2 or 0.5.
        pictures_s: Times at which there are pictures; the nearest ones are taken, each once.

    Raises:
        ConfigError: A factor that is not above 0, or a question without frame times.
    """
    times = question.frame_times_s or []
    if not factor > 0 or len(times) < 2:
        raise ConfigError(
            f"question {question.id}: {len(times)} frames and factor {factor}; expected two frames or more and a "
            "factor above 0"
        )
    step = (times[-1] - times[0]) / (len(times) - 1) * factor
    shown = [round(float(time), 6) for time in np.arange(times[0], times[-1] + 1e-6, step)]
    if times[-1] - shown[-1] > 1e-6:
        shown.append(times[-1])
    if len(pictures_s):
        shown = sorted({min(pictures_s, key=lambda at: abs(at - time)) for time in shown})
    return dataclasses.replace(question, id=f"{question.id}~x{factor:g}", frame_times_s=shown)


def crop_region(width: int, height: int, share: float) -> tuple[int, int, int, int]:
    """Central part of an image: x0, y0, x1, y1 in pixels.

    Raises:
        ConfigError: A share outside (0, 1].
    """
    if not 0 < share <= 1:
        raise ConfigError(f"share is {share}; expected above 0, at most 1")
    keep_x, keep_y = max(1, round(width * share)), max(1, round(height * share))
    x, y = (width - keep_x) // 2, (height - keep_y) // 2
    return x, y, x + keep_x, y + keep_y


def crop_track(track: Track, share: float) -> Track:
    """Cut the images to their central part: enlarged again, that is a longer focal length; labels stay.

    Args:
        track: With a camera.
        share: Of width and height that is kept.

    Raises:
        ConfigError: A share outside (0, 1], or a track without a camera.
    """
    camera = track.camera
    if camera is None:
        raise ConfigError(
            f"track {track.clip_id}/{track.track_id} has no camera; expected one whose images can be cut"
        )
    x0, y0, x1, y1 = crop_region(camera["width"], camera["height"], share)
    matrix = np.asarray(camera["K"], np.float64)
    matrix[:2, 2] -= x0, y0

    def cut(box: list[float] | None) -> list[float] | None:
        if box is None or not (x0 <= (box[0] + box[2]) / 2 < x1 and y0 <= (box[1] + box[3]) / 2 < y1):
            return None
        return [max(box[0], x0) - x0, max(box[1], y0) - y0, min(box[2], x1) - x0, min(box[3], y1) - y0]

    return dataclasses.replace(
        track,
        clip_id=f"{track.clip_id}~crop{share:g}",
        camera={**camera, "K": matrix.tolist(), "width": x1 - x0, "height": y1 - y0},
        boxes_2d=None if track.boxes_2d is None else [cut(box) for box in track.boxes_2d],
    )


@dataclass(frozen=True)
class Variant:
    """A question shown differently, with what is needed to draw it."""

    question: Question
    tracks: list[Track]
    region: tuple[int, int, int, int] | None = None
    mirror: bool = False


VARIANTS = ("half-rate", "double-rate", "mirror", "swap", "crop")
"""Robustness sets by name."""


def make_variant(
    kind: str,
    question: Question,
    tracks: Sequence[Track],
    *,
    share: float = 0.7,
    settings: Settings = DEFAULT,
) -> Variant | None:
    """Show a question differently.

    Args:
        kind: One of `VARIANTS`.
        question: Of a benchmark.
        tracks: Those of its clip.
        share: Of width and height that a crop keeps.
        settings: min_shown_share is used.

    Returns:
        The variant; None where a crop cuts one of its objects away, or there are no pictures in between.

    Raises:
        ConfigError: No such variant, or one that the question does not allow.
    """
    if kind not in VARIANTS:
        raise ConfigError(f"no variant {kind!r}{did_you_mean(kind, VARIANTS)}")
    tracks = list(tracks)
    if kind == "swap":
        return Variant(swap_colours(question), tracks)
    if kind == "mirror":
        return Variant(mirror_question(question), [mirror_track(track) for track in tracks], mirror=True)
    if kind != "crop":
        changed = respace(question, 2.0 if kind == "half-rate" else 0.5, _picture_times(tracks))
        same = len(changed.frame_times_s or ()) == len(question.frame_times_s or ())
        return None if same else Variant(changed, tracks)
    cut = [crop_track(track, share) for track in tracks]
    names = {thing["track_id"] for thing in question.objects}
    for before, after in zip(tracks, cut, strict=True):
        if before.track_id in names:
            seen = sum(box is not None for box in before.boxes_2d or ())
            left = sum(box is not None for box in after.boxes_2d or ())
            if not seen or left < settings.min_shown_share * seen:
                return None
    camera = tracks[0].camera or {}
    changed = dataclasses.replace(question, id=f"{question.id}~crop", clip_id=cut[0].clip_id)
    return Variant(changed, cut, crop_region(camera["width"], camera["height"], share))


def _picture_times(tracks: Sequence[Track]) -> list[float]:
    """Times of a clip's pictures."""
    found = {
        time
        for track in tracks
        for time, path in zip(track.timestamps_s, track.image_paths or (), strict=False)
        if path is not None
    }
    return sorted(found)
