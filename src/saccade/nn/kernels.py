"""The few operations a folded network is made of, once in plain PyTorch and once prepacked for the CPU.

A folded network is written in terms of kernels. `Plain` runs anywhere, in any precision, traces and exports; its
maps are ordinary (B, C, H, W) tensors. `Packed` computes the same in float32 on a CPU with less overhead: a map
is a matrix with one row a pixel, so that a 1x1 convolution is one matrix product on weights packed once; very
large products go to oneDNN with the ReLU or the residual fused, the others to MKL, whose call costs a fifth of
oneDNN's and whose packed weights stream in faster; everything runs under inference mode. Measured in docs/speed.md.

Shape legend: B batch, C channels, H height, W width, L = H * W tokens (row-major).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Multiply-accumulates from which oneDNN's fused call is no slower than MKL's packed product and a separate pass.
_LARGE = 100_000_000
# One MKL packing is a copy of the weight; a layer keeps at most so many (input sizes beyond do without).
_MAX_PACKINGS = 2
# Output elements of a depthwise convolution up to which nine multiply-adds cost less than one oneDNN call.
_SMALL = 32_768


class FoldedConv(nn.Module):
    """A convolution with bias: its numbers only; the kernels decide how it runs.

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
    """Kernels in plain PyTorch: any device and precision; differentiable, traceable, exportable."""

    def enter(self, x: Tensor) -> Any:
        """Take in a picture (B, C, H, W)."""
        return x

    def leave(self, x: Any) -> Tensor:
        """Give out a map as (B, C, H, W)."""
        return x

    def conv(self, layer: FoldedConv, x: Any, *, relu: bool = False) -> Any:
        """Convolve, then clamp at zero when `relu`."""
        y = F.conv2d(x, layer.weight, layer.bias, layer.stride, layer.padding, 1, layer.groups)
        return torch.relu(y) if relu else y

    def conv_add(self, layer: FoldedConv, x: Any, residual: Any) -> Any:
        """Convolve and add `residual`, which may be overwritten."""
        return residual + self.conv(layer, x)

    def dense(self, layer: FoldedConv, x: Tensor) -> Tensor:
        """Apply a 1x1 convolution to vectors (..., C)."""
        return F.linear(x, layer.weight.flatten(1), layer.bias)

    def linear(self, layer: FoldedConv, x: Tensor, *, gelu: bool = False) -> Tensor:
        """Apply a 1x1 convolution to tokens (..., C), then an exact GELU when asked."""
        y = self.dense(layer, x)
        return F.gelu(y) if gelu else y

    def linear_add(self, layer: FoldedConv, x: Tensor, residual: Tensor) -> Tensor:
        """Apply a 1x1 convolution to tokens and add `residual`, which may be overwritten."""
        return residual + self.dense(layer, x)

    def window_attention(self, qkv: Tensor, offsets: Tensor) -> Tensor:
        """Attend within windows.

        Args:
            qkv: (B, n, L, 3, h, d): n windows of L tokens; the queries hold the softmax scale already.
            offsets: Added to the logits, (1 or n, h, L, L).

        Returns:
            (B, n, L, h * d).
        """
        if torch.compiler.is_exporting() or torch._C._get_tracing_state():
            # Files stay free of a batch in the shape of the offsets.
            q, k, v = qkv.permute(3, 0, 1, 4, 2, 5)
            weights = (q @ k.transpose(-1, -2) + offsets).softmax(-1)
            return (weights @ v).transpose(2, 3).flatten(3)
        batch, count, length = qkv.shape[:3]
        q, k, v = (part.transpose(1, 2) for part in qkv.flatten(0, 1).unbind(2))
        mask = offsets if offsets.shape[0] == 1 else offsets.repeat(batch, 1, 1, 1)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1.0)
        return mixed.transpose(1, 2).reshape(batch, count, length, -1)

    def gate(self, layer_in: FoldedConv, layer_out: FoldedConv, x: Any) -> Any:
        """Squeeze and excite: scale channels by sigmoid(out(relu(in(mean)))); `x` may be overwritten."""
        hidden = torch.relu(self.dense(layer_in, x.mean((2, 3))))
        return x * torch.sigmoid(self.dense(layer_out, hidden))[:, :, None, None]

    def mix(self, x: Any, keep: Tensor, tokens: Tensor) -> Any:
        """Return keep * x + tokens for (C,) factors and (B, L, C) tokens; `x` may be overwritten."""
        return x * keep.view(1, -1, 1, 1) + self.untokens(tokens, x)

    def scale(self, x: Any, keep: Tensor) -> Any:
        """Multiply channels by (C,) factors; `x` may be overwritten."""
        return x * keep.view(1, -1, 1, 1)

    def split(self, x: Any, widths: list[int]) -> list[Any]:
        """Split a map by channels."""
        return list(x.split(widths, 1))

    def cat_relu(self, first: Any, second: Any) -> Any:
        """Join two maps by channels and clamp at zero."""
        return torch.relu(torch.cat([first, second], 1))

    def norm_all(self, x: Any, eps: float) -> Any:
        """Normalise each image over channels and space together: group norm with one group, no affine."""
        return F.group_norm(x, 1, eps=eps)

    def tokens(self, x: Any) -> Tensor:
        """View or copy a map as tokens (B, L, C)."""
        return x.flatten(2).transpose(1, 2)

    def untokens(self, tokens: Tensor, like: Any) -> Any:
        """Turn tokens (B, L, C) into a map with the batch, height and width of `like`."""
        return tokens.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], *like.shape[2:])


