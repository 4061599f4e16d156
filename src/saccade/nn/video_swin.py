"""Pieces of Video Swin: windows of space and time, their relative position bias, the block around them.

Liu et al., "Video Swin Transformer", CVPR 2022, arXiv 2106.13230. Videos are (B, D, H, W, C).

Shape legend: B batch, D steps of time, H height, W width, C channels, w window (time, height, width), L = its volume,
h heads, n windows a video.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.nn.swin import SHIFT_MASK, join_quads, pad_to_multiple
from saccade.nn.transformer import Attention, Block, split_heads

Size = tuple[int, int, int]
"""Time, height, width."""


def to_boxes(x: Tensor, size: Size) -> Tensor:
    """Cut videos (B, D, H, W, C), each axis a multiple of `size`, into windows (B, n, L, C), row-major."""
    d, r, c = (length // part for length, part in zip(x.shape[1:4], size, strict=True))
    cells = x.unflatten(3, (c, size[2])).unflatten(2, (r, size[1])).unflatten(1, (d, size[0]))
    return cells.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(x.shape[0], d * r * c, -1, x.shape[4])


def from_boxes(x: Tensor, size: Size, video: Size) -> Tensor:
    """Undo `to_boxes`: (B, n, L, C) to videos (B, D, H, W, C)."""
    d, r, c = (length // part for length, part in zip(video, size, strict=True))
    cells = x.reshape(x.shape[0], d, r, c, *size, x.shape[-1]).permute(0, 1, 4, 2, 5, 3, 6, 7)
    return cells.reshape(x.shape[0], *video, x.shape[-1])


def fit_window(video: Size, window: Size, shift: Size) -> tuple[Size, Size]:
    """Cut a window to a video that is smaller along an axis; such an axis is not shifted."""
    time, high, wide = (min(length, part) for length, part in zip(video, window, strict=True))
    moved = [0 if length <= part else s for length, part, s in zip(video, window, shift, strict=True)]
    return (time, high, wide), (moved[0], moved[1], moved[2])


def shift_mask_3d(video: Size, size: Size, shift: Size, like: Tensor) -> Tensor:
    """Offsets (n, L, L): 0, or -100 between positions that only the cyclic shift brought together.

    Args:
        video: Steps, height and width, multiples of `size`.
        size: Window.
        shift: Cyclic shift along each axis.
        like: Device and precision of the result.
    """
    ids = torch.zeros((), dtype=torch.long, device=like.device)
    for axis, (length, part, moved) in enumerate(zip(video, size, shift, strict=True)):
        at = torch.arange(length, device=like.device)
        region = (
            (at >= length - part).long() + (at >= length - moved).long() if moved else torch.zeros_like(at)
        )
        shape = [1, 1, 1]
        shape[axis] = length
        ids = 3 * ids + region.view(shape)
    cells = to_boxes(ids.expand(video)[None, ..., None], size)[0, :, :, 0]
    return ((cells[:, :, None] != cells[:, None, :]) * SHIFT_MASK).to(like.dtype)


def relative_index_3d(size: Size, window: Size) -> Tensor:
    """Row of the bias table of `window` for each pair of positions in a window of `size`, (L, L) int64."""
    where = torch.cartesian_prod(*[torch.arange(part) for part in size])
    apart = where[:, None] - where[None] + torch.tensor([part - 1 for part in window])
    return (apart[..., 0] * (2 * window[1] - 1) + apart[..., 1]) * (2 * window[2] - 1) + apart[..., 2]


class BoxAttention(Attention):
    """Attention inside windows of space and time with a learned bias for each relative position.

    Args:
        dim: Channels.
        heads: Heads.
        window: Largest window; on smaller videos a part of the table is used.
    """

    def __init__(self, dim: int, heads: int, window: Size) -> None:
        super().__init__(dim, heads)
        self.window = window
        entries = (2 * window[0] - 1) * (2 * window[1] - 1) * (2 * window[2] - 1)
        self.relative_position_bias_table = nn.Parameter(torch.empty(entries, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def position_bias(self, size: Size) -> Tensor:
        """Return the bias (h, L, L) of windows of a size."""
        index = relative_index_3d(size, self.window).to(self.relative_position_bias_table.device)
        return self.relative_position_bias_table[index].permute(2, 0, 1)

    def mix(self, x: Tensor, size: Size, mask: Tensor | None) -> Tensor:
        """Let windows (B, n, L, C) look at themselves; `mask` (n, L, L) is added where a video was shifted."""
        batch, count = x.shape[:2]
        q, k, v = (split_heads(part, self.heads) for part in self.qkv(x.flatten(0, 1)).chunk(3, -1))
        bias = self.position_bias(size).to(q.dtype)
        if mask is None:
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None])
        else:
            # Windows and heads on one axis, so that the mask is not repeated for every video of the batch.
            own = (bias + mask.unsqueeze(1)).flatten(0, 1)[None]
            q, k, v = (part.unflatten(0, (batch, count)).flatten(1, 2) for part in (q, k, v))
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=own)
            mixed = mixed.unflatten(1, (count, self.heads)).flatten(0, 1)
        return self.proj(mixed.transpose(1, 2).flatten(2)).unflatten(0, (batch, count))


class VideoSwinBlock(Block):
    """Attention in windows of space and time and an MLP; the video is zero-padded behind the norm where it must be.

    Args:
        dim: Channels.
        heads: Heads.
        window: Time, height, width.
        shift: Cyclic shift of the windows along each axis; not done along an axis that has only one.
        drop_path: Rate of stochastic depth.
    """

    def __init__(
        self, dim: int, heads: int, window: Size, shift: Size = (0, 0, 0), drop_path: float = 0.0
    ) -> None:
        super().__init__(dim, heads, drop_path=drop_path)
        self.attn = BoxAttention(dim, heads, window)
        self.window, self.shift = window, shift

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Map (B, D, H, W, C) to the same shape."""
        steps, height, width = x.shape[1:4]
        size, shift = fit_window((steps, height, width), self.window, self.shift)
        y = pad_video(self.norm1(x), size)
        padded: Size = (y.shape[1], y.shape[2], y.shape[3])
        mask = None
        if any(shift):
            mask = shift_mask_3d(padded, size, shift, y)
            y = y.roll([-part for part in shift], (1, 2, 3))
        y = from_boxes(self.attn.mix(to_boxes(y, size), size, mask), size, padded)
        if any(shift):
            y = y.roll(shift, (1, 2, 3))
        return self.feed_forward(x + self.drop_path(y[:, :steps, :height, :width]))


