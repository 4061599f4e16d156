"""Where semantic tokens come from: the spatial poolings of STViT's semantic token generation module.

Chang et al., "Making Vision Transformers Efficient from A Token Sparsification View", CVPR 2023, arXiv 2303.08685
(section 3.2, Eq. 4 and 5). A pooling turns a map of image tokens into grid x grid initial cluster centres, in
row-major order. Maps are (B, H, W, C); a batch of clips comes as (B * T, H, W, C), so that the centres
are those of each frame.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.errors import ConfigError, ShapeError

POOLINGS = ("max", "window", "offset")


def bins(length: int, count: int) -> list[tuple[int, int]]:
    """Cut `length` positions into `count` bins that may overlap: floor(i n / s) to ceil((i + 1) n / s)."""
    return [(i * length // count, -(-(i + 1) * length // count)) for i in range(count)]


def max_pool_grid(x: Tensor, grid: int, dims: tuple[int, int] = (1, 2)) -> Tensor:
    """Adaptive max pooling of two axes of a tensor to `grid` cells each, one axis after the other."""
    for dim in dims:
        cells = [x.narrow(dim, a, b - a).amax(dim) for a, b in bins(x.shape[dim], grid)]
        x = torch.stack(cells, dim)
    return x


class MaxPooling(nn.Module):
    """The strongest value of each channel in each of grid x grid bins (all released models)."""

    def __init__(self, dim: int, grid: int) -> None:
        super().__init__()
        del dim
        self.grid = grid

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to centres (B, grid * grid, C)."""
        _check_grid(x, self.grid)
        return max_pool_grid(x, self.grid).flatten(1, 2)


