"""STViT-R-Swin as a backbone for dense tasks: four maps (strides 4, 8, 16, 32) of a picture of any size.

Chang et al., CVPR 2023, arXiv 2303.08685; released as changsn/STViT-R-Object-Detection (MIT). The tensors are the
classifier's plus one norm a map; the computation differs: every cross-attention of a dumbbell unit is local, its
keys coming from a zero-padded neighbourhood of the window, and the first generating block always has its residual.

Differences from the release: keys and values are projected once per token instead of once per neighbourhood (the
same result at about 40 % fewer operations), and the masks of padded keys are right. `compat=True` restores the
release's three mask faults, which its checkpoints were trained with:

1. where both axes need padding to a multiple of 7, only the corner is masked, not the two strips;
2. where neither does, the whole inside gets the offset, which cancels, so that the zero border is not masked;
3. the recovery block applies the padding of the image map, in image tokens, to the semantic grid.

Shape legend: B batch, H and W of the third stage's map, C channels, n windows, s semantic tokens a window's side.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from saccade.nn.dense import check_out_indices, run_blocks
from saccade.nn.fold import FoldedNet
from saccade.nn.fold_swin import (
    FoldedSwinBlock,
    FoldedSwinMerging,
    FoldedSwinStage,
    halved,
    quad_index,
    raster,
    window_order,
)
from saccade.nn.fold_transformer import FoldedBlock, FoldedCross, attend, normalise
from saccade.nn.kernels import Plain
from saccade.nn.stgm import max_pool_grid
from saccade.nn.stgm_window import WINDOW, CentrePosition
from saccade.nn.stvit_r import STViTSwinConfig, fold_stem, make_stages, make_stem, semantic_block, stage_rates
from saccade.nn.swin import PositionedAttention, SwinBlock, from_windows, pad_to_multiple, to_windows
from saccade.nn.token_classifier import TokenNet
from saccade.nn.transformer import Block, init_transformer

MASKED = -1000.0


def neighbourhoods(x: Tensor, size: int, reach: int) -> Tensor:
    """Gather around every window of a padded map its neighbourhood.

    Args:
        x: (B, H, W, D), already with the border that the outer windows need.
        size: Step, the side of a window.
        reach: Side of a neighbourhood.

    Returns:
        (B * n, reach * reach, D).
    """
    cells = x.unfold(1, reach, size).unfold(2, reach, size)
    return cells.permute(0, 1, 2, 4, 5, 3).reshape(-1, reach * reach, x.shape[3])


class LocalCross(nn.Module):
    """Keys, values and masks of one block's neighbourhoods; holds no tensors.

    Args:
        size: Side of a window of the key map.
        reach: Side of its neighbourhood.
        compat: Reproduce the release's padding and mask.
    """

    def __init__(self, size: int, reach: int, compat: bool) -> None:
        super().__init__()
        self.size, self.reach, self.compat = size, reach, compat
        self.before = (reach - size) // 2
        self.after = reach - size - self.before

    def forward(self, block: Block, x: Tensor, pads: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Project a key map once and gather its neighbourhoods.

        Args:
            block: Whose norm and projections to use.
            x: Key map (B, H, W, C), not padded.
            pads: Rows and columns that the image map lacks to a multiple of its window; `x` lacks them too if it
                is the image map (a semantic grid is always whole).

        Returns:
            Keys and values (B * n, reach * reach, 2C), and logit offsets (B * n, 1, 1, reach * reach).
        """
        kv = block.attn.keys_values(block.norm1(x))
        return self.gather(kv, block.attn.keys_values(block.norm1.bias) if self.compat else None, pads)

    def gather(self, kv: Tensor, empty: Tensor | None, pads: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Gather the neighbourhoods of projected maps.

        Args:
            kv: Keys and values (B, H, W, 2C) of a map that is not padded.
            empty: (2C,) what zeros become, which `compat` pads with.
            pads: See `forward`.

        Returns:
            See `forward`.
        """
        high, wide = kv.shape[1:3]
        down, across = -high % self.size, -wide % self.size
        frame = (self.before, self.after + across, self.before, self.after + down)
        if self.compat:
            # The release pads before the norm, so a padded key is what the norm and projection make of zero.
            assert empty is not None
            kv = F.pad(kv - empty, (0, 0, *frame)) + empty
            inside = kv.new_zeros(high + down, wide + across)
            inside[-pads[0] :, -pads[1] :] = MASKED
            border = (self.before, self.after, self.before, self.after)
            mask = F.pad(inside, border, value=MASKED)
        else:
            kv = F.pad(kv, (0, 0, *frame))
            mask = F.pad(kv.new_zeros(high, wide), frame, value=MASKED)
        offsets = neighbourhoods(mask[None, :, :, None], self.size, self.reach)
        offsets = offsets.view(-1, 1, 1, self.reach**2).repeat(kv.shape[0], 1, 1, 1)
        return neighbourhoods(kv, self.size, self.reach), offsets


class DenseUnit(nn.Module):
    """Runs six blocks of the third stage with local cross-attention; holds no tensors of its own.

    The neighbourhoods are 2, 3 and 9 windows wide for the two generating blocks and the recovery.
    """

    def __init__(self, samples: int, compat: bool) -> None:
        super().__init__()
        self.samples = samples
        self.first = LocalCross(WINDOW, 2 * WINDOW, compat)
        self.second = LocalCross(WINDOW, 3 * WINDOW, compat)
        self.recover = LocalCross(samples, 9 * samples, compat)

    def forward(self, blocks: list[Block], x: Tensor) -> Tensor:
        """Map (B, H, W, C) to the same shape."""
        return self.trace(blocks, x)[-1]

    def trace(self, blocks: list[Block], x: Tensor) -> list[Tensor]:
        """Return the outputs of the six blocks; semantic tokens as rasters (B, rows * s, cols * s, C)."""
        s = self.samples
        x = blocks[0](x)
        high, wide = x.shape[1:3]
        pads = (-high % WINDOW, -wide % WINDOW)
        padded = pad_to_multiple(x, WINDOW)
        grid = (padded.shape[1] // WINDOW * s, padded.shape[2] // WINDOW * s)

        # Padding enters the pooling as zeros, in the release and here.
        centres = window_maxima(padded, s)
        conv_pos = getattr(blocks[1], "conv_pos", None)
        if conv_pos is not None:
            centres = conv_pos(centres, s)
        first = _cross(blocks[1], centres, *self.first(blocks[1], x, pads))
        second = _cross(blocks[2], first, *self.second(blocks[2], x, pads))
        local = from_windows(blocks[3](second), s, *grid)
        tokens = blocks[4](local.flatten(1, 2)).unflatten(1, grid)

        block = blocks[5]
        kv, offsets = self.recover(block, tokens, pads)
        queries = block.attn.queries(to_windows(block.norm1(padded), WINDOW))
        branch = block.drop_path(block.scaled(block.attn.attend(queries, kv, offsets)))
        restored = x + from_windows(branch, WINDOW, *padded.shape[1:3])[:, :high, :wide]
        restored = block.feed_forward(restored)
        rasters = [from_windows(y, s, *grid) for y in (first, second)]
        return [x, *rasters, local, tokens, restored]


def window_maxima(x: Tensor, samples: int) -> Tensor:
    """Pool the windows of a map (B, H, W, C), multiples of 7, to centres (B * n, samples * samples, C)."""
    cells = x.unflatten(2, (-1, WINDOW)).unflatten(1, (-1, WINDOW))
    return max_pool_grid(cells, samples, (2, 4)).transpose(2, 3).reshape(-1, samples**2, x.shape[3])


def _cross(block: Block, x: Tensor, kv: Tensor, offsets: Tensor) -> Tensor:
    """Apply a block to queries x (B * n, L, C) with projected keys and values."""
    branch = block.attn.attend(block.attn.queries(block.norm1(x)), kv, offsets)
    return block.feed_forward(x + block.drop_path(block.scaled(branch)))


class STViTRDense(TokenNet):
    """The backbone.

    Args:
        config: Sizes.
        out_indices: Stages (0 to 3) whose maps `forward` returns, each through its own norm; None: all.
    """

    def __init__(self, config: STViTSwinConfig, out_indices: Sequence[int] | None = None) -> None:
        super().__init__()
        self.config = config
        self.default_size = config.default_size
        self.out_indices = check_out_indices(out_indices, 4)
        self.num_classes = 0
        dims = config.stage_dims()
        self.num_features = dims[3]
        self.channels = [dims[s] for s in self.out_indices]
        self.strides = [(config.patch if config.stem == "patch" else 4) * 2**s for s in self.out_indices]
        self.stem = make_stem(config)
        rates = stage_rates(config)[2]
        positions = (config.samples, 0) if config.relative_pos else (0, 0)
        units: list[list[Block]] = []
        for i in range(0, config.depths[2], 6):
            first = semantic_block(config, rates[i + 1])
            if config.conv_pos:
                first.conv_pos = CentrePosition(dims[2])
            units.append(
                [
                    SwinBlock(dims[2], config.heads[2], WINDOW, 0, rates[i]),
                    first,
                    semantic_block(config, rates[i + 2]),
                    semantic_block(config, rates[i + 3], positions=positions[0]),
                    semantic_block(config, rates[i + 4]),
                    semantic_block(config, rates[i + 5]),
                ]
            )
        self.stages = make_stages(config, units, shift_last=True)
        self.unit = DenseUnit(config.samples, config.compat)
        self.norms = nn.ModuleDict({str(s): nn.LayerNorm(dims[s]) for s in self.out_indices})
        self.apply(init_transformer)

    def fold(self) -> FoldedSTViTRDense:
        """Return the inference form; see `saccade.fold`."""
        return FoldedSTViTRDense(self)

    def units(self) -> list[list[Block]]:
        """Return the blocks of each dumbbell unit."""
        blocks = list(self.stages[2].blocks)
        return [blocks[i : i + 6] for i in range(0, len(blocks), 6)]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map a picture (B, in_chans, height, width) to (B, channels[i], H, W) maps at `strides[i]`, rounded up."""
        x, maps = self.stem(x), []
        for s, stage in enumerate(self.stages):
            if s == 2:
                steps = [lambda y, blocks=blocks: self.unit(blocks, y) for blocks in self.units()]
            else:
                steps = list(stage.blocks)
            x = run_blocks(steps, x, recompute=self.recompute and self.training)
            if s in self.out_indices:
                maps.append(self.norms[str(s)](x).permute(0, 3, 1, 2))
            if stage.downsample is not None and s < self.out_indices[-1]:
                x = stage.downsample(x)
            elif s == self.out_indices[-1]:
                break
        return maps


class FoldedLocal(nn.Module):
    """Inference form of a block that looks at neighbourhoods."""

    def __init__(self, block: Block, local: LocalCross) -> None:
        super().__init__()
        self.cross, self.local = FoldedCross(block), local

    def keys_values(
        self, x: Tensor, size: tuple[int, int], pads: tuple[int, int], k: Plain
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Project the rows of a key map (B, H * W, C), once each, and gather keys, values and offsets."""
        kv = k.linear(self.cross.kv, normalise(x, self.cross.eps)).unflatten(1, size)
        near, offsets = self.local.gather(kv, self.cross.kv.bias, pads)
        key, value = near.chunk(2, -1)
        return key, value, offsets


class FoldedDenseUnit(nn.Module):
    """Inference form of `DenseUnit` and its six blocks, on rows in raster order."""

    def __init__(self, blocks: list[Block], unit: DenseUnit) -> None:
        super().__init__()
        self.samples = unit.samples
        self.image = FoldedSwinBlock(blocks[0])  # pyright: ignore[reportArgumentType]
        self.conv_pos = copy.deepcopy(getattr(blocks[1], "conv_pos", None))
        self.first, self.second = FoldedLocal(blocks[1], unit.first), FoldedLocal(blocks[2], unit.second)
        self.near, self.whole = FoldedBlock(blocks[3]), FoldedBlock(blocks[4])
        attn = blocks[3].attn
        positioned = isinstance(attn, PositionedAttention)
        self.bias = nn.Parameter(attn.position_bias().clone(), requires_grad=False) if positioned else None
        self.recover = FoldedLocal(blocks[5], unit.recover)

    def forward(self, x: Tensor, size: tuple[int, int], k: Plain) -> Tensor:
        """Map rows (B, H * W, C) to the same; `x` may be overwritten."""
        s, (high, wide) = self.samples, size
        pads = (-high % WINDOW, -wide % WINDOW)
        full = (high + pads[0], wide + pads[1])
        # As if it needed padding even where it does not, so that the rows stay in raster order.
        order = window_order(high, wide, WINDOW, 0, x.device)._replace(padded=True)
        x = self.image(x, order, self.image.offsets(high, wide), k)
        frame = (0, 0, 0, pads[1], 0, pads[0])
        tokens = window_maxima(F.pad(x.unflatten(1, size), frame), s)
        if self.conv_pos is not None:
            tokens = self.conv_pos(tokens, s)
        for layer in (self.first, self.second):
            key, value, offsets = layer.keys_values(x, size, pads, k)
            tokens = layer.cross(tokens, key, value, k, offsets)
        tokens = self.near(tokens, k, self.bias)
        grid = (full[0] // WINDOW * s, full[1] // WINDOW * s)
        tokens = self.whole(from_windows(tokens, s, *grid).flatten(1, 2), k)
        cross = self.recover.cross
        key, value, offsets = self.recover.keys_values(tokens, grid, pads, k)
        queries = to_windows(F.pad(cross.query(x, k).unflatten(1, size), frame), WINDOW)
        mixed = from_windows(attend(queries, key, value, cross.heads, offsets), WINDOW, *full)
        mixed = mixed[:, :high, :wide].reshape(x.shape)
        return cross.mlp(k.linear_add(cross.proj, mixed, x), k)


class FoldedSTViTRDense(FoldedNet):
    """Inference form of `STViTRDense`."""

    def __init__(self, model: STViTRDense) -> None:
        super().__init__()
        self.out_indices = model.out_indices
        self.stem = fold_stem(model.stem)
        stages: list[Any] = list(model.stages)
        self.image = nn.ModuleDict({str(s): FoldedSwinStage(list(stages[s].blocks), None) for s in (0, 1, 3)})
        self.units = nn.ModuleList([FoldedDenseUnit(blocks, model.unit) for blocks in model.units()])
        self.merges = nn.ModuleList([FoldedSwinMerging(stage.downsample) for stage in stages[:3]])
        self.norms = copy.deepcopy(model.norms)

    def run(self, x: Tensor, k: Plain) -> list[Tensor]:
        """Map a picture to its maps."""
        maps = []
        x, size = self.stem(x, k)
        for s in range(self.out_indices[-1] + 1):
            if s == 2:
                for unit in self.units:
                    x = unit(x, size, k)
            else:
                x, size = self.image[str(s)](x, size, k)
            if s in self.out_indices:
                maps.append(self.norms[str(s)](x).transpose(1, 2).unflatten(2, size))
            if s < self.out_indices[-1]:
                x = self.merges[s](x, *quad_index(raster(*size, x.device)), k)
                size = halved(size)
        return maps
