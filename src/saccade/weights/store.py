"""Tensors and cards in files: safetensors out; safetensors or `.pth` in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from saccade.errors import WeightsError
from saccade.files import replacing
from saccade.files.tensors import read_tensors
from saccade.hub import fetch_file
from saccade.trust import may_fetch
from saccade.weights.card import Card
from saccade.weights.pth import read_pth, tensors_of

CARD_KEY = "saccade"
"""Of the card in the metadata of a safetensors file."""
# Of a training checkpoint: the key whose weights the published numbers belong to comes first.
_PREFERRED = {
    "efficientvim": ("model_ema", "model", "state_dict"),
    "shvit": ("model", "state_dict", "model_ema"),
}
_PREFERRED_ELSE = ("model", "state_dict", "model_state_dict", "model_ema")


def read_weights(path: Path | str, *, family: str = "") -> tuple[dict[str, Tensor], Card | None]:
    """Read the tensors of a file, and its card when it has one.

    Args:
        path: `.safetensors`, or `.pth`/`.pt`/`.bin`/`.tar` written by `torch.save`.
        family: Model family, which decides between raw and averaged weights in training checkpoints
            (EfficientViM's published accuracy is the average's, SHViT's the raw weights').

    Raises:
        WeightsError: Missing, damaged or unsafe file.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    if path.suffix != ".safetensors":
        return tensors_in(read_pth(path), str(path), family=family), None
    tensors, about = read_tensors(path)
    card = about.get(CARD_KEY)
    return tensors, Card.from_json(card, str(path)) if card else None


def tensors_in(content: Mapping[str, Any], where: str, *, family: str = "") -> dict[str, Tensor]:
    """Return the tensors of a state dict, or of a training checkpoint that holds one or several.

    Args:
        content: What was stored.
        where: File name for messages.
        family: As for `read_weights`.

    Raises:
        WeightsError: No tensors in it.
    """
    return tensors_of(dict(content), where, prefer=_PREFERRED.get(family, _PREFERRED_ELSE))


def read_card(path: Path | str) -> Card | None:
    """Read the card of a weights file and none of its tensors; None where it has no card.

    Raises:
        WeightsError: A card that is none.
    """
    if Path(path).suffix != ".safetensors":
        return None
    try:
        with safe_open(str(path), framework="pt") as file:
            text = (file.metadata() or {}).get(CARD_KEY)
    except (SafetensorError, OSError, ValueError):
        return None  # reading the tensors says what is wrong
    return Card.from_json(text, str(path)) if text else None


def locate(source: Path | str) -> Path:
    """Find the weights file that a user means: a file, a run folder (its best weights) or a hub id.

    Raises:
        WeightsError: Nothing there.
    """
    path = Path(source)
    if path.is_dir():
        for name in ("best.safetensors", "last.safetensors"):
            if (path / name).is_file():
                return path / name
        raise WeightsError(
            f"{path}: no best.safetensors or last.safetensors in this folder; expected a run of `saccade train`"
        )
    if path.is_file():
        return path
    text = str(source)
    if text.startswith("hf-hub:") or (text.count("/") == 1 and not path.suffix and not path.parent.exists()):
        return fetch_file(text.removeprefix("hf-hub:"), cached=not may_fetch(source))
    raise WeightsError(f"{path}: no such weights file or run folder")


def save_state(state: Mapping[str, Tensor], path: Path, card: Card | None) -> None:
    """Write named tensors as safetensors, with a card when given, atomically."""
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={CARD_KEY: card.to_json()} if card else {"format": "pt"})
