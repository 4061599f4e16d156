"""What could be asked about a clip: every object, hour and pair whose answer is beyond doubt."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from saccade.kinematics.kinds import KINDS
from saccade.kinematics.kinds.base import Candidate, Search
from saccade.kinematics.labels import TrackLabel, label_track
from saccade.kinematics.records import Track
from saccade.kinematics.selection import Selection, covers, select
from saccade.kinematics.settings import DEFAULT, Settings


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
    alone = [kind for kind in KINDS.values() if kind.things == 1]
    pairs = [kind for kind in KINDS.values() if kind.things == 2]
    for track, label in zip(clip.tracks, clip.labels, strict=True):
        for kind in alone:
            yield from kind.candidates(Search((track,), (label,), random, settings, max_interval_share))
    for one, two in itertools.combinations(range(len(clip.tracks)), 2):
        labels = clip.labels[one], clip.labels[two]
        tracks = clip.tracks[one], clip.tracks[two]
        if covers(clip.selections[one], clip.selections[two], labels[0].times, labels[1].times, settings):
            continue
        for kind in pairs:
            yield from kind.candidates(Search(tracks, labels, random, settings, max_interval_share))
