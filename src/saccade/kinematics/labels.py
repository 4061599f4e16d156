"""From a track to its labels: how far, how fast, which way, when, and which of the two.

After Ko et al. (arXiv 2503.19355, section 3): path length and speed of positions sampled every half second, and a
clock hour relative to the object's own first motion. The paper's angle has no sign and its thresholds are not
public; ours are the fields of `Settings`. Everything is float64, in one fixed world frame, metres and seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from saccade.errors import ConfigError, ShapeError
from saccade.kinematics.settings import DEFAULT, Settings

SLACK = 1e-9
"""Of comparisons against a threshold."""
TIME_SLACK = 1e-6
"""Times nearer than this are equal, seconds."""


@dataclass(frozen=True, eq=False)
class TrackLabel:
    """What is known of one object over one clip."""

    status: str
    """ok, static (no question may use it) or too_short (nothing else is reported)."""
    n_points: int
    times: np.ndarray
    """(n_points,) grid times of the run, seconds."""
    points: np.ndarray
    """(n_points, 3) positions at those times, metres, in the world."""
    up: np.ndarray
    """(3,) unit vector."""
    distance_m: float | None = None
    net_displacement_m: float | None = None
    speed_mps: float | None = None
    step_clocks: tuple[int | None, ...] | None = None
    """Clock hour of each step, 1 to 12; None where it does not move."""
    step_angles_deg: np.ndarray | None = None
    """(n_points - 1,) clockwise from the reference, [0, 360); NaN where a step does not move."""
    reference_step: int | None = None
    """The step that is 12 o'clock."""
    direction_status: str | None = None
    """ok, stopped_at_end or no_reference_direction; None unless the status is ok."""

    @property
    def t_start_s(self) -> float | None:
        """First grid time of the run."""
        return float(self.times[0]) if self.distance_m is not None else None

    @property
    def t_end_s(self) -> float | None:
        """Last grid time of the run."""
        return float(self.times[-1]) if self.distance_m is not None else None

    @property
    def duration_s(self) -> float | None:
        """Seconds of the run."""
        return float(self.times[-1] - self.times[0]) if self.distance_m is not None else None

    @property
    def speed_kmh(self) -> float | None:
        """Average speed, time spent standing included."""
        return None if self.speed_mps is None else 3.6 * self.speed_mps

    @property
    def end_clock(self) -> int | None:
        """Hour of the last step, where it moves."""
        return self.step_clocks[-1] if self.direction_status == "ok" and self.step_clocks else None

    @property
    def end_angle_cw_deg(self) -> float | None:
        """Clockwise angle of the last step, where it moves."""
        if self.direction_status != "ok" or self.step_angles_deg is None:
            return None
        return float(self.step_angles_deg[-1])

    def to_dict(self) -> dict[str, Any]:
        """Return what is known as plain values."""
        names = (
            "status", "n_points", "t_start_s", "t_end_s", "duration_s", "distance_m", "net_displacement_m",
            "speed_mps", "speed_kmh", "step_clocks", "reference_step", "direction_status", "end_clock",
            "end_angle_cw_deg",
        )  # fmt: skip
        values = {name: getattr(self, name) for name in names}
        if values["step_clocks"] is not None:
            values["step_clocks"] = list(values["step_clocks"])
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class Finding:
    """The answer to one question about labels, or why it may not be asked."""

    status: str
    answer: str | None = None
    """Name of the winner, or same / different."""
    interval_s: tuple[float, float] | None = None
    runs: tuple[tuple[float, float], ...] = field(default=())
    """Every stretch with the hour asked for, seconds."""
    angle_deg: float | None = None


def label_track(
    timestamps: Any,
    points: Any,
    *,
    clip_start_s: float = 0.0,
    up: Sequence[float] | None = None,
    settings: Settings = DEFAULT,
) -> TrackLabel:
    """Measure one object over one clip.

    Args:
        timestamps: (n,) seconds, in any order; rows with a number that is not finite are left out.
        points: (n, 3) metres in one fixed world frame (see `geometry.world_points`); None counts as missing.
        clip_start_s: Time of the grid's first point, seconds.
        up: Up axis of the world; that of the settings by default.
        settings: Definitions.

    Raises:
        ShapeError: Arrays whose lengths do not agree.
        ConfigError: An up axis of length 0.
    """
    axis = unit_up(settings.up if up is None else up)
    times, places = clean(timestamps, points)
    grid, at_grid, valid = resample(times, places, clip_start_s, settings)
    first, stop = longest_run(valid)
    times, places = grid[first:stop], at_grid[first:stop]
    count = stop - first
    if count < settings.min_points:
        return TrackLabel("too_short", count, times, places, axis)
    steps = np.diff(places, axis=0)
    distance = float(np.linalg.norm(steps, axis=1).sum())
    net = float(np.linalg.norm(places[-1] - places[0]))
    speed = distance / float(times[-1] - times[0])
    if np.linalg.norm(places - places[0], axis=1).max() < settings.static_radius_m:
        return TrackLabel("static", count, times, places, axis, distance, net, speed)
    angles, reference = step_angles(steps, axis, settings)
    hours = clock_hours(angles)
    status = "stopped_at_end" if hours[-1] is None else "ok"
    status = "no_reference_direction" if reference is None else status
    return TrackLabel(
        "ok", count, times, places, axis, distance, net, speed, hours, angles, reference, status
    )


