"""From any source to its network: a card says which task builds it; without one the tasks are asked whose it is."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from saccade.errors import ConfigError, SaccadeError, WeightsError
from saccade.files import read_json
from saccade.tasks import Task, get_task, list_tasks
from saccade.weights.card import Card
from saccade.weights.source import Source
from saccade.weights.store import locate, read_card, read_weights
from saccade.zoo import registry
from saccade.zoo.folders import card_beside
from saccade.zoo.labels import read_labels
from saccade.zoo.loading import card_of, check_finite, describe, layouts_of, load_state

MANIFEST = "manifest.json"
"""Of a bundle."""
_NOT_OF_A_CARD = {"checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"}
"""Options of timm that make it read or fetch another file."""


def open_network(
    source: Path | str, options: Mapping[str, Any] | None = None
) -> tuple[nn.Module, Card, Task]:
    """Build the network that a run folder, a weights file, a hub id or a model name describes.

    Args:
        source: As said, or the text of a `Source` with the model and labels that a file does not name; a bare model
            name gives fresh weights, always the same, which suits speed measurements only.
        options: Of `create_model`, for a file without a card.

    Returns:
        The network in evaluation mode, its card, and the task it is for.

    Raises:
        WeightsError: Tensors of no task of ours or not of their card or model, values that are not finite, labels for
            another number of outputs, or a bundle.
        ConfigError: Neither a path nor a model name, or a task that is not here.
    """
    asked = Source(source)
    if is_name(asked):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = registry.create_model(asked.weights).eval()
        card = dataclasses.replace(card_of(model), origin="fresh weights")
        card.labels = read_labels(asked.labels, card.num_classes) if asked.labels else card.labels
        return model, card, get_task(card.task)
    if _is_bundle(asked):
        raise WeightsError(
            f"{source}: a bundle holds an exported file and no tensors to build a network of; pass the weights that "
            "it was made from"
        )
    path, state, card = read_source(asked, options or {})
    task = get_task(card.task)
    task.check_stored(card, path)
    model = build_model(card)
    load_state(model, state, family=layouts_of(model), where=str(path), strict=True)
    check_finite(model, str(path))
    card.origin = card.origin or str(path)
    return model.eval(), card, task


def read_source(
    asked: Source, options: Mapping[str, Any], *, strict: bool = True
) -> tuple[Path, dict[str, Tensor], Card]:
    """Read a file's tensors and find out what they are: by its card, the folder, the model named, or the tensors.

    Args:
        asked: What to read; no bundle, no bare name.
        options: Of `create_model`, for a file without a card.
        strict: Refuse a card of another model than `asked.model`; else the user's word counts.

    Raises:
        WeightsError: As `open_network`.
    """
    path = locate(asked)
    state, card = read_weights(path, raw=asked.raw)
    card = card or card_beside(path)
    if card is not None and asked.model not in ("", card.model):
        if strict:
            raise WeightsError(f"{path}: these weights are for {card.model}, not for {asked.model}")
        card = None
    if card is None:
        own = not asked.model.startswith(registry.FOREIGN)
        card = ask_tasks(state, str(path)) if own else None
        if asked.model and (card is None or card.model != asked.model):
            card = describe(asked.model, state, options, where=str(path))
        card = card or recognise(state, where=str(path))
        if path.suffix != ".safetensors":  # which of several sets of tensors counts depends on the family
            state, _ = read_weights(path, family=registry.family_of(card.model), raw=asked.raw)
    if asked.labels:
        card.labels = read_labels(asked.labels, card.num_classes)
    return path, state, card


def load_model(source: Path | str, options: Mapping[str, Any] | None = None) -> tuple[nn.Module, Card]:
    """Build the network that a source describes; see `open_network`.

    Returns:
        The network in evaluation mode, and its card.
    """
    model, card, _ = open_network(source, options)
    return model, card


def card_of_source(source: Path | str) -> Card | None:
    """Read what a run folder, a weights file, a bundle or a name is, without its tensors; None where it does not say.

    Raises:
        WeightsError: Nothing there, or a damaged card.
        ConfigError: Neither a path nor a model name.
    """
    asked = Source(source)
    if is_name(asked):
        return Card(model=asked.weights, task=registry.task_of(asked.weights))
    if _is_bundle(asked):
        where = Path(asked.weights) / MANIFEST
        return Card.from_json(json.dumps(read_json(where, dict, error=WeightsError).get("card")), str(where))
    path = locate(asked)
    card = read_card(path) or card_beside(path)
    if card is not None and asked.labels:
        card.labels = read_labels(asked.labels, card.num_classes)
    return card


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
        f"{next(iter(state))!r}); name the model with --model, such as timm/NAME (in Python Source(file, model=...))"
    )


def ask_tasks(state: Mapping[str, Tensor], where: str) -> Card | None:
    """Return the card that the first task to recognise a state dict gives it; None where none does."""
    cards = (get_task(name).recognise(state, where) for name in list_tasks())
    return next((card for card in cards if card is not None), None)


def is_name(asked: Source) -> bool:
    """Tell a model name from a hub id or a path.

    Raises:
        ConfigError: Neither, as far as its form tells.
        WeightsError: A path to nowhere.
    """
    text = str(asked.weights)
    if asked.model or Path(text).exists():
        return False
    try:
        registry.family_of(text)
    except ConfigError as error:
        if "/" in text or Path(text).suffix:
            locate(asked)  # says that there is no such file, or fetches a hub id
            return False
        raise ConfigError(f"no file or folder {text!r}, and no model of that name: {error}") from None
    return True


def _is_bundle(source: Path | str) -> bool:
    """Whether a source is a bundle.

    Raises:
        ConfigError: One that somebody names a model or labels for: it has its own.
    """
    asked = Source(source)
    if not (Path(asked.weights) / MANIFEST).is_file():
        return False
    if str(asked) != str(asked.weights):
        raise ConfigError(
            f"{asked.weights}: a bundle has its model and labels in its manifest; leave --model and --labels out"
        )
    return True
