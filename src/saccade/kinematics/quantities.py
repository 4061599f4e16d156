"""Numbers with units in a text: speeds, lengths, times, angles."""

from __future__ import annotations

import re
from dataclasses import dataclass

from saccade.kinematics.units import METRES, SECONDS, kmh

NUMBER = r"(?:(?<![\w.,])[+-])?(?<![\w.])(?:\d+(?:\.\d+)?|\.\d+)(?:e[+-]?\d+)?(?![\d])"
"""A number; a minus sign only where no number or word stands before it."""

_LENGTH = (
    r"kilomet(?:er|re)s?|kms?|centimet(?:er|re)s?|cms?|millimet(?:er|re)s?|mms?|met(?:er|re)s?|mtrs?|feet|foot|ft|"
    r"yards?|yds?|inch(?:es)?|miles?|mi|m"
)
_TIME = r"seconds?|secs?|minutes?|mins?|hours?|hrs?|hr|s|h"
_NAMED = r"km/h|kmh|kmph|kph|mph|mps|fps|knots?|kts?|kn"
_PER = r"\s*-?\s*(?:/|per\b|an?\b|each\b|p\b)\s*-?\s*"
_INVERSE = r"\s*[\u00b7.*]?\s*(?:s|sec|h|hr|min)\s*\^?\s*\(?-\s*1\)?"
_END = r"(?![a-z0-9])"

_SPEED_UNIT = (
    rf"(?:(?:{_LENGTH}){_PER}(?:{_TIME})|(?:{_LENGTH}){_INVERSE}|{_NAMED}){_END}(?!\s*(?:\^|\u00b2))"
)
# "12 in the red box" holds no inches: the short form counts only at the end of a clause.
_LENGTH_UNIT = rf"(?:(?:{_LENGTH}){_END}(?!\s*(?:/\s*[a-z]|\^|\u00b2))|in\.?(?=\s*(?:$|[,;:)\]]|\.\s|\.$)))"
_TIME_UNIT = rf"(?:{_TIME}){_END}"
_ABOUT = r"(?:(?:about|around|roughly|approximately|some|maybe|perhaps|nearly)\s+|~\s*)?"
_OTHER = re.compile(
    rf"{NUMBER}\s*-?\s*(?:%|\u00b0|percent\b|degrees?\b|deg\b|frames?\b|pixels?\b|px\b|times\b|fps\b|o\s?'?\s?clock\b|"
    r"objects?\b|cars?\b|vehicles?\b|people\b|persons?\b|steps?\b|years?\b|days?\b|units?\s+of\s+time\b)"
    rf"|{NUMBER}\s*-?\s*(?:{_LENGTH}|{_TIME}|{_NAMED}){_END}"
    rf"|\b(?:frames?|objects?|boxes|box|step|number|#)\s*{NUMBER}"
)
_UNITS = {"speed": _SPEED_UNIT, "length": _LENGTH_UNIT, "time": _TIME_UNIT}


@dataclass(frozen=True)
class Quantity:
    """One number, or the middle of a range, with where it stood."""

    value: float
    """In the unit asked for: metres, km/h or seconds."""
    start: int
    stop: int


def find(text: str, kind: str) -> tuple[list[Quantity], str]:
    """Find the quantities of one kind and blank them out.

    Args:
        text: From `wording.digits`.
        kind: speed, length or time. Look for speeds first: "m/s" holds "m".

    Returns:
        The quantities in order, and the text with spaces in their place.
    """
    found = []

    def blank(match: re.Match[str]) -> str:
        value = _value(match, kind)
        found.append(Quantity(value, match.start(), match.end()))
        return " " * len(match[0])

    return found, _PATTERNS[kind].sub(blank, text)


def find_bare(text: str) -> list[Quantity]:
    """Find numbers and ranges without a unit; the value is as written."""
    return [Quantity(_value(match, ""), match.start(), match.end()) for match in _PATTERNS[""].finditer(text)]


def has_other_units(text: str) -> bool:
    """Whether a number counts something else: percent, degrees, frames, o'clock, things."""
    return _OTHER.search(text) is not None


def _pattern(unit: str) -> re.Pattern[str]:
    """Compile "between N and N unit", "N unit? to N unit" and "N unit", each with an uncertainty that is ignored."""
    spread = (
        rf"(?:\s*\(?\s*(?:\u00b1|\+\s*/?\s*-|plus or minus)\s*{NUMBER}(?:\s*(?:{unit or '(?!)'}))?\s*\)?)?"
    )
    middle = r"\s*(?:-|~|\bto\b|\bthrough\b)\s*"

    def number(name: str) -> str:
        return rf"{_ABOUT}(?P<{name}>{NUMBER}){spread}"

    def first(name: str) -> str:
        return rf"(?:\s*-?\s*(?P<{name}>{unit}){spread})?" if unit else rf"(?P<{name}>(?!))?"

    def last(name: str) -> str:
        return rf"\s*-?\s*(?P<{name}>{unit}){spread}" if unit else rf"(?P<{name}>)(?![\w\u00b0%:]|\.\d)"

    return re.compile(
        rf"\bbetween\s+{number('a1')}{first('au')}\s*\band\s+{number('a2')}{last('a')}"
        rf"|{number('b1')}{first('bu')}{middle}{number('b2')}{last('b')}"
        rf"|{number('c1')}{last('c')}"
    )


def _value(match: re.Match[str], kind: str) -> float:
    """Value of a match: its number, or the middle of its range."""
    for name in "ab":
        if match[f"{name}1"]:
            last = _factor(match[name], kind)
            first = _factor(match[f"{name}u"], kind) if match[f"{name}u"] else last
            return (first * float(match[f"{name}1"]) + last * float(match[f"{name}2"])) / 2
    return _factor(match["c"], kind) * float(match["c1"])


def _factor(unit: str | None, kind: str) -> float:
    """Metres, km/h or seconds of one unit as written; 1 for none."""
    unit = (unit or "").strip()
    if not kind:
        return 1.0
    if kind == "time":
        return SECONDS[_time(unit)]
    if kind == "length":
        return METRES[_length(unit)]
    named = {
        "kmh": "kmh",
        "kmph": "kmh",
        "kph": "kmh",
        "km/h": "kmh",
        "mph": "mph",
        "mps": "m/s",
        "fps": "ft/s",
    }
    if unit in named:
        return kmh(1.0, named[unit])
    if re.fullmatch(r"knots?|kts?|kn", unit):
        return kmh(1.0, "kn")
    match = re.match(rf"({_LENGTH})(?:{_PER}({_TIME})$|\s*[\u00b7.*]?\s*(s|sec|h|hr|min)\b)", unit)
    assert match, unit
    return kmh(1.0, f"{_length(match[1])}/{_time(match[2] or match[3])}")


def _length(unit: str) -> str:
    """Our name of a unit of length."""
    unit = unit.strip(". ")
    for start, name in (
        ("kilo", "km"),
        ("km", "km"),
        ("centi", "cm"),
        ("cm", "cm"),
        ("milli", "mm"),
        ("mm", "mm"),
    ):
        if unit.startswith(start):
            return name
    for start, name in (("f", "ft"), ("y", "yd"), ("in", "in"), ("mi", "mi")):
        if unit.startswith(start):
            return name
    return "m"


def _time(unit: str) -> str:
    """Our name of a unit of time."""
    return {"s": "s", "m": "min", "h": "h"}[unit[0]]


_PATTERNS = {kind: _pattern(unit) for kind, unit in {**_UNITS, "": ""}.items()}