def unit_up(up: Sequence[float]) -> np.ndarray:
    """Normalise an up axis.

    Raises:
        ConfigError: Not three finite numbers, or length 0.
    """
    axis = np.asarray(up, np.float64)
    norm = np.linalg.norm(axis) if axis.shape == (3,) else 0.0
    if not np.isfinite(norm) or norm < SLACK:
        raise ConfigError(
            f"up is {list(np.atleast_1d(axis))}; expected three finite numbers that are not all zero"
        )
    return axis / norm


def clean(timestamps: Any, points: Any) -> tuple[np.ndarray, np.ndarray]:
    """Drop rows that are not finite, sort by time (stable), keep the first of equal times.

    Args:
        timestamps: (n,) seconds.
        points: (n, 3) metres; None for a missing row or number.

    Returns:
        (m,) rising times and (m, 3) points.

    Raises:
        ShapeError: Lengths that do not agree, or points without three numbers.
    """
    if not isinstance(points, np.ndarray):
        points = [(None, None, None) if row is None else row for row in points]
    try:
        times = np.asarray(timestamps, np.float64)
        places = (
            np.asarray(points, np.float64).reshape(-1, 3)
            if len(points) == 0
            else np.asarray(points, np.float64)
        )
    except (TypeError, ValueError):
        raise ShapeError(
            "timestamps or points are no numbers of one shape; expected (n,) and (n, 3)"
        ) from None
    if times.ndim != 1 or places.shape != (len(times), 3):
        raise ShapeError(
            f"timestamps have shape {times.shape} and points {places.shape}; expected (n,) and (n, 3)"
        )
    kept = np.isfinite(times) & np.isfinite(places).all(1)
    times, places = times[kept], places[kept]
    order = np.argsort(times, kind="stable")
    times, places = times[order], places[order]
    if len(times) > 1 and (np.diff(times) <= TIME_SLACK).any():
        chosen = [0]
        for index in range(1, len(times)):
            if times[index] - times[chosen[-1]] > TIME_SLACK:
                chosen.append(index)
        times, places = times[chosen], places[chosen]
    return times, places


