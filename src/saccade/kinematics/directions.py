"""Read clock hours and intervals of time from plain text."""

from __future__ import annotations

import math
import re

_CLOCK = r"o\s?'?\s?clock"
_HOUR = r"(?<![\d.:])(\d+)"
_PAIR = re.compile(
    rf"{_HOUR}\s*(?:{_CLOCK})?\s*(?:-|to|or|and|/)\s*{_HOUR}\s*-?\s*{_CLOCK}|between\s+{_HOUR}\s*(?:{_CLOCK})?\s+and\s+{_HOUR}\s*-?\s*{_CLOCK}"
)
_SINGLE = re.compile(rf"{_HOUR}\s*-?\s*{_CLOCK}")
_DEGREES = re.compile(r"(?<![\w.])([+-]?\d+(?:\.\d+)?)\s*-?\s*(?:degrees?\b|deg\b|\u00b0)")
_AHEAD = r"(?:forwards?|ahead|straight(?:\s+(?:on|ahead|forwards?))?|front)"
_BACK = r"(?:back(?:wards?)?|behind|rear(?:wards?)?|reverse[sd]?|reversing)"
_JOIN = r"[\s,/-]*(?:(?:and|to|toward|towards|the|slightly|diagonally|then)\s+)*"
_WORDS = (
    (rf"{_AHEAD}{_JOIN}right|right{_JOIN}{_AHEAD}", (1, 2)),
    (rf"{_AHEAD}{_JOIN}left|left{_JOIN}{_AHEAD}", (10, 11)),
    (rf"{_BACK}{_JOIN}right|right{_JOIN}{_BACK}", (4, 5)),
    (rf"{_BACK}{_JOIN}left|left{_JOIN}{_BACK}", (7, 8)),
    (_AHEAD, (12,)),
    (rf"{_BACK}|opposite|u-?turn", (6,)),
    (r"right(?!\s+(?:now|after|before|away|angle|at|when|side|lane)\b)(?:wards?)?", (3,)),
    (r"(?<!has )(?<!have )(?<!had )left(?!\s+(?:side|lane|the|of)\b)(?:wards?)?", (9,)),
)
_SIDES = re.compile(
    "|".join(rf"(?P<w{index}>\b(?:{pattern})\b)" for index, (pattern, _) in enumerate(_WORDS))
)


def read_hours(text: str) -> tuple[tuple[int, ...], bool] | None:
    """Read a direction: the hours it stands for, and whether it is exact.

    "N o'clock" and angles are exact; "N to M o'clock" and words such as "forward and right" are coarse. The last
    hour, or else the last word, counts.

    Returns:
        The hours, none of them for an hour that no clock has; None where nothing says a direction.
    """
    singles = list(_SINGLE.finditer(text))
    pairs = list(_PAIR.finditer(text))
    if pairs and pairs[-1].end() >= singles[-1].end() and not _is_turn(text, pairs[-1]):
        hours = tuple(_hour(part) for part in pairs[-1].groups() if part)
        return (hours, False) if all(hours) else ((), True)
    if singles:
        hour = _hour(singles[-1][1])
        return ((hour,) if hour else (), True)
    if re.search(_CLOCK, text):
        return (), True
    if angles := list(_DEGREES.finditer(text)):
        return (hour_of_degrees(_signed(text, angles[-1])),), True
    if re.fullmatch(r"\W*(?:[1-9]|1[0-2])\W*", text):  # nothing but an hour
        return (int(re.sub(r"\D", "", text)),), True
    if sides := list(_SIDES.finditer(text)):
        name = sides[-1].lastgroup
        assert name
        return _WORDS[int(name[1:])][1], False
    return None


def hour_of_degrees(angle: float) -> int:
    """Clock hour of a clockwise angle."""
    return math.floor((angle % 360 + 15) / 30) % 12 or 12


def mirror_hour(hour: int) -> int:
    """Clock hour 1 to 12 of a mirrored motion: 3 becomes 9; 12 and 6 stay."""
    return (12 - hour) % 12 or 12


def _hour(text: str) -> int:
    """Hour 1 to 12 (0 is 12), or 0 for one that no clock has."""
    number = int(text[:4])
    return (number or 12) if number <= 12 else 0


def _is_turn(text: str, match: re.Match[str]) -> bool:
    """Whether a pair of full hours tells a turn: "from 12 o'clock to 3 o'clock" ends at 3."""
    both = len(re.findall(_CLOCK, match[0])) == 2
    return both and re.search(r"\b(?:or|and|between)\b|-|/", match[0].replace("o-clock", "")) is None


