"""Flags that a command line leaves to the settings: `--group.name value`, `--group.name=value`, `--group.name`."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from saccade.errors import ConfigError, did_you_mean
from saccade.settings.fields import coerce


def read_flags(tokens: Sequence[str], known: Iterable[str], others: Iterable[str] = ()) -> dict[str, str]:
    """Read flags into text by name; one without a value means true.

    Args:
        tokens: As typed.
        known: Dotted names of the settings, with underscores.
        others: Flags that the command has besides, for the nearest name.

    Raises:
        ConfigError: Something that is no setting of this command; the nearest one is offered.
    """
    known, others = list(known), [name.replace("_", "-") for name in others]
    values: dict[str, str] = {}
    rest = list(tokens)
    while rest:
        token = rest.pop(0)
        if not token.startswith("--"):
            hint = ""
            if "data" in others and Path(token).exists():
                hint = f"; to train on it, say --data {token}"
            raise ConfigError(f"unexpected {token!r}{hint or '; settings are given as --group.name value'}")
        name, equals, value = token.removeprefix("--").partition("=")
        name = name.replace("-", "_")
        if name not in known:
            raise ConfigError(f"unknown flag --{name}{did_you_mean(name, {*known, *others})}")
        if not equals:
            value = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
        values[name] = value
    return values


def read_groups(
    tokens: Sequence[str], groups: dict[str, type | dict[str, Any]], others: Iterable[str] = ()
) -> dict[str, dict[str, Any]]:
    """Read flags --GROUP.NAME VALUE as values of the declared types.

    Args:
        tokens: As typed.
        groups: For each group a dataclass, or names and types.
        others: As for `read_flags`.

    Returns:
        Values by group and name; those that were not given are not in it.

    Raises:
        ConfigError: No such setting, or a value of another kind or out of range.
    """
    kinds: dict[str, dict[str, Any]] = {}
    for group, kind in groups.items():
        if isinstance(kind, dict):
            kinds[group] = kind
        else:
            hints = typing.get_type_hints(kind, include_extras=True)
            kinds[group] = {field.name: hints[field.name] for field in dataclasses.fields(kind)}
    known = [f"{group}.{name}" for group, names in kinds.items() for name in names]
    values: dict[str, dict[str, Any]] = {group: {} for group in groups}
    for dotted, text in read_flags(tokens, known, others).items():
        group, _, name = dotted.partition(".")
        values[group][name] = coerce(text, kinds[group][name], f"--{dotted}")
    return values
