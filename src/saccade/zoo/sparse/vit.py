"""A plain vision transformer of timm, run on semantic tokens from some block on.

Chang et al., "Making Vision Transformers Efficient from A Token Sparsification View", CVPR 2023, arXiv 2303.08685,
applied to networks that exist. The conversion is ours, as no conversion is published: existing blocks serve as
generating blocks with two inputs, the learned global centres start at zero, so that the first forward pass is
"spatial pooling only", and no LayerScale is added. Relative position biases are off from the first generating block
on; rotary positions are those of the windows' centres.

Shape legend: B batch, P prefix tokens, H and W map in tokens, M semantic tokens, C channels.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from saccade.errors import ConfigError
from saccade.nn.dense import check_out_indices
from saccade.nn.stgm import WindowPooling, grid_of, make_pooling
from saccade.nn.token_classifier import image_maps
from saccade.zoo.sparse.attention import attention_weights, cross_block
from saccade.zoo.sparse.trunk import Trunk, centre_rope, check_trunk


@dataclass(frozen=True)
class Unit:
    """Which blocks do what: image blocks [start, image), generating [image, made), semantic [made, stop).

    With a recovery, block `stop` lets the image tokens look at the semantic ones.
    """

    start: int
    image: int
    made: int
    stop: int
    recovers: bool


def plan_units(depth: int, image_blocks: int, stgm_blocks: int, units: int, recover: bool) -> list[Unit]:
    """Divide the blocks of a network among units.

    Args:
        depth: All blocks.
        image_blocks: Before the first generating block.
        stgm_blocks: Generating blocks of each unit.
        units: Dumbbell units; 1 without recovery. Later ones begin with one image block.
        recover: Whether each unit ends in a recovery block.

    Raises:
        ConfigError: It does not fit.
    """
    if units > 1 and not recover:
        raise ConfigError(
            f"units is {units}; without recover=True image tokens end with the first unit, so expected 1"
        )
    least = image_blocks + stgm_blocks + recover + (units - 1) * (1 + stgm_blocks + recover)
    if image_blocks < 0 or stgm_blocks < 1 or units < 1 or least > depth:
        raise ConfigError(
            f"image_blocks is {image_blocks}, stgm_blocks {stgm_blocks} and units {units}"
            f"{' with recovery' if recover else ''}; the network has {depth} blocks, and this needs "
            f"image_blocks >= 0, stgm_blocks >= 1, units >= 1 and {least} blocks"
        )
    spare, plan, at = depth - least, [], 0
    for u in range(units):
        semantic = spare // units + (u < spare % units)
        image = at + (image_blocks if u == 0 else 1)
        made = image + stgm_blocks
        plan.append(Unit(at, image, made, made + semantic, recover))
        at = made + semantic + recover
    return plan


class SparseViT(nn.Module):
    """A timm vision transformer on semantic tokens; its modules keep their names under `base`.

    Args:
        base: Taken over, not copied.
        tokens: Semantic tokens M, a square number.
        pooling: "max", "window" or "offset"; see `saccade.nn.stgm`.
        image_blocks: Blocks before the first generating one.
        stgm_blocks: Generating blocks.
        global_centers: Learned centres, zero at first, added to the query of the second generating block.
        head: "keep" the class and register tokens as further query and key tokens, with the head as it is; or "mean":
            leave them out and classify the mean of the semantic tokens.
        recover: Restore the map: image tokens look at the semantic ones at the end of each unit.
        units: Dumbbell units; only with `recover`.
        features_only: Return maps instead of logits. Only with `recover`.
        out_indices: Which: 0 is what leaves the first image blocks, u what unit u - 1 restores; None: all.
    """

    def __init__(
        self,
        base: nn.Module,
        *,
        tokens: int = 16,
        pooling: str = "max",
        image_blocks: int | None = None,
        stgm_blocks: int = 2,
        global_centers: bool = True,
        head: str = "keep",
        recover: bool = False,
        units: int = 1,
        features_only: bool = False,
        out_indices: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        trunk = check_trunk(base)
        if head not in ("keep", "mean"):
            raise ConfigError(f'head is {head!r}; expected "keep" or "mean"')
        if head == "mean":
            if getattr(base, "attn_pool", None) is not None:
                raise ConfigError(f'{type(base).__name__} pools by attention; use head="keep"')
            trunk.drop_prefix()
        self.base: Any = base
        depth = len(self.base.blocks)
        self.plan = plan_units(
            depth, depth // 3 if image_blocks is None else image_blocks, stgm_blocks, units, recover
        )
        self.head_mode, self.recover, self.grid = head, recover, grid_of(tokens)
        self.num_features, self.num_classes = int(self.base.num_features), int(self.base.num_classes)
        self.in_chans = int(getattr(base, "in_chans", 3))
        self._check_map(tokens)
        dim = int(self.base.embed_dim)
        self.pools = nn.ModuleList([make_pooling(pooling, dim, self.grid) for _ in self.plan])
        for pool in self.pools:
            if isinstance(pool, WindowPooling):
                pool.zero_start()
        embed = self.base.patch_embed
        self.default_size = int(embed.img_size[0] if embed.img_size else 224)
        self.out_indices = self._check_indices(out_indices) if features_only else None
        wanted = self.out_indices or ()
        self.channels, self.strides = (
            [dim] * len(wanted),
            [self.default_size // int(embed.grid_size[0])] * len(wanted),
        )
        self.recompute = False
        weight = embed.proj.weight
        self.pools.to(device=weight.device, dtype=weight.dtype)
        self.global_centers = nn.Parameter(weight.new_zeros(1, tokens, dim)) if global_centers else None

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the head by a fresh one with `num_classes` outputs; 0 removes it."""
        self.base.reset_classifier(num_classes)
        self.num_classes = num_classes

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade time for memory in training: keep block inputs only."""
        self.recompute = enable

    def fold(self) -> nn.Module:
        """Return the inference form (see `saccade.fold`): prepacked for timm's plain blocks, else a copy."""
        from saccade.zoo.sparse.fold import FoldedSparseViT, can_fold

        alike = Trunk(self.base).kind == "plain" and all(can_fold(block) for block in self.base.blocks)
        return FoldedSparseViT(self) if alike else copy.deepcopy(self)

    def weight_decay_exempt(self) -> set[str]:
        """Names of the parameters that recipes do not decay: vectors, and what the base names."""
        skipped = {f"base.{name}" for name in getattr(self.base, "no_weight_decay", set)()}
        return {name for name, p in self.named_parameters() if p.ndim <= 1} | (
            skipped & {name for name, _ in self.named_parameters()}
        )

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the final tokens, normalised: (B, P + M, C), or (B, P + H * W, C) with recovery."""
        return self.base.norm(self._run(x)[0])

    def forward_head(self, x: Tensor, *, pre_logits: bool = False) -> Any:
        """Pool and classify as the base does (`head="keep"`), or by the mean of the tokens."""
        if self.head_mode == "keep":
            return self.base.forward_head(x, pre_logits=pre_logits)
        x = self.base.head_drop(self.base.fc_norm(x.mean(1)))
        return x if pre_logits else self.base.head(x)

    def forward(self, x: Tensor) -> Any:
        """Map a picture (B, in_chans, height, width) to logits (B, num_classes), or to maps (B, C, H, W)."""
        if self.out_indices is not None:
            maps = self._run(x)[1]
            return [maps[i] for i in self.out_indices]
        return self.forward_head(self.forward_features(x))

    def forward_intermediates(self, x: Tensor, indices: Sequence[int] | None = None) -> list[Tensor]:
        """Return maps (B, C, H, W) behind given blocks.

        A block before the first generating one has its own map. The others share the map that their unit's recovery
        restores; without recovery they have none.

        Args:
            x: Picture (B, in_chans, height, width).
            indices: Block numbers, negatives from the end; None: the last image block, and the end of each unit.

        Raises:
            ConfigError: A block without a map.
        """
        maps = self._run(x)[1]
        if indices is None:
            return maps
        depth, found = len(self.base.blocks), []
        for index in indices:
            number = index + depth if index < 0 else index
            if not 0 <= number < depth:
                raise ConfigError(f"indices names block {index}; the network has {depth}")
            if number < self.plan[0].image:
                found.append(self._map_behind(x, number))
                continue
            if not self.recover:
                raise ConfigError(
                    f"block {number} works on semantic tokens and has no map; the last block with one is "
                    f"{self.plan[0].image - 1}, or convert with recover=True"
                )
            unit = next(u for u, unit in enumerate(self.plan) if number <= unit.stop)
            found.append(maps[unit + 1])
        return found

    def token_maps(self, x: Tensor) -> Tensor:
        """Say which image tokens each semantic token stands for.

        Args:
            x: Picture (B, in_chans, height, width).

        Returns:
            (B, M, H, W): attention of the last generating block of the last unit over the image tokens, mean over
            heads, each map summing to 1.
        """
        seen: list[tuple[Any, Tensor, Tensor, Any, tuple[int, int]]] = []
        self._run(x, seen)
        block, query, context, ropes, size = seen[-1]
        prefix = Trunk(self.base).prefix
        post = "PostNorm" in type(block).__name__ or "ResPost" in type(block).__name__
        pair = (query, context) if post else (block.norm1(query), block.norm1(context))
        weights = attention_weights(block.attn, *pair, ropes, prefix)
        return image_maps(weights[:, :, prefix:], size)

    def _run(self, picture: Tensor, seen: list | None = None) -> tuple[Tensor, list[Tensor]]:
        """Return the last tokens, and the maps behind the first image blocks and each recovery."""
        trunk = Trunk(self.base)
        x, size, positions = trunk.embed(picture)
        prefix, maps = trunk.prefix, []
        for u, unit in enumerate(self.plan):
            for i in range(unit.start, unit.image):
                x = self._step(trunk.run, i, x, positions)
            if u == 0:
                maps.append(_as_map(x, prefix, size))
            tokens = self._generate(trunk, u, x, size, positions, seen)
            for i in range(unit.made, unit.stop):
                rope = self._centre_rope(trunk, i, size, positions)
                tokens = self._step(cross_block, self.base.blocks[i], tokens, tokens, (rope, rope), prefix)
            if unit.recovers:
                near, far = (
                    trunk.rope(unit.stop, positions),
                    self._centre_rope(trunk, unit.stop, size, positions),
                )
                # Class and register tokens come from the semantic side, which has worked on them last.
                query = torch.cat([tokens[:, :prefix], x[:, prefix:]], 1)
                x = self._step(cross_block, self.base.blocks[unit.stop], query, tokens, (near, far), prefix)
                maps.append(_as_map(x, prefix, size))
            else:
                x = tokens
        return x, maps

    def _generate(
        self,
        trunk: Trunk,
        u: int,
        x: Tensor,
        size: tuple[int, int],
        positions: Tensor | None,
        seen: list | None,
    ) -> Tensor:
        """Turn all tokens (B, P + H * W, C) into prefix and semantic tokens (B, P + M, C)."""
        unit, prefix = self.plan[u], trunk.prefix
        image = x[:, prefix:]
        tokens = torch.cat([x[:, :prefix], self.pools[u](image.unflatten(1, size))], 1)
        for j, i in enumerate(range(unit.image, unit.made)):
            here, centre = trunk.rope(i, positions), self._centre_rope(trunk, i, size, positions)
            query, context, there = tokens, x, here
            if j > 0:
                context = torch.cat([tokens, image], 1)
                there = None if here is None or centre is None else torch.cat([centre, here], -2)
                if j == 1 and self.global_centers is not None and u == 0:
                    query = torch.cat([tokens[:, :prefix], tokens[:, prefix:] + self.global_centers], 1)
            if seen is not None:
                seen.append((self.base.blocks[i], query, context, (centre, there), size))
            tokens = self._step(cross_block, self.base.blocks[i], query, context, (centre, there), prefix)
        return tokens

    def _step(self, function: Any, *args: Any) -> Tensor:
        """Call a block, keeping only its inputs when asked."""
        if self.recompute and self.training:
            return checkpoint(function, *args, use_reentrant=False)  # pyright: ignore[reportReturnType]
        return function(*args)

    def _centre_rope(
        self, trunk: Trunk, index: int, size: tuple[int, int], positions: Tensor | None
    ) -> Tensor | None:
        rope = trunk.rope(index, positions)
        return None if rope is None else centre_rope(rope, size, self.grid)

    def _map_behind(self, x: Tensor, number: int) -> Tensor:
        """Return the map behind an image block."""
        trunk = Trunk(self.base)
        y, size, positions = trunk.embed(x)
        for i in range(number + 1):
            y = trunk.run(i, y, positions)
        return _as_map(y, trunk.prefix, size)

    def _check_map(self, tokens: int) -> None:
        """Refuse more semantic tokens than the default map has image tokens."""
        size = getattr(self.base.patch_embed, "grid_size", None)
        if size and self.grid > min(size):
            raise ConfigError(
                f"tokens is {tokens}; the map has {size[0]}x{size[1]} image tokens, so expected at most "
                f"{min(size) ** 2}"
            )

    def _check_indices(self, out_indices: Sequence[int] | None) -> tuple[int, ...]:
        """Resolve the maps asked for; there are one and one a unit."""
        if not self.recover:
            raise ConfigError(
                "feature maps need recover=True: without recovery the map ends where the semantic tokens begin"
            )
        return check_out_indices(out_indices, len(self.plan) + 1)


def _as_map(x: Tensor, prefix: int, size: tuple[int, int]) -> Tensor:
    """View image tokens (B, P + H * W, C) as a map (B, C, H, W)."""
    return x[:, prefix:].transpose(1, 2).unflatten(2, size)