def _signed(text: str, match: re.Match[str]) -> float:
    """Clockwise angle of a match: left and anticlockwise are negative."""
    angle = float(match[1])
    clause = (
        re.split(r"[.;!?]\s", text[: match.start()])[-1]
        + match[0]
        + re.split(r"[.;!?](?:\s|$)", text[match.end() :])[0]
    )
    left = re.search(r"\bleft(?:wards?)?\b|counter-?\s?clockwise|anti-?\s?clockwise", clause)
    return -abs(angle) if left else angle


_NUMBER = r"(?<![\w.:])(?:\d{1,2}:\d{2}(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?![\d:])"
_SECOND = r"(?:\s*(?:seconds?|secs?|s)(?![a-z]))?"
_SOFT = r"(?:(?:about|around|roughly|approximately|the|second|t\s*=|time|timestamp|at|0?s)\s+|~\s*|t\s*=\s*)*"
_RANGE = re.compile(
    rf"({_NUMBER}){_SECOND}\s*(?:-+>?|~|\bto\b|\buntil\b|\btill\b|\bthrough\b|\band\b|,|\bup to\b)\s*{_SOFT}"
    rf"({_NUMBER})(?!\s*(?:meters?|metres?|m|km|feet|ft|degrees?)\b)"
)
_END = re.compile(
    r"\b(?:until|till|to|through|up to|at)\s+(?:the\s+)?(?:very\s+)?(?:end|finish|last frame|final frame)\b|"
    r"\bonwards?\b|\brest of the\b|\bremainder of the\b"
)
_BEGIN = re.compile(r"\b(?:from|since|at)\s+the\s+(?:very\s+)?(?:start|beginning|outset|first frame)\b")
_ALWAYS = re.compile(
    r"\bthroughout\b|\b(?:entire|whole|full|complete)\s+(?:\w+\s+)?(?:clip|video|time|duration|sequence|footage|period)\b|"
    r"\ball the time\b|\balways\b|\bthe whole\b"
)


def read_interval(text: str, duration_s: float | None) -> tuple[float, float] | None:
    """Read an interval of seconds.

    Two numbers or m:ss times, "first N", "last N", "until the end", "throughout". One number alone is an interval
    of length 0.

    Args:
        text: Plain text with digits.
        duration_s: Length of the clip; "last N", "until the end" and "throughout" cannot be read without.

    Returns:
        (start, end) as written, even when reversed; None where no time is named.
    """
    # Hours of the clock, frame numbers, lengths, speeds and angles are no times.
    text = re.sub(rf"(?<![\d.:])\d+\s*(?:(?:-|to|or|and)\s*\d+\s*)?-?\s*{_CLOCK}", " clock ", text)
    text = re.sub(
        r"\b(?:frames?|boxes|box|object)\s*#?\d+(?:\s*(?:-|to|and|through)\s*(?:frame\s*)?#?\d+)?", " ", text
    )
    text = re.sub(
        r"(?<![\w.])[+-]?\d+(?:\.\d+)?\s*-?\s*(?:km/h|kmh|kph|mph|m/s|met(?:er|re)s?|m|km|ft|feet|degrees?|\u00b0|frames?|fps)(?![a-z])",
        " ",
        text,
    )
    if match := _RANGE.search(text):
        return _seconds(match[1]), _seconds(match[2])
    if match := re.search(rf"\b(?:first|initial)\s+{_SOFT}({_NUMBER})", text):
        return 0.0, _seconds(match[1])
    if match := re.search(rf"\b(?:last|final)\s+{_SOFT}({_NUMBER})", text):
        return (max(0.0, duration_s - _seconds(match[1])), duration_s) if duration_s is not None else None
    numbers = [_seconds(found) for found in re.findall(_NUMBER, text)]
    lasting = re.search(
        rf"\b(?:lasts?|lasting|for|during)\s+{_SOFT}({_NUMBER})\s*(?:seconds?|secs?|s)\b", text
    )
    if lasting and len(numbers) == 2:
        length = _seconds(lasting[1])
        start = (
            numbers[1] if text.find(lasting[1]) == lasting.start(1) and numbers[0] == length else numbers[0]
        )
        return start, start + length
    if len(numbers) >= 2:
        return numbers[0], numbers[1]
    to_end = _END.search(text) is not None
    if len(numbers) == 1:
        if to_end:
            return (numbers[0], duration_s) if duration_s is not None else None
        before = text[: re.search(_NUMBER, text).start()]  # pyright: ignore[reportOptionalMemberAccess]
        if _BEGIN.search(text) or re.search(r"\b(?:until|till|up to)\s+(?:about\s+|~\s*)?$", before):
            return 0.0, numbers[0]
        return numbers[0], numbers[0]
    if _ALWAYS.search(text) or (to_end and _BEGIN.search(text)):
        return (0.0, duration_s) if duration_s is not None else None
    return None


def _seconds(text: str) -> float:
    """Seconds of a number or of m:ss."""
    minutes, colon, rest = text.partition(":")
    return 60 * float(minutes) + float(rest) if colon else float(text)
