"""Units of length and speed: metres and km/h inside, whatever people write outside."""

from __future__ import annotations

METRES = {
    "km": 1000.0,
    "m": 1.0,
    "cm": 0.01,
    "mm": 0.001,
    "ft": 0.3048,
    "yd": 0.9144,
    "in": 0.0254,
    "mi": 1609.344,
}
"""Metres of one unit of length."""

SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}
"""Seconds of one unit of time."""

KNOT_KMH = 1.852
"""km/h of one knot."""


def kmh(value: float, unit: str) -> float:
    """Convert a speed to km/h.

    Args:
        value: In the unit.
        unit: "mph", "kn", or a length and a time such as "m/s", "ft/s", "m/min", "kmh".
    """
    return value * _factor(unit)


def _factor(unit: str) -> float:
    """km/h of one unit of speed."""
    if unit == "kn":
        return KNOT_KMH
    length, _, time = {"mph": "mi/h", "kmh": "km/h"}.get(unit, unit).partition("/")
    return METRES[length] / SECONDS[time] * 3.6
