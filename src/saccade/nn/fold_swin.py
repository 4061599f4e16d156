"""Inference forms of Swin's pieces that keep tokens in the order of their windows.

All that a Swin block does to a token but attention (norms, projections, MLP, residuals) does not care in which order
tokens stand. So a stage keeps them in the order of the current windows, and what Swin does with pads, rolls,
cuts and joins of maps becomes one gather of rows where the order changes: none before an unshifted first block,
one before a shifted block, one into the next stage's quads.

Shape legend: B batch, H and W map, C channels, w window side, n windows a map, N = n * w * w, h heads.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.nn.fold_transformer import FoldedMlp, fold_linear, normalise
from saccade.nn.kernels import Packed, Plain
from saccade.nn.modules import modules
from saccade.nn.swin import (
    PositionedAttention,
    SwinBlock,
    SwinMerging,
    SwinStem,
    join_quads,
    pad_picture,
    shift_mask,
    to_windows,
)
from saccade.nn.transformer import cut_patches


class Order(NamedTuple):
    """In which order the rows of a map stand; row H * W stands for padding."""

    index: Tensor
    """(N,): which raster position each row holds."""
    inverse: Tensor
    """(H * W,): in which row each raster position is."""
    padded: bool
    size: tuple[int, int]
    """(H, W)."""


def raster(high: int, wide: int, device: torch.device) -> Order:
    """The order of a plain map."""
    index = torch.arange(high * wide, device=device)
    return Order(index, index, False, (high, wide))


def window_order(high: int, wide: int, size: int, shift: int, device: torch.device) -> Order:
    """The order of the windows of a map, cyclically shifted up and left by `shift`."""
    down, across = -high % size, -wide % size
    # Padded with a constant first: exporters would write the number of the example's rows into the file.
    positions = torch.arange(1, high * wide + 1, device=device).view(1, high, wide, 1)
    framed = F.pad(positions, (0, 0, 0, across, 0, down)) - 1
    framed = torch.where(framed < 0, high * wide, framed)
    index = to_windows(framed.roll((-shift, -shift), (1, 2)), size).flatten()
    # Where each raster position went. A scatter: exporters know no argsort, and torch 2.15's compiler fails on
    # the same index as arithmetic, which it would inline into the gathers.
    rows = torch.arange(index.shape[0], device=device)
    inverse = index.new_zeros(high * wide + 1).scatter(0, index, rows)[: high * wide]
    return Order(index, inverse, bool(down or across), (high, wide))


class FoldedSwinStem(nn.Module):
    """Inference form of `SwinStem`: one product of patches."""

    def __init__(self, stem: SwinStem) -> None:
        super().__init__()
        self.patch = stem.patch
        self.proj = fold_linear(stem.proj.weight.flatten(1), stem.proj.bias)
        self.norm = copy.deepcopy(stem.norm)

    def forward(self, x: Tensor, k: Plain) -> tuple[Tensor, tuple[int, int]]:
        """Map a picture to rows (B, H * W, C) and (H, W)."""
        patches, size = cut_patches(pad_picture(x, self.patch), self.patch)
        return self.norm(k.linear(self.proj, patches)), size


class FoldedSwinBlock(nn.Module):
    """Inference form of `SwinBlock` on rows in its window order, or raster where that needs padding."""

    def __init__(self, block: SwinBlock) -> None:
        super().__init__()
        attn = block.attn
        assert isinstance(attn, PositionedAttention)
        dim = block.norm1.normalized_shape[0]
        self.heads, self.eps, self.window, self.shift = attn.heads, block.norm1.eps, block.size, block.shift
        scale = torch.ones(3 * dim, dtype=torch.float64)
        scale[:dim] = (dim // attn.heads) ** -0.5
        self.qkv = fold_linear(attn.qkv.weight, attn.qkv.bias, norm=block.norm1, scale=scale)
        # What a position of padding projects to: Swin pads with zeros behind the norm.
        empty = attn.qkv.bias.double() * scale
        self.empty = nn.Parameter(empty.to(attn.qkv.bias.dtype), requires_grad=False)
        self.bias = nn.Parameter(attn.position_bias().clone(), requires_grad=False)
        self.proj = fold_linear(attn.proj.weight, attn.proj.bias)
        self.mlp = FoldedMlp(block)

    def offsets(self, high: int, wide: int) -> Tensor:
        """Return what is added to the logits: (1 or n, h, w * w, w * w)."""
        if not self.shift:
            return self.bias.unsqueeze(0)
        high, wide = high + -high % self.window, wide + -wide % self.window
        return self.bias + shift_mask(high, wide, self.window, self.shift, self.bias).unsqueeze(1)

    def forward(self, x: Tensor, order: Order, offsets: Tensor, k: Plain) -> Tensor:
        """Map rows (B, H * W, C) to the same; `x` may be overwritten."""
        batch, dim = x.shape[0], x.shape[2]
        qkv = k.linear(self.qkv, normalise(x, self.eps))
        if order.padded:
            qkv = torch.cat([qkv, self.empty.expand(batch, 1, -1)], 1)[:, order.index]
        cells = qkv.view(batch, -1, self.window**2, 3, self.heads, dim // self.heads)
        mixed = k.window_attention(cells, offsets).reshape(batch, -1, dim)
        if order.padded:
            mixed = mixed[:, order.inverse]
        return self.mlp(k.linear_add(self.proj, mixed, x), k)


class FoldedSwinMerging(nn.Module):
    """Inference form of `SwinMerging`: rows in any order to a raster of half the size."""

    def __init__(self, merge: SwinMerging) -> None:
        super().__init__()
        self.eps = merge.norm.eps
        self.reduction = fold_linear(merge.reduction.weight, None, norm=merge.norm)

    def forward(self, x: Tensor, index: Tensor, padded: bool, k: Plain) -> Tensor:
        """Map rows (B, H * W, C) to (B, ceil(H / 2) * ceil(W / 2), 2C); `index` is `quad_index`'s."""
        if padded:
            x = F.pad(x, (0, 0, 0, 1))
        quads = x[:, index].view(x.shape[0], -1, 4 * x.shape[2])
        return k.linear(self.reduction, normalise(quads, self.eps))


