"""The few operations a folded network is made of, once in plain PyTorch and once prepacked for the CPU.

A folded network is written in terms of `Kernels`. `Plain` runs anywhere, in any precision, traces and exports.
`Packed` computes the same in float32 on a CPU with less overhead: maps stay in channels-last order, 1x1
convolutions become matrix products, large ones use oneDNN with the ReLU or the residual fused and the weight
packed once, small ones the plain product, whose call costs a fifth of a oneDNN call (measured, docs/speed.md).

Shape legend: B batch, C channels, H height, W width. Maps are (B, C, H, W) whatever their memory order.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Multiply-accumulates from which a oneDNN call beats a plain product plus separate element-wise passes.
_LARGE = 12_000_000


class FoldedConv(nn.Module):
    """A convolution with bias: its numbers only; `Kernels` decide how it runs.

    Args:
        weight: (out, in / groups, k, k).
        bias: (out,).
        stride: Step in both directions.
        groups: Channel groups.
    """

    def __init__(self, weight: Tensor, bias: Tensor, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
        self.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
        self.stride = stride
        self.padding = weight.shape[-1] // 2
        self.groups = groups


class Plain:
    """Kernels in plain PyTorch: any device, any precision, any memory order; exportable."""

    def enter(self, x: Tensor) -> Tensor:
        """Bring a picture into the order the kernels like."""
        return x

    def conv(self, layer: FoldedConv, x: Tensor, *, relu: bool = False) -> Tensor:
        """Convolve, then clamp at zero when `relu`."""
        y = F.conv2d(x, layer.weight, layer.bias, layer.stride, layer.padding, 1, layer.groups)
        return torch.relu(y) if relu else y

    def conv_add(self, layer: FoldedConv, x: Tensor, residual: Tensor) -> Tensor:
        """Convolve and add `residual`, which may be overwritten."""
        return residual + self.conv(layer, x)

    def relu(self, x: Tensor) -> Tensor:
        """Clamp at zero; `x` may be overwritten."""
        return torch.relu(x)

    def scale(self, x: Tensor, factor: Tensor) -> Tensor:
        """Multiply by factors that broadcast; `x` may be overwritten."""
        return x * factor

    def norm_all(self, x: Tensor, eps: float) -> Tensor:
        """Normalise each image over channels and space together: group norm with one group, no affine."""
        return F.group_norm(x, 1, eps=eps)


class Packed(Plain):
    """Kernels for float32 inference on a CPU, with weights packed once per layer and input size."""

    def __init__(self) -> None:
        self._packs: dict[tuple[int, ...], Tensor] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Packed:
        """Packs belong to one network's layers; a copy starts without."""
        return Packed()

    def __getstate__(self) -> dict[str, Any]:
        """Packs are never stored."""
        return {"_packs": {}}

    def enter(self, x: Tensor) -> Tensor:
        return x.contiguous(memory_format=torch.channels_last)

    def conv(self, layer: FoldedConv, x: Tensor, *, relu: bool = False) -> Tensor:
        if layer.padding == 0:
            large = x.numel() * layer.weight.shape[0] > _LARGE
            if not large:
                y = self._product(layer, x)
                return y.relu_() if relu else y
            weight = self._pack(layer, x)
        elif layer.weight.shape[1] == 3:
            # The first layer: oneDNN's fused form takes a slow path for three channels (measured 3x).
            y = F.conv2d(x, self._channels_last(layer), layer.bias, layer.stride, layer.padding)
            return y.relu_() if relu else y
        else:
            weight = self._pack(layer, x)
        s, p = layer.stride, layer.padding
        return torch.ops.mkldnn._convolution_pointwise.default(
            x, weight, layer.bias, [p, p], [s, s], [1, 1], layer.groups, "relu" if relu else "none", [], ""
        )

    def conv_add(self, layer: FoldedConv, x: Tensor, residual: Tensor) -> Tensor:
        if layer.padding == 0 and x.numel() * layer.weight.shape[0] <= _LARGE:
            return residual.add_(self._product(layer, x))
        s, p = layer.stride, layer.padding
        return torch.ops.mkldnn._convolution_pointwise_.binary(
            residual, x, self._pack(layer, x), layer.bias, [p, p], [s, s], [1, 1], layer.groups,
            "add", 1.0, None, [], None,
        )  # fmt: skip

    def relu(self, x: Tensor) -> Tensor:
        return x.relu_()

    def scale(self, x: Tensor, factor: Tensor) -> Tensor:
        return x.mul_(factor)

    def norm_all(self, x: Tensor, eps: float) -> Tensor:
        # The order of the elements does not matter to the statistics, so the map keeps its memory order.
        y = x.permute(0, 2, 3, 1)
        return F.layer_norm(y, y.shape[1:], eps=eps).permute(0, 3, 1, 2)

    def _product(self, layer: FoldedConv, x: Tensor) -> Tensor:
        """Run a 1x1 convolution of a channels-last map as one matrix product."""
        weight = layer.weight.view(layer.weight.shape[0], -1)
        return F.linear(x.permute(0, 2, 3, 1), weight, layer.bias).permute(0, 3, 1, 2)

    def _channels_last(self, layer: FoldedConv) -> Tensor:
        """Return the weight in channels-last order, made once."""
        key = (layer.weight.data_ptr(), layer.weight._version)
        if key not in self._packs:
            self._packs[key] = layer.weight.detach().contiguous(memory_format=torch.channels_last)
        return self._packs[key]

    def _pack(self, layer: FoldedConv, x: Tensor) -> Tensor:
        """Return the weight in oneDNN's own order, made once for single images and once for batches."""
        key = (layer.weight.data_ptr(), layer.weight._version, min(x.shape[0], 2))
        if key not in self._packs:
            s, p = layer.stride, layer.padding
            self._packs[key] = torch._C._nn.mkldnn_reorder_conv2d_weight(  # pyright: ignore
                layer.weight.detach().to_mkldnn(), [p, p], [s, s], [1, 1], layer.groups, list(x.shape)
            )
        return self._packs[key]


Kernels = Plain
PLAIN = Plain()


def choose_kernels(packed: Packed, x: Tensor) -> Kernels:
    """Return `packed` when it may serve this input now, else the plain kernels.

    It may for float32 on a CPU with oneDNN, without gradients, autocast, tracing or export.
    """
    usable = (
        type(x) is Tensor
        and x.dtype == torch.float32
        and x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.is_available()
    )
    return packed if usable else PLAIN
