"""Tensors and cards in files: safetensors out; safetensors or `.pth` in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from saccade.errors import WeightsError
from saccade.files import replacing
from saccade.files.tensors import read_tensors
from saccade.hub import fetch_file
from saccade.trust import may_fetch
from saccade.weights.card import Card
from saccade.weights.pth import read_pth
from saccade.weights.source import Source
from saccade.weights.wrapped import unwrap

CARD_KEY = "saccade"
"""Of the card in the metadata of a safetensors file."""
_IN_FOLDERS = ("best.safetensors", "last.safetensors", "model.safetensors", "pytorch_model.bin")
"""Names of weights in folders: ours, and what timm, transformers and huggingface_hub write."""


def read_weights(
    path: Path | str, *, family: str = "", raw: bool = False
) -> tuple[dict[str, Tensor], Card | None]:
    """Read the tensors of a file, and its card when it has one.

    Args:
        path: `.safetensors`, or `.pth`/`.pt`/`.bin`/`.ckpt`/`.tar` written by `torch.save`.
        family: Model family, as for `saccade.weights.wrapped.unwrap`.
        raw: Take the raw weights where there are averaged ones too.

    Raises:
        WeightsError: Missing, damaged or unsafe file.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    if path.suffix != ".safetensors":
        return unwrap(read_pth(path), str(path), family=family, raw=raw), None
    tensors, about = read_tensors(path)
    if (card := about.get(CARD_KEY)) is not None:
        return tensors, Card.from_json(card, str(path))
    return unwrap(tensors, str(path), family=family, raw=raw), None


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
    """Find the weights file that a user means: a file, a run folder (its best weights), a folder or a hub id.

    Args:
        source: Any of these, or the text of a `Source` about one.

    Raises:
        WeightsError: Nothing there.
    """
    source = Source(source).weights
    path = Path(source)
    if path.is_dir():
        for name in _IN_FOLDERS:
            if (path / name).is_file():
                return path / name
        raise WeightsError(
            f"{path}: no {', '.join(_IN_FOLDERS[:-1])} or {_IN_FOLDERS[-1]} in this folder; expected a run of "
            "`saccade train`, or a model that timm, transformers or huggingface_hub saved in one file"
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
