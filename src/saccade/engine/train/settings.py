"""Nested dataclasses to and from plain values: typed, and refusing what they do not know.

Used for recipes. Values come from YAML or from dotted flags (text); either way they end as the type the
field declares, or as one sentence.
"""

import dataclasses
import types
import typing
from collections.abc import Iterator
from typing import Any

from saccade.errors import ConfigError, did_you_mean
from saccade.files import parse_yaml

UNSET = ("auto", "null", "~")
"""Texts by which a flag or a file says that a setting is left to be chosen."""


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
        ConfigError: Unknown name, or a value of the wrong type.
    """
    if not isinstance(values, dict):
        place = prefix.rstrip(".") or "the recipe"
        raise ConfigError(f"{where}: {place} should be a mapping of settings, not {values!r}")
    hints, written = typing.get_type_hints(type(config)), []
    names = [field.name for field in dataclasses.fields(config)]
    for name, value in values.items():
        if name not in names:
            raise ConfigError(f"{where}: unknown setting {prefix}{name}{did_you_mean(str(name), names)}")
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
        ConfigError: Unknown name (the nearest one is offered), or a value of the wrong type.
    """
    known = dict(leaves(config))
    if dotted not in known:
        raise ConfigError(f"{where}: unknown setting {dotted}{did_you_mean(dotted, known)}")
    *path, last = dotted.split(".")
    for part in path:
        config = getattr(config, part)
    kind = typing.get_type_hints(type(config))[last]
    setattr(config, last, coerce(text, kind, f"{where} {dotted}"))


def coerce(value: Any, kind: Any, where: str) -> Any:
    """Turn a YAML value or flag text into the declared type.

    Raises:
        ConfigError: It cannot be read as that type.
    """
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        unset = value is None or (inner[0] is not str and value in UNSET)
        return None if unset else coerce(value, inner[0], where)
    if kind is str:
        if isinstance(value, bool):  # YAML 1.1 reads yes and no so
            return "yes" if value else "no"
        if isinstance(value, str | int | float):
            return str(value)
        raise ConfigError(f"{where} should be text, not {value!r}")
    if isinstance(value, str):
        value = _read(value, where, bracketed=origin in (tuple, list))
    if origin in (tuple, list):
        if not isinstance(value, list | tuple):
            value = [value]
        if origin is tuple and inner[-1] is not Ellipsis and len(value) != len(inner):
            raise ConfigError(f"{where} should have {len(inner)} entries, not {value!r}")
        kinds = [inner[0]] * len(value) if origin is list or inner[-1] is Ellipsis else inner
        return origin(coerce(item, each, where) for item, each in zip(value, kinds, strict=True))
    if kind is dict or origin is dict:
        if isinstance(value, dict):
            return value
        raise ConfigError(f"{where} should be a mapping such as {{name: value}}, not {value!r}")
    if kind is float and isinstance(value, str):  # YAML 1.1 reads 1e-3 as text
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
        names = {int: "a whole number", float: "a number", bool: "true or false"}
        raise ConfigError(f"{where} should be {names.get(kind, kind.__name__)}, not {value!r}")
    return value


def _read(text: str, where: str, *, bracketed: bool) -> Any:
    """Read a flag's text as YAML; "0.3,1" means a list where a list is due."""
    if bracketed and not text.strip().startswith("["):
        text = f"[{text}]"
    return parse_yaml(text, where=where, error=ConfigError)
