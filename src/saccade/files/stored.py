"""The one reader of stored records: JSON and YAML that may come from anybody become typed values or one sentence.

Bounded in size, nesting, number of values and digits; types and ranges come from the dataclass that is asked for
(`msgspec` checks them). Nothing here runs anything, and nothing but the error class that the caller names comes out.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

import msgspec
import yaml

from saccade.errors import DataError, SaccadeError
from saccade.files.regular import open_regular

T = TypeVar("T")
Pairs = Callable[[list[tuple[str, Any]]], Any]

MAX_BYTES = 64 << 20
"""Larger records are refused unread, unless the caller allows more."""
MAX_DEPTH = 100
"""Deeper nesting is no record of ours."""
MAX_VALUES = 100_000_000
"""Values in one JSON record, counted before it is parsed: they take up to 24 times the room of their text."""
MAX_CONTAINERS = 24_000_000
"""Lists and objects in one JSON record; they take most room."""
MAX_DIGITS = 64
"""Of a whole number in YAML; Python bounds those of JSON."""
MAX_LINE = 64 << 20
"""Bytes of one line of JSON lines."""
MAX_YAML_BYTES = 1 << 20
MAX_YAML_VALUES = 100_000
"""Values of a YAML file after its aliases are written out."""


@overload
def read_json(
    path: Path | str,
    *,
    error: type[SaccadeError] = ...,
    max_bytes: int = ...,
    finite: bool = ...,
    pairs: Pairs | None = ...,
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
    pairs: Pairs | None = None,
) -> Any:
    """Read a JSON file.

    Args:
        path: A regular file.
        kind: What it must be: a dataclass, `dict[str, float]`, `list[int]`, ...; Any: whatever JSON can hold.
        error: Class of the sentence that a bad file becomes.
        max_bytes: Larger files are refused unread.
        finite: Refuse NaN and infinities.
        pairs: As for `parse_json`.

    Raises:
        SaccadeError: Of class `error`: missing, too large, not JSON, too deep, or another type than `kind`.
    """
    data = _read(Path(path), error, max_bytes)
    return parse_json(
        data, kind, where=str(path), error=error, max_bytes=max_bytes, finite=finite, pairs=pairs
    )


@overload
def parse_json(
    text: str | bytes,
    *,
    where: str,
    error: type[SaccadeError] = ...,
    max_bytes: int = ...,
    finite: bool = ...,
    pairs: Pairs | None = ...,
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
    pairs: Pairs | None = ...,
) -> T: ...
def parse_json(
    text: str | bytes,
    kind: Any = Any,
    *,
    where: str,
    error: type[SaccadeError] = DataError,
    max_bytes: int = MAX_BYTES,
    finite: bool = False,
    pairs: Pairs | None = None,
) -> Any:
    """Parse JSON text; as `read_json`, with `where` to name its origin in the message.

    `pairs` makes a value of an object's keys and values, as `json.loads` has it; `unique_keys` refuses doubled keys.
    """
    if len(text) > max_bytes:
        raise error(f"{where}: {len(text) >> 20} MiB of JSON, more than the {max_bytes >> 20} MiB read here")
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        containers = text.count("[") + text.count("{")
        if containers > MAX_CONTAINERS or containers + text.count(",") > MAX_VALUES:
            raise error(f"{where}: more than {MAX_VALUES:,} values; no file of ours has so many")
        value = json.loads(text, object_pairs_hook=pairs)
    except UnicodeDecodeError:
        raise error(f"{where}: is not UTF-8 text; expected JSON") from None
    except RecursionError:
        raise error(f"{where}: nested more than {MAX_DEPTH} levels deep; no file of ours is") from None
    except (ValueError, TypeError) as problem:  # bad JSON, a number of thousands of digits, or from `pairs`
        raise error(f"{where}: not valid JSON ({_brief(problem)})") from None
    if containers > MAX_DEPTH or finite:
        _check_size(value, where, error, MAX_VALUES, finite)
    return convert(value, kind, where=where, error=error)


@overload
def read_lines(
    path: Path | str, *, error: type[SaccadeError] = ..., finite: bool = ..., unit: str = ...
) -> Iterator[tuple[int, Any]]: ...
@overload
def read_lines(
    path: Path | str,
    kind: type[T],
    *,
    error: type[SaccadeError] = ...,
    finite: bool = ...,
    unit: str = ...,
) -> Iterator[tuple[int, T]]: ...
@overload
def read_lines(
    path: Path | str,
    kind: Any = ...,
    *,
    error: type[SaccadeError] = ...,
    finite: bool = ...,
    unit: str = ...,
    keep_broken: Literal[True],
) -> Iterator[tuple[int, Any]]: ...
def read_lines(
    path: Path | str,
    kind: Any = Any,
    *,
    error: type[SaccadeError] = DataError,
    finite: bool = False,
    unit: str = "line",
    keep_broken: bool = False,
) -> Iterator[tuple[int, Any]]:
    """Read JSON lines one by one; blank lines are passed over.

    Args:
        path: A regular file of any length, with lines of at most `MAX_LINE` bytes.
        kind: What each line must be, as for `read_json`.
        error: Class of the sentences.
        finite: Refuse NaN and infinities.
        unit: What a line is called in sentences.
        keep_broken: Yield a line that is none as its error in place of the value, and go on.

    Yields:
        (number of the line from 1, value).

    Raises:
        SaccadeError: Of class `error`: the file cannot be read, a line is too long (also with `keep_broken`, since
            nobody knows where it ends), not JSON, or another type than `kind`.
    """
    path = Path(path)
    with open_regular(path, error=error) as file:
        for number in itertools.count(1):
            where = f"{path}: {unit} {number}"
            try:
                line = file.readline(MAX_LINE + 1)
            except OSError as problem:
                raise error(f"{where} cannot be read ({problem.strerror or problem})") from None
            if not line:
                return
            if len(line) > MAX_LINE:
                raise error(f"{where} is longer than {MAX_LINE} bytes; expected one record a line")
            if not line.strip():
                continue
            try:
                value = parse_json(line, kind, where=where, error=error, finite=finite)
            except SaccadeError as problem:
                if not keep_broken:
                    raise
                value = problem
            yield number, value


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
        value = yaml.load(text, _Loader)
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


def within(
    low: float | None = None,
    high: float | None = None,
    *,
    above: float | None = None,
    below: float | None = None,
    multiple_of: int | None = None,
) -> msgspec.Meta:
    """Range of a field's numbers for `Annotated` in a dataclass; `above` and `below` are ends that are not in it."""
    bounds: dict[str, Any] = {"ge": low, "le": high, "gt": above, "lt": below, "multiple_of": multiple_of}
    return msgspec.Meta(**{name: bound for name, bound in bounds.items() if bound is not None})


