"""Bring what a task exports into the form that exporters take: folded, plain operations, tensors in and out."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from saccade.engine.export.maps import MapKernels, to_maps
from saccade.errors import ConfigError
from saccade.nn.fold import FoldedNet, fold
from saccade.tasks.base import ExportForm, Task
from saccade.weights import Card

MIN_SIDE, MAX_SIDE = 65, 4096
"""Sides of pictures, in pixels, that a file with free size takes; from 65 on the coarsest map has several cells."""
MAX_BATCH = 65536


class Portable(nn.Module):
    """A network as exporters want it.

    Args:
        model: The folded network.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Any:
        """Map the input to the outputs."""
        return self.model.run(image, MapKernels()) if isinstance(self.model, FoldedNet) else self.model(image)


class PortableOfSeveral(Portable):
    """A network of several inputs."""

    def forward(self, *inputs: Tensor) -> Any:
        """Map the inputs to the outputs."""
        return self.model(*inputs)


def portable(task: Task, model: nn.Module, card: Card, *, dynamic: bool = False) -> ExportForm:
    """Fold a network and return what of it leaves in a file.

    Args:
        task: Of the network.
        model: Any network, folded or not; the original is untouched.
        card: What it is, from `Task.sized`.
        dynamic: Leave height and width free.

    Raises:
        ConfigError: A network that does not map float32 tensors to as many tensors as the task says.
    """
    folded = copy.deepcopy(model).eval() if getattr(model, "is_folded", False) else fold(model)
    form = task.export_form(folded, card, dynamic=dynamic)
    if isinstance(form.module, FoldedNet):
        to_maps(form.module)
    kind = Portable if len(form.inputs) == 1 else PortableOfSeveral
    module = kind(form.module).eval().requires_grad_(False)
    if any(value.dtype != torch.float32 for value in form.inputs.values()):
        raise ConfigError(f"{card.model}: files take float32 inputs only")
    with torch.no_grad():
        found = module(*form.inputs.values())
    outputs = list(found) if isinstance(found, tuple) else [found]
    if len(outputs) != len(form.outputs) or not all(isinstance(value, Tensor) for value in outputs):
        tensors = "one output tensor" if len(form.outputs) == 1 else f"{len(form.outputs)} output tensors"
        raise ConfigError(
            f"export takes networks with {tensors}, this one returns a {type(found).__name__}; "
            "build it without features_only"
        )
    return dataclasses.replace(form, module=module)


def shapes(form: ExportForm) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Write inputs and outputs for a manifest: name, dtype, shape; names stand for sizes that may vary."""
    with torch.no_grad():
        found = form.module(*form.inputs.values())
    outputs = dict(zip(form.outputs, found if isinstance(found, tuple) else (found,), strict=True))
    return _ports(form, form.inputs), _ports(form, outputs)


def _ports(form: ExportForm, tensors: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "dtype": "float32",
            "shape": [form.free.get(name, {}).get(axis, side) for axis, side in enumerate(value.shape)],
        }
        for name, value in tensors.items()
    ]


def free_axes(form: ExportForm) -> tuple[Any, ...]:
    """Return the axes of the inputs that may vary, for torch's exporters."""
    known: dict[str, Any] = {}
    axes = tuple(
        {
            axis: known.setdefault(label, _dim(label, form.step))
            for axis, label in form.free.get(name, {}).items()
        }
        for name in form.inputs
    )
    return axes if len(axes) == 1 else (axes,)


def _dim(label: str, step: int) -> Any:
    """Return the range of an axis; heights and widths are multiples of `step`."""
    Dim = torch.export.Dim
    if label not in ("height", "width"):
        return Dim(label, min=1, max=MAX_BATCH)
    if step > 1:
        name = {"height": "rows", "width": "columns"}[label]
        return step * Dim(name, min=-(-MIN_SIDE // step) + 1, max=MAX_SIDE // step)
    return Dim(label, min=MIN_SIDE, max=MAX_SIDE)
