"""Run a network over a data set once and gather its marks: the one evaluation loop of the house."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from saccade.tasks.base import Batch, Marks, Task
from saccade.weights.card import Card


def compute_marks(
    model: Callable[[torch.Tensor], Any],
    task: Task,
    loader: Iterable[Batch],
    card: Card,
    device: torch.device | str = "cpu",
    progress: Callable[[Batch], None] | None = None,
) -> Marks:
    """Run `model` over every batch of `loader` and gather the task's marks.

    A module is put in evaluation mode meanwhile and back afterwards; anything else that maps an image
    batch to outputs (a `Predictor`) is called as it is.

    Args:
        model: Maps (batch, channels, height, width) float32 images to the task's outputs.
        task: Knows how to read the outputs.
        loader: Batches as made by `task.collate`; empty batches (all samples broken) are passed over.
        card: What the model is: labels, preprocessing.
        device: Where the images go.
        progress: Called with each batch after it was taken in; may raise to stop.

    Returns:
        The filled accumulator of this process; `Marks.merge` joins those of several.
    """
    return compare_marks({"model": model}, task, loader, card, device, progress)["model"]


@torch.no_grad()
def compare_marks(
    models: Mapping[str, Callable[[torch.Tensor], Any]],
    task: Task,
    loader: Iterable[Batch],
    card: Card,
    device: torch.device | str = "cpu",
    progress: Callable[[Batch], None] | None = None,
    look: Callable[[str, Any], None] | None = None,
) -> dict[str, Marks]:
    """Do as `compute_marks` for several models at once, reading the data only once.

    `look`, when given, is called with a model's name and its outputs on each batch.
    """
    marks = {name: task.marks(card) for name in models}
    with contextlib.ExitStack() as modes:
        for model in models.values():
            modes.enter_context(evaluating(model))
        for batch in loader:
            if len(batch["index"]):
                for name, model in models.items():
                    outputs = task.outputs(model, batch, device)
                    marks[name].update(outputs, batch)
                    if look is not None:
                        look(name, outputs)
            if progress is not None:
                progress(batch)
    return marks


@contextlib.contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Put a module in evaluation mode and each of its parts back in its own mode afterwards."""
    if not isinstance(model, nn.Module):
        yield
        return
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
