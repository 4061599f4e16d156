"""STViT-Swin: a Swin that goes on with semantic tokens alone from the middle of its third stage.

Chang et al., "Making Vision Transformers Efficient from A Token Sparsification View", CVPR 2023, arXiv 2303.08685,
section 3.3. Not released; the layout (where the generating blocks stand) was found by matching the published
reductions of cost. Our choices where nothing is published: the first generating block has its residual (Eq. 1)
and the keys of the release, the second looks at [S, image tokens] of the whole map, semantic blocks alternate between
the windows' grids and the whole grid, no LayerScale. At other sizes than 224 the fourth stage attends within
s x s windows, as it does over its whole grid at 224.

Shape legend: B batch, H and W of the third stage's map, C channels, s semantic tokens a window's side.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from saccade.errors import ConfigError
from saccade.nn.dense import run_blocks
from saccade.nn.fold import FoldedNet
from saccade.nn.fold_stgm import FoldedGenerator, FoldedSemantic, lay_out
from saccade.nn.fold_swin import FoldedSwinMerging, FoldedSwinStage, FoldedSwinStem, halved, quad_index
from saccade.nn.fold_transformer import fold_linear, normalise
from saccade.nn.kernels import Plain
from saccade.nn.modules import ModulesOf, modules
from saccade.nn.stgm_window import WINDOW, GeneratingBlock, SwinTokensConfig, init_global_centers, resize_grid
from saccade.nn.swin import PositionedAttention, SwinBlock, SwinMerging, SwinStem, from_windows, to_windows
from saccade.nn.token_classifier import TokenClassifier, image_maps
from saccade.nn.transformer import Block, drop_rates, init_transformer


@dataclass(frozen=True)
class STViTPlainSwinConfig(SwinTokensConfig):
    """Sizes of one variant and the options of semantic tokens."""

    image_blocks: int = 12
    """Blocks of the third stage on image tokens; then two generating ones, the rest on semantic tokens."""

    def __post_init__(self) -> None:
        """Check that the generating blocks lie inside the third stage."""
        super().__post_init__()
        if not 0 <= self.image_blocks <= self.depths[2] - 2:
            raise ConfigError(
                f"image_blocks is {self.image_blocks}; expected 0 to {self.depths[2] - 2}, as two generating blocks "
                f"must follow in a third stage of {self.depths[2]}"
            )


class STViTSwin(TokenClassifier):
    """The network.

    Args:
        config: Sizes.
        out_indices: Must be None: the third and fourth stage end in semantic tokens, not maps.

    Raises:
        ConfigError: Feature maps were asked for.
    """

    def __init__(self, config: STViTPlainSwinConfig, out_indices: Sequence[int] | None = None) -> None:
        super().__init__()
        if out_indices is not None:
            raise ConfigError(
                "STViT-Swin ends in semantic tokens, not maps; for dense tasks use stvit_r_swin_* or "
                "saccade.sparsify(..., recover=True)"
            )
        self.config = config
        self.default_size = config.default_size
        dims, s = config.stage_dims(), config.samples
        self.num_features, self.samples = dims[3], s
        self.stem = SwinStem(config.in_chans, config.dim, config.patch)
        rates = drop_rates(config.drop_path, sum(config.depths))
        stages: list[ModulesOf[Block]] = []
        for i in range(4):
            at, blocks = sum(config.depths[:i]), list[Block]()
            for j in range(config.depths[i]):
                rate = rates[at + j]
                if i == 2 and j >= config.image_blocks:
                    blocks.append(self._semantic_block(j - config.image_blocks, dims[2], rate))
                elif i == 3:
                    blocks.append(SwinBlock(dims[3], config.heads[3], s, 0, rate))
                else:
                    blocks.append(SwinBlock(dims[i], config.heads[i], WINDOW, WINDOW // 2 * (j % 2), rate))
            stages.append(modules(blocks))
        self.stages = modules(stages)
        self.merges = modules([SwinMerging(dim) for dim in dims[:3]])
        self.global_centers = (
            init_global_centers(4 * config.tokens_per_window, dims[2]) if config.global_centers else None
        )
        self.norm = nn.LayerNorm(dims[3])
        self.apply(init_transformer)
        self.reset_classifier(config.num_classes)

    def _semantic_block(self, j: int, dim: int, rate: float) -> Block:
        """Make block `j` after the image blocks: two generating ones, then local and global ones in turn."""
        config, heads = self.config, self.config.heads[2]
        if j == 0:
            return GeneratingBlock(
                dim,
                heads,
                self.samples,
                shortcut=config.shortcut,
                conv_pos=config.conv_pos,
                separate=False,
                layer_scale=config.layer_scale,
                drop_path=rate,
            )
        block = Block(dim, heads, layer_scale=config.layer_scale, drop_path=rate)
        if config.relative_pos and j > 1 and j % 2 == 0:
            block.attn = PositionedAttention(dim, heads, self.samples)
        return block

    def fold(self) -> FoldedSTViTSwin:
        """Return the inference form; see `saccade.fold`."""
        return FoldedSTViTSwin(self)

    def image_tokens(self, x: Tensor) -> Tensor:
        """Return the map (B, H, W, C) that the semantic tokens are made of."""
        x = self.stem(x)
        for i in range(2):
            x = self.merges[i](self._run(self.stages[i], x))
        return self._run(self.stages[2][: self.config.image_blocks], x)

    def generate(self, x: Tensor) -> Tensor:
        """Turn a map of image tokens (B, H, W, C) into a grid of semantic tokens (B, rows * s, cols * s, C)."""
        query, context, grid = self._query(x)
        return self._blocks()[1](query, context).unflatten(1, grid)

    def token_maps(self, x: Tensor) -> Tensor:
        """Say which image tokens each semantic token stands for.

        Args:
            x: Picture (B, in_chans, height, width).

        Returns:
            (B, M, H, W): attention of the second generating block over the third stage's map, mean over heads,
            each map summing to 1.
        """
        image = self.image_tokens(x)
        query, context, _ = self._query(image)
        block = self._blocks()[1]
        return image_maps(
            block.attn.weights(block.norm1(query), block.norm1(context)), (image.shape[1], image.shape[2])
        )

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last stage's semantic tokens (B, M, C), normalised."""
        x = self.generate(self.image_tokens(x))
        for j, block in enumerate(self._blocks()[2:]):
            high, wide = x.shape[1:3]
            if j % 2 == 0:
                x = from_windows(block(to_windows(x, self.samples)), self.samples, high, wide)
            else:
                x = block(x.flatten(1, 2)).unflatten(1, (high, wide))
        return self.norm(self._run(self.stages[3], self.merges[2](x)).flatten(1, 2))

    def _query(self, x: Tensor) -> tuple[Tensor, Tensor, tuple[int, int]]:
        """Return query and context of the second generating block, and the grid of semantic tokens."""
        first = self._blocks()[0](x)
        grid, tokens = (first.shape[1], first.shape[2]), first.flatten(1, 2)
        query = tokens if self.global_centers is None else tokens + resize_grid(self.global_centers, grid)
        return query, torch.cat([tokens, x.flatten(1, 2)], 1), grid

    def _blocks(self) -> list[Block]:
        """Return the blocks of the third stage from the first generating one on."""
        return list(self.stages[2])[self.config.image_blocks :]

    def _run(self, blocks: ModulesOf[Block], x: Tensor) -> Tensor:
        return run_blocks(list(blocks), x, recompute=self.recompute and self.training)