class Rows(NamedTuple):
    """A map as a matrix: one row a pixel, row-major over (B, H, W)."""

    data: Tensor
    """(B * H * W, C), rows contiguous."""
    size: tuple[int, int, int]
    """(B, H, W)."""


class Packed(Plain):
    """Kernels for float32 inference on a CPU, with weights packed once per layer and input size."""

    def __init__(self) -> None:
        self._packs: dict[tuple[int, ...], Tensor] = {}
        self._num_packings: dict[int, int] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Packed:
        """Packs belong to one network's layers; a copy starts without."""
        return Packed()

    def __getstate__(self) -> dict[str, Any]:
        """Packs are never stored."""
        return Packed().__dict__

    def enter(self, x: Tensor) -> Rows:
        """Take in a picture as rows."""
        return _rows(x.contiguous(memory_format=torch.channels_last))

    def leave(self, x: Rows) -> Tensor:
        """Give out a copy as (B, C, H, W); the next stage may overwrite the rows."""
        return _map(x).clone()

    def conv(self, layer: FoldedConv, x: Rows, *, relu: bool = False) -> Rows:
        """See `Plain`."""
        if layer.padding:
            return self._window(layer, x, relu)
        data, num_rows = x.data, x.data.shape[0]
        if data.numel() * layer.weight.shape[0] > _LARGE:
            y = torch.ops.mkldnn._linear_pointwise.default(
                data, self._onednn(layer, num_rows), layer.bias, "relu" if relu else "none", [], ""
            )
        else:
            y = self._product(layer, data)
            if relu:
                y.relu_()
        return Rows(y, x.size)

    def conv_add(self, layer: FoldedConv, x: Rows, residual: Rows) -> Rows:
        """See `Plain`; overwrites a small residual."""
        data = x.data
        if data.numel() * layer.weight.shape[0] > _LARGE:
            y = torch.ops.mkldnn._linear_pointwise.binary(
                data, residual.data, self._onednn(layer, data.shape[0]), layer.bias, "add"
            )
            return Rows(y, residual.size)
        residual.data.add_(self._product(layer, data))
        return residual

    def dense(self, layer: FoldedConv, x: Tensor) -> Tensor:
        """See `Plain`."""
        return self._product(layer, x.reshape(-1, x.shape[-1])).view(*x.shape[:-1], -1)

    def linear(self, layer: FoldedConv, x: Tensor, *, gelu: bool = False) -> Tensor:
        """See `Plain`."""
        rows = x.reshape(-1, x.shape[-1])
        if rows.numel() * layer.weight.shape[0] > _LARGE:
            y = torch.ops.mkldnn._linear_pointwise.default(
                rows, self._onednn(layer, rows.shape[0]), layer.bias, "gelu" if gelu else "none", [], "none"
            )
        else:
            y = self._product(layer, rows)
            if gelu:
                torch.ops.aten.gelu_(y)
        return y.view(*x.shape[:-1], -1)

    def linear_add(self, layer: FoldedConv, x: Tensor, residual: Tensor) -> Tensor:
        """See `Plain`; overwrites a small residual."""
        rows = x.reshape(-1, x.shape[-1])
        if rows.numel() * layer.weight.shape[0] > _LARGE:
            y = torch.ops.mkldnn._linear_pointwise.binary(
                rows,
                residual.reshape(-1, residual.shape[-1]),
                self._onednn(layer, rows.shape[0]),
                layer.bias,
                "add",
            )
            return y.view(residual.shape)
        return residual.add_(self._product(layer, rows).view(residual.shape))

    def gate(self, layer_in: FoldedConv, layer_out: FoldedConv, x: Rows) -> Rows:
        """See `Plain`; overwrites `x`."""
        tokens = self.tokens(x)
        hidden = self._product(layer_in, tokens.mean(1)).relu_()
        tokens.mul_(self._product(layer_out, hidden).sigmoid_().unsqueeze(1))
        return x

    def mix(self, x: Rows, keep: Tensor, tokens: Tensor) -> Rows:
        """See `Plain`."""
        return Rows(torch.addcmul(tokens.view(-1, tokens.shape[2]), x.data, keep), x.size)

    def scale(self, x: Rows, keep: Tensor) -> Rows:
        """See `Plain`; overwrites `x`."""
        x.data.mul_(keep)
        return x

    def split(self, x: Rows, widths: list[int]) -> list[Rows]:
        """See `Plain`; the parts are views."""
        return [Rows(part, x.size) for part in x.data.split(widths, 1)]

    def cat_relu(self, first: Rows, second: Rows) -> Rows:
        """See `Plain`."""
        return Rows(torch.cat([first.data, second.data], 1).relu_(), first.size)

    def norm_all(self, x: Rows, eps: float) -> Rows:
        """See `Plain`."""
        # The order of the elements does not matter to the statistics, so the map keeps its memory order.
        tokens = self.tokens(x)
        return Rows(F.layer_norm(tokens, tokens.shape[1:], eps=eps).view(-1, tokens.shape[2]), x.size)

    def tokens(self, x: Rows) -> Tensor:
        """View the rows as tokens (B, L, C)."""
        return x.data.view(x.size[0], -1, x.data.shape[1])

    def untokens(self, tokens: Tensor, like: Rows) -> Rows:
        """See `Plain`."""
        return Rows(tokens.reshape(-1, tokens.shape[2]), like.size)

    def _window(self, layer: FoldedConv, x: Rows, relu: bool) -> Rows:
        """Run a 3x3 convolution through oneDNN on the channels-last view of the rows."""
        picture, s, p = _map(x), layer.stride, layer.padding
        depthwise = layer.groups > 1 and layer.groups == layer.weight.shape[0]
        if depthwise and x.data.numel() <= _SMALL * s * s:
            return self._shifted(layer, x, relu)
        if layer.weight.shape[1] == 3:
            # The first layer: oneDNN's prepacked form takes a slow path for three channels (measured 3x).
            y = F.conv2d(picture, self._channels_last(layer), layer.bias, s, p)
            return _rows(y.relu_() if relu else y)
        key = (layer.weight.data_ptr(), layer.weight._version, 3, min(x.size[0], 2))
        if key not in self._packs:
            self._packs[key] = torch._C._nn.mkldnn_reorder_conv2d_weight(  # pyright: ignore
                layer.weight.detach().to_mkldnn(), [p, p], [s, s], [1, 1], layer.groups, list(picture.shape)
            )
        return _rows(
            torch.ops.mkldnn._convolution_pointwise.default(
                picture, self._packs[key], layer.bias, [p, p], [s, s], [1, 1], layer.groups,
                "relu" if relu else "none", [], "",
            )
        )  # fmt: skip

    def _shifted(self, layer: FoldedConv, x: Rows, relu: bool) -> Rows:
        """Run a depthwise 3x3 convolution of a small map as a sum of nine shifted products."""
        key = (layer.weight.data_ptr(), layer.weight._version, 5)
        if key not in self._packs:
            self._packs[key] = layer.weight.detach().flatten(1).t().contiguous()
        taps, (batch, height, width), s = self._packs[key], x.size, layer.stride
        out = (batch, (height + s - 1) // s, (width + s - 1) // s)
        framed = F.pad(x.data.view(*x.size, -1), (0, 0, 1, 1, 1, 1))
        y = layer.bias
        for i in range(9):
            top, left = divmod(i, 3)
            part = framed[:, top : top + height : s, left : left + width : s]
            y = torch.addcmul(y, part, taps[i]) if i == 0 else y.addcmul_(part, taps[i])
        rows = y.view(-1, x.data.shape[1])
        return Rows(rows.relu_() if relu else rows, out)

    def _product(self, layer: FoldedConv, rows: Tensor) -> Tensor:
        """Multiply rows (n, in) by a 1x1 weight and add its bias."""
        weight, num_rows = layer.weight, rows.shape[0]
        key = (weight.data_ptr(), weight._version, 1, num_rows)
        packed = self._packs.get(key)
        if packed is None:
            used = self._num_packings.get(key[0], 0)
            if not _HAS_MKL or used >= _MAX_PACKINGS:
                return torch.addmm(layer.bias, rows, weight.view(weight.shape[0], -1).t())
            self._num_packings[key[0]] = used + 1
            packed = torch.ops.mkl._mkl_reorder_linear_weight(weight.detach().flatten(1), num_rows)
            self._packs[key] = packed
        return torch.ops.mkl._mkl_linear.default(
            rows, packed, weight.view(weight.shape[0], -1), layer.bias, num_rows
        )

    def _onednn(self, layer: FoldedConv, num_rows: int) -> Tensor:
        """Return a 1x1 weight in oneDNN's own order, made once."""
        key = (layer.weight.data_ptr(), layer.weight._version, 2)
        if key not in self._packs:
            weight = layer.weight.detach().flatten(1)
            self._packs[key] = torch.ops.mkldnn._reorder_linear_weight(weight, num_rows)
        return self._packs[key]

    def _channels_last(self, layer: FoldedConv) -> Tensor:
        """Return the weight in channels-last order, made once."""
        key = (layer.weight.data_ptr(), layer.weight._version, 4)
        if key not in self._packs:
            self._packs[key] = layer.weight.detach().contiguous(memory_format=torch.channels_last)
        return self._packs[key]


_HAS_MKL = torch.backends.mkl.is_available() and hasattr(torch.ops.mkl, "_mkl_linear")
_PLAIN = Plain()


def choose_kernels(packed: Packed, x: Tensor) -> Plain:
    """Return `packed` when it may serve this input now, else the plain kernels.

    It may for float32 on a CPU with oneDNN, without gradients, autocast, tracing or export.
    """
    usable = (
        type(x) is Tensor
        and x.dtype == torch.float32
        and x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not torch._C._get_tracing_state()
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.is_available()
    )
    return packed if usable else _PLAIN


def _rows(x: Tensor) -> Rows:
    """View a channels-last map as rows."""
    return Rows(x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]), (x.shape[0], x.shape[2], x.shape[3]))


def _map(x: Rows) -> Tensor:
    """View rows as a channels-last map (B, C, H, W)."""
    return x.data.view(*x.size, x.data.shape[1]).permute(0, 3, 1, 2)
