"""What the plain vision transformers of timm have in common, seen through one interface.

Each trunk wraps a timm model and gives: its tokens before the blocks, a way to run its blocks as they are, and the
positions that its attention knows. Sub-modules stay the model's own, so every tensor keeps its name.

Shape legend: B batch, P prefix tokens (class, distillation, registers), H and W map in tokens, C channels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from saccade.errors import ConfigError
from saccade.nn.stgm import bins
from saccade.zoo.sparse.attention import KNOWN_ATTENTION, KNOWN_BLOCKS

FAMILIES = {
    "VisionTransformer": "plain",
    "VisionTransformerDistilled": "plain",
    "Eva": "rotary",
    "Beit": "relative",
    "VisionTransformerRelPos": "relative",
}


class Trunk:
    """Reads and runs the front of a timm model; holds no tensors.

    Args:
        model: Of a class in `FAMILIES`.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model: Any = model
        self.kind = FAMILIES[type(model).__name__]

    @property
    def prefix(self) -> int:
        """Class, distillation and register tokens in front of the image tokens."""
        return int(self.model.num_prefix_tokens)

    def embed(self, x: Tensor) -> tuple[Tensor, tuple[int, int], Tensor | None]:
        """Turn a picture into tokens (B, P + H * W, C), (H, W), and what the blocks want as positions.

        That is rotary angles, a relative position bias, or None.
        """
        model = self.model
        size = self.map_size(x)
        if self.kind == "rotary":
            tokens, rope = model._pos_embed(model.patch_embed(x))
            return model.norm_pre(tokens), size, rope
        if self.kind == "plain":
            return model.norm_pre(model._pos_embed(model.patch_embed(x))), size, None
        tokens = model.patch_embed(x)
        if model.cls_token is not None:
            tokens = torch.cat([model.cls_token.expand(tokens.shape[0], -1, -1), tokens], 1)
        if type(model).__name__ == "Beit":
            tokens = tokens if model.pos_embed is None else tokens + model.pos_embed
            shared = model.rel_pos_bias() if model.rel_pos_bias is not None else None
            return model.pos_drop(tokens), size, shared
        return tokens, size, None if model.shared_rel_pos is None else model.shared_rel_pos.get_bias()

    def map_size(self, x: Tensor) -> tuple[int, int]:
        """Return (H, W) of a picture's map."""
        embed = self.model.patch_embed
        if getattr(self.model, "dynamic_img_size", False):
            high, wide = embed.dynamic_feat_size((x.shape[2], x.shape[3]))
            return int(high), int(wide)
        return int(embed.grid_size[0]), int(embed.grid_size[1])

    def run(self, index: int, x: Tensor, positions: Tensor | None) -> Tensor:
        """Run block `index` on all tokens, as timm does."""
        block = self.model.blocks[index]
        if self.kind == "plain":
            return block(x)
        if self.kind == "rotary":
            return block(x, rope=self.rope(index, positions))
        name = "shared_rel_pos_bias" if type(self.model).__name__ == "Beit" else "shared_rel_pos"
        return block(x, **{name: positions})

    def rope(self, index: int, positions: Tensor | None) -> Tensor | None:
        """Return the rotary angles of block `index`; they differ by block in mixed mode."""
        if self.kind != "rotary" or positions is None:
            return None
        return positions[index] if getattr(self.model, "rope_mixed", False) else positions

    def drop_prefix(self) -> None:
        """Take the class, distillation and register tokens out of the model.

        Raises:
            ConfigError: Its relative positions count the class token.
        """
        model = self.model
        if not self.prefix:
            return
        if self.kind == "relative":
            raise ConfigError(
                f"{type(model).__name__}: its relative positions count the class token, so it cannot be left "
                'out; use head="keep"'
            )
        if (
            model.pos_embed is not None
            and model.pos_embed.shape[1] == model.patch_embed.num_patches + self.prefix
        ):
            model.pos_embed = nn.Parameter(model.pos_embed.detach()[:, self.prefix :].clone())
        if hasattr(model, "dist_token"):
            from timm.models.vision_transformer import VisionTransformer

            del model.dist_token, model.head_dist
            model.__class__ = VisionTransformer
        model.cls_token = model.reg_token = None
        model.num_prefix_tokens = 0
        for block in model.blocks:
            if hasattr(block.attn, "num_prefix_tokens"):
                block.attn.num_prefix_tokens = 0


def check_trunk(model: nn.Module) -> Trunk:
    """Make sure that a model can be run block by block with two inputs.

    Raises:
        ConfigError: Says what about it is not understood.
    """
    name = type(model).__name__
    found: Any = model
    for block in found.blocks:
        attn = block.attn if hasattr(block, "attn") else None
        if type(block).__name__ not in KNOWN_BLOCKS or type(attn).__name__ not in (
            *KNOWN_ATTENTION,
            "AttentionRope",
        ):
            raise ConfigError(
                f"{name} has blocks {type(block).__name__} with {type(attn).__name__}; sparsify knows "
                f"{', '.join(KNOWN_BLOCKS)} with {', '.join(KNOWN_ATTENTION)}"
            )
        if getattr(attn, "num_kv_heads", attn.num_heads) != attn.num_heads:  # pyright: ignore
            raise ConfigError(f"{name} shares keys between heads, which sparsify does not know")
    patch_drop = getattr(model, "patch_drop", None)
    if patch_drop is not None and not isinstance(patch_drop, nn.Identity):
        raise ConfigError(f"{name} drops patches in training (patch_drop_rate); build it without")
    pool = getattr(model, "attn_pool", None)
    if pool is not None and getattr(pool, "pos_embed", None) is not None:
        raise ConfigError(f"{name} pools with positions of the full map, which semantic tokens do not have")
    if not hasattr(found.patch_embed, "proj") or not isinstance(found.patch_embed.proj, nn.Conv2d):
        raise ConfigError(
            f"{name} embeds patches by {type(found.patch_embed).__name__}; expected one convolution"
        )
    return Trunk(model)


def centre_rope(rope: Tensor, size: tuple[int, int], grid: int) -> Tensor:
    """Rotary angles at the centres of grid x grid windows of a map.

    Angles are linear in the coordinates, so the angle half-way between two neighbours is the direction of the sum of
    theirs; sines and cosines are summed over the two tokens (of each axis) around the centre and scaled back.

    Args:
        rope: (..., H * W, 2 * d), sines then cosines.
        size: (H, W).
        grid: Windows a side.

    Returns:
        (..., grid * grid, 2 * d).
    """
    maps = rope.unflatten(-2, size)
    for axis, length in ((-3, size[0]), (-2, size[1])):
        middles = [(a + b - 1) / 2 for a, b in bins(length, grid)]
        lower = torch.tensor([int(c) for c in middles], device=rope.device)
        upper = torch.tensor([int(c + 0.5) for c in middles], device=rope.device)
        maps = maps.index_select(axis, lower) + maps.index_select(axis, upper)
    sine, cosine = maps.flatten(-3, -2).chunk(2, -1)
    length = (sine.square() + cosine.square()).sqrt().clamp_min(1e-12)
    return torch.cat([sine / length, cosine / length], -1)
