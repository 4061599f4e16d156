"""STViT-R-Swin, the classifier: a Swin whose third stage works mostly on semantic tokens and then restores its map.

Chang et al., "Making Vision Transformers Efficient from A Token Sparsification View", CVPR 2023, arXiv 2303.08685,
section 3.4; released as changsn/STViT-R (MIT). Written from the paper and the names and shapes of the published
tensors. The third stage is a chain of dumbbell units of six blocks: image block, two generating blocks, two
semantic blocks, recovery. The dense form, `stvit_r_dense`, has the same tensors but another computation.

Difference: any input size. A map that is no multiple of the window repeats its border in the pooling only, and the
10 x 10 patches that centres look at begin at clamp(7 i - 1, 0, H - 10): the release's 0 and 4 at 224 pixels.

Shape legend: B batch, H and W of the third stage's map, C channels, n windows, s semantic tokens a window's side.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from saccade.errors import ShapeError
from saccade.nn.dense import run_blocks
from saccade.nn.fold import FoldedNet
from saccade.nn.fold_stgm import FoldedGenerator, FoldedSemantic, Layout, lay_out
from saccade.nn.fold_swin import (
    FoldedSwinBlock,
    FoldedSwinMerging,
    FoldedSwinStage,
    Order,
    halved,
    quad_index,
    window_order,
)
from saccade.nn.fold_transformer import FoldedCross, fold_linear, normalise
from saccade.nn.kernels import Plain
from saccade.nn.stgm_window import WINDOW, GeneratingBlock, init_global_centers, resize_grid
from saccade.nn.stvit_r import STViTSwinConfig, fold_stem, make_stages, make_stem, semantic_block, stage_rates
from saccade.nn.swin import SwinBlock, from_windows, to_windows
from saccade.nn.token_classifier import TokenClassifier, image_maps
from saccade.nn.transformer import Block, init_transformer


class DumbbellUnit:
    """Runs six blocks of the third stage; holds no tensors of its own, so that names stay those of the release."""

    def __init__(self, blocks: list[Block], samples: int, global_centers: nn.Parameter | None) -> None:
        self.blocks, self.samples, self.global_centers = blocks, samples, global_centers

    def generate(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, tuple[int, int]]:
        """Return semantic tokens (B, M, C), query and context of the second generating block, and the grid."""
        first = self.blocks[1](x)
        grid = (first.shape[1], first.shape[2])
        tokens, image = first.flatten(1, 2), x.flatten(1, 2)
        query = tokens
        if self.global_centers is not None:
            query = tokens + resize_grid(self.global_centers, grid)
        context = torch.cat([tokens, image], 1)
        return self.blocks[2](query, context), query, context, grid

    def __call__(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to the same shape."""
        return self.trace(x)[-1].view(x.shape)

    def trace(self, x: Tensor) -> list[Tensor]:
        """Return the outputs of the six blocks as tokens, (B, H * W, C) or (B, M, C)."""
        image = self.blocks[0](x)
        second, query, context, grid = self.generate(image)
        windows = to_windows(second.unflatten(1, grid), self.samples)
        local = from_windows(self.blocks[3](windows), self.samples, *grid).flatten(1, 2)
        tokens = self.blocks[4](local)
        image = image.flatten(1, 2)
        first = context[:, : query.shape[1]]
        return [image, first, second, local, tokens, self.blocks[5](image, tokens)]


def check_positions(relative_pos: bool, size: tuple[int, int]) -> None:
    """Refuse a third-stage map that a relative position table does not fit."""
    if relative_pos and tuple(size) != (14, 14):
        raise ShapeError(
            f"with relative_pos the third stage needs a map of 14x14 tokens (a picture of 224 pixels), not "
            f"{size[0]}x{size[1]}"
        )


