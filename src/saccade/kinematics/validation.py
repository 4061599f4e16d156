"""From the annotations of a record to its JSON schema, and the check of plain values against that.

The schema is ordinary JSON Schema (draft 2020-12), of which `check` understands the few words that `schema_of` uses,
so that the file given to others and the check made here cannot differ.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta

from saccade.errors import DataError
from saccade.kinematics.kinds.base import LARGEST

_BOUNDS = {"minimum": -LARGEST, "maximum": LARGEST}
_SIMPLE = {str: "string", float: "number", int: "integer", types.NoneType: "null"}


def schema_of(record: type, title: str) -> dict[str, Any]:
    """Derive the JSON schema of a data class whose annotations are all that is known of its fields.

    In an annotation, `msgspec.Meta` gives ranges and descriptions, a tuple or a function gives the values that are
    allowed, and anything else is the type to describe in place of that of the field, which is often wider.
    """
    nothing = dataclasses.MISSING
    needed = [
        field.name
        for field in dataclasses.fields(record)
        if field.default is field.default_factory is nothing
    ]
    properties = {"format": {"type": "string", "const": title}, **_object(record)["properties"]}
    about = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, "type": "object"}
    return {**about, "required": needed, "properties": properties}


def _object(kind: type) -> dict[str, Any]:
    """Describe named fields."""
    hints = typing.get_type_hints(kind, include_extras=True)
    needed = [name for name, hint in hints.items() if typing.get_origin(hint) is not typing.NotRequired]
    properties = {name: _described(hint) for name, hint in hints.items()}
    return {"type": "object", "required": needed, "properties": properties}


def _described(hint: Any) -> dict[str, Any]:
    """Describe one type."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.NotRequired:
        return _described(parts[0])
    if origin is Annotated:
        return _annotated(parts[0], parts[1:])
    if origin in (types.UnionType, typing.Union):
        found: dict[str, Any] = {}
        for part in map(_described, parts):
            found |= {**part, "type": [*found.get("type", ()), part["type"]]}
        return found
    if origin is list:
        return {"type": "array"} if parts[0] is Any else {"type": "array", "items": _described(parts[0])}
    if origin is dict:
        return (
            {"type": "object"}
            if parts[1] is Any
            else {"type": "object", "additionalProperties": _described(parts[1])}
        )
    if typing.is_typeddict(hint):
        return _object(hint)
    return {"type": _SIMPLE[hint], **(_BOUNDS if hint is float else {})}


def _annotated(hint: Any, notes: tuple[Any, ...]) -> dict[str, Any]:
    """Describe a type with what its annotation says."""
    other = [note for note in notes if not isinstance(note, Meta | tuple | types.FunctionType)]
    found = _described(other[-1] if other else hint)
    length = "Length" if "string" in found["type"] else "Items"
    words = {"ge": "minimum", "le": "maximum", "min_length": f"min{length}", "max_length": f"max{length}"}
    for note in notes:
        if isinstance(note, tuple | types.FunctionType):
            choices = note if isinstance(note, tuple) else note()
            found["enum"] = [*choices, *([None] if "null" in found["type"] else [])]
        elif isinstance(note, Meta):
            told = {word: getattr(note, name) for name, word in words.items()} | {
                "description": note.description
            }
            found |= {word: value for word, value in told.items() if value is not None}
    return found


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
        schema: From `schema_of`.
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
            _check(name, {"type": "string", "minLength": 1}, where, f"{field}, a name in it,")
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
