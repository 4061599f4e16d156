"""Two objects against each other: which went farther, which is faster, do they head the same way.

After Ko et al. (arXiv 2503.19355). When a difference is too small to be seen, the pair is `ambiguous` and not asked.
"""

from __future__ import annotations

import numpy as np

from saccade.errors import ConfigError
from saccade.kinematics.labels import SLACK, TIME_SLACK, Finding, TrackLabel
from saccade.kinematics.settings import DEFAULT, Settings


def compare_distance(
    one: TrackLabel, two: TrackLabel, names: tuple[str, str] = ("red", "blue"), settings: Settings = DEFAULT
) -> Finding:
    """Say which of two objects went farther, each over its own run: ok, ambiguous or excluded."""
    return _winner(one, two, (one.distance_m, two.distance_m), names, settings.cmp_abs_m, settings)


def compare_speed(
    one: TrackLabel, two: TrackLabel, names: tuple[str, str] = ("red", "blue"), settings: Settings = DEFAULT
) -> Finding:
    """Say which of two objects is faster on average: ok, ambiguous or excluded."""
    return _winner(one, two, (one.speed_kmh, two.speed_kmh), names, settings.cmp_abs_kmh, settings)


def compare_direction(
    one: TrackLabel, two: TrackLabel, window_s: tuple[float, float], settings: Settings = DEFAULT
) -> Finding:
    """Say whether two objects head the same way within a window, by their net ways in the world.

    Args:
        one: Of the first object; its up axis counts.
        two: Of the second.
        window_s: Two grid times, the first before the second.
        settings: min_disp_m, same_max_deg and diff_min_deg are used.

    Returns:
        ok with same or different and the angle; else not_covered, not_moving, excluded (an object that is static or
        too short) or ambiguous.

    Raises:
        ConfigError: A window that ends before it begins.
    """
    start, stop = window_s
    if not start < stop:
        raise ConfigError(f"window_s is [{start}, {stop}]; expected a start before the end")
    ways = []
    for label in (one, two):
        places = [np.flatnonzero(np.abs(label.times - time) <= TIME_SLACK) for time in (start, stop)]
        if not all(len(place) for place in places):
            return Finding("not_covered")
        way = label.points[places[1][0]] - label.points[places[0][0]]
        ways.append(way - (way @ one.up) * one.up)
    lengths = [float(np.linalg.norm(way)) for way in ways]
    if min(lengths) < settings.min_disp_m - SLACK:
        return Finding("not_moving")
    if one.status != "ok" or two.status != "ok":
        return Finding("excluded")
    # arctan2 stays exact near 0 and 180 degrees, where arccos of the dot product does not.
    angle = float(np.degrees(np.arctan2(np.linalg.norm(np.cross(*ways)), ways[0] @ ways[1])))
    if angle <= settings.same_max_deg + SLACK:
        return Finding("ok", "same", angle_deg=angle)
    if angle >= settings.diff_min_deg - SLACK:
        return Finding("ok", "different", angle_deg=angle)
    return Finding("ambiguous", angle_deg=angle)


def _winner(
    one: TrackLabel,
    two: TrackLabel,
    values: tuple[float | None, float | None],
    names: tuple[str, str],
    ahead: float,
    settings: Settings,
) -> Finding:
    """Compare one value of two labels."""
    first, second = values
    if one.status != "ok" or two.status != "ok" or first is None or second is None:
        return Finding("excluded")
    large, small = max(first, second), min(first, second)
    if large < settings.cmp_ratio * small - SLACK or large - small < ahead - SLACK:
        return Finding("ambiguous")
    return Finding("ok", names[0] if first > second else names[1])
