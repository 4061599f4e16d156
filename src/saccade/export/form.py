"""Bring a network into the form that exporters take: folded, plain operations, one tensor in and one out."""

import copy

import torch
from torch import Tensor, nn

from saccade.errors import ConfigError
from saccade.models.efficientvim import FoldedBlock
from saccade.nn.fold import fold

CHANNEL_BLOCK = 16


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
        return self.model(image)


def portable(model: nn.Module, image: Tensor) -> Portable:
    """Fold a network for export.

    Args:
        model: Any network, folded or not; the original is untouched.
        image: An example input.

    Raises:
        ConfigError: The network does not return one tensor.
    """
    folded = copy.deepcopy(model).eval() if getattr(model, "is_folded", False) else fold(model)
    for block in folded.modules():
        if isinstance(block, FoldedBlock):
            _pad_states(block)
    module = Portable(folded).eval().requires_grad_(False)
    with torch.no_grad():
        output = module(image)
    if not isinstance(output, Tensor):
        raise ConfigError(
            f"export takes networks with one output tensor, this one returns a {type(output).__name__}; "
            "build it without features_only"
        )
    return module


def _pad_states(block: FoldedBlock) -> None:
    """Pad the mixer's three projections with silent channels to a multiple of 16.

    Runtimes lay channels out in blocks of 8 or 16 and leave their fast path otherwise: the depthwise convolution
    over 147 channels ran at an eighth of the speed of one over 160 in ONNX Runtime. The block reads only the first.
    """
    width = 3 * block.num_states
    missing = -width % CHANNEL_BLOCK
    for conv in (block.bcdt_proj, block.dwconv):
        for name in ("weight", "bias"):
            tensor = getattr(conv, name)
            padded = torch.cat([tensor, tensor.new_zeros(missing, *tensor.shape[1:])])
            setattr(conv, name, nn.Parameter(padded, requires_grad=False))
    block.dwconv.groups = width + missing


def example(channels: int, size: tuple[int, int], batch: int = 2) -> Tensor:
    """Make a normal random picture batch (batch, channels, height, width), the same each time."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, channels, *size, generator=generator)
