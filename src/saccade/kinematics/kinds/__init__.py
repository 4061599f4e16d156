"""The kinds of questions: one file each, one row each in the table below.

A new kind is one file with a `Kind` (see `base`) and one row. Everything else asks the table.
"""

from __future__ import annotations

from saccade.errors import ConfigError, did_you_mean
from saccade.kinematics.kinds.base import Kind
from saccade.kinematics.kinds.direction_comparison import DirectionComparison
from saccade.kinematics.kinds.direction_timestamp import DirectionTimestamp
from saccade.kinematics.kinds.distance_comparison import DistanceComparison
from saccade.kinematics.kinds.movement_direction import MovementDirection
from saccade.kinematics.kinds.speed_comparison import SpeedComparison
from saccade.kinematics.kinds.speed_ratio import SpeedRatio
from saccade.kinematics.kinds.travel_time import TravelTime
from saccade.kinematics.kinds.traveled_distance import TraveledDistance
from saccade.kinematics.kinds.traveling_speed import TravelingSpeed

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        TraveledDistance(),
        TravelingSpeed(),
        TravelTime(),
        SpeedRatio(),
        MovementDirection(),
        DirectionTimestamp(),
        DistanceComparison(),
        SpeedComparison(),
        DirectionComparison(),
    )
}
"""By name, in the order in which a clip is searched for them, on which its random choices depend."""

TASKS = tuple(name for name, kind in KINDS.items() if kind.in_mean)
"""The seven tasks of the benchmark."""
MULTI_STEP = tuple(name for name, kind in KINDS.items() if kind.multi_step)
"""Two further ones of ours, in which the object's speed is a step on the way; not part of the mean."""


def kind_of(task: str) -> Kind:
    """Return the kind of a task.

    Raises:
        ConfigError: No such task.
    """
    if task not in KINDS:
        raise ConfigError(f"no task {task!r}{did_you_mean(task, task_names())}")
    return KINDS[task]


def task_names() -> tuple[str, ...]:
    """Names of all tasks, the seven of the mean first."""
    return (*TASKS, *(name for name, kind in KINDS.items() if not kind.in_mean))