class _Loader(yaml.SafeLoader):
    """Plain values only, and no whole numbers of a million digits: "1:1:1:..." takes time by their square."""

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Read a whole number."""
        if len(str(node.value)) > MAX_DIGITS:
            raise ValueError("a whole number of more digits than any setting has")
        return super().construct_yaml_int(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object, unless a key comes twice (for `pairs`)."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has a key twice")
    return found


def _field_sentence(text: str) -> str:
    """Turn "Expected `int`, got `str` - at `$.a.b`" into words about the field."""
    what, _, place = text.partition(" - at `$")
    place = place.rstrip("`").lstrip(".")
    what = what.replace("`", "")
    return f"field {place}: {what[:1].lower()}{what[1:]}" if place else what[:1].lower() + what[1:]


def read_text(
    path: Path | str,
    *,
    error: type[SaccadeError] = DataError,
    max_bytes: int = MAX_BYTES,
    what: str = "a text",
) -> str:
    """Read a regular text file of bounded size, UTF-8 with or without a byte order mark.

    Args:
        path: A regular file.
        error: Class of the sentence that a bad file becomes.
        max_bytes: Larger files are refused unread.
        what: What is expected, for the sentence.
    """
    try:
        return _read(Path(path), error, max_bytes).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise error(f"{path}: is not UTF-8 text; expected {what}") from None


def _read(path: Path, error: type[SaccadeError], max_bytes: int) -> bytes:
    """Read a regular file of bounded size."""
    with open_regular(path, error=error) as file:
        try:
            data = file.read(max_bytes + 1)
        except OSError as problem:
            raise error(f"{path}: cannot be read ({problem.strerror or problem})") from None
    if len(data) > max_bytes:
        size = f"{max_bytes >> 20} MiB" if max_bytes >> 20 else f"{max_bytes} bytes"
        raise error(f"{path}: larger than {size}, which is more than is read here")
    return data


def _check_size(value: Any, where: str, error: type[SaccadeError], most: int, finite: bool) -> None:
    """Walk plain values without recursion: depth, count (aliases count each time), finite numbers."""
    count, layer, depth = 1, [value], 0
    while layer:
        depth += 1
        if depth > MAX_DEPTH:
            raise error(f"{where}: nested more than {MAX_DEPTH} levels deep; no file of ours is")
        below: list[Any] = []
        for item in layer:
            if isinstance(item, dict | list):
                inner = item.values() if isinstance(item, dict) else item
                count += len(inner)
                # Leaves need no visit, and lists of them are most of a record.
                below.extend(inner if finite else (one for one in inner if isinstance(one, dict | list)))
            elif finite and isinstance(item, float) and not math.isfinite(item):
                raise error(f"{where}: holds {item}, where a finite number is expected")
            if count > most:
                raise error(f"{where}: more than {most:,} values; no file of ours has so many")
        layer = below


def _brief(problem: Exception) -> str:
    """Return the first line of a library's message, short."""
    text = " ".join(str(problem).split()) or type(problem).__name__
    return text if len(text) <= 160 else text[:157] + "..."
