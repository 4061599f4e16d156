"""The one reader of stored records: JSON and YAML that may come from anybody become typed values or one sentence.

Bounded in size, nesting, number of values and digits; types and ranges come from the dataclass that is asked for
(`msgspec` checks them). Nothing here runs anything, and nothing but the error class that the caller names comes out.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, TypeVar, overload

import msgspec
import yaml

from saccade.errors import DataError, SaccadeError

T = TypeVar("T")

MAX_BYTES = 64 << 20
"""Larger records are refused unread, unless the caller allows more."""
MAX_DEPTH = 100
"""Deeper nesting is no record of ours."""
MAX_VALUES = 50_000_000
"""Values in one JSON record."""
MAX_YAML_BYTES = 1 << 20
MAX_YAML_VALUES = 100_000
"""Values of a YAML file after its aliases are written out."""


@overload
def read_json(
    path: Path | str, *, error: type[SaccadeError] = ..., max_bytes: int = ..., finite: bool = ...
) -> Any: ...
@overload
def read_json(
    path: Path | str,
    kind: type[T],
    *,
    error: type[SaccadeError] = ...,
    max_bytes: int = ...,
    finite: bool = ...,
) -> T: ...
def read_json(
    path: Path | str,
    kind: Any = Any,
    *,
    error: type[SaccadeError] = DataError,
    max_bytes: int = MAX_BYTES,
    finite: bool = False,
) -> Any:
    """Read a JSON file.

    Args:
        path: A regular file.
        kind: What it must be: a dataclass, `dict[str, float]`, `list[int]`, ...; Any: whatever JSON can hold.
        error: Class of the sentence that a bad file becomes.
        max_bytes: Larger files are refused unread.
        finite: Refuse NaN and infinities.

    Raises:
        SaccadeError: Of class `error`: missing, too large, not JSON, too deep, or another type than `kind`.
    """
    data = _read(Path(path), error, max_bytes)
    return parse_json(data, kind, where=str(path), error=error, max_bytes=max_bytes, finite=finite)


@overload
def parse_json(
    text: str | bytes,
    *,
    where: str,
    error: type[SaccadeError] = ...,
    max_bytes: int = ...,
    finite: bool = ...,
) -> Any: ...
@overload
def parse_json(
    text: str | bytes,
    kind: type[T],
    *,
    where: str,
    error: type[SaccadeError] = ...,
    max_bytes: int = ...,
    finite: bool = ...,
) -> T: ...
def parse_json(
    text: str | bytes,
    kind: Any = Any,
    *,
    where: str,
    error: type[SaccadeError] = DataError,
    max_bytes: int = MAX_BYTES,
    finite: bool = False,
) -> Any:
    """Parse JSON text; as `read_json`, with `where` to name its origin in the message."""
    if len(text) > max_bytes:
        raise error(f"{where}: {len(text) >> 20} MiB of JSON, more than the {max_bytes >> 20} MiB read here")
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        value = json.loads(text)
    except UnicodeDecodeError:
        raise error(f"{where}: is not UTF-8 text; expected JSON") from None
    except RecursionError:
        raise error(f"{where}: nested more than {MAX_DEPTH} levels deep; no file of ours is") from None
    except ValueError as problem:  # bad JSON, or a number of thousands of digits
        raise error(f"{where}: not valid JSON ({_brief(problem)})") from None
    if text.count("[") + text.count("{") > MAX_DEPTH or finite:
        _check_size(value, where, error, MAX_VALUES, finite)
    return convert(value, kind, where=where, error=error)


@overload
def read_yaml(path: Path | str, *, error: type[SaccadeError] = ...) -> Any: ...
@overload
def read_yaml(path: Path | str, kind: type[T], *, error: type[SaccadeError] = ...) -> T: ...
def read_yaml(path: Path | str, kind: Any = Any, *, error: type[SaccadeError] = DataError) -> Any:
    """Read a YAML file of at most 1 MiB as plain values; as `read_json` otherwise."""
    return parse_yaml(_read(Path(path), error, MAX_YAML_BYTES), kind, where=str(path), error=error)


@overload
def parse_yaml(text: str | bytes, *, where: str, error: type[SaccadeError] = ...) -> Any: ...
@overload
def parse_yaml(text: str | bytes, kind: type[T], *, where: str, error: type[SaccadeError] = ...) -> T: ...
def parse_yaml(
    text: str | bytes, kind: Any = Any, *, where: str, error: type[SaccadeError] = DataError
) -> Any:
    """Parse YAML text (the safe subset: no tags that build objects) as `parse_json` parses JSON."""
    if len(text) > MAX_YAML_BYTES:
        raise error(f"{where}: larger than 1 MiB; expected a short YAML file")
    try:
        value = yaml.safe_load(text)
    except yaml.MarkedYAMLError as problem:
        line = f" at line {problem.problem_mark.line + 1}" if problem.problem_mark else ""
        raise error(f"{where}: not valid YAML{line}") from None
    except RecursionError:
        raise error(f"{where}: nested more than {MAX_DEPTH} levels deep; no file of ours is") from None
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, AttributeError, KeyError) as problem:
        raise error(f"{where}: not valid YAML ({_brief(problem)})") from None
    _check_size(value, where, error, MAX_YAML_VALUES, False)
    return convert(value, kind, where=where, error=error)


@overload
def convert(value: Any, kind: type[T], *, where: str, error: type[SaccadeError] = ...) -> T: ...
@overload
def convert(value: Any, kind: Any, *, where: str, error: type[SaccadeError] = ...) -> Any: ...
def convert(value: Any, kind: Any, *, where: str, error: type[SaccadeError] = DataError) -> Any:
    """Check plain values against a type and make it: nested dataclasses, lists, ranges of `Annotated` fields.

    Raises:
        SaccadeError: Of class `error`, naming the field and what it should be.
    """
    if kind is Any:
        return value
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as problem:
        raise error(f"{where}: {_field_sentence(str(problem))}") from None
    except SaccadeError as problem:  # of a dataclass's own checks
        raise error(f"{where}: {problem}") from None
    except (ValueError, TypeError, RecursionError, OverflowError) as problem:
        raise error(f"{where}: not as expected ({_brief(problem)})") from None


def _field_sentence(text: str) -> str:
    """Turn "Expected `int`, got `str` - at `$.a.b`" into words about the field."""
    what, _, place = text.partition(" - at `$")
    place = place.rstrip("`").lstrip(".")
    what = what.replace("`", "")
    return f"field {place}: {what[:1].lower()}{what[1:]}" if place else what[:1].lower() + what[1:]


def _read(path: Path, error: type[SaccadeError], max_bytes: int) -> bytes:
    """Read a regular file of bounded size."""
    try:
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "not a regular file"
            raise error(f"{path}: is {kind}; expected a file")
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as problem:
        raise error(f"{path}: cannot be read ({problem.strerror or problem})") from None
    except SaccadeError:
        raise
    except ValueError:  # a NUL byte in the name
        raise error(f"{str(path)!r}: is no file name") from None
    if len(data) > max_bytes:
        raise error(f"{path}: larger than {max_bytes >> 20} MiB, which is more than is read here")
    return data


def _check_size(value: Any, where: str, error: type[SaccadeError], most: int, finite: bool) -> None:
    """Walk plain values without recursion: depth, count (aliases count each time), finite numbers."""
    count, layer, depth = 0, [value], 0
    while layer:
        depth += 1
        if depth > MAX_DEPTH:
            raise error(f"{where}: nested more than {MAX_DEPTH} levels deep; no file of ours is")
        below: list[Any] = []
        for item in layer:
            if isinstance(item, dict):
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
            elif finite and isinstance(item, float) and not math.isfinite(item):
                raise error(f"{where}: holds {item}, where a finite number is expected")
            if count + len(below) > most:
                raise error(f"{where}: more than {most:,} values; no file of ours has so many")
        count += len(below)
        layer = below


def _brief(problem: Exception) -> str:
    """Return the first line of a library's message, short."""
    text = " ".join(str(problem).split()) or type(problem).__name__
    return text if len(text) <= 160 else text[:157] + "..."