class FoldedSTViTSwin(FoldedNet):
    """Inference form of `STViTSwin`."""

    def __init__(self, model: STViTSwin) -> None:
        super().__init__()
        self.samples, self.eps = model.samples, model.norm.eps
        self.stem = FoldedSwinStem(model.stem)
        merges = list(model.merges)
        stages: list[list[Any]] = [list(stage) for stage in model.stages]
        at = model.config.image_blocks
        self.image = nn.ModuleList(
            [
                FoldedSwinStage(stages[0], merges[0]),
                FoldedSwinStage(stages[1], merges[1]),
                FoldedSwinStage(stages[2][:at], None),
            ]
        )
        self.generator = FoldedGenerator(stages[2][at], stages[2][at + 1], model.global_centers)
        self.semantic = nn.ModuleList(
            [
                FoldedSemantic(block, model.samples, local=j % 2 == 0)
                for j, block in enumerate(stages[2][at + 2 :])
            ]
        )
        self.merge = FoldedSwinMerging(merges[2])
        self.last = FoldedSwinStage(stages[3], None)
        head = model.head
        self.head = None if head is None else fold_linear(head.weight, head.bias, norm=model.norm)
        self.norm = copy.deepcopy(model.norm) if head is None else None

    def run(self, x: Tensor, k: Plain) -> Tensor:
        """Map a picture to logits or the pooled vector."""
        x, size = self.stem(x, k)
        for stage in self.image:
            x, size = stage(x, size, k)
        layout = lay_out(size, self.samples, x.device)
        tokens = self.generator(x[:, layout.order.index], layout, k)
        for block in self.semantic:
            tokens = block(tokens, layout, k)
        index, odd = quad_index(layout.grid)
        tokens = self.merge(tokens, index, odd, k)
        tokens, _ = self.last(tokens, halved(layout.grid.size), k)
        if self.head is None:
            assert self.norm is not None
            return self.norm(tokens).mean(1)
        return k.linear(self.head, normalise(tokens, self.eps).mean(1))


VARIANTS = {
    "stvit_swin_tiny": STViTPlainSwinConfig(depths=(2, 2, 6, 2), image_blocks=4),
    "stvit_swin_small": STViTPlainSwinConfig(),
    "stvit_swin_base": STViTPlainSwinConfig(dim=128, heads=(4, 8, 16, 32)),
}
