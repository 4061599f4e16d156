"""Transformer pieces shared by the STViT models: attention from tokens to other tokens, and the block around it.

Shape legend: B batch, L query tokens, N key tokens, C channels, h heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.errors import ShapeError


class DropPath(nn.Module):
    """Stochastic depth: in training, drop the whole branch of a sample with probability `rate`, scale the rest."""

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, ...) to the same shape."""
        if not self.rate or not self.training:
            return x
        keep = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(1 - self.rate)
        return x * keep / (1 - self.rate)


class Mlp(nn.Module):
    """Linear, exact GELU, linear; hidden width `ratio` * C."""

    def __init__(self, dim: int, ratio: int = 4) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, ratio * dim)
        self.fc2 = nn.Linear(ratio * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., C) to the same shape."""
        return self.fc2(F.gelu(self.fc1(x)))


def split_heads(x: Tensor, heads: int) -> Tensor:
    """View (B, L, C) as (B, h, L, C / h)."""
    return x.unflatten(2, (heads, -1)).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head attention whose keys and values may come from other tokens than its queries.

    Args:
        dim: Channels.
        heads: Heads; divides `dim`.
        separate: Hold two linear layers `q` and `kv` (as STViT-R's checkpoints do) instead of one `qkv` whose rows
            [0, C) serve the queries and [C, 3C) the keys and values.
    """

    def __init__(self, dim: int, heads: int, *, separate: bool = False) -> None:
        super().__init__()
        self.heads = heads
        if separate:
            self.q, self.kv = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim)
        else:
            self.qkv = nn.Linear(dim, 3 * dim)
        self.separate = separate
        self.proj = nn.Linear(dim, dim)

    def queries(self, x: Tensor) -> Tensor:
        """Project (B, L, C) to queries (B, L, C)."""
        if self.separate:
            return self.q(x)
        dim = x.shape[-1]
        return F.linear(x, self.qkv.weight[:dim], self.qkv.bias[:dim])

    def keys_values(self, x: Tensor) -> Tensor:
        """Project (..., N, C) to keys and values side by side, (..., N, 2C)."""
        if self.separate:
            return self.kv(x)
        dim = x.shape[-1]
        return F.linear(x, self.qkv.weight[dim:], self.qkv.bias[dim:])

    def attend(self, q: Tensor, kv: Tensor, bias: Tensor | None = None) -> Tensor:
        """Mix values and project: q (B, L, C), kv (B, N, 2C), `bias` added to the logits -> (B, L, C)."""
        k, v = kv.chunk(2, -1)
        mixed = F.scaled_dot_product_attention(
            split_heads(q, self.heads), split_heads(k, self.heads), split_heads(v, self.heads), attn_mask=bias
        )
        return self.proj(mixed.transpose(1, 2).flatten(2))

    def weights(self, x: Tensor, context: Tensor) -> Tensor:
        """Return the attention weights (B, h, L, N), each row summing to 1; for looking at, not on the fast path."""
        q = split_heads(self.queries(x), self.heads)
        k = split_heads(self.keys_values(context).chunk(2, -1)[0], self.heads)
        return (q @ k.transpose(2, 3) * q.shape[-1] ** -0.5).softmax(-1)

    def forward(self, x: Tensor, context: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """Let x (B, L, C) query `context` (B, N, C), by default itself; returns (B, L, C)."""
        if context is None and not self.separate:
            dim = x.shape[-1]
            q, kv = self.qkv(x).split([dim, 2 * dim], -1)
            return self.attend(q, kv, bias)
        return self.attend(self.queries(x), self.keys_values(x if context is None else context), bias)


class Block(nn.Module):
    """Pre-norm transformer block; queries and keys share the first norm.

    y = x + g1 A(norm1(x); norm1(context)), then y + g2 MLP(norm2(y)), each branch under stochastic depth; the
    LayerScale vectors g1, g2 exist only when `layer_scale` is given.

    Args:
        dim: Channels.
        heads: Heads.
        separate: See `Attention`.
        layer_scale: Start value of LayerScale; None: no LayerScale.
        drop_path: Rate of stochastic depth.
        eps: Of the layer norms.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        separate: bool = False,
        layer_scale: float | None = None,
        drop_path: float = 0.0,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attn = Attention(dim, heads, separate=separate)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = Mlp(dim)
        self.drop_path = DropPath(drop_path)
        scale = None if layer_scale is None else torch.full((dim,), layer_scale)
        self.layer_scale_1 = None if scale is None else nn.Parameter(scale)
        self.layer_scale_2 = None if scale is None else nn.Parameter(scale.clone())

    def scaled(self, branch: Tensor) -> Tensor:
        """Apply the attention branch's LayerScale."""
        return branch if self.layer_scale_1 is None else self.layer_scale_1 * branch

    def feed_forward(self, x: Tensor) -> Tensor:
        """Apply the second half of the block with its residual."""
        y = self.mlp(self.norm2(x))
        return x + self.drop_path(y if self.layer_scale_2 is None else self.layer_scale_2 * y)

    def forward(self, x: Tensor, context: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """Map tokens x (B, L, C), looking at `context` (B, N, C) or at themselves, to the same shape."""
        y = self.norm1(x)
        seen = None if context is None else self.norm1(context)
        return self.feed_forward(x + self.drop_path(self.scaled(self.attn(y, seen, bias))))


def init_transformer(module: nn.Module) -> None:
    """Initialise linear layers as DeiT and Swin do: truncated normal 0.02, zero bias; for `Module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def drop_rates(rate: float, depth: int) -> list[float]:
    """Spread stochastic depth linearly from 0 to `rate` over `depth` blocks."""
    return [rate * i / max(1, depth - 1) for i in range(depth)]


def cut_patches(x: Tensor, patch: int) -> tuple[Tensor, tuple[int, int]]:
    """Cut a picture (B, c, height, width) into patches (B, H * W, c * patch * patch); also returns (H, W).

    Raises:
        ShapeError: A side is no multiple of the patch.
    """
    if x.shape[2] % patch or x.shape[3] % patch:
        raise ShapeError(f"the picture is {x.shape[2]}x{x.shape[3]} pixels; expected multiples of {patch}")
    size = (x.shape[2] // patch, x.shape[3] // patch)
    cells = x.unflatten(3, (size[1], patch)).unflatten(2, (size[0], patch)).permute(0, 2, 4, 1, 3, 5)
    return cells.reshape(x.shape[0], size[0] * size[1], x.shape[1] * patch * patch), size