def quad_index(order: Order) -> tuple[Tensor, bool]:
    """Return the rows of the 2 x 2 quads in merging order, and whether row H * W, of zeros, is among them."""
    high, wide = order.size
    rows = order.inverse.view(1, high, wide, 1)
    padded = bool(high % 2 or wide % 2)
    framed = F.pad(rows, (0, 0, 0, wide % 2, 0, high % 2), value=high * wide)
    return join_quads(framed).flatten(), padded


def halved(size: tuple[int, int]) -> tuple[int, int]:
    """Map size behind a merging."""
    return -(-size[0] // 2), -(-size[1] // 2)


class Step(NamedTuple):
    """What one block needs for a map size."""

    order: Order
    offsets: Tensor
    gather: Tensor | None
    """Rows to take before the block; None: they stand right already."""


class Plan(NamedTuple):
    """What a stage needs for a map size."""

    steps: list[Step]
    inverse: Tensor | None
    """Rows that bring the last block's order back to the raster; None: it is the raster."""
    quads: Tensor
    odd: bool
    """Whether merging needs a row of zeros."""


class FoldedSwinStage(nn.Module):
    """Inference form of a chain of Swin blocks, and of the merging behind it where there is one."""

    def __init__(self, blocks: list[SwinBlock], merge: SwinMerging | None) -> None:
        super().__init__()
        self.blocks = modules([FoldedSwinBlock(block) for block in blocks])
        self.merge = None if merge is None else FoldedSwinMerging(merge)
        self._plans: dict[tuple[int, int], Plan] = {}

    def __getstate__(self) -> dict:
        """Plans are made again."""
        return {**self.__dict__, "_plans": {}}

    def plan(self, high: int, wide: int, k: Plain, device: torch.device) -> Plan:
        """Work out the gathers of a map size; kept for the packed kernels, which see the same size again."""
        known = self._plans.get((high, wide)) if isinstance(k, Packed) else None
        if known is not None:
            return known
        steps, current, window = [], raster(high, wide, device), (1, 0)
        for block in self.blocks:
            order, gather = window_order(high, wide, block.window, block.shift, device), None
            if not order.padded:
                whole = block.shift == 0 and (high, wide) == (block.window, block.window) and window == (1, 0)
                if window != (block.window, block.shift) and not whole:
                    gather = current.inverse[order.index]
                    current, window = order, (block.window, block.shift)
            steps.append(Step(order, block.offsets(high, wide), gather))
        last = current.inverse if window != (1, 0) else None
        plan = Plan(steps, last, *quad_index(current))
        if isinstance(k, Packed):
            self._plans = {(high, wide): plan}
        return plan

    def forward(self, x: Tensor, size: tuple[int, int], k: Plain) -> tuple[Tensor, tuple[int, int]]:
        """Map rows (B, H * W, C) in raster order and (H, W) to the same of what leaves the stage."""
        plan = self.plan(*size, k, x.device)
        for block, step in zip(self.blocks, plan.steps, strict=True):
            if step.gather is not None:
                x = x[:, step.gather]
            x = block(x, step.order, step.offsets, k)
        if self.merge is None:
            return x if plan.inverse is None else x[:, plan.inverse], size
        return self.merge(x, plan.quads, plan.odd, k), halved(size)
