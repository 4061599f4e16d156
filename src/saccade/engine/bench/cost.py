"""Count what a network costs on paper: parameters and multiply-accumulates."""

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


def count_params(model: nn.Module) -> int:
    """Count learnable numbers; buffers such as running statistics are left out."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model: nn.Module, size: int | tuple[int, int], *, in_chans: int = 3) -> int:
    """Count the multiply-accumulates of one picture.

    Convolutions, linear layers and matrix products, attention included; no norms, activations, pooling or
    element-wise work, as in the SHViT and EfficientViM tables once their counters' treatment of batch
    normalisation is set aside. Runs the network once on zeros.

    Args:
        model: Any network of pictures, in evaluation mode.
        size: Side of the square picture in pixels, or (height, width).
        in_chans: Channels of the picture.
    """
    height, width = (size, size) if isinstance(size, int) else size
    first = next(model.parameters(), torch.zeros(1))
    return count_macs_of(
        model, torch.zeros(1, in_chans, height, width, device=first.device, dtype=first.dtype)
    )


def count_macs_of(model: nn.Module, *inputs: Tensor) -> int:
    """Count the multiply-accumulates of one call, as `count_macs` does."""
    # Gradients stay enabled so that folded networks use plain operators, which the counter knows.
    with torch.enable_grad(), FlopCounterMode(display=False) as counter:
        model(*inputs)
    return counter.get_total_flops() // 2
