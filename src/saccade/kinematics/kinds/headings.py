"""What the kinds share that ask where an object heads, as an hour of the clock or by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saccade.kinematics.labels import TrackLabel

if TYPE_CHECKING:
    from saccade.kinematics.schema import Track

SPORTS_SOURCES = ("egoexo4d",)
"""Headings of one object are not asked here: paths on a field are too tangled."""


def may_be_asked(track: Track, label: TrackLabel) -> bool:
    """Whether the heading of an object is a fair question."""
    return track.source not in SPORTS_SOURCES and label.step_clocks is not None
