"""STViT-DeiT: a plain vision transformer that runs most of its blocks on a few semantic tokens.

Chang et al., "Making Vision Transformers Efficient from A Token Sparsification View", CVPR 2023, arXiv 2303.08685,
section 3. The first blocks see all image tokens; two blocks used as cross-attention turn them into M semantic
tokens; the rest of the network and the classifier see only those. No code of this model was released: the
structure follows the paper, its ablations and its costs. Our choices where nothing is published: no LayerScale,
the first generating block looks at image tokens only, the norm precedes the mean.

Not to be confused with the "Super Token" vision transformer, also called STViT.

Shape legend: B batch, H and W height and width in tokens, L = H * W, M semantic tokens, C channels.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.errors import ConfigError
from saccade.nn.config import NetConfig
from saccade.nn.dense import run_blocks
from saccade.nn.fold import FoldedNet
from saccade.nn.fold_transformer import FoldedBlock, FoldedCross, fold_linear, normalise, stack_linear
from saccade.nn.kernels import Plain
from saccade.nn.modules import modules
from saccade.nn.stgm import grid_of, make_pooling
from saccade.nn.token_classifier import TokenClassifier, image_maps
from saccade.nn.transformer import Block, cut_patches, drop_rates, init_transformer


@dataclass(frozen=True)
class STViTDeiTConfig(NetConfig):
    """Sizes of one variant and the options of semantic tokens."""

    dim: int = 384
    """Channels C."""
    heads: int = 6
    depth: int = 12
    """All blocks: image, generating and semantic ones."""
    patch: int = 16
    """Side of a patch in pixels."""
    img_size: int = 224
    """Side of the picture that the position embedding is stored for; others interpolate it."""
    tokens: int = 16
    """Semantic tokens M, a square number."""
    pooling: str = "max"
    """How initial centres are made: "max", "window" (learned) or "offset" (our reading of the paper's Eq. 5)."""
    image_blocks: int = 4
    """Blocks on image tokens before the generating ones."""
    stgm_blocks: int = 2
    """Generating blocks (the paper: 2; 3 and 4 in its ablation)."""
    global_centers: bool = True
    """Learned centres added to the query of the second generating block."""
    layer_scale: float | None = None
    """Start value of LayerScale in the generating and semantic blocks; None: none."""
    drop_path: float = 0.0
    """Largest rate of stochastic depth."""

    def __post_init__(self) -> None:
        """Check that the generating blocks lie inside the network and the tokens inside the map."""
        super().__post_init__()
        if self.image_blocks < 0 or self.stgm_blocks < 1 or self.image_blocks + self.stgm_blocks > self.depth:
            raise ConfigError(
                f"image_blocks is {self.image_blocks} and stgm_blocks {self.stgm_blocks}; expected image_blocks "
                f">= 0, stgm_blocks >= 1 and together at most the depth, {self.depth}"
            )
        if self.img_size % self.patch:
            raise ConfigError(f"img_size is {self.img_size}; expected a multiple of the patch, {self.patch}")
        side = self.img_size // self.patch
        if grid_of(self.tokens) > side:
            raise ConfigError(
                f"tokens is {self.tokens}; the map of {self.img_size} pixels has {side}x{side} image tokens, so "
                f"expected at most {side * side}"
            )


class PatchEmbedding(nn.Module):
    """One linear map per non-overlapping patch."""

    def __init__(self, in_chans: int, dim: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.proj = nn.Conv2d(in_chans, dim, patch, patch)

    def forward(self, x: Tensor) -> Tensor:
        """Map a picture (B, in_chans, height, width) to tokens (B, H, W, C)."""
        patches, size = cut_patches(x, self.patch)
        return F.linear(patches, self.proj.weight.flatten(1), self.proj.bias).unflatten(1, size)


def resize_positions(embedding: Tensor, side: int, height: int, width: int) -> Tensor:
    """Fit a position embedding (1, side * side, C) to a map: (1, height * width, C), bicubic where sizes differ."""
    if (height, width) == (side, side):
        return embedding
    stored = embedding.transpose(1, 2).unflatten(2, (side, side))
    resized = F.interpolate(stored, (height, width), mode="bicubic", antialias=True, align_corners=False)
    return resized.flatten(2).transpose(1, 2)


class STViTDeiT(TokenClassifier):
    """The network.

    Args:
        config: Sizes.
        out_indices: Must be None: after the generating blocks there is no map to give.

    Raises:
        ConfigError: Feature maps were asked for.
    """

    def __init__(self, config: STViTDeiTConfig, out_indices: Sequence[int] | None = None) -> None:
        super().__init__()
        if out_indices is not None:
            raise ConfigError(
                "STViT-DeiT has no feature maps after its generating blocks; for dense tasks use stvit_r_swin_* or "
                "saccade.sparsify(..., recover=True)"
            )
        self.config = config
        self.default_size = config.img_size
        self.num_features = config.dim
        side, grid = config.img_size // config.patch, grid_of(config.tokens)
        self.patch_embed = PatchEmbedding(config.in_chans, config.dim, config.patch)
        self.pos_embed = nn.Parameter(torch.empty(1, side * side, config.dim))
        rates = drop_rates(config.drop_path, config.depth)
        self.blocks = modules(
            [
                Block(
                    config.dim,
                    config.heads,
                    layer_scale=None if i < config.image_blocks else config.layer_scale,
                    drop_path=rates[i],
                    eps=1e-6,
                )
                for i in range(config.depth)
            ]
        )
        self.pool = make_pooling(config.pooling, config.dim, grid)
        self.global_centers = (
            nn.Parameter(torch.empty(1, config.tokens, config.dim)) if config.global_centers else None
        )
        self.norm = nn.LayerNorm(config.dim, eps=1e-6)
        self.apply(init_transformer)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        if self.global_centers is not None:
            nn.init.trunc_normal_(self.global_centers, std=0.02)
        self.reset_classifier(config.num_classes)

    def fold(self) -> FoldedSTViTDeiT:
        """Return the inference form; see `saccade.fold`."""
        return FoldedSTViTDeiT(self)

    def image_tokens(self, x: Tensor) -> Tensor:
        """Run the blocks that see all tokens; returns their map (B, H, W, C)."""
        x = self.patch_embed(x)
        size = x.shape[1:3]
        x = x.flatten(1, 2) + resize_positions(
            self.pos_embed, self.config.img_size // self.config.patch, *size
        )
        x = self._run(0, self.config.image_blocks, x)
        return x.unflatten(1, size)

    def generate(self, x: Tensor) -> Tensor:
        """Turn a map of image tokens (B, H, W, C) into semantic tokens (B, M, C) (paper Eq. 1-3)."""
        return self._generate(x)[0]

    def token_maps(self, x: Tensor) -> Tensor:
        """Say which image tokens each semantic token stands for.

        Args:
            x: Picture (B, in_chans, height, width).

        Returns:
            (B, M, H, W): attention of the last generating block over the image tokens, mean over heads, each
            map summing to 1.
        """
        image = self.image_tokens(x)
        _, query, context = self._generate(image)
        block = self.blocks[self.config.image_blocks + self.config.stgm_blocks - 1]
        return image_maps(
            block.attn.weights(block.norm1(query), block.norm1(context)), (image.shape[1], image.shape[2])
        )

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the final semantic tokens (B, M, C), normalised."""
        tokens = self.generate(self.image_tokens(x))
        return self.norm(
            self._run(self.config.image_blocks + self.config.stgm_blocks, self.config.depth, tokens)
        )

    def _run(self, start: int, stop: int, x: Tensor) -> Tensor:
        return run_blocks(list(self.blocks[start:stop]), x, recompute=self.recompute and self.training)

    def _generate(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the semantic tokens, and query and context of the last generating block."""
        tokens, image = self.pool(image), image.flatten(1, 2)
        query, context = tokens, image
        for j in range(self.config.stgm_blocks):
            query, context = tokens, image
            if j > 0:
                # The centres join the keys without the learned part, and the learned part comes once.
                context = torch.cat([tokens, image], 1)
                if j == 1 and self.global_centers is not None:
                    query = tokens + self.global_centers
            tokens = self.blocks[self.config.image_blocks + j](query, context)
        return tokens, query, context


class FoldedSTViTDeiT(FoldedNet):
    """Inference form of `STViTDeiT`.

    All generating blocks look at the same normalised image tokens, so their keys and values are one projection.
    """

    def __init__(self, model: STViTDeiT) -> None:
        super().__init__()
        config = model.config
        first, last = config.image_blocks, config.image_blocks + config.stgm_blocks
        self.patch, self.eps, self.side = config.patch, model.norm.eps, config.img_size // config.patch
        self.embed = fold_linear(model.patch_embed.proj.weight.flatten(1), model.patch_embed.proj.bias)
        self.pos_embed = nn.Parameter(model.pos_embed.detach().clone())
        blocks = list(model.blocks)
        self.image = nn.ModuleList([FoldedBlock(block) for block in blocks[:first]])
        self.pool = copy.deepcopy(model.pool)
        crosses = [FoldedCross(block) for block in blocks[first:last]]
        self.key_values = stack_linear([cross.kv for cross in crosses])
        self.generating = modules(crosses)
        centers = model.global_centers
        self.global_centers = None if centers is None else nn.Parameter(centers.detach().clone())
        self.semantic = nn.ModuleList([FoldedBlock(block) for block in blocks[last:]])
        head = model.head
        self.head = None if head is None else fold_linear(head.weight, head.bias, norm=model.norm)
        self.norm = copy.deepcopy(model.norm) if head is None else None

    def run(self, x: Tensor, k: Plain) -> Tensor:
        """Map a picture to logits or the pooled vector."""
        patches, size = cut_patches(x, self.patch)
        x = k.linear(self.embed, patches) + resize_positions(self.pos_embed, self.side, *size)
        for block in self.image:
            x = block(x, k)
        tokens = self._generate(x, size, k)
        for block in self.semantic:
            tokens = block(tokens, k)
        if self.head is None:
            assert self.norm is not None
            return self.norm(tokens).mean(1)
        return k.linear(self.head, normalise(tokens, self.eps).mean(1))

    def _generate(self, x: Tensor, size: tuple[int, int], k: Plain) -> Tensor:
        """Turn image tokens (B, L, C) into semantic tokens (B, M, C)."""
        tokens = self.pool(x.unflatten(1, size))
        parts = k.linear(self.key_values, normalise(x, self.eps)).chunk(2 * len(self.generating), -1)
        for j, cross in enumerate(self.generating):
            key, value = parts[2 * j : 2 * j + 2]
            query = tokens
            if j > 0:
                own = k.linear(cross.kv, normalise(tokens, self.eps)).chunk(2, -1)
                key, value = torch.cat([own[0], key], 1), torch.cat([own[1], value], 1)
                if j == 1 and self.global_centers is not None:
                    query = tokens + self.global_centers
            tokens = cross(query, key, value, k)
        return tokens


VARIANTS = {
    "stvit_deit_tiny": STViTDeiTConfig(dim=192, heads=3),
    "stvit_deit_small": STViTDeiTConfig(),
    "stvit_deit_base": STViTDeiTConfig(dim=768, heads=12),
}
