"""What could be asked about a clip: every object, hour and pair whose answer is beyond doubt."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from saccade.kinematics.labels import TrackLabel, direction_interval, label_track
from saccade.kinematics.pairs import compare_direction, compare_distance, compare_speed
from saccade.kinematics.records import Track
from saccade.kinematics.selection import Selection, covers, select
from saccade.kinematics.settings import DEFAULT, Settings

SPORTS_SOURCES = ("egoexo4d",)
"""Movement direction is not asked here: paths on a field are too tangled."""
_WINDOWS = 8
"""Windows tried for a comparison of directions."""


@dataclass(frozen=True)
class Candidate:
    """One question that could be asked, before its colours and words are chosen."""

    task: str
    tracks: tuple[Track, ...]
    value: Any
    """As in the record; for comparisons of two, the index of the winner."""
    window_s: tuple[float, float] | None = None
    clock: int | None = None
    speed_kmh: float | None = None


@dataclass
class Clip:
    """The objects of one clip that may be asked about."""

    clip_id: str
    tracks: list[Track] = field(default_factory=list)
    labels: list[TrackLabel] = field(default_factory=list)
    selections: list[Selection] = field(default_factory=list)
    duration_s: float = 0.0


def clips_of(tracks: Iterable[Track]) -> Iterator[list[Track]]:
    """Group tracks by clip. Clips that come in pieces are put together."""
    found: dict[str, list[Track]] = {}
    for track in tracks:
        found.setdefault(track.clip_id, []).append(track)
    yield from found.values()


def open_clip(tracks: Sequence[Track], reasons: Counter[str], settings: Settings = DEFAULT) -> Clip:
    """Label the tracks of a clip and keep those that may be asked about.

    Args:
        tracks: Of one clip.
        reasons: What became of every object is counted here: ok, or why not.
        settings: Definitions and thresholds.
    """
    clip = Clip(tracks[0].clip_id)
    last = max(float(track.times[-1]) for track in tracks)
    clip.duration_s = min(settings.clip_s, settings.dt * float(np.floor(last / settings.dt + 1e-6)))
    for track in tracks:
        label = label_track(track.timestamps_s, track.points, up=track.up, settings=settings)
        selection = select(track, label, settings)
        reasons[selection.reason] += 1
        if selection.reason == "ok":
            clip.tracks.append(track)
            clip.labels.append(label)
            clip.selections.append(selection)
    return clip


def candidates_of(
    clip: Clip, random: np.random.Generator, settings: Settings = DEFAULT, *, max_interval_share: float = 0.9
) -> Iterator[Candidate]:
    """Yield everything that could be asked about a clip.

    Args:
        clip: From `open_clip`.
        random: Chooses windows and hours.
        settings: Definitions.
        max_interval_share: An interval that fills more of the object's run is not asked for: "throughout" would do.
    """
    for track, label in zip(clip.tracks, clip.labels, strict=True):
        yield from _single(track, label, random, settings, max_interval_share)
    for one, two in itertools.combinations(range(len(clip.tracks)), 2):
        labels = clip.labels[one], clip.labels[two]
        tracks = clip.tracks[one], clip.tracks[two]
        if covers(clip.selections[one], clip.selections[two], labels[0].times, labels[1].times, settings):
            continue
        for task, compare in (("distance_comparison", compare_distance), ("speed_comparison", compare_speed)):
            found = compare(*labels, ("0", "1"), settings)
            if found.status == "ok":
                yield Candidate(task, tracks, int(found.answer or 0))
        if window := _window(labels, random, settings):
            yield Candidate("direction_comparison", tracks, window[1], window[0])


def _single(
    track: Track, label: TrackLabel, random: np.random.Generator, settings: Settings, max_share: float
) -> Iterator[Candidate]:
    """Yield what could be asked about one object."""
    assert label.distance_m is not None
    assert label.speed_kmh is not None
    assert label.duration_s is not None
    speed = round(label.speed_kmh, 2)
    yield Candidate("traveled_distance", (track,), round(label.distance_m, 2))
    yield Candidate("traveling_speed", (track,), speed)
    if speed > 0:
        yield Candidate("travel_time", (track,), None, speed_kmh=speed)
        yield Candidate("speed_ratio", (track,), None, speed_kmh=speed)
    if track.source in SPORTS_SOURCES or label.step_clocks is None:
        return
    if label.end_clock is not None:
        yield Candidate("movement_direction", (track,), label.end_clock)
    hours = sorted({hour for hour in label.step_clocks if hour is not None})
    random.shuffle(hours)
    for hour in hours:
        found = direction_interval(label, hour, settings)
        if found.interval_s and found.interval_s[1] - found.interval_s[0] <= max_share * label.duration_s:
            yield Candidate("direction_timestamp", (track,), list(found.interval_s), clock=hour)
            return


def _window(
    labels: tuple[TrackLabel, TrackLabel], random: np.random.Generator, settings: Settings
) -> tuple[tuple[float, float], str] | None:
    """Find a window in which two objects clearly head the same way or different ways."""
    start = max(float(label.times[0]) for label in labels)
    stop = min(float(label.times[-1]) for label in labels)
    times = np.round(np.arange(start, stop + 1e-6, settings.dt), 6)
    least = max(1, int(np.ceil(settings.dir_run_min_s / settings.dt)))
    if len(times) <= least:
        return None
    for _ in range(_WINDOWS):
        first = int(random.integers(0, len(times) - least))
        last = int(random.integers(first + least, len(times)))
        window = float(times[first]), float(times[last])
        found = compare_direction(*labels, window, settings)
        if found.status == "ok" and found.answer:
            return window, found.answer
    return None
