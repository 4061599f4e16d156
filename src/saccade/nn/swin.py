"""Pieces of the Swin transformer that the STViT models share: windows, relative position bias, blocks, merging.

Liu et al., "Swin Transformer", ICCV 2021, arXiv 2103.14030. Maps are (B, H, W, C).

Shape legend: B batch, H height, W width, C channels, w window side, h heads, n windows a map.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.nn.transformer import Attention, Block

SHIFT_MASK = -100.0
"""What Swin adds to the logits of tokens that only the cyclic shift brought together."""


def to_windows(x: Tensor, size: int) -> Tensor:
    """Cut maps (B, H, W, C), H and W multiples of `size`, into windows (B * n, size * size, C), row-major."""
    rows, cols = x.shape[1] // size, x.shape[2] // size
    cells = x.unflatten(2, (cols, size)).unflatten(1, (rows, size)).transpose(2, 3)
    return cells.reshape(-1, size * size, x.shape[3])


def from_windows(x: Tensor, size: int, height: int, width: int) -> Tensor:
    """Undo `to_windows`: (B * n, size * size, C) to maps (B, height, width, C)."""
    rows, cols = height // size, width // size
    cells = x.reshape(-1, rows, cols, size, size, x.shape[2]).transpose(2, 3)
    return cells.reshape(cells.shape[0], height, width, x.shape[2])


def pad_to_multiple(x: Tensor, size: int) -> Tensor:
    """Zero-pad maps (B, H, W, C) at the bottom and right to multiples of `size`."""
    down, across = -x.shape[1] % size, -x.shape[2] % size
    return F.pad(x, (0, 0, 0, across, 0, down)) if down or across else x


def pad_picture(x: Tensor, patch: int = 4) -> Tensor:
    """Zero-pad a picture (B, c, height, width) at the bottom and right to multiples of `patch`."""
    down, across = -x.shape[2] % patch, -x.shape[3] % patch
    return F.pad(x, (0, across, 0, down)) if down or across else x


def shift_mask(height: int, width: int, size: int, shift: int, like: Tensor) -> Tensor:
    """Offsets that keep shifted windows from looking across the map's border.

    Args:
        height: Of the map, a multiple of `size`.
        width: Of the map, a multiple of `size`.
        size: Window side.
        shift: Cyclic shift.
        like: Device and precision of the result.

    Returns:
        (n, w * w, w * w): 0, or -100 between positions that the cyclic shift brought together.
    """
    regions = [
        (at >= length - size).long() + (at >= length - shift).long()
        for length in (height, width)
        for at in [torch.arange(length, device=like.device)]
    ]
    ids = (3 * regions[0][:, None] + regions[1])[None, :, :, None]
    cells = to_windows(ids, size)
    return ((cells != cells.transpose(1, 2)) * SHIFT_MASK).to(like.dtype)


def relative_index(size: int) -> Tensor:
    """Row of the bias table for each pair of positions in a window, (w * w, w * w)."""
    where = torch.cartesian_prod(torch.arange(size), torch.arange(size))
    apart = where[:, None] - where[None] + size - 1
    return apart[..., 0] * (2 * size - 1) + apart[..., 1]


class PositionedAttention(Attention):
    """Attention inside a square window with a learned bias for each relative position.

    Args:
        dim: Channels.
        heads: Heads.
        size: Window side.
        separate: See `Attention`.
    """

    def __init__(self, dim: int, heads: int, size: int, *, separate: bool = False) -> None:
        super().__init__(dim, heads, separate=separate)
        self.size = size
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * size - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("relative_position_index", relative_index(size), persistent=False)

    def position_bias(self) -> Tensor:
        """Return the bias (h, w * w, w * w)."""
        index: Tensor = self.relative_position_index  # pyright: ignore[reportAssignmentType]
        return self.relative_position_bias_table[index].permute(2, 0, 1)

    def forward(self, x: Tensor, context: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """Let windows (B * n, w * w, C) look at themselves; `bias` (n, w * w, w * w) masks a shifted map."""
        own = self.position_bias().unsqueeze(0)
        if bias is not None:
            own = (own + bias.unsqueeze(1)).repeat(x.shape[0] // bias.shape[0], 1, 1, 1)
        return super().forward(x, context, own.to(x.dtype))


class SwinBlock(Block):
    """Windowed self-attention and MLP, as in Swin; the map is zero-padded behind the norm where it must be.

    Args:
        dim: Channels.
        heads: Heads.
        size: Window side.
        shift: Cyclic shift of the windows; 0 for none.
        drop_path: Rate of stochastic depth.
    """

    def __init__(self, dim: int, heads: int, size: int = 7, shift: int = 0, drop_path: float = 0.0) -> None:
        super().__init__(dim, heads, drop_path=drop_path)
        self.attn = PositionedAttention(dim, heads, size)
        self.size, self.shift = size, shift

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Map (B, H, W, C) to the same shape."""
        height, width = x.shape[1:3]
        y = pad_to_multiple(self.norm1(x), self.size)
        padded, mask = (y.shape[1], y.shape[2]), None
        if self.shift:
            mask = shift_mask(*padded, self.size, self.shift, y)
            y = y.roll((-self.shift, -self.shift), (1, 2))
        y = from_windows(self.attn(to_windows(y, self.size), bias=mask), self.size, *padded)
        if self.shift:
            y = y.roll((self.shift, self.shift), (1, 2))
        return self.feed_forward(x + self.drop_path(y[:, :height, :width]))


class SwinStem(nn.Module):
    """Swin's patch embedding: linear map of patches, 4 x 4 as published, and a layer norm."""

    def __init__(self, in_chans: int, dim: int, patch: int = 4) -> None:
        super().__init__()
        self.patch = patch
        self.proj = nn.Conv2d(in_chans, dim, patch, patch)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map a picture (B, in_chans, height, width) to tokens (B, H, W, C); its border is zero-padded."""
        return self.norm(self.proj(pad_picture(x, self.patch)).permute(0, 2, 3, 1))


class SwinMerging(nn.Module):
    """Join 2 x 2 tokens: order (0,0), (1,0), (0,1), (1,1) in (row, column), layer norm, linear 4C to 2C."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to (B, ceil(H / 2), ceil(W / 2), 2C); odd sides are zero-padded."""
        return self.reduction(self.norm(join_quads(pad_to_multiple(x, 2))))


def join_quads(x: Tensor) -> Tensor:
    """Gather 2 x 2 neighbours of (B, H, W, C), H and W even, into (B, H / 2, W / 2, 4C), columns outermost."""
    quads = x.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).permute(0, 1, 3, 4, 2, 5)
    return quads.flatten(3)
