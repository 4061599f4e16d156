"""Inference form of a converted plain vision transformer, where its blocks are of the common kind."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from saccade.nn.fold import FoldedNet
from saccade.nn.fold_transformer import FoldedBlock, FoldedCross, normalise, stack_linear
from saccade.nn.kernels import Plain
from saccade.nn.modules import modules
from saccade.nn.transformer import Block
from saccade.zoo.sparse.trunk import Trunk


def can_fold(block: Any) -> bool:
    """Tell whether one of timm's blocks is the plain one: layer norms, fused projection, exact GELU, no more."""
    attn = block.attn
    mlp: Any = getattr(block, "mlp", None)
    plain = all(
        isinstance(getattr(attn, name, nn.Identity()), nn.Identity) for name in ("q_norm", "k_norm", "norm")
    )
    return (
        type(block).__name__ == "Block"
        and type(attn).__name__ == "Attention"
        and hasattr(block, "ls1")
        and plain
        and getattr(attn, "gate", None) is None
        and isinstance(block.norm1, nn.LayerNorm)
        and type(mlp).__name__ == "Mlp"
        and isinstance(mlp.act, nn.GELU)
        and mlp.act.approximate == "none"
        and isinstance(mlp.norm, nn.Identity)
        and isinstance(mlp.fc1, nn.Linear)
    )


def as_block(block: Any) -> Block:
    """Copy one of timm's plain blocks into ours."""
    dim, like = block.norm1.weight.shape[0], block.norm1.weight
    made = Block(dim, block.attn.num_heads, eps=block.norm1.eps).to(like.device, like.dtype)
    made.norm1, made.norm2 = copy.deepcopy(block.norm1), copy.deepcopy(block.norm2)
    made.mlp.fc1, made.mlp.fc2 = copy.deepcopy(block.mlp.fc1), copy.deepcopy(block.mlp.fc2)
    made.attn.qkv, made.attn.proj = copy.deepcopy(block.attn.qkv), copy.deepcopy(block.attn.proj)
    for layer in (made.attn.qkv, made.attn.proj, made.mlp.fc1, made.mlp.fc2):
        if layer.bias is None:
            layer.bias = nn.Parameter(layer.weight.new_zeros(layer.weight.shape[0]))
    for name, scale in (("layer_scale_1", block.ls1), ("layer_scale_2", block.ls2)):
        gamma = getattr(scale, "gamma", None)
        if gamma is not None:
            setattr(made, name, nn.Parameter(gamma.detach().clone()))
    return made


class FoldedSparseViT(FoldedNet):
    """Inference form of `SparseViT`: one projection gives the keys and values of all generating blocks of a unit.

    Args:
        model: A `SparseViT` all of whose blocks `can_fold`.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.plan, self.head_mode, self.out_indices = model.plan, model.head_mode, model.out_indices
        blocks = [as_block(block) for block in model.base.blocks]
        crossing = {i for unit in model.plan for i in range(unit.image, unit.made)}
        crossing |= {unit.stop for unit in model.plan if unit.recovers}
        self.blocks = nn.ModuleList(
            [FoldedCross(block) if i in crossing else FoldedBlock(block) for i, block in enumerate(blocks)]
        )
        self.key_values = modules(
            [
                stack_linear([block.kv for block in self._generating(unit.image, unit.made)])
                for unit in model.plan
            ]
        )
        self.pools = copy.deepcopy(model.pools)
        centers = model.global_centers
        self.global_centers = None if centers is None else nn.Parameter(centers.detach().clone())
        kept, model.base.blocks = model.base.blocks, nn.ModuleList()
        try:
            self.base: Any = copy.deepcopy(model.base).eval()
        finally:
            model.base.blocks = kept

    def run(self, x: Tensor, k: Plain) -> Any:
        """Map a picture to what the network maps it to."""
        trunk = Trunk(self.base)
        tokens, size, _ = trunk.embed(x)
        prefix, maps, y = trunk.prefix, [], tokens.contiguous()
        for u, unit in enumerate(self.plan):
            for i in range(unit.start, unit.image):
                y = self.blocks[i](y, k)
            if u == 0 and self.out_indices is not None:
                maps.append(_as_map(y, prefix, size))
            tokens = self._generate(u, y, size, prefix, k)
            for i in range(unit.made, unit.stop):
                tokens = self.blocks[i](tokens, k)
            if unit.recovers:
                block = self.blocks[unit.stop]
                assert isinstance(block, FoldedCross)
                key, value = k.linear(block.kv, normalise(tokens, block.eps)).chunk(2, -1)
                y = block(torch.cat([tokens[:, :prefix], y[:, prefix:]], 1), key, value, k)
                if self.out_indices is not None:
                    maps.append(_as_map(y, prefix, size))
            else:
                y = tokens
        if self.out_indices is not None:
            return [maps[i] for i in self.out_indices]
        y = self.base.norm(y)
        if self.head_mode == "keep":
            return self.base.forward_head(y)
        return self.base.head(self.base.fc_norm(y.mean(1)))

    def _generating(self, first: int, last: int) -> list[FoldedCross]:
        """Return the blocks that make semantic tokens."""
        blocks = [self.blocks[i] for i in range(first, last)]
        return [block for block in blocks if isinstance(block, FoldedCross)]

    def _generate(self, u: int, x: Tensor, size: tuple[int, int], prefix: int, k: Plain) -> Tensor:
        """Turn all tokens (B, P + H * W, C), left as they are, into (B, P + M, C)."""
        unit = self.plan[u]
        blocks = self._generating(unit.image, unit.made)
        parts = k.linear(self.key_values[u], normalise(x, blocks[0].eps)).chunk(2 * len(blocks), -1)
        tokens = torch.cat([x[:, :prefix], self.pools[u](x[:, prefix:].unflatten(1, size))], 1)
        for j, block in enumerate(blocks):
            key, value = parts[2 * j : 2 * j + 2]
            query = tokens
            if j > 0:
                own_key, own_value = k.linear(block.kv, normalise(tokens, block.eps)).chunk(2, -1)
                key = torch.cat([own_key, key[:, prefix:]], 1)
                value = torch.cat([own_value, value[:, prefix:]], 1)
                if j == 1 and self.global_centers is not None and u == 0:
                    query = torch.cat([tokens[:, :prefix], tokens[:, prefix:] + self.global_centers], 1)
            tokens = block(query, key, value, k)
        return tokens


def _as_map(x: Tensor, prefix: int, size: tuple[int, int]) -> Tensor:
    """Copy image tokens (B, P + H * W, C) into a map (B, C, H, W), as the rows may be overwritten."""
    return x[:, prefix:].transpose(1, 2).unflatten(2, size).contiguous()
