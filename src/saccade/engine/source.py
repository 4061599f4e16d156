"""Open weights for a job, unless their task cannot do it."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from saccade.tasks import Task, get_task
from saccade.tasks.open import load_model
from saccade.weights import Card


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
    from saccade.engine.sessions.dense import card_at

    if isinstance(source, tuple):
        model, card = source
        get_task(card.task).refuse(verb, card.model)
        return get_task(card.task), model, card
    known = card_at(source)
    if known is not None:
        get_task(known.task).refuse(verb, known.model)
    model, card = load_model(source)
    task = get_task(card.task)
    task.refuse(verb, card.model)
    return task, model, card
