"""By which name and options a network was built, so that its weights can say so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

_KEY = "_saccade_origin"
"""In the module's own dictionary, which copies and pickles take along."""


@dataclass(frozen=True)
class Origin:
    """What `create_model` was asked for."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    """Those that differ from the model's own."""


def set_origin(module: nn.Module, name: str, options: Mapping[str, Any] | None = None) -> None:
    """Note how a network can be built again."""
    vars(module)[_KEY] = Origin(name, dict(options or {}))


def origin_of(module: nn.Module) -> Origin | None:
    """Return how a network can be built again; None where nobody noted it."""
    return vars(module).get(_KEY)


def name_of(module: nn.Module) -> str:
    """Return the name that a network was built by, else that of its class, for messages."""
    origin = origin_of(module)
    return origin.name if origin else type(module).__name__
