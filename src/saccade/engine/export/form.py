"""Bring a network into the form that exporters take: folded, plain operations, one tensor in and one out."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from saccade.engine.export.maps import MapKernels, to_maps
from saccade.errors import ConfigError
from saccade.nn.fold import FoldedNet, fold


class Portable(nn.Module):
    """A network as exporters want it; a network with several outputs of one picture is refused.

    Args:
        model: The folded network.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        """Map (batch, channels, height, width) to the network's one output."""
        return self.model.run(image, MapKernels()) if isinstance(self.model, FoldedNet) else self.model(image)  # pyright: ignore[reportReturnType]


def portable(model: nn.Module, image: Tensor) -> Portable:
    """Fold a network for export.

    Args:
        model: Any network, folded or not; the original is untouched.
        image: An example input.

    Raises:
        ConfigError: The network does not return one tensor.
    """
    folded = copy.deepcopy(model).eval() if getattr(model, "is_folded", False) else fold(model)
    if not is_dense(model):
        to_maps(folded)
    module = Portable(one_output(folded)).eval().requires_grad_(False)
    with torch.no_grad():
        output = module(image)
    if not isinstance(output, Tensor):
        raise ConfigError(
            f"export takes networks with one output tensor, this one returns a {type(output).__name__}; "
            "build it without features_only"
        )
    return module


def is_dense(model: nn.Module) -> bool:
    """Whether a network is a detector or a segmenter."""
    return hasattr(model, "neck")


def one_output(model: nn.Module) -> nn.Module:
    """Return a dense network as a module with one output tensor; any other network as it is.

    Raises:
        ConfigError: A detector whose second stage depends on what the first one finds.
    """
    if not is_dense(model):
        return model
    make: Any = getattr(model, "export_form", None)
    if make is None:
        raise ConfigError(
            "a detector with region proposals does not export; train with --head retinanet to export a detector"
        )
    form = make()
    return JoinedBoxes(form) if hasattr(form, "detections") else form


class JoinedBoxes(nn.Module):
    """Boxes and scores of every anchor in one tensor.

    The boxes are shares of the picture, so that the rounding of both can be measured by one scale.
    """

    def __init__(self, form: nn.Module) -> None:
        super().__init__()
        self.form: Any = form

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, channels, H, W) to (B, N, 4 + classes)."""
        boxes, scores = self.form(image)
        x, y = boxes[..., 0::2] / image.shape[3], boxes[..., 1::2] / image.shape[2]
        return torch.cat([x[..., :1], y[..., :1], x[..., 1:], y[..., 1:], scores], 2)

    def detections(self, outputs: Tensor, size: tuple[int, int]) -> list[dict[str, Tensor]]:
        """Choose the detections of what `forward` gave for a batch of that height and width."""
        return self.form.detections(*split_boxes(outputs, size), image_size=size)


def split_boxes(outputs: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Undo `JoinedBoxes`: boxes (B, N, 4) xyxy in pixels of a batch of that height and width, scores (B, N, C)."""
    scale = torch.tensor([size[1], size[0]] * 2, dtype=outputs.dtype)
    return outputs[..., :4] * scale, outputs[..., 4:]


def example(channels: int, size: tuple[int, int], batch: int = 2) -> Tensor:
    """Make a normal random picture batch (batch, channels, height, width), the same each time."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, channels, *size, generator=generator)
