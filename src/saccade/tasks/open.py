"""From any source to its network: a card says which task builds it; without one the tasks are asked whose it is."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from saccade.errors import ConfigError, SaccadeError, WeightsError
from saccade.files import read_json
from saccade.tasks import Task, get_task, list_tasks
from saccade.weights.card import Card
from saccade.weights.store import locate, read_card, read_weights
from saccade.zoo import registry
from saccade.zoo.loading import card_of, check_finite, layouts_of, load_state

MANIFEST = "manifest.json"
"""Of a bundle."""
_NOT_OF_A_CARD = {"checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"}
"""Options of timm that make it read or fetch another file."""


def open_network(source: Path | str) -> tuple[nn.Module, Card, Task]:
    """Build the network that a run folder, a weights file, a hub id or a model name describes.

    Args:
        source: As said; a bare model name gives fresh weights, always the same, which suits speed measurements only.

    Returns:
        The network in evaluation mode, its card, and the task it is for.

    Raises:
        WeightsError: Tensors of no task of ours or not of their card, values that are not finite, or a bundle.
        ConfigError: Neither a path nor a model name, or a task that is not here.
    """
    if not Path(source).exists() and _is_name(source):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = registry.create_model(str(source)).eval()
        card = dataclasses.replace(card_of(model), origin="fresh weights")
        return model, card, get_task(card.task)
    if _is_bundle(source):
        raise WeightsError(
            f"{source}: a bundle holds an exported file and no tensors to build a network of; pass the weights that "
            "it was made from"
        )
    path = locate(source)
    state, card = read_weights(path)
    if card is None:
        card = recognise(state, where=str(path))
        if path.suffix != ".safetensors":  # which of several sets of tensors counts depends on the family
            state, _ = read_weights(path, family=registry.family_of(card.model))
    task = get_task(card.task)
    task.check_stored(card, path)
    model = build_model(card)
    load_state(model, state, family=layouts_of(model), where=str(path), strict=True)
    check_finite(model, str(path))
    card.origin = card.origin or str(path)
    return model.eval(), card, task


def load_model(source: Path | str) -> tuple[nn.Module, Card]:
    """Build the network that a source describes; see `open_network`.

    Returns:
        The network in evaluation mode, and its card.
    """
    model, card, _ = open_network(source)
    return model, card


def card_of_source(source: Path | str) -> Card | None:
    """Read what a run folder, a weights file, a bundle or a name is, without its tensors; None where it does not say.

    Raises:
        WeightsError: Nothing there, or a damaged card.
        ConfigError: Neither a path nor a model name.
    """
    if not Path(source).exists() and _is_name(source):
        return Card(model=str(source), task=registry.task_of(str(source)))
    if _is_bundle(source):
        where = Path(source) / MANIFEST
        return Card.from_json(json.dumps(read_json(where, dict, error=WeightsError).get("card")), str(where))
    return read_card(locate(source))


def build_model(card: Card) -> nn.Module:
    """Make the network that a card describes, with fresh weights.

    Raises:
        ConfigError: A name, option or task that does not exist here.
        WeightsError: Options that make no network, or that would read or fetch another file.
    """
    if foreign := [name for name in (*card.options, *card.head_options) if name in _NOT_OF_A_CARD]:
        raise WeightsError(
            f"the card of {card.model} has the option {foreign[0]}, which ours never have; refused"
        )
    task = get_task(card.task)
    try:
        return task.build(card)
    except SaccadeError:
        raise
    except Exception as error:  # options reach code of many places, which fails in as many ways
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise WeightsError(f"the card of {card.model} has options that make no network ({reason})") from error


def recognise(state: Mapping[str, Tensor], *, where: str = "the state dict") -> Card:
    """Ask the tasks whose a state dict without a card is.

    Raises:
        WeightsError: Nobody's.
    """
    if (card := ask_tasks(state, where)) is not None:
        return card
    raise WeightsError(
        f"{where}: these tensors belong to none of our models ({len(state)} tensors, the first is "
        f"{next(iter(state))!r}); a file for a timm model loads with load_weights into create_model('timm/...')"
    )


def ask_tasks(state: Mapping[str, Tensor], where: str) -> Card | None:
    """Return the card that the first task to recognise a state dict gives it; None where none does."""
    cards = (get_task(name).recognise(state, where) for name in list_tasks())
    return next((card for card in cards if card is not None), None)


def _is_name(source: Path | str) -> bool:
    """Tell a model name from a hub id or a path to nowhere.

    Raises:
        ConfigError: Neither, as far as its form tells.
        WeightsError: A path to nowhere.
    """
    text = str(source)
    try:
        registry.family_of(text)
    except ConfigError as error:
        if "/" in text or Path(source).suffix:
            locate(source)  # says that there is no such file, or fetches a hub id
            return False
        raise ConfigError(f"no file or folder {text!r}, and no model of that name: {error}") from None
    return True


def _is_bundle(source: Path | str) -> bool:
    return (Path(source) / MANIFEST).is_file()
