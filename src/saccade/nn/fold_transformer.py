"""Inference forms of the transformer pieces: norms' affine maps and LayerScale live in the linear layers.

Shape legend: B batch, L query tokens, N key tokens, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.nn.kernels import FoldedConv, Plain
from saccade.nn.transformer import Block, split_heads


def fold_linear(
    weight: Tensor,
    bias: Tensor | None,
    *,
    norm: nn.LayerNorm | None = None,
    scale: Tensor | None = None,
) -> FoldedConv:
    """Fold scale * (weight (norm_weight * x + norm_bias) + bias) into one linear map.

    Args:
        weight: (out, in).
        bias: (out,), or None for zeros.
        norm: Layer norm in front, whose affine part is taken over; the caller keeps the normalisation itself.
        scale: (out,) factors behind, such as LayerScale.
    """
    w = weight.double()
    b = torch.zeros(w.shape[0], dtype=torch.float64) if bias is None else bias.double()
    if norm is not None:
        b = b + w @ norm.bias.double()
        w = w * norm.weight.double()
    if scale is not None:
        w, b = w * scale.double().unsqueeze(1), b * scale.double()
    return FoldedConv(w.to(weight.dtype)[:, :, None, None], b.to(weight.dtype))


def projections(block: Block) -> tuple[Tensor, Tensor]:
    """Return the stacked query, key and value weights (3C, C) and biases (3C,) of either form of attention."""
    attn = block.attn
    if not attn.separate:
        return attn.qkv.weight, attn.qkv.bias
    return torch.cat([attn.q.weight, attn.kv.weight]), torch.cat([attn.q.bias, attn.kv.bias])


def normalise(x: Tensor, eps: float) -> Tensor:
    """Layer norm over channels without its affine part."""
    return F.layer_norm(x, x.shape[-1:], eps=eps)


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, bias: Tensor | None = None) -> Tensor:
    """Mix values: q (B, L, C), k and v (B, N, C) -> (B, L, C)."""
    mixed = F.scaled_dot_product_attention(
        split_heads(q, heads), split_heads(k, heads), split_heads(v, heads), attn_mask=bias
    )
    return mixed.transpose(1, 2).flatten(2)


class FoldedMlp(nn.Module):
    """Inference form of the second half of a block, residual included."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.eps = block.norm2.eps
        self.fc1 = fold_linear(block.mlp.fc1.weight, block.mlp.fc1.bias, norm=block.norm2)
        self.fc2 = fold_linear(block.mlp.fc2.weight, block.mlp.fc2.bias, scale=block.layer_scale_2)

    def forward(self, x: Tensor, k: Plain) -> Tensor:
        """Map (B, L, C) to the same shape; `x` may be overwritten."""
        return k.linear_add(self.fc2, k.linear(self.fc1, normalise(x, self.eps), gelu=True), x)


class FoldedBlock(nn.Module):
    """Inference form of a self-attention `Block`; `bias` (h, L, L) is added to its logits."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.heads, self.eps = block.attn.heads, block.norm1.eps
        self.qkv = fold_linear(*projections(block), norm=block.norm1)
        self.proj = fold_linear(block.attn.proj.weight, block.attn.proj.bias, scale=block.layer_scale_1)
        self.mlp = FoldedMlp(block)

    def forward(self, x: Tensor, k: Plain, bias: Tensor | None = None) -> Tensor:
        """Map (B, L, C) to the same shape; `x` may be overwritten."""
        q, key, value = k.linear(self.qkv, normalise(x, self.eps)).chunk(3, -1)
        return self.mlp(k.linear_add(self.proj, attend(q, key, value, self.heads, bias), x), k)


class FoldedCross(nn.Module):
    """Inference form of a `Block` whose queries look at other tokens; keys and values are projected outside.

    `key_value` is the folded projection (2C, C) of normalised tokens, for the caller to apply once per token,
    possibly stacked with those of other blocks.
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        dim = block.norm1.normalized_shape[0]
        self.heads, self.eps = block.attn.heads, block.norm1.eps
        weight, bias = projections(block)
        self.q = fold_linear(weight[:dim], bias[:dim], norm=block.norm1)
        self.kv = fold_linear(weight[dim:], bias[dim:], norm=block.norm1)
        self.proj = fold_linear(block.attn.proj.weight, block.attn.proj.bias, scale=block.layer_scale_1)
        self.mlp = FoldedMlp(block)

    def query(self, x: Tensor, k: Plain) -> Tensor:
        """Project raw tokens (B, L, C) to queries."""
        return k.linear(self.q, normalise(x, self.eps))

    def forward(self, x: Tensor, key: Tensor, value: Tensor, k: Plain, bias: Tensor | None = None) -> Tensor:
        """Let x (B, L, C) look at keys and values (B, N, C); `x` may be overwritten."""
        mixed = attend(self.query(x, k), key, value, self.heads, bias)
        return self.mlp(k.linear_add(self.proj, mixed, x), k)


def stack_linear(layers: list[FoldedConv]) -> FoldedConv:
    """Put linear maps of the same input side by side."""
    return FoldedConv(torch.cat([x.weight for x in layers]), torch.cat([x.bias for x in layers]))
