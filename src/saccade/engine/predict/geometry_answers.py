"""A geometry tool as a contender: tracks that were measured some other way answer the questions by their labels.

The tool may be `saccade kinematics label` on plain video, or anything that writes tracks in the project's format. Its
tracks are the asked objects by clip and track_id, or by their boxes where the two name things differently.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from saccade.kinematics.kinds import kind_of
from saccade.kinematics.labels import TIME_SLACK, TrackLabel, label_track
from saccade.kinematics.records import Question, Track, read_tracks
from saccade.kinematics.schema import TRACK_FORMAT
from saccade.kinematics.scoring import read_answers
from saccade.kinematics.settings import DEFAULT, Settings

LEAST_OVERLAP = 0.3
"""Mean overlap of boxes, over the frames that both have, from which on two tracks are of one thing."""


def read_contender(
    path: Path | str, questions: Sequence[Question], labels: Path | str = "", settings: Settings = DEFAULT
) -> dict[str, Any]:
    """Read what a contender answers: a file of answers, or one of tracks, whose labels answer.

    Args:
        path: JSON lines of either kind.
        questions: Of the benchmark.
        labels: Tracks of the benchmark, whose boxes tell which of the contender's tracks is meant.
        settings: Definitions of labels.

    Raises:
        DataError: Neither.
    """
    if not _holds_tracks(path):
        return read_answers(path)
    asked: dict[tuple[str, str], Track] = {}
    for track in read_tracks(labels) if labels else ():
        asked[track.clip_id, track.track_id] = track
    return answers_of_tracks(questions, read_tracks(path), asked, settings)


def _holds_tracks(path: Path | str) -> bool:
    """Whether a file holds tracks, by its first record."""
    path = Path(path)
    if path.suffix == ".parquet":
        return True
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return TRACK_FORMAT.encode() in file.readline(1 << 16)


def answers_of_tracks(
    questions: Iterable[Question],
    tracks: Iterable[Track],
    asked: Mapping[tuple[str, str], Track] | None = None,
    settings: Settings = DEFAULT,
) -> dict[str, Any]:
    """Answer questions by measured tracks.

    Args:
        questions: Any.
        tracks: Measured.
        asked: {(clip_id, track_id): the benchmark's own track}, for its boxes.
        settings: Definitions of labels.

    Returns:
        {question id: answer}; nothing for what the tracks do not tell.
    """
    clips: dict[str, list[Track]] = {}
    for track in tracks:
        clips.setdefault(track.clip_id, []).append(track)
    found: dict[str, Any] = {}
    known: dict[tuple[str, str], TrackLabel | None] = {}

    def label(clip: str, name: str) -> TrackLabel | None:
        if (clip, name) not in known:
            track = _same_thing(clips.get(clip, []), name, (asked or {}).get((clip, name)))
            measured = None
            if track is not None:
                measured = label_track(track.timestamps_s, track.points, up=track.up, settings=settings)
            known[clip, name] = None if measured is None or measured.distance_m is None else measured
        return known[clip, name]

    for question in questions:
        labels = {thing["colour"]: label(question.clip_id, thing["track_id"]) for thing in question.objects}
        text = kind_of(question.task).answer_of(question, labels, settings)
        if text is not None:
            found[question.id] = text
    return found


def _same_thing(tracks: Sequence[Track], name: str, asked: Track | None) -> Track | None:
    """Find the track of a thing: the one whose boxes lie where its own do, or that has its name."""
    if asked is not None and asked.boxes_2d is not None:
        best = max(tracks, key=lambda track: _overlap(track, asked), default=None)
        return best if best is not None and _overlap(best, asked) >= LEAST_OVERLAP else None
    return next((track for track in tracks if track.track_id == name), None)


def _overlap(one: Track, two: Track) -> float:
    """Mean intersection over union of the boxes of two tracks at the times that both have."""
    found = []
    for time, box in zip(one.timestamps_s, one.boxes_2d or (), strict=False):
        place = int(np.argmin(np.abs(two.times - time)))
        other = (two.boxes_2d or ())[place] if abs(two.timestamps_s[place] - time) <= TIME_SLACK else None
        if box is not None and other is not None:
            scale = _width(two) / _width(one)
            x0, y0, x1, y1 = (scale * value for value in box)
            inside = max(0.0, min(x1, other[2]) - max(x0, other[0])) * max(
                0.0, min(y1, other[3]) - max(y0, other[1])
            )
            whole = (x1 - x0) * (y1 - y0) + (other[2] - other[0]) * (other[3] - other[1]) - inside
            found.append(inside / whole if whole > 0 else 0.0)
    return float(np.mean(found)) if found else 0.0


def _width(track: Track) -> float:
    """Width of the pictures that a track's boxes are in, pixels; 1 where it is not told."""
    return float((track.camera or {}).get("width") or 1.0)
