"""Settings as dataclasses, nested or not: made from plain values, from text, and held to their annotations.

`Annotated[float, within(0, 1)]` is a range, `Literal["a", "b"]` a choice, `int | None` a setting that may be left
to be chosen. Values come from YAML, from flags (text) or from Python; they end as the declared type, or as one
sentence.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import yaml

from saccade.errors import ConfigError, did_you_mean
from saccade.files import parse_yaml

T = TypeVar("T")

UNSET = ("auto", "null", "~")
"""Texts by which a flag or a file says that a setting is left to be chosen."""
_NAMES = {int: "a whole number", float: "a number", bool: "true or false"}


def leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every setting as (dotted name, value), in the order of declaration."""
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{name}.")
        else:
            yield name, value


def to_plain(config: Any) -> dict[str, Any]:
    """Turn a nested dataclass into dictionaries, lists and scalars (what YAML and JSON hold)."""
    plain: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            plain[field.name] = to_plain(value)
        else:
            plain[field.name] = (
                list(value) if isinstance(value, tuple) else str(value) if isinstance(value, str) else value
            )
    return plain


def dump(config: Any) -> str:
    """Write settings as YAML, every one, in the order of declaration."""
    return yaml.safe_dump(to_plain(config), sort_keys=False, allow_unicode=True)


def make(kind: type[T], values: Mapping[str, Any] | T | None, where: str) -> T:
    """Make settings from what somebody gave: a mapping of some of them, finished ones, or nothing.

    Args:
        kind: A dataclass whose fields have defaults; frozen or not.
        values: Plain values by name, nested as the dataclasses are; None: all defaults.
        where: File, flag or argument they came from, for messages.

    Raises:
        ConfigError: An unknown name (the nearest one is offered), another type, or a value out of its range.
    """
    if isinstance(values, kind):
        return check(values, where)
    given = _mapping({} if values is None else values, where)
    hints = _hints(kind)
    made: dict[str, Any] = {}
    for name, value in given.items():
        if name not in hints:
            raise ConfigError(f"{where} has no setting {name!r}{did_you_mean(str(name), hints)}")
        place = f"{where}.{name}" if where else str(name)
        if dataclasses.is_dataclass(hints[name]):
            made[name] = make(typing.cast("type", hints[name]), value, place)
        else:
            made[name] = coerce(value, hints[name], place)
    return check(kind(**made), where)


def check(config: T, where: str = "") -> T:
    """Hold every setting to its annotation, in place, and return the same settings.

    A list becomes the tuple and a whole number the float that is declared; text is not read as a number.

    Args:
        config: A dataclass instance; frozen ones may call this in `__post_init__`.
        where: Origin, for messages.

    Raises:
        ConfigError: Another type, or a value out of its range or choices.
    """
    for name, kind in _hints(type(config)).items():
        value, place = getattr(config, name), f"{where}.{name}" if where else name
        if dataclasses.is_dataclass(value):
            check(value, place)
            continue
        held = _hold(value, kind, place)
        if held is not value:
            object.__setattr__(config, name, held)
    return config


def update(config: Any, values: Any, where: str, prefix: str = "") -> list[str]:
    """Write nested values into a nested dataclass, in place.

    Args:
        config: A dataclass instance.
        values: Mapping as read from YAML; it need not name every field.
        where: File name (or other origin) for messages.
        prefix: Dotted name of `config` itself, with its dot.

    Returns:
        Dotted names that were set.

    Raises:
        ConfigError: Unknown name, or a value of the wrong type or out of its range.
    """
    if not isinstance(values, dict):
        place = prefix.rstrip(".") or "the recipe"
        raise ConfigError(f"{where}: {place} should be a mapping of settings, not {values!r}")
    hints, written = _hints(type(config)), []
    for name, value in values.items():
        if name not in hints:
            raise ConfigError(f"{where}: unknown setting {prefix}{name}{did_you_mean(str(name), hints)}")
        current = getattr(config, name)
        if dataclasses.is_dataclass(current):
            written += update(current, value, where, f"{prefix}{name}.")
        else:
            setattr(config, name, coerce(value, hints[name], f"{where}: {prefix}{name}"))
            written.append(prefix + name)
    return written


def assign(config: Any, dotted: str, text: Any, where: str = "flag") -> None:
    """Set one setting by its dotted name, from text as a flag gives it, or from a value.

    Raises:
        ConfigError: Unknown name (the nearest one is offered), or a value of the wrong type or out of its range.
    """
    known = dict(leaves(config))
    if dotted not in known:
        raise ConfigError(f"{where}: unknown setting {dotted}{did_you_mean(dotted, known)}")
    *path, last = dotted.split(".")
    for part in path:
        config = getattr(config, part)
    setattr(config, last, coerce(text, _hints(type(config))[last], f"{where} {dotted}"))


def coerce(value: Any, kind: Any, where: str) -> Any:
    """Turn a YAML value or flag text into the declared type, within its range.

    Raises:
        ConfigError: It cannot be read as that type, or is out of range.
    """
    return _hold(value, kind, where, reads=True)


