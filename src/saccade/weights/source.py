"""How weights are named: a file, and what it does not say of itself, in one text that goes through every door."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from saccade.errors import ConfigError
from saccade.trust import Stored, check_place

_LABELS, _RAW = "+labels=", "+raw"
_MODEL = re.compile(r"([A-Za-z0-9][\w.-]*(?:/[\w.-]+)?)=(.+)", re.DOTALL)


class Source(str):
    """Weights as somebody names them: the text `MODEL=FILE+labels=NAMES+raw`, of which only FILE has to be there.

    It is a `str` with all of this in it, so that a recipe, a worker and a command that is printed keep it.
    Where a file has such a text as its name, the file is meant.

    Attributes:
        weights: Run folder, weights file, folder of another library, bundle, hub id or model name.
        model: Whose tensors they are; empty: the file says so, or the tensors show it.
        labels: File with the names of the outputs (`saccade.zoo.labels`); empty: as the weights say.
        raw: Take the raw weights of a file that also has averaged ones.
    """

    weights: str
    model: str
    labels: str
    raw: bool

    def __new__(
        cls, weights: Path | str = "", *, model: str = "", labels: Path | str = "", raw: bool = False
    ) -> Source:
        """Join what is known; of a text that names some of it already, the arguments come first.

        Raises:
            ConfigError: Neither weights nor a model, or two different models.
        """
        found = _parts(weights)
        if model and found["model"] not in ("", model):
            raise ConfigError(
                f"the weights {str(weights)!r} name the model {found['model']} and --model names {model}; give one"
            )
        place, model = found["weights"] or model, model or found["model"]
        names, raw = _kept(str(labels), labels) or found["labels"], raw or found["raw"]
        if not place:
            raise ConfigError("no weights were given; name a run folder, a weights file or a model")
        model = "" if model == place else model
        text = f"{model}={place}" if model else str(place)
        text += (f"{_LABELS}{names}" if names else "") + (_RAW if raw else "")
        self = super().__new__(cls, text)
        self.weights, self.model, self.labels, self.raw = place, model, names, raw
        return self

    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, Any]]:
        """Say how a copy is made."""
        return (self.weights,), {"model": self.model, "labels": self.labels, "raw": self.raw}


def _parts(text: Path | str) -> dict[str, Any]:
    """Take a text apart; what stood in a file keeps its origin."""
    if isinstance(text, Source):
        return {"weights": text.weights, "model": text.model, "labels": text.labels, "raw": text.raw}
    rest, found = str(text), {"model": "", "labels": "", "raw": False}
    if not Path(text).exists():
        if rest.endswith(_RAW):
            rest, found["raw"] = rest.removesuffix(_RAW), True
        rest, _, labels = rest.partition(_LABELS)
        found["labels"] = _kept(labels, text)
        if match := _MODEL.fullmatch(rest):
            found["model"], rest = match[1], match[2]
    return found | {"weights": _kept(rest, text)}


def _kept(part: str, origin: object) -> str:
    """Return a part of a text; of one that a file names, a place of that file."""
    if not isinstance(origin, Stored) or not part:
        return part
    if part != origin:
        check_place(part, origin)
    return Stored(part, origin.where, origin.setting, origin.flag, origin.way)
