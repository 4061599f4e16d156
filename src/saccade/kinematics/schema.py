"""JSON schemas of the interchange records, and the check against them.

The schemas are ordinary JSON Schema (draft 2020-12), of which `check` understands the few words that they use, so
that the file given to others and the check made here cannot differ.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Any

from saccade.errors import DataError
from saccade.kinematics.answers import LARGEST, MULTI_STEP, TASKS

VERSION = 1
TRACK_FORMAT = f"saccade-track/{VERSION}"
QUESTION_FORMAT = f"saccade-question/{VERSION}"
ORIGINS = ("gt", "offline_perception", "slam", "pseudo", "synthetic")
"""Where labels come from: people, a perception system run afterwards, SLAM, our pipeline, or a made-up world."""

_TEXT = {"type": "string", "minLength": 1}
_BOUNDS = {"minimum": -LARGEST, "maximum": LARGEST}
_NUMBER = {"type": "number", **_BOUNDS}
_MAYBE = {"type": ["number", "null"], **_BOUNDS}
_PIXELS = {"type": "integer", "minimum": 1, "maximum": 1 << 20}


def _list(items: Mapping[str, Any], length: int | None = None, *, maybe: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = {"type": ["array", "null"] if maybe else "array", "items": items}
    return found if length is None else {**found, "minItems": length, "maxItems": length}


TRACK_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": TRACK_FORMAT,
    "type": "object",
    "required": [
        "clip_id",
        "source",
        "split",
        "track_id",
        "category",
        "timestamps_s",
        "xyz_world",
        "label_origin",
    ],
    "properties": {
        "format": {"type": "string", "const": TRACK_FORMAT},
        "clip_id": _TEXT,
        "group": {
            **_TEXT,
            "description": "Log, scene or take: what splits may not tear apart. By default the clip.",
        },
        "source": _TEXT,
        "split": _TEXT,
        "track_id": _TEXT,
        "category": _TEXT,
        "timestamps_s": {**_list(_NUMBER), "description": "Seconds from the clip's start."},
        "xyz_world": {
            **_list(_list(_MAYBE, 3, maybe=True)),
            "description": "Metres in one fixed frame; null where missing.",
        },
        "size_lwh": {**_list({**_NUMBER, "minimum": 0}, 3, maybe=True), "description": "Metres."},
        "yaw": {**_list(_MAYBE, maybe=True), "description": "Radians about z, anticlockwise from above."},
        "boxes_2d": {
            **_list(_list(_NUMBER, 4, maybe=True), maybe=True),
            "description": "x0 y0 x1 y1 in pixels of the image of each time; null where it is not visible.",
        },
        "camera": {
            "type": ["object", "null"],
            "required": ["K", "width", "height"],
            "properties": {
                "K": _list(_list(_NUMBER, 3), 3),
                "width": _PIXELS,
                "height": _PIXELS,
                "name": {"type": "string"},
                "distortion": {**_list(_NUMBER, maybe=True), "description": "4: fisheye; 5: k1 k2 p1 p2 k3."},
            },
        },
        "T_world_cam": {
            **_list(_list(_list(_NUMBER, 4), 4, maybe=True), maybe=True),
            "description": "Camera to world, at the time of each image.",
        },
        "up": _list(_NUMBER, 3),
        "label_origin": {"type": "string", "enum": list(ORIGINS)},
        "scale_info": {"type": ["object", "null"]},
        "image_paths": _list({"type": ["string", "null"]}, maybe=True),
        "image_times_s": _list(_MAYBE, maybe=True),
        "visibility": {**_list(_MAYBE, maybe=True), "description": "nuScenes level, 1 to 4."},
        "num_points": {**_list(_MAYBE, maybe=True), "description": "Measured points inside the box."},
    },
}
"""One track of one object in one clip."""

QUESTION_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": QUESTION_FORMAT,
    "type": "object",
    "required": ["id", "clip_id", "task", "question", "answer", "value", "objects", "source", "split"],
    "properties": {
        "format": {"type": "string", "const": QUESTION_FORMAT},
        "id": _TEXT,
        "clip_id": _TEXT,
        "group": _TEXT,
        "task": {"type": "string", "enum": [*TASKS, *MULTI_STEP]},
        "question": _TEXT,
        "answer": {"type": "string"},
        "value": {"type": ["number", "string", "array"], **_BOUNDS},
        "unit": {"type": ["string", "null"]},
        "objects": _list(
            {
                "type": "object",
                "required": ["track_id", "colour"],
                "properties": {"track_id": _TEXT, "colour": _TEXT},
            }
        ),
        "window_s": _list(_NUMBER, 2, maybe=True),
        "options": {
            "type": ["object", "null"],
            "additionalProperties": {"type": ["string", "array"], "items": _TEXT},
            "description": "What the answer may be, and the words that say so.",
        },
        "polarity": {"type": ["string", "null"], "enum": ["more", "less", "same", "different", None]},
        "clock": {
            "type": ["integer", "null"],
            "description": "The hour asked for.",
            "minimum": 1,
            "maximum": 12,
        },
        "template_id": {"type": ["string", "null"]},
        "source": _TEXT,
        "split": _TEXT,
        "config_hash": {"type": ["string", "null"]},
        "duration_s": {**_MAYBE, "minimum": 0},
        "frame_times_s": _list(_NUMBER, maybe=True),
        "camera_name": {"type": ["string", "null"], "description": "The rig, for a breakdown by it."},
    },
}
"""One question with its answer."""

_TYPES = {
    "string": str,
    "number": (int, float),
    "integer": int,
    "array": (list, tuple),
    "object": Mapping,
    "null": type(None),
}


def check(value: Any, schema: Mapping[str, Any], where: str) -> None:
    """Check a record.

    Args:
        value: What was read.
        schema: `TRACK_SCHEMA` or `QUESTION_SCHEMA`.
        where: File and record, for the error.

    Raises:
        DataError: In one sentence: file, record, field, what it is and what was expected.
    """
    if isinstance(value, Mapping):
        found, expected = value.get("format", schema["title"]), schema["title"]
        if found != expected:
            raise DataError(
                f"{where}: field format is {str(found)[:60]!r}; expected {expected!r}, so write the file again "
                "with this version of Saccade"
            )
        for name in value.keys() - schema["properties"].keys():
            near = difflib.get_close_matches(str(name), schema["properties"], n=1, cutoff=0.8)
            if near and near[0] not in value:
                raise DataError(f"{where}: no field is called {name!r}; did you mean {near[0]!r}?")
    _check(value, schema, where, "")


def _check(value: Any, schema: Mapping[str, Any], where: str, field: str) -> None:
    """Check one value and what is in it."""
    if "type" in schema:
        names = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
        if not any(isinstance(value, _TYPES[name]) for name in names) or (isinstance(value, bool)):
            _refuse(value, " or ".join(_NAMES[name] for name in names), where, field)
    if value is None:
        return
    if isinstance(value, float) and not math.isfinite(value):
        _refuse(
            value, "a finite number" + (" or null" if "null" in schema.get("type", ()) else ""), where, field
        )
    if "enum" in schema and value not in schema["enum"]:
        _refuse(value, "one of " + ", ".join(str(item) for item in schema["enum"] if item), where, field)
    if isinstance(value, str) and len(value) < schema.get("minLength", 0):
        _refuse(value, "a text that is not empty", where, field)
    if isinstance(value, str) and not is_writable(value):
        _refuse(value, "a text without halves of characters", where, field)
    if isinstance(value, (int, float)):
        if value < schema.get("minimum", -math.inf):
            _refuse(value, f"at least {schema['minimum']:g}", where, field)
        if value > schema.get("maximum", math.inf):
            _refuse(value, f"at most {schema['maximum']:g}", where, field)
    if isinstance(value, (list, tuple)):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            _refuse(value, f"{schema['minItems']} items", where, field)
        items = schema.get("items")
        if items and not _are_plain_numbers(value, items):
            for index, item in enumerate(value):
                _check(item, items, where, f"{field}[{index}]")
    if isinstance(value, Mapping):
        for name in schema.get("required", ()):
            if name not in value:
                missing = f"{field}.{name}" if field else name
                raise DataError(
                    f"{where}: field {missing} is missing; expected {_expected(schema['properties'][name])}"
                )
        for name, inner in schema.get("properties", {}).items():
            if name in value:
                _check(value[name], inner, where, f"{field}.{name}" if field else name)
        for name in value if "additionalProperties" in schema else ():
            _check(name, _TEXT, where, f"{field}, a name in it,")
            _check(value[name], schema["additionalProperties"], where, f"{field}.{name}")


def _are_plain_numbers(values: list[Any] | tuple[Any, ...], schema: Mapping[str, Any]) -> bool:
    """Whether a list is numbers and nothing else: most of a file is, and looking at each one is slow."""
    if schema.keys() - {"type", *_BOUNDS} or schema["type"] not in ("number", ["number", "null"]):
        return False
    if schema["type"] != "number":
        values = [value for value in values if value is not None]
    if not {*map(type, values)} <= {int, float}:
        return False
    # What is not finite, or too large, is looked at one by one.
    low, high = schema.get("minimum", -LARGEST), schema.get("maximum", LARGEST)
    return not values or (low <= min(values) and max(values) <= high and math.isfinite(sum(values)))


def is_writable(text: str) -> bool:
    """Whether a text can be written as UTF-8: JSON's escapes can name halves of characters, which cannot."""
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


_NAMES = {
    "string": "a text",
    "number": "a number",
    "integer": "a whole number",
    "array": "a list",
    "object": "an object",
    "null": "null",
}


def _expected(schema: Mapping[str, Any]) -> str:
    names = schema.get("type", "object")
    return " or ".join(_NAMES[name] for name in ([names] if isinstance(names, str) else names))


def _refuse(value: Any, expected: str, where: str, field: str) -> None:
    text = repr(value)
    text = text if len(text) <= 60 else text[:57] + "..."
    raise DataError(f"{where}: {f'field {field}' if field else 'the record'} is {text}; expected {expected}")