class STViTRSwin(TokenClassifier):
    """The classifier.

    Args:
        config: Sizes.
    """

    def __init__(self, config: STViTSwinConfig) -> None:
        super().__init__()
        self.config = config
        self.default_size = config.default_size
        dims = config.stage_dims()
        self.num_features = dims[3]
        self.stem = make_stem(config)
        rates, s = stage_rates(config)[2], config.samples
        positions = (s, 2 * s) if config.relative_pos else (0, 0)
        units: list[list[Block]] = [
            [
                SwinBlock(dims[2], config.heads[2], WINDOW, 0, rates[i]),
                GeneratingBlock(
                    dims[2],
                    config.heads[2],
                    s,
                    shortcut=config.shortcut,
                    conv_pos=config.conv_pos,
                    layer_scale=config.layer_scale,
                    drop_path=rates[i + 1],
                ),
                semantic_block(config, rates[i + 2]),
                semantic_block(config, rates[i + 3], positions=positions[0]),
                semantic_block(config, rates[i + 4], positions=positions[1]),
                semantic_block(config, rates[i + 5]),
            ]
            for i in range(0, config.depths[2], 6)
        ]
        self.stages = make_stages(config, units, shift_last=False)
        self.global_centers = (
            init_global_centers(4 * config.tokens_per_window, dims[2]) if config.global_centers else None
        )
        self.norm = nn.LayerNorm(dims[3])
        self.apply(init_transformer)
        self.reset_classifier(config.num_classes)

    def fold(self) -> FoldedSTViTRSwin:
        """Return the inference form; see `saccade.fold`."""
        return FoldedSTViTRSwin(self)

    def units(self) -> list[DumbbellUnit]:
        """Return the dumbbell units of the third stage."""
        blocks = list(self.stages[2].blocks)
        return [
            DumbbellUnit(blocks[i : i + 6], self.config.samples, self.global_centers if i == 0 else None)
            for i in range(0, len(blocks), 6)
        ]

    def forward_intermediates(self, x: Tensor) -> list[Tensor]:
        """Return what leaves each stage, its merging included, (B, H, W, C)."""
        x, outputs = self.stem(x), []
        for s, stage in enumerate(self.stages):
            if s == 2:
                check_positions(self.config.relative_pos, (x.shape[1], x.shape[2]))
            blocks = self.units() if s == 2 else list(stage.blocks)
            x = run_blocks(blocks, x, recompute=self.recompute and self.training)
            x = x if stage.downsample is None else stage.downsample(x)
            outputs.append(x)
        return outputs

    def token_maps(self, x: Tensor) -> Tensor:
        """Say which image tokens each semantic token of the last unit stands for.

        Args:
            x: Picture (B, in_chans, height, width).

        Returns:
            (B, M, H, W): attention of the second generating block over the third stage's map, mean over heads,
            each map summing to 1.
        """
        y = self.stem(x)
        for stage in self.stages[:2]:
            assert stage.downsample is not None
            y = stage.downsample(run_blocks(list(stage.blocks), y, recompute=False))
        *before, last = self.units()
        for unit in before:
            y = unit(y)
        y = last.blocks[0](y)
        _, query, context, _ = last.generate(y)
        block = last.blocks[2]
        return image_maps(block.attn.weights(block.norm1(query), block.norm1(context)), y.shape[1:3])

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last stage's tokens (B, height / 32 * width / 32, C), normalised."""
        return self.norm(self.forward_intermediates(x)[-1].flatten(1, 2))


class FoldedUnit(nn.Module):
    """Inference form of a dumbbell unit, on image rows in their layout's order."""

    def __init__(self, unit: DumbbellUnit) -> None:
        super().__init__()
        blocks: list[Any] = unit.blocks
        self.image = FoldedSwinBlock(blocks[0])
        self.generator = FoldedGenerator(blocks[1], blocks[2], unit.global_centers)
        self.local = FoldedSemantic(blocks[3], unit.samples, local=True)
        self.whole = FoldedSemantic(blocks[4], unit.samples, local=False)
        self.recovery = FoldedCross(blocks[5])

    def forward(self, x: Tensor, layout: Layout, windows: Order, k: Plain) -> Tensor:
        """Map rows (B, H * W, C) to the same; `x` may be overwritten."""
        x = self.image(x, windows, self.image.offsets(*windows.size), k)
        tokens = self.generator(x, layout, k)
        tokens = self.whole(self.local(tokens, layout, k), layout, k)
        kv = k.linear(self.recovery.kv, normalise(tokens, self.recovery.eps))
        return self.recovery(x, *kv.chunk(2, -1), k)


class FoldedSTViTRSwin(FoldedNet):
    """Inference form of `STViTRSwin`."""

    def __init__(self, model: STViTRSwin) -> None:
        super().__init__()
        stages: list[Any] = list(model.stages)
        self.samples, self.eps = model.config.samples, model.norm.eps
        self.relative_pos = model.config.relative_pos
        self.stem = fold_stem(model.stem)
        self.image = nn.ModuleList([FoldedSwinStage(list(s.blocks), s.downsample) for s in stages[:2]])
        self.units = nn.ModuleList([FoldedUnit(unit) for unit in model.units()])
        self.merge = FoldedSwinMerging(stages[2].downsample)
        self.last = FoldedSwinStage(list(stages[3].blocks), None)
        head = model.head
        self.head = None if head is None else fold_linear(head.weight, head.bias, norm=model.norm)
        self.norm = copy.deepcopy(model.norm) if head is None else None

    def run(self, x: Tensor, k: Plain) -> Tensor:
        """Map a picture to logits or the pooled vector."""
        x, size = self.stem(x, k)
        for stage in self.image:
            x, size = stage(x, size, k)
        check_positions(self.relative_pos, size)
        layout = lay_out(size, self.samples, x.device)
        windows = window_order(size[0], size[1], WINDOW, 0, x.device)
        x = x[:, layout.order.index]
        for unit in self.units:
            x = unit(x, layout, windows, k)
        index, odd = quad_index(layout.order)
        x, _ = self.last(self.merge(x, index, odd, k), halved(size), k)
        if self.head is None:
            assert self.norm is not None
            return self.norm(x).mean(1)
        return k.linear(self.head, normalise(x, self.eps).mean(1))


VARIANTS = {
    "stvit_r_swin_tiny": STViTSwinConfig(depths=(2, 2, 6, 2)),
    "stvit_r_swin_small": STViTSwinConfig(),
    "stvit_r_swin_base": STViTSwinConfig(dim=128, heads=(4, 8, 16, 32)),
}
