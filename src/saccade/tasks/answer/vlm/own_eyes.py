"""Eyes of one's own before a text model, in the place of `Eyes`: registered by name, built by their own class.

A base's configuration names its eyes by `eyes.encoder`. Which code that name stands for is said in the program that
opens the base, by `register_eyes`, and never by the file.
"""

from __future__ import annotations

import abc
import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from saccade.errors import ConfigError, did_you_mean
from saccade.tasks.answer.vlm.eyes import Eyes, EyesConfig


class EyesSettings(Protocol):
    """What any eyes' configuration says; a frozen dataclass that checks itself."""

    @property
    def encoder(self) -> str:
        """Name of the network."""
        ...

    @property
    def tokens(self) -> int:
        """Visual tokens N a frame."""
        ...

    @property
    def mean(self) -> tuple[float, ...]:
        """Subtracted from colours in [0, 1]."""
        ...

    @property
    def std(self) -> tuple[float, ...]:
        """Divisor after the mean."""
        ...

    @property
    def boxes(self) -> tuple[str, ...]:
        """Colours of the boxes that come in as channels."""
        ...

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of a frame, in pixels."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON has them."""
        ...


class OwnEyes(nn.Module, abc.ABC):
    """Eyes of one's own.

    Args:
        config: Of the class `settings`.
    """

    settings: ClassVar[type]
    """Dataclass of the configuration; see `EyesSettings`."""
    dim: int
    """Channels D of a token."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config: EyesSettings = config

    @abc.abstractmethod
    def forward(self, frames: Tensor, seconds: Tensor) -> Tensor:
        """Look at clips (B, T, C, height, width) taken at seconds (B, T); return (B, T, N, D)."""

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations in the backward pass, where that saves anything."""

    def weight_decay_exempt(self) -> set[str]:
        """Names of the parameters that recipes do not decay."""
        return {name for name, parameter in self.named_parameters() if parameter.ndim <= 1}


_OWN: dict[str, str] = {}
"""Encoder -> "module:Class" of its eyes."""


def register_eyes(encoder: str, where: str) -> None:
    """Let bases have eyes of one's own.

    Args:
        encoder: What `eyes.encoder` of their configuration says.
        where: "module:Class" of an `OwnEyes`.

    Raises:
        ConfigError: The name stands for other eyes already.
    """
    if _OWN.setdefault(encoder, where) != where:
        raise ConfigError(f"eyes {encoder!r} are {_OWN[encoder]} already; choose another name")


def _kind(encoder: Any) -> type[OwnEyes] | None:
    """Return the class of registered eyes; None where the name is none of theirs."""
    if not isinstance(encoder, str) or encoder not in _OWN:
        return None
    module, _, kind = _OWN[encoder].partition(":")
    return getattr(importlib.import_module(module), kind)


def eyes_config(values: Mapping[str, Any]) -> EyesConfig | EyesSettings:
    """Read plain values of any eyes.

    Raises:
        ConfigError: A name that is none, or a value that cannot be right.
    """
    kind = _kind(values.get("encoder"))
    if kind is None:
        return EyesConfig.from_dict(values)
    known = [entry.name for entry in dataclasses.fields(kind.settings)]
    for name in values:
        if name not in known:
            raise ConfigError(f"eyes has no {name!r}{did_you_mean(name, known)}")
    return kind.settings(**values)


def build_eyes(config: EyesConfig | EyesSettings) -> Eyes | OwnEyes:
    """Make eyes of any kind, with fresh weights."""
    if isinstance(config, EyesConfig):
        return Eyes(config)
    kind = _kind(config.encoder)
    if kind is None:
        raise ConfigError(f"eyes.encoder is {config.encoder!r}, which nobody registered with register_eyes")
    return kind(config)