class WindowPooling(nn.Module):
    """Learned weights inside each window (the paper's DeiT; author's snippet in the release's issue 4).

    The map is zero-padded to grid windows of k = ceil(H / grid) positions (floor half of the padding first); in
    each window alone, a depthwise 3x3 convolution, layer norm, GELU and a 1x1 convolution to one channel give a
    logit a position; the centre is the softmax-weighted mean of the window's raw tokens, padding excluded.
    """

    def __init__(self, dim: int, grid: int) -> None:
        super().__init__()
        self.grid = grid
        self.gen_mask = nn.Sequential(
            nn.Conv2d(dim, dim, 3, 1, 1, groups=dim),
            ChannelNorm(dim),
            nn.GELU(),
            nn.Conv2d(dim, 1, 1, bias=False),
        )

    def zero_start(self) -> None:
        """Make every logit 0, so that the pooling begins as a plain mean of the window's valid tokens."""
        nn.init.zeros_(next(self.gen_mask[3].parameters()))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to centres (B, grid * grid, C)."""
        _check_grid(x, self.grid)
        x, pads, (high, wide) = _pad_to_windows(x, self.grid)
        batch, dim, g = x.shape[0], x.shape[3], self.grid
        x = x.view(batch, g, high, g, wide, dim).transpose(2, 3).reshape(-1, high, wide, dim)
        logits = self.gen_mask(x.permute(0, 3, 1, 2)).flatten(1)
        if any(pads):
            masked = _padded_positions(pads, g, high, wide).to(logits)
            logits = logits + masked.repeat(batch, 1)
        centres = logits.softmax(1).unsqueeze(1) @ x.flatten(1, 2)
        return centres.view(batch, g * g, dim)


class OffsetPooling(nn.Module):
    """Our reading of the paper's Eq. 5 (not public): each centre is sampled where a predicted offset points.

    A head of the same shape as `WindowPooling`'s, on the means of the windows, predicts for each centre a shift
    in [-1, 1] window widths (tanh); the centre is the bilinear sample of the window-averaged map at the shifted
    place. The generator starts at zero, i.e. at the window's own centre. A reading, not a published figure.
    """

    def __init__(self, dim: int, grid: int) -> None:
        super().__init__()
        self.grid = grid
        self.gen_offset = nn.Sequential(
            nn.Conv2d(dim, dim, 3, 1, 1, groups=dim),
            ChannelNorm(dim),
            nn.GELU(),
            nn.Conv2d(dim, 2, 1, bias=False),
        )
        nn.init.zeros_(next(self.gen_offset[3].parameters()))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to centres (B, grid * grid, C)."""
        _check_grid(x, self.grid)
        g, (_, height, width, _) = self.grid, x.shape
        maps = x.permute(0, 3, 1, 2)
        high, wide = math.ceil(height / g), math.ceil(width / g)
        # A running mean over one window around every position; its samples are the (shifted) centres.
        smooth = F.avg_pool2d(maps, (high | 1, wide | 1), 1, (high // 2, wide // 2), count_include_pad=False)
        steps = torch.arange(g, device=x.device, dtype=x.dtype)
        base = (2 * steps + 1) / g - 1
        places = torch.stack(torch.meshgrid(base, base, indexing="ij")[::-1], -1)
        centres = F.grid_sample(smooth, places.expand(x.shape[0], -1, -1, -1), align_corners=False)
        shift = torch.tanh(self.gen_offset(centres)).permute(0, 2, 3, 1) * (2 / g)
        sampled = F.grid_sample(smooth, places + shift, padding_mode="border", align_corners=False)
        return sampled.flatten(2).transpose(1, 2)


class ChannelNorm(nn.Module):
    """Layer norm over the channels of (B, C, H, W) maps, eps 1e-5."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def make_pooling(kind: str, dim: int, grid: int) -> nn.Module:
    """Make a pooling by name.

    Args:
        kind: "max", "window" (learned weights) or "offset" (our reading of Eq. 5).
        dim: Channels.
        grid: Centres along each side.

    Raises:
        ConfigError: Unknown name, or no centres.
    """
    if kind not in POOLINGS:
        raise ConfigError(f"pooling is {kind!r}; choose from {', '.join(POOLINGS)}")
    if grid < 1:
        raise ConfigError(f"the pooling has {grid} centres a side; expected at least 1")
    return {"max": MaxPooling, "window": WindowPooling, "offset": OffsetPooling}[kind](dim, grid)


def grid_of(tokens: int) -> int:
    """Return the side of a square token grid.

    Raises:
        ConfigError: `tokens` is not a square number.
    """
    side = math.isqrt(max(0, tokens))
    if tokens < 1 or side * side != tokens:
        near = sorted({max(1, side) ** 2, (side + 1) ** 2})
        raise ConfigError(
            f"tokens is {tokens}; semantic tokens form a square grid, so choose a square number such as "
            f"{' or '.join(map(str, near))}"
        )
    return side


def _check_grid(x: Tensor, grid: int) -> None:
    """Refuse a map with fewer rows or columns than centres."""
    if x.shape[1] < grid or x.shape[2] < grid:
        raise ShapeError(
            f"a map of {x.shape[1]}x{x.shape[2]} tokens cannot be pooled to {grid}x{grid} semantic tokens; "
            f"use a larger picture or at most {min(x.shape[1], x.shape[2]) ** 2} tokens"
        )


def _pad_to_windows(x: Tensor, grid: int) -> tuple[Tensor, tuple[int, int, int, int], tuple[int, int]]:
    """Zero-pad (B, H, W, C) to grid windows a side; returns it, (top, bottom, left, right) and the window size."""
    high, wide = math.ceil(x.shape[1] / grid), math.ceil(x.shape[2] / grid)
    down, across = grid * high - x.shape[1], grid * wide - x.shape[2]
    pads = (down // 2, down - down // 2, across // 2, across - across // 2)
    return F.pad(x, (0, 0, pads[2], pads[3], pads[0], pads[1])), pads, (high, wide)


def _padded_positions(pads: tuple[int, int, int, int], grid: int, high: int, wide: int) -> Tensor:
    """Return -100 at padded positions, else 0, for each window: (grid * grid, high * wide)."""
    top, bottom, left, right = pads
    mask = torch.full((grid * high, grid * wide), -100.0)
    mask[top : grid * high - bottom, left : grid * wide - right] = 0
    return mask.view(grid, high, grid, wide).transpose(1, 2).reshape(grid * grid, high * wide)
