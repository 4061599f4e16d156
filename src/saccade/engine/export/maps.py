"""The mixers of both families with channels before tokens, as exported graphs like it.

The folded networks keep tokens before channels, which suits PyTorch's matrix products. Runtimes keep maps with
channels first and can read either factor of a product transposed for nothing, so here every product takes and gives
channels first: the same arithmetic with fewer transposes. Also here: states padded to whole channel blocks.

Shape legend: B batch, C channels, N states, L = H * W tokens.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.models.efficientvim import FoldedBlock
from saccade.models.shvit import QUERY_DIM, FoldedAttention
from saccade.nn.kernels import FoldedConv, Plain

CHANNEL_BLOCK = 16


class MapKernels(Plain):
    """Plain kernels that keep the squeeze-and-excite vector a map of one pixel."""

    def gate(self, layer_in: FoldedConv, layer_out: FoldedConv, x: Tensor) -> Tensor:
        """Scale channels by sigmoid(out(relu(in(mean))))."""
        hidden = self.conv(layer_in, x.mean((2, 3), keepdim=True), relu=True)
        return x * torch.sigmoid(self.conv(layer_out, hidden))


class AttentionMaps(nn.Module):
    """`FoldedAttention` with channels first."""

    def __init__(self, folded: FoldedAttention) -> None:
        super().__init__()
        self.attended, self.rest, self.eps = folded.attended, folded.rest, folded.eps
        self.qkv, self.proj = folded.qkv, folded.proj

    def forward(self, x: Tensor, k: Plain) -> Tensor:
        """Return the map (B, C, H, W) plus its attention."""
        seen, rest = k.split(x, [self.attended, self.rest])
        qkv = k.conv(self.qkv, k.norm_all(seen, self.eps)).flatten(2)
        query, key, value = qkv.split([QUERY_DIM, QUERY_DIM, self.attended], 1)
        weights = (query.transpose(1, 2) @ key).softmax(-1)
        mixed = (value @ weights.transpose(1, 2)).view_as(seen)
        return k.conv_add(self.proj, k.cat_relu(mixed, rest), x)


class StateMaps(nn.Module):
    """`FoldedBlock` of EfficientViM with channels first.

    The three projections are padded with silent channels to a multiple of 16: runtimes lay channels out in blocks
    and leave their fast path otherwise. The depthwise convolution over 147 channels ran at an eighth of the speed of
    one over 160 in ONNX Runtime.
    """

    def __init__(self, folded: FoldedBlock) -> None:
        super().__init__()
        for name, child in folded.named_children():
            self.add_module(name, child)
        for name, parameter in folded.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        self.num_states = folded.num_states
        if folded.gate is None:
            self.gate = None
        width = 3 * self.num_states
        missing = -width % CHANNEL_BLOCK
        for conv in (folded.bcdt_proj, folded.dwconv):
            for name in ("weight", "bias"):
                tensor = getattr(conv, name)
                padded = torch.cat([tensor, tensor.new_zeros(missing, *tensor.shape[1:])])
                setattr(conv, name, nn.Parameter(padded, requires_grad=False))
        folded.dwconv.groups = width + missing
        self.parts = [self.num_states] * 3 + ([missing] if missing else [])

    def forward(self, x: Tensor, k: Plain) -> tuple[Tensor, Tensor]:
        """Return the map (B, C, H, W) and the hidden states (B, N, C)."""
        own: Any = self
        x = k.conv(own.dwconv1, x)
        u = F.layer_norm(k.tokens(x), own.norm_weight.shape, own.norm_weight, own.norm_bias, eps=1e-5)
        bcdt = k.conv(own.dwconv, k.conv(own.bcdt_proj, k.untokens(u, x))).flatten(2)
        b, c, delta = bcdt.split(self.parts, 1)[:3]
        states = (delta.softmax(-1) * b) @ u
        h, z = k.dense(own.hz_proj, states).chunk(2, 2)
        states = k.dense(own.out_proj, h * (F.silu(z) + own.scalar))
        gated = states if own.gate is None else states * own.gate
        x = k.scale(x, own.keep) + (gated.transpose(1, 2) @ c).view_as(x)
        return own.ffn(k.conv(own.dwconv2, x), k), states


def to_maps(module: nn.Module) -> None:
    """Replace the mixers inside a folded network, in place; it runs with plain kernels only afterwards."""
    for name, child in module.named_children():
        if isinstance(child, FoldedAttention):
            setattr(module, name, AttentionMaps(child))
        elif isinstance(child, FoldedBlock):
            setattr(module, name, StateMaps(child))
        else:
            to_maps(child)