def pad_video(x: Tensor, size: Size) -> Tensor:
    """Zero-pad videos (B, D, H, W, C) at the end of each axis to multiples of `size`."""
    later, down, across = (-length % part for length, part in zip(x.shape[1:4], size, strict=True))
    return F.pad(x, (0, 0, 0, across, 0, down, 0, later)) if later or down or across else x


class VideoStem(nn.Module):
    """Patch embedding: linear map of patches of space and time, and a layer norm.

    The weight is stored as a matrix, (C, in_chans * time * patch * patch).
    """

    def __init__(self, in_chans: int, dim: int, patch: Size) -> None:
        super().__init__()
        self.patch = patch
        self.proj = nn.Linear(in_chans * patch[0] * patch[1] * patch[2], dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, in_chans, height, width) to (B, D, H, W, C); axes are zero-padded at their ends."""
        time, high, wide = self.patch
        x = pad_video(x.permute(0, 1, 3, 4, 2), self.patch)
        cells = x.unflatten(3, (-1, wide)).unflatten(2, (-1, high)).unflatten(1, (-1, time))
        return self.norm(self.proj(cells.permute(0, 1, 3, 5, 7, 2, 4, 6).flatten(4)))


class VideoMerging(nn.Module):
    """Join 2 x 2 tokens of each step of time, as Swin's merging does."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, D, H, W, C) to (B, D, ceil(H / 2), ceil(W / 2), 2C)."""
        quads = join_quads(pad_to_multiple(x.flatten(0, 1), 2))
        return self.reduction(self.norm(quads)).unflatten(0, x.shape[:2])
