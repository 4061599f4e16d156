"""Run one of timm's transformer blocks with queries from some tokens and keys from others.

The blocks keep all they have: fused or separate projections, query and key norms, inner norms, gates, LayerScale,
stochastic depth, dropout. Only the two inputs are new.

Shape legend: B batch, L query tokens, N key tokens, C channels, h heads, d channels a head, P prefix tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Block classes of timm and the attention classes inside them that `cross_block` can run.
KNOWN_BLOCKS = ("Block", "ResPostBlock", "EvaBlock", "EvaBlockPostNorm", "RelPosBlock", "ResPostRelPosBlock")
KNOWN_ATTENTION = ("Attention", "EvaAttention", "RelPosAttention")


def _projection(attn: Any) -> tuple[list[Tensor], list[Tensor | None]]:
    """Return the query, key and value weights (h * d, C) and biases of any of the known attention classes."""
    if getattr(attn, "qkv", None) is None:
        layers = (attn.q_proj, attn.k_proj, attn.v_proj)
        return [layer.weight for layer in layers], [layer.bias for layer in layers]
    weights = list(attn.qkv.weight.chunk(3))
    if attn.qkv.bias is not None:
        return weights, list(attn.qkv.bias.chunk(3))
    if getattr(attn, "q_bias", None) is not None:
        return weights, [attn.q_bias, attn.k_bias, attn.v_bias]
    return weights, [None, None, None]


def rotate(x: Tensor, rope: Tensor | None, prefix: int, half: bool) -> Tensor:
    """Turn all but the first `prefix` tokens of (B, h, L, d) by rotary angles (sine and cosine side by side)."""
    if rope is None:
        return x
    from timm.layers.pos_embed_sincos import apply_rot_embed_cat

    turned = apply_rot_embed_cat(x[:, :, prefix:], rope, half=half)
    return torch.cat([x[:, :, :prefix], turned], 2).type_as(x)


def queries_keys(
    attn: Any, x: Tensor, context: Tensor, ropes: tuple[Tensor | None, Tensor | None], prefix: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Project to queries (B, h, L, d), keys and values (B, h, N, d), with norms and rotary positions."""
    (wq, wk, wv), (bq, bk, bv) = _projection(attn)
    heads, half = attn.num_heads, bool(getattr(attn, "rotate_half", False))
    q = F.linear(x, wq, bq).unflatten(2, (heads, -1)).transpose(1, 2)
    k = F.linear(context, wk, bk).unflatten(2, (heads, -1)).transpose(1, 2)
    v = F.linear(context, wv, bv).unflatten(2, (heads, -1)).transpose(1, 2)
    q, k = _part(attn, "q_norm")(q), _part(attn, "k_norm")(k)
    return rotate(q, ropes[0], prefix, half), rotate(k, ropes[1], prefix, half), v


def cross_attention(
    attn: Any, x: Tensor, context: Tensor, ropes: tuple[Tensor | None, Tensor | None], prefix: int
) -> Tensor:
    """Let tokens x (B, L, C) look at `context` (B, N, C), both normalised: (B, L, C)."""
    q, k, v = queries_keys(attn, x, context, ropes, prefix)
    drop = attn.attn_drop.p if attn.training else 0.0
    y = F.scaled_dot_product_attention(q, k, v, dropout_p=drop).transpose(1, 2).flatten(2)
    y = _part(attn, "norm")(y)
    gate = getattr(attn, "gate", None)
    if gate is not None:
        y = y * gate(x).sigmoid()
    return attn.proj_drop(attn.proj(y))


def attention_weights(
    attn: Any, x: Tensor, context: Tensor, ropes: tuple[Tensor | None, Tensor | None], prefix: int
) -> Tensor:
    """Return the weights (B, h, L, N) of `cross_attention`, each row summing to 1."""
    q, k, _ = queries_keys(attn, x, context, ropes, prefix)
    return (q @ k.transpose(2, 3) * q.shape[-1] ** -0.5).softmax(-1)


def cross_block(
    block: Any,
    x: Tensor,
    context: Tensor,
    ropes: tuple[Tensor | None, Tensor | None] = (None, None),
    prefix: int = 0,
) -> Tensor:
    """Run a block with queries x (B, L, C) and keys from `context` (B, N, C).

    Args:
        block: One of timm's, of a class in `KNOWN_BLOCKS`.
        x: Query tokens, which the residuals run along.
        context: Key tokens; the first norm is shared between both.
        ropes: Rotary positions of the queries and of the keys behind the prefix.
        prefix: Class and register tokens at the front of both.
    """
    post = "PostNorm" in type(block).__name__ or "ResPost" in type(block).__name__
    seen = (x, context) if post else (block.norm1(x), block.norm1(context))
    y = cross_attention(block.attn, *seen, ropes, prefix)
    x = x + _part(block, "drop_path1")(_scaled(block, block.norm1(y) if post else y, 1))
    y = block.norm2(block.mlp(x)) if post else block.mlp(block.norm2(x))
    return x + _part(block, "drop_path2")(_scaled(block, y, 2))


def _scaled(block: Any, y: Tensor, number: int) -> Tensor:
    """Apply the block's LayerScale, under either of its names."""
    gamma = getattr(block, f"gamma_{number}", None)
    return _part(block, f"ls{number}")(y) if gamma is None else gamma * y


def _part(module: Any, name: str) -> nn.Module | Any:
    """Return an optional sub-module, or the identity."""
    part = getattr(module, name, None)
    return _IDENTITY if part is None else part


_IDENTITY = nn.Identity()