def _hold(value: Any, kind: Any, where: str, *, reads: bool = False) -> Any:
    """Check a value against a type, its range included; with `reads`, text is read as what is due."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        unset = value is None or (reads and _bare(inner[0]) is not str and value in UNSET)
        return None if unset else _in_optional(value, inner[0], where, reads)
    if origin is Annotated:
        held = _hold(value, inner[0], where, reads=reads)
        _in_range(held, inner[1:], where)
        return held
    if origin is Literal:
        held = _hold(value, type(inner[0]), where, reads=reads)
        if held not in inner:
            raise ConfigError(f"{where} is {held!r}{did_you_mean(str(held), map(str, inner))}")
        return held
    if kind is str:
        return _text(value, where)
    if reads and isinstance(value, str):
        value = _read(value, where, bracketed=origin in (tuple, list))
    if origin in (tuple, list):
        return _several(value, origin, inner, where, reads)
    if kind is dict or origin is dict:
        if isinstance(value, Mapping):
            return value
        raise ConfigError(f"{where} should be a mapping such as {{name: value}}, not {value!r}")
    if kind in _NAMES:
        return _number(value, kind, where, reads)
    if kind is Any or (isinstance(kind, type) and isinstance(value, kind)):
        return value
    raise ConfigError(f"{where} should be {getattr(kind, '__name__', kind)}, not {value!r}")


def _in_optional(value: Any, kind: Any, where: str, reads: bool) -> Any:
    """Hold a value that may be left to be chosen, and say so when it is out of range."""
    try:
        return _hold(value, kind, where, reads=reads)
    except OutOfRange as problem:
        raise OutOfRange(f"{problem}; leave it out to have it chosen") from None


class OutOfRange(ConfigError):
    """A number that is not between its bounds."""


def _in_range(value: float, notes: tuple[Any, ...], where: str) -> None:
    """Refuse numbers, or entries of a list of them, outside what `within` says."""
    for meta in (note for note in notes if isinstance(note, msgspec.Meta)):
        low: float = next((end for end in (meta.ge, meta.gt) if end is not None), -math.inf)
        high: float = next((end for end in (meta.le, meta.lt) if end is not None), math.inf)
        open_ends = meta.gt is not None or meta.lt is not None
        inside = low <= value <= high and value not in (meta.gt, meta.lt)
        inside = inside and not (meta.multiple_of and value % meta.multiple_of)
        if inside and math.isfinite(value):  # NaN is nowhere inside, and no setting of ours is endless
            continue
        if open_ends:
            bounds = " and ".join(
                f"{word} {_digits(end)}"
                for word, end in (
                    ("above", meta.gt), ("at least", meta.ge), ("below", meta.lt), ("at most", meta.le),
                )
                if end is not None
            )  # fmt: skip
        elif low == -math.inf:
            bounds = f"at most {_digits(high)}"
        else:
            bounds = (
                f"between {_digits(low)} and {_digits(high)}"
                if high < math.inf
                else f"at least {_digits(low)}"
            )
        step = f" and a multiple of {meta.multiple_of}" if meta.multiple_of else ""
        raise OutOfRange(f"{where} is {_digits(value)} but should be {bounds}{step}")


def _digits(value: float) -> str:
    """Write a number of a message: whole ones in full, so that one beyond a bound does not look like the bound."""
    return str(value) if isinstance(value, int) else f"{value:g}"


def _text(value: Any, where: str) -> str:
    """Return text; a bare yes, no or number in YAML is no text, but was meant as one."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):  # YAML 1.1 reads yes and no so
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return str(value)
    raise ConfigError(f"{where} should be text, not {value!r}")


def _several(value: Any, origin: Any, inner: tuple[Any, ...], where: str, reads: bool) -> Any:
    """Hold the entries of a list or tuple; one value alone is a list of one."""
    if not isinstance(value, list | tuple):
        value = [value]
    if origin is tuple and inner[-1] is not Ellipsis and len(value) != len(inner):
        raise ConfigError(f"{where} should have {len(inner)} entries, not {value!r}")
    kinds = [inner[0]] * len(value) if origin is list or inner[-1] is Ellipsis else inner
    held = origin(_hold(item, each, where, reads=reads) for item, each in zip(value, kinds, strict=True))
    return value if held == value and type(held) is type(value) else held


def _number(value: Any, kind: Any, where: str, reads: bool) -> Any:
    """Hold a number or a truth value."""
    if kind is float and reads and isinstance(value, str):  # YAML 1.1 reads 1e-3 as text
        try:
            value = float(value)
        except ValueError:
            raise ConfigError(f"{where} should be a number, not {value!r}") from None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise ConfigError(f"{where} is a number beyond all bounds") from None
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise ConfigError(f"{where} should be {_NAMES[kind]}, not {value!r}")
    return value


def _bare(kind: Any) -> Any:
    """Take a type out of its annotation."""
    inner = typing.get_args(kind)
    if typing.get_origin(kind) is Annotated:
        return _bare(inner[0])
    return type(inner[0]) if typing.get_origin(kind) is Literal else kind


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    """Types of a dataclass's fields, with their annotations, in the order of declaration."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind) if field.init}


def _mapping(values: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where} should be a mapping of settings, not {values!r}")
    return values


def _read(text: str, where: str, *, bracketed: bool) -> Any:
    """Read a flag's text as YAML; "0.3,1" means a list where a list is due."""
    if bracketed and not text.strip().startswith("["):
        text = f"[{text}]"
    return parse_yaml(text, where=where, error=ConfigError)
