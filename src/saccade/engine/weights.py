"""Write weights in another key layout, and say whether a file is whole and fits a model."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from saccade.errors import WeightsError
from saccade.files import replacing, sha256
from saccade.tasks.open import build_model, load_model, read_source
from saccade.weights import Source, keymap
from saccade.weights.card import Card
from saccade.weights.store import save_state
from saccade.zoo import registry
from saccade.zoo.loading import Fit, layouts_of, match_state

SUFFIXES = (".safetensors", ".pth")
KINDS = ("missing", "unexpected", "mismatched", "not_finite")
"""What may be wrong with tensors: lists of a `Verdict`."""


def convert_weights(source: Path | str, layout: str, out: Path | str) -> Card:
    """Rewrite a weights file in the official, timm or our own layout.

    Args:
        source: A weights file, run folder or hub id of one of our models, in any layout.
        layout: "official", "timm" or "saccade". Only "saccade" keeps the card.
        out: `.safetensors`, or `.pth` (a dictionary with the tensors under "model", as the official
            training scripts write and read). Replaced when it exists.

    Returns:
        The card of the weights.

    Raises:
        WeightsError: A source that is not of our models, an unknown layout or suffix, a `.pth` in our layout.
    """
    out = Path(out)
    if out.suffix not in SUFFIXES:
        raise WeightsError(
            f"{out}: weights are written as .safetensors or .pth; choose one of these suffixes"
        )
    if out.suffix == ".pth" and layout == "saccade":
        raise WeightsError(f"{out}: our own layout carries a card and is written as .safetensors only")
    model, card = load_model(source)
    if card.head and layout != "saccade":
        raise WeightsError(
            f"{source}: detectors and segmenters are written in our own layout; use --to saccade"
        )
    state = keymap.to_layout(model.state_dict(), registry.family_of(card.model), layout)
    if out.suffix == ".safetensors":
        save_state(state, out, card if layout == "saccade" else None)
    else:
        with replacing(out) as temporary:
            torch.save({"model": {name: tensor.clone() for name, tensor in state.items()}}, temporary)
    return card


@dataclass
class Verdict:
    """What `check_weights` found."""

    file: str
    model: str
    layout: str
    tensors: int
    matched: int
    """Tensors of the file that the model takes."""
    parameters: int
    """Numbers in all tensors, running statistics included."""
    missing: list[str]
    unexpected: list[str]
    mismatched: list[str]
    not_finite: list[str]
    """Tensors that hold NaN or infinity."""
    sha256: str

    @property
    def fits(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.missing or self.unexpected or self.mismatched or self.not_finite)


def check_weights(source: Path | str, model: str = "") -> Verdict:
    """Compare a weights file with a model, tensor by tensor.

    Args:
        source: A weights file, run folder or hub id.
        model: Model name; empty: what the card says, else what the tensors look like.

    Raises:
        WeightsError: An unreadable file, or one of none of our models while `model` is empty.
        ConfigError: Unknown model name.
    """
    path, state, card = read_source(Source(source, model=model), {}, strict=False)
    network = build_model(card)
    family = layouts_of(network)
    fit = match_state(network, state, family=family)
    return Verdict(
        file=str(path),
        model=card.model,
        layout=_layout_by_shape(fit, state, family),
        tensors=len(state),
        matched=len(fit.mapped),
        parameters=sum(tensor.numel() for tensor in state.values()),
        missing=fit.missing,
        unexpected=fit.unexpected,
        mismatched=fit.mismatched,
        not_finite=[
            name
            for name, tensor in state.items()
            if tensor.is_floating_point() and not torch.isfinite(tensor).all()
        ],
        sha256=sha256(path),
    )


def _layout_by_shape(fit: Fit, state: Mapping[str, Tensor], family: str) -> str:
    """Tell layouts with the same names apart (official and timm EfficientViM) by the axes of length 1."""
    shapes = {name: tensor.shape for name, tensor in state.items()}
    for layout in keymap.layouts(family):
        written = keymap.to_layout(fit.mapped, family, layout)
        if {name: tensor.shape for name, tensor in written.items()} == shapes:
            return layout
    return fit.layout
