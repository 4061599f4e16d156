"""Bring a network into the form that exporters take: folded, plain operations, one tensor in and one out."""

import copy

import torch
from torch import Tensor, nn

from saccade.errors import ConfigError
from saccade.export.maps import MapKernels, to_maps
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
    to_maps(folded)
    module = Portable(folded).eval().requires_grad_(False)
    with torch.no_grad():
        output = module(image)
    if not isinstance(output, Tensor):
        raise ConfigError(
            f"export takes networks with one output tensor, this one returns a {type(output).__name__}; "
            "build it without features_only"
        )
    return module


def example(channels: int, size: tuple[int, int], batch: int = 2) -> Tensor:
    """Make a normal random picture batch (batch, channels, height, width), the same each time."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, channels, *size, generator=generator)
