"""Which objects may be asked about: those that can move, do move, and can be seen doing it.

The paper does not say which classes it used nor how visible an object had to be; these are our rules, with their
thresholds in `Settings`. Every refusal has a name and is counted by the callers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from saccade.kinematics.labels import TIME_SLACK, TrackLabel, label_track
from saccade.kinematics.records import Track
from saccade.kinematics.settings import DEFAULT, Settings

_MOVABLE = {
    "nuscenes": ("vehicle.", "human.pedestrian"),
    "argoverse2": (
        "REGULAR_VEHICLE", "LARGE_VEHICLE", "BUS", "BOX_TRUCK", "TRUCK", "TRUCK_CAB", "SCHOOL_BUS", "ARTICULATED_BUS",
        "VEHICULAR_TRAILER", "RAILED_VEHICLE", "PEDESTRIAN", "OFFICIAL_SIGNALER", "BICYCLIST", "MOTORCYCLIST",
        "WHEELED_RIDER", "BICYCLE", "MOTORCYCLE", "WHEELED_DEVICE", "WHEELCHAIR", "STROLLER",
    ),
    "nuplan": ("vehicle", "bicycle", "pedestrian"),
}  # fmt: skip
_PREFIXES = {"nuscenes"}
"""Sources whose categories are trees, of which the table gives the branch."""


@dataclass(frozen=True)
class Selection:
    """Whether an object may be asked about, and what is drawn for it."""

    reason: str
    """ok, or why not: not_movable, too_short, static, no_boxes, hardly_seen, low_visibility, few_points."""
    rows: tuple[int | None, ...]
    """Row of the track for each time of the label's run; None where no annotation is near."""
    boxes: tuple[list[float] | None, ...]
    """Box at each time of the run; None where it is not visible and no box is drawn."""


def is_movable(source: str, category: str) -> bool:
    """Whether things of a class can move by themselves. Sources that we do not know are believed."""
    known = _MOVABLE.get(source)
    if known is None:
        return True
    return category.startswith(known) if source in _PREFIXES else category in known


def rows_at(track: Track, times: np.ndarray, settings: Settings = DEFAULT) -> tuple[int | None, ...]:
    """Find the row of a track nearest to each time, no farther than half a step."""
    have = track.times
    found: list[int | None] = []
    for time in times:
        row = int(np.argmin(np.abs(have - time)))
        found.append(row if abs(have[row] - time) <= settings.dt / 2 + TIME_SLACK else None)
    return tuple(found)


def select(
    track: Track, label: TrackLabel, settings: Settings = DEFAULT, *, need_boxes: bool = True
) -> Selection:
    """Apply the rules to one object.

    Args:
        track: With boxes, and visibility and point counts where its source has them.
        label: Of the track.
        settings: Thresholds.
        need_boxes: Refuse what cannot be pointed out in the pictures; without, the seen-ness rules are left out for
            tracks that have no boxes at all.
    """
    rows = rows_at(track, label.times, settings)
    have = track.boxes_2d
    boxes = tuple(None if have is None or row is None else have[row] for row in rows)

    def because(reason: str) -> Selection:
        return Selection(reason, rows, boxes)

    if not is_movable(track.source, track.category):
        return because("not_movable")
    if label.status != "ok":
        return because(label.status)
    if have is None and need_boxes:
        return because("no_boxes")
    if have is not None:
        tall = [box is not None and box[3] - box[1] >= settings.min_box_height_px for box in boxes]
        if np.mean(tall) < settings.min_shown_share - 1e-9:
            return because("hardly_seen")
    levels = _at(track.visibility, rows)
    if any(level is not None for level in levels):
        clear = [level is not None and level >= settings.min_visibility for level in levels]
        if np.mean(clear) < settings.min_visibility_share - 1e-9:
            return because("low_visibility")
    counts = _at(track.num_points, rows)
    if any(count is not None for count in counts):
        least = settings.min_interior_points if track.source == "argoverse2" else settings.min_sensor_points
        measured = [count is not None and count >= least for count in counts]
        if np.mean(measured) < settings.min_points_share - 1e-9:
            return because("few_points")
    return because("ok")


def covers(
    one: Selection, two: Selection, times_one: np.ndarray, times_two: np.ndarray, settings: Settings = DEFAULT
) -> bool:
    """Whether in any frame one of two drawn boxes hides too much of the other."""
    at = {round(float(time), 6): box for time, box in zip(times_two, two.boxes, strict=True)}
    for time, box in zip(times_one, one.boxes, strict=True):
        other = at.get(round(float(time), 6))
        if box is None or other is None:
            continue
        width = min(box[2], other[2]) - max(box[0], other[0])
        height = min(box[3], other[3]) - max(box[1], other[1])
        if width > 0 and height > 0:
            smaller = min((b[2] - b[0]) * (b[3] - b[1]) for b in (box, other))
            if width * height > settings.max_cover * smaller:
                return True
    return False


def _at(values: Sequence[float | None] | None, rows: Sequence[int | None]) -> list[float | None]:
    """Values at rows; None where there is no row."""
    return [None if values is None or row is None else values[row] for row in rows]


def label_row(track: Track, settings: Settings = DEFAULT) -> dict[str, Any]:
    """Label a track: the row of labels.jsonl, with what selection says and the hash of the settings."""
    found = label_track(track.timestamps_s, track.points, up=track.up, settings=settings)
    names = {"clip_id": track.clip_id, "track_id": track.track_id, "category": track.category}
    verdict = select(track, found, settings).reason
    return {**names, **found.to_dict(), "selection": verdict, "config_hash": settings.config_hash}
