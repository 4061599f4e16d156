"""Inference forms of the blocks that make semantic tokens of windows, on rows in window order.

Image tokens stay in the order of their 7 x 7 windows and semantic tokens in that of their s x s grids, so that
pooling, local attention and the choice of keys need no rearranging but one gather of the patches around the windows.

Shape legend: B batch, H and W map, C channels, n windows, s semantic tokens a window's side.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from saccade.nn.fold_swin import Order, raster, window_order
from saccade.nn.fold_transformer import (
    FoldedBlock,
    FoldedCross,
    FoldedMlp,
    attend,
    fold_linear,
    normalise,
    projections,
    stack_linear,
)
from saccade.nn.kernels import Plain
from saccade.nn.stgm import max_pool_grid
from saccade.nn.stgm_window import (
    WINDOW,
    GeneratingBlock,
    resize_grid,
    window_centres,
    window_patches,
)
from saccade.nn.swin import PositionedAttention
from saccade.nn.transformer import Block


class Layout(NamedTuple):
    """How the tokens of a third-stage map stand."""

    order: Order
    """Of the image tokens: window order, or raster where the map is no multiple of the window."""
    windows: tuple[int, int]
    patches: Tensor
    """(n * 100,): the rows of the patch around each window."""
    grid: Order
    """Of the semantic tokens, (rows * s, cols * s) by windows."""


def lay_out(size: tuple[int, int], samples: int, device: torch.device) -> Layout:
    """Work out the layout of a map size."""
    high, wide = size
    order = window_order(high, wide, WINDOW, 0, device)
    if order.padded:
        order = raster(high, wide, device)
    windows = (-(-high // WINDOW), -(-wide // WINDOW))
    patches = window_patches(order.inverse.view(1, high, wide, 1), windows).flatten()
    grid = window_order(windows[0] * samples, windows[1] * samples, samples, 0, device)
    return Layout(order, windows, patches, grid)


class FoldedGenerator(nn.Module):
    """Inference form of both generating blocks; their keys and values of image tokens are one projection."""

    def __init__(self, first: GeneratingBlock, second: Block, centers: nn.Parameter | None) -> None:
        super().__init__()
        dim = first.norm1.normalized_shape[0]
        self.samples, self.heads, self.eps = first.samples, first.attn.heads, first.norm1.eps
        weight, bias = projections(first)
        # Centres are queries and keys of the first block: one projection serves both.
        self.centre_qkv = fold_linear(weight, bias, norm=first.norm1)
        self.proj = fold_linear(first.attn.proj.weight, first.attn.proj.bias, scale=first.layer_scale_1)
        self.shortcut, self.mlp = first.shortcut, FoldedMlp(first)
        self.second = FoldedCross(second)
        own = fold_linear(weight[dim:], bias[dim:], norm=first.norm1)
        self.key_values = stack_linear([own, self.second.kv])
        self.conv_pos = copy.deepcopy(first.conv_pos)
        self.centers = (
            None if centers is None else nn.Parameter(centers.detach().clone(), requires_grad=False)
        )

    def forward(self, x: Tensor, layout: Layout, k: Plain) -> Tensor:
        """Map image rows (B, H * W, C), left as they are, to semantic tokens (B, n * s * s, C) in window order."""
        batch, dim = x.shape[0], x.shape[2]
        count = layout.windows[0] * layout.windows[1]
        first_kv, second_key, second_value = k.linear(self.key_values, normalise(x, self.eps)).split(
            [2 * dim, dim, dim], -1
        )
        centres = self._centres(x, layout)
        q, key, value = k.linear(self.centre_qkv, normalise(centres, self.eps)).chunk(3, -1)
        near = first_kv[:, layout.patches].view(batch * count, -1, 2 * dim)
        near_key, near_value = near.chunk(2, -1)
        mixed = attend(q, torch.cat([key, near_key], 1), torch.cat([value, near_value], 1), self.heads)
        tokens = k.linear_add(self.proj, mixed, centres) if self.shortcut else k.linear(self.proj, mixed)
        tokens = self.mlp(tokens, k).reshape(batch, -1, dim)
        own_key, own_value = k.linear(self.second.kv, normalise(tokens, self.eps)).chunk(2, -1)
        if self.centers is not None:
            tokens = tokens + resize_grid(self.centers, layout.grid.size)[:, layout.grid.index]
        keys, values = torch.cat([own_key, second_key], 1), torch.cat([own_value, second_value], 1)
        return self.second(tokens, keys, values, k)

    def _centres(self, x: Tensor, layout: Layout) -> Tensor:
        """Pool rows to centres (B * n, s * s, C)."""
        high, wide = layout.order.size
        if high % WINDOW or wide % WINDOW:
            centres = window_centres(x.unflatten(1, (high, wide)), self.samples)[0]
        else:
            windows = x.view(-1, WINDOW, WINDOW, x.shape[2])
            centres = max_pool_grid(windows, self.samples).flatten(1, 2)
        return centres if self.conv_pos is None else self.conv_pos(centres, self.samples)


class FoldedSemantic(nn.Module):
    """Inference form of a block on semantic tokens, within windows or over the whole grid."""

    def __init__(self, block: Block, samples: int, *, local: bool) -> None:
        super().__init__()
        self.block, self.samples, self.local = FoldedBlock(block), samples, local
        attn = block.attn
        positioned = isinstance(attn, PositionedAttention)
        self.bias = nn.Parameter(attn.position_bias().clone(), requires_grad=False) if positioned else None

    def forward(self, x: Tensor, layout: Layout, k: Plain) -> Tensor:
        """Map tokens (B, n * s * s, C) in window order to the same."""
        if self.local:
            return self.block(x.reshape(-1, self.samples**2, x.shape[2]), k, self.bias).view(x.shape)
        bias = self.bias
        if bias is not None:
            bias = bias[:, layout.grid.index][:, :, layout.grid.index]
        return self.block(x, k, bias)
