"""Say what weights are for, and open them for a job unless their task cannot do it."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from saccade.tasks import Task, get_task
from saccade.tasks.open import card_of_source, load_model
from saccade.weights import Card, Source


def open_for(source: Path | str | tuple[nn.Module, Card], verb: str) -> tuple[Task, nn.Module, Card]:
    """Open weights, refusing those whose task cannot do what is asked before any tensor is read.

    Args:
        source: Run folder, weights file or model name, or a network with its card.
        verb: As in `Task.unsupported`.

    Returns:
        The task, the network in evaluation mode, and its card.

    Raises:
        ConfigError: The task cannot, or no such model.
        WeightsError: Weights that cannot be read.
    """
    if isinstance(source, tuple):
        model, card = source
        get_task(card.task).refuse(verb, card.model)
        return get_task(card.task), model, card
    known = card_of_source(source)
    if known is not None:
        get_task(known.task).refuse(verb, known.model)
    model, card = load_model(source)
    task = get_task(card.task)
    task.refuse(verb, card.model)
    return task, model, card


def task_of(source: Path | str, verb: str) -> tuple[Task, Card]:
    """Return the task of weights and their card, without opening the network where the file says it.

    Args:
        source: Run folder, weights file, bundle or model name.
        verb: As in `Task.unsupported`: a task that cannot is refused.

    Raises:
        ConfigError: The task cannot, a place in the card takes the user's own word, or no such model.
        WeightsError: Nothing there, or nothing that can be read.
    """
    card = card_of_source(source)
    known = card is not None
    if card is None:
        _, card = load_model(source)
    task = get_task(card.task)
    task.refuse(verb, str(source))
    if known:
        task.check_stored(card, Source(source).weights)
    return task, card
