"""Semantic tokens of each window of a Swin map: their centres, what they look at, and the block that makes them.

Chang et al., CVPR 2023, arXiv 2303.08685, section 3.3, and the released changsn/STViT-R.

Shape legend: B batch, H and W of the map, C channels, n windows, s semantic tokens a window's side.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.errors import ConfigError
from saccade.nn.config import NetConfig
from saccade.nn.stgm import grid_of, max_pool_grid
from saccade.nn.swin import from_windows
from saccade.nn.transformer import Block

WINDOW = 7
REACH = 10
"""Side of the patch of image tokens that a window's centres look at."""


@dataclass(frozen=True)
class SwinTokensConfig(NetConfig):
    """Sizes of a four-stage Swin with semantic tokens in its third stage, and their options."""

    dim: int = 96
    """Channels of the first stage; doubled by each of the next three."""
    patch: int = 4
    """Side of a patch of Swin's patch embedding, in pixels."""
    depths: tuple[int, int, int, int] = (2, 2, 18, 2)
    heads: tuple[int, int, int, int] = (3, 6, 12, 24)
    tokens_per_window: int = 9
    """Semantic tokens of each 7 x 7 window of the third stage: 4, 9 or 16."""
    shortcut: bool = True
    """Residual around the first generating block."""
    global_centers: bool = False
    """Learned centres added to the query of the (first unit's) second generating block."""
    conv_pos: bool = False
    """A depthwise 3 x 3 convolution of each window's centres, added to them."""
    relative_pos: bool = False
    """Relative position bias in the semantic blocks, as far as their grid has one size."""
    layer_scale: float | None = None
    """Start value of LayerScale in the generating, semantic and recovery blocks; None: none."""
    drop_path: float = 0.0
    """Largest rate of stochastic depth."""

    def __post_init__(self) -> None:
        """Check that the tokens fit into a window."""
        super().__post_init__()
        if self.samples > WINDOW:
            raise ConfigError(
                f"tokens_per_window is {self.tokens_per_window}; a window holds {WINDOW}x{WINDOW} tokens, so "
                f"expected at most {WINDOW * WINDOW} (the paper: 4, 9 or 16)"
            )

    @property
    def samples(self) -> int:
        """Semantic tokens along the side of a window."""
        return grid_of(self.tokens_per_window)

    def stage_dims(self) -> list[int]:
        """Channels of the four stages."""
        return [self.dim * 2**s for s in range(4)]


def window_centres(x: Tensor, samples: int) -> tuple[Tensor, tuple[int, int]]:
    """Max-pool each 7 x 7 window of maps (B, H, W, C) to s x s centres.

    Returns:
        (B * n, s * s, C), and the windows along each axis. Where the map ends inside a window its border repeats.
    """
    down, across = -x.shape[1] % WINDOW, -x.shape[2] % WINDOW
    if down or across:
        x = F.pad(x.permute(0, 3, 1, 2), (0, across, 0, down), mode="replicate").permute(0, 2, 3, 1)
    rows, cols = x.shape[1] // WINDOW, x.shape[2] // WINDOW
    cells = x.unflatten(2, (cols, WINDOW)).unflatten(1, (rows, WINDOW))
    pooled = max_pool_grid(cells, samples, (2, 4)).transpose(2, 3)
    return pooled.reshape(-1, samples * samples, x.shape[3]), (rows, cols)


def origins(length: int, windows: int) -> list[int]:
    """Where the patch of each window begins along an axis of `length` tokens: inside the map, window minus one."""
    reach = min(REACH, length)
    return [min(max(WINDOW * i - 1, 0), length - reach) for i in range(windows)]


def window_patches(x: Tensor, windows: tuple[int, int]) -> Tensor:
    """Gather from maps (B, H, W, C) the 10 x 10 patch around each window: (B * n, 100, C)."""
    high, wide = min(REACH, x.shape[1]), min(REACH, x.shape[2])
    patches = [
        x[:, top : top + high, left : left + wide].flatten(1, 2)
        for top in origins(x.shape[1], windows[0])
        for left in origins(x.shape[2], windows[1])
    ]
    return torch.stack(patches, 1).flatten(0, 1)


class CentrePosition(nn.Module):
    """P + depthwise 3 x 3 convolution of the s x s grid of each window's centres."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(nn.Conv2d(dim, dim, 3, 1, 1, groups=dim))

    def forward(self, x: Tensor, samples: int) -> Tensor:
        """Map (B * n, s * s, C) to the same shape."""
        grid = x.transpose(1, 2).unflatten(2, (samples, samples))
        return x + self.proj(grid).flatten(2).transpose(1, 2)


class GeneratingBlock(Block):
    """First block of the generating module: the centres of each window look at themselves and the patch around it.

    The paper's Eq. 1 has no centres among the keys; the release has.

    Args:
        dim: Channels.
        heads: Heads.
        samples: Centres along the side of a window.
        shortcut: Residual around the attention. Without it the release has no stochastic depth there either.
        conv_pos: Add a depthwise convolution of the centres to them.
        separate: See `Attention`.
        layer_scale: See `Block`.
        drop_path: Rate of stochastic depth.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        samples: int,
        *,
        shortcut: bool,
        conv_pos: bool = False,
        separate: bool = True,
        layer_scale: float | None = None,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__(dim, heads, separate=separate, layer_scale=layer_scale, drop_path=drop_path)
        self.samples, self.shortcut = samples, shortcut
        self.conv_pos = CentrePosition(dim) if conv_pos else None

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Map image tokens (B, H, W, C) to semantic tokens (B, rows * s, cols * s, C)."""
        centres, windows = window_centres(x, self.samples)
        if self.conv_pos is not None:
            centres = self.conv_pos(centres, self.samples)
        y = self.norm1(centres)
        # Norm and projections act on each token alone, so overlapping patches share one projection of the map.
        seen = window_patches(self.attn.keys_values(self.norm1(x)), windows)
        seen = torch.cat([self.attn.keys_values(y), seen], 1)
        y = self.scaled(self.attn.attend(self.attn.queries(y), seen))
        y = centres + self.drop_path(y) if self.shortcut else y
        s = self.samples
        return self.feed_forward(from_windows(y, s, windows[0] * s, windows[1] * s))


def resize_grid(centers: Tensor, grid: tuple[int, int]) -> Tensor:
    """Fit learned centres (1, side * side, C) to a grid, bicubic where sizes differ: (1, rows * cols, C)."""
    side = round(centers.shape[1] ** 0.5)
    if grid == (side, side):
        return centers
    maps = centers.transpose(1, 2).unflatten(2, (side, side))
    return F.interpolate(maps, grid, mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)


def init_global_centers(count: int, dim: int) -> nn.Parameter:
    """Make learned centres (1, count, C), truncated normal 0.02."""
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(1, count, dim), std=0.02))
