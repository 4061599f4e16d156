"""Read single values of annotation files as people's tools write them: numbers as text, whole numbers as 1.0."""

from __future__ import annotations

from typing import Any

from saccade.data.outlines import LARGEST


def read_key(value: Any) -> int | str | None:
    """Read an id: 1, 1.0 and "1" are the same; other texts stay; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str):
        number = int(value) if value.isascii() and value.isdigit() and len(value) < 17 else None
        return number if str(number) == value else value
    return read_whole(value)


def read_whole(value: Any) -> int | None:
    """Read a whole number, as text or as 1.0 too."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    number = read_number(value)
    return int(number) if number is not None and number.is_integer() else None


def read_number(value: Any) -> float | None:
    """Read a number that can be a place or an area, as text too."""
    if isinstance(value, str) and len(value) < 40:
        try:
            value = float(value)
        except ValueError:
            return None
    fits = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST
    return float(value) if fits else None


def read_box(value: Any) -> tuple[float, float, float, float] | None:
    """Read x, y, width and height; None when they are no four numbers."""
    if not isinstance(value, list) or len(value) != 4:
        return None
    x, y, w, h = (read_number(entry) for entry in value)
    return None if x is None or y is None or w is None or h is None else (x, y, w, h)


def has_text(box: Any) -> bool:
    """Whether a number of a box is text."""
    return isinstance(box, list) and any(isinstance(entry, str) for entry in box)


def read_yes(value: Any) -> bool:
    """Read yes or no: 0, "0", "false", "no" and nothing are no."""
    return (
        value.strip().lower() not in ("", "0", "0.0", "false", "no")
        if isinstance(value, str)
        else bool(value)
    )