def resample(
    times: np.ndarray, points: np.ndarray, clip_start_s: float, settings: Settings = DEFAULT
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read a track at the times of the clip's grid, without extrapolation.

    Args:
        times: (n,) rising seconds.
        points: (n, 3).
        clip_start_s: Time of the first grid point.
        settings: dt, max_points and max_gap_s are used.

    Returns:
        (max_points,) grid times, (max_points, 3) points and (max_points,) which of them are valid.
    """
    grid = clip_start_s + settings.dt * np.arange(settings.max_points)
    if len(times) == 0:
        return grid, np.full((len(grid), 3), np.nan), np.zeros(len(grid), bool)
    after = np.clip(np.searchsorted(times, grid), 0, len(times) - 1)
    before = np.clip(after - 1, 0, None)
    nearest = np.where(np.abs(times[before] - grid) <= np.abs(times[after] - grid), before, after)
    hit = np.abs(times[nearest] - grid) <= TIME_SLACK
    gap = times[after] - times[before]
    between = (
        (times[before] <= grid)
        & (grid <= times[after])
        & (gap > 0)
        & (gap <= settings.max_gap_s + TIME_SLACK)
    )
    part = np.where(between, (grid - times[before]) / np.where(gap > 0, gap, 1.0), 0.0)
    mixed = points[before] + part[:, None] * (points[after] - points[before])
    return grid, np.where(hit[:, None], points[nearest], mixed), hit | between


def longest_run(valid: np.ndarray) -> tuple[int, int]:
    """Find the longest run of True, the earliest of equal ones: its first index and the one after its last."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(valid, np.int8), [0]])))
    starts, stops = edges[::2], edges[1::2]
    if len(starts) == 0:
        return 0, 0
    best = int(np.argmax(stops - starts))
    return int(starts[best]), int(stops[best])


def step_angles(
    steps: np.ndarray, up: np.ndarray, settings: Settings = DEFAULT
) -> tuple[np.ndarray, int | None]:
    """Measure each step's heading against the object's own first motion.

    Args:
        steps: (n, 3) metres.
        up: (3,) unit vector.
        settings: min_step_m and direction_profile are used.

    Returns:
        (n,) degrees, clockwise seen from above, [0, 360), NaN where a step does not move; and the index of the
        reference step, or None when nothing moves. With `paper_unsigned` the angle is the published one in three
        dimensions, [0, 180], and the reference is the very first step.
    """
    angles = np.full(len(steps), np.nan)
    if settings.direction_profile == "paper_unsigned":
        lengths = np.linalg.norm(steps, axis=1)
        moving = lengths > SLACK
        if not len(steps) or not moving[0]:
            return angles, None
        cosine = steps[moving] @ steps[0] / (lengths[moving] * lengths[0])
        angles[moving] = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
        return angles, 0
    flat = steps - (steps @ up)[:, None] * up
    moving = np.linalg.norm(flat, axis=1) >= settings.min_step_m - SLACK
    # A threshold of 0 must not give a step of no length a direction.
    moving &= np.linalg.norm(flat, axis=1) > 0
    if not moving.any():
        return angles, None
    reference = int(np.argmax(moving))
    angles[moving] = clockwise_deg(flat[reference], flat[moving], up)
    return angles, reference


def clockwise_deg(reference: np.ndarray, headings: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Angle from a reference to headings, clockwise seen from above.

    Args:
        reference: (3,) horizontal.
        headings: (..., 3) horizontal.
        up: (3,) unit vector.

    Returns:
        (...) degrees in [0, 360).
    """
    left = np.cross(reference, headings) @ up
    degrees = np.mod(-np.degrees(np.arctan2(left, headings @ reference)), 360.0)
    return np.where(degrees >= 360.0, 0.0, degrees)  # -1e-17 mod 360 rounds to 360


def clock_hours(angles: np.ndarray) -> tuple[int | None, ...]:
    """Cut clockwise angles in degrees into hours 1 to 12, each reaching 15 degrees to both sides; NaN gives None."""
    hours = np.floor((np.nan_to_num(angles) + 15.0) / 30.0).astype(int) % 12
    return tuple(
        None if np.isnan(angle) else int(hour) or 12 for angle, hour in zip(angles, hours, strict=True)
    )


def hour_at(label: TrackLabel, time_s: float) -> int | None:
    """Hour of the step that holds a time (the later one at a grid point); None outside the run or standing still."""
    if label.step_clocks is None or not label.times[0] - TIME_SLACK <= time_s <= label.times[-1] + TIME_SLACK:
        return None
    step = int(np.searchsorted(label.times, time_s + TIME_SLACK, side="right")) - 1
    return label.step_clocks[min(max(step, 0), len(label.step_clocks) - 1)]


def direction_interval(label: TrackLabel, clock: int, settings: Settings = DEFAULT) -> Finding:
    """Find the one stretch in which an object heads to a clock hour.

    Args:
        label: Of the object.
        clock: 1 to 12.
        settings: dir_run_min_s is used.

    Returns:
        ok with the interval; else absent, not_unique or too_brief, no_reference_direction, or excluded for an object
        that is static or too short.

    Raises:
        ConfigError: No such hour.
    """
    if clock not in range(1, 13):
        raise ConfigError(f"clock is {clock!r}; expected an hour from 1 to 12")
    if label.status != "ok" or label.step_clocks is None:
        return Finding("excluded")
    if label.reference_step is None:
        return Finding("no_reference_direction")
    match = np.array([hour == clock for hour in label.step_clocks])
    edges = np.flatnonzero(np.diff(np.concatenate([[0], match.astype(np.int8), [0]])))
    runs = tuple(
        (float(label.times[start]), float(label.times[stop]))
        for start, stop in zip(edges[::2], edges[1::2], strict=True)
    )
    if len(runs) != 1:
        return Finding("not_unique" if runs else "absent", runs=runs)
    start, stop = runs[0]
    if stop - start < settings.dir_run_min_s - TIME_SLACK:
        return Finding("too_brief", runs=runs)
    return Finding("ok", interval_s=(start, stop), runs=runs)
