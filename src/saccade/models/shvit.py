"""SHViT: a three-stage convolutional backbone with single-head attention on a part of the channels.

Yun and Ro, "SHViT: Single-Head Vision Transformer with Memory Efficient Macro Design", CVPR 2024,
arXiv 2401.16456; reference code ysj9909/SHViT (MIT). Written from the paper and the names and shapes of the
published tensors; no code taken. What the paper calls LayerNorm is, in the released code and here, a group
normalisation with one group: its statistics run over channels and space.

Differences: maps instead of a 1-to-1 copy of module names (`weights/keymap.py` translates), any image size,
`features_only` maps, recomputation in training.

Shape legend: B batch, C channels, H height, W width, L = H * W tokens (row-major), P attended channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from saccade.nn.config import BackboneConfig
from saccade.nn.conv_norm import ConvNorm, ConvStem, FeedForward, PatchMerging
from saccade.nn.dense import check_out_indices, run_blocks
from saccade.nn.fold import (
    FoldedMerging,
    FoldedNet,
    FoldedStem,
    fold_conv_norm,
    fold_feed_forward,
    linear_of,
    norm_affine,
)
from saccade.nn.kernels import Plain
from saccade.nn.modules import modules

QUERY_DIM = 16


@dataclass(frozen=True)
class SHViTConfig(BackboneConfig):
    """Sizes of one variant."""

    attended: tuple[int, int, int]
    """Channels that attention sees in each stage (C / 4.67 rounded by hand in the paper); 0: no attention."""


class SingleHeadAttention(nn.Module):
    """Attention with one head over the first P channels; the others pass by (paper section 3.2).

    Softmax over keys of q k^T / 4 with 16-wide queries and keys; no positions, so any H x W works.
    The remainder of the channels enters the output projection raw, behind the same ReLU.

    Cost: two L x L products per image, quadratic in the number of tokens.
    """

    def __init__(self, dim: int, attended: int) -> None:
        super().__init__()
        self.attended = attended
        self.rest = dim - attended
        self.norm = nn.GroupNorm(1, attended)
        self.qkv = ConvNorm(attended, 2 * QUERY_DIM + attended)
        self.proj = ConvNorm(dim, dim, norm_weight_init=0.0)

    def attention(self, q: Tensor, k: Tensor) -> Tensor:
        """Weights (B, L, L), each row over keys summing to 1, from q and k of (B, 16, L)."""
        return (q.transpose(1, 2) @ k * QUERY_DIM**-0.5).softmax(-1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape; the residual is the caller's."""
        seen, rest = x.split([self.attended, self.rest], 1)
        q, k, v = self.qkv(self.norm(seen)).flatten(2).split([QUERY_DIM, QUERY_DIM, self.attended], 1)
        mixed = (v @ self.attention(q, k).transpose(1, 2)).view_as(seen)
        return self.proj(torch.relu(torch.cat([mixed, rest], 1)))


class Block(nn.Module):
    """Depthwise convolution, single-head attention (where the stage has it), feed-forward; each a residual."""

    def __init__(self, dim: int, attended: int) -> None:
        super().__init__()
        self.dwconv = ConvNorm(dim, dim, 3, groups=dim, norm_weight_init=0.0)
        self.attn = SingleHeadAttention(dim, attended) if attended else None
        self.ffn = FeedForward(dim, 2, norm_weight_init=0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        x = x + self.dwconv(x)
        if self.attn is not None:
            x = x + self.attn(x)
        return x + self.ffn(x)


class Downsample(nn.Module):
    """Residual depthwise and feed-forward on both sides of a patch merging (hidden width 4 * in_chans)."""

    def __init__(self, in_chans: int, out_chans: int) -> None:
        super().__init__()
        self.dwconv1 = ConvNorm(in_chans, in_chans, 3, groups=in_chans)
        self.ffn1 = FeedForward(in_chans, 2, norm_weight_init=0.0)
        self.merge = PatchMerging(in_chans, out_chans, 4 * in_chans)
        self.dwconv2 = ConvNorm(out_chans, out_chans, 3, groups=out_chans)
        self.ffn2 = FeedForward(out_chans, 2, norm_weight_init=0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_chans, H, W) to (B, out_chans, ceil(H / 2), ceil(W / 2))."""
        x = x + self.dwconv1(x)
        x = x + self.ffn1(x)
        x = self.merge(x)
        x = x + self.dwconv2(x)
        return x + self.ffn2(x)


class Stage(nn.Module):
    """An optional downsampling, then the blocks. Its output is the stage's feature map."""

    def __init__(self, in_chans: int, dim: int, depth: int, attended: int) -> None:
        super().__init__()
        self.downsample = Downsample(in_chans, dim) if in_chans != dim else None
        self.blocks = modules([Block(dim, attended) for _ in range(depth)])
        self.recompute = False

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_chans, H, W) to (B, dim, H', W')."""
        if self.downsample is not None:
            x = self.downsample(x)
        return run_blocks(list(self.blocks), x, recompute=self.recompute and self.training)


class Head(nn.Module):
    """Batch normalisation and a linear layer on the pooled vector."""

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(dim)
        self.fc = nn.Linear(dim, num_classes)
        nn.init.trunc_normal_(self.fc.weight, std=0.02)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C) to logits (B, num_classes)."""
        return self.fc(self.norm(x))


class SHViT(nn.Module):
    """The network.

    Args:
        config: Sizes.
        out_indices: Stages (0 to 2) whose maps `forward` returns as a list, without a head; None: classify.
    """

    def __init__(self, config: SHViTConfig, out_indices: Sequence[int] | None = None) -> None:
        super().__init__()
        self.config = config
        self.default_size = config.default_size
        self.out_indices = None if out_indices is None else check_out_indices(out_indices, 3)
        self.num_classes = 0 if self.out_indices is not None else config.num_classes
        self.num_features = config.dims[-1]
        self.stem = ConvStem(config.in_chans, config.dims[0])
        widths = (config.dims[0], *config.dims)
        self.stages = modules(
            [Stage(widths[s], config.dims[s], config.depths[s], config.attended[s]) for s in range(3)]
        )
        wanted = self.out_indices or (0, 1, 2)
        self.channels = [config.dims[s] for s in wanted]
        self.strides = [16 * 2**s for s in wanted]
        self.reset_classifier(self.num_classes)

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the head by a fresh one with `num_classes` outputs; 0 removes it."""
        self.num_classes = num_classes
        self.head = Head(self.num_features, num_classes) if num_classes else None
        self.head_dist = (
            Head(self.num_features, num_classes) if num_classes and self.config.distilled else None
        )

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade time for memory in training: keep block inputs only."""
        for stage in self.stages:
            stage.recompute = enable

    def weight_decay_exempt(self) -> set[str]:
        """Names of the parameters that the published recipe does not decay: vectors and biases."""
        return {name for name, p in self.named_parameters() if p.ndim <= 1 or name.endswith(".bias")}

    def fold(self) -> FoldedSHViT:
        """Return the inference form; see `saccade.fold`."""
        return FoldedSHViT(self)

    def forward_intermediates(self, x: Tensor) -> list[Tensor]:
        """Return the three stage maps, (B, dims[s], H / 16 / 2**s, W / 16 / 2**s) rounded up."""
        maps, x = [], self.stem(x)
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last stage map."""
        return self.forward_intermediates(x)[-1]

    def forward_head(self, x: Tensor, *, pre_logits: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Pool the last map and classify; `pre_logits` stops after pooling, (B, dims[2])."""
        x = x.mean((2, 3))
        if pre_logits or self.head is None:
            return x
        if self.head_dist is None:
            return self.head(x)
        logits, distilled = self.head(x), self.head_dist(x)
        return (logits, distilled) if self.training else (logits + distilled) / 2

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor] | list[Tensor]:
        """Map a picture (B, in_chans, H, W) to logits (B, num_classes).

        With `distilled`, training returns (logits, teacher logits) and evaluation their mean. With
        `out_indices`, a list of maps. With no head, the pooled vector.
        """
        if self.out_indices is not None:
            maps = self.forward_intermediates(x)
            return [maps[s] for s in self.out_indices]
        return self.forward_head(self.forward_features(x))


class FoldedAttention(nn.Module):
    """Inference form of `SingleHeadAttention` with its residual.

    The norm's affine map and the factor 1/4 of the queries live in the qkv weights.
    """

    def __init__(self, attn: SingleHeadAttention) -> None:
        super().__init__()
        self.attended, self.rest, self.eps = attn.attended, attn.rest, attn.norm.eps
        scale = torch.ones(2 * QUERY_DIM + attn.attended, dtype=torch.float64)
        scale[:QUERY_DIM] = QUERY_DIM**-0.5
        self.qkv = fold_conv_norm(
            attn.qkv, out_scale=scale, in_scale=attn.norm.weight, in_shift=attn.norm.bias
        )
        self.proj = fold_conv_norm(attn.proj)

    def forward(self, x: Any, k: Plain) -> Any:
        """Return the map x plus its attention."""
        seen, rest = k.split(x, [self.attended, self.rest])
        qkv = k.tokens(k.conv(self.qkv, k.norm_all(seen, self.eps)))
        query, key, value = qkv.split([QUERY_DIM, QUERY_DIM, self.attended], 2)
        mixed = (query @ key.transpose(1, 2)).softmax(-1) @ value
        return k.conv_add(self.proj, k.cat_relu(k.untokens(mixed, seen), rest), x)


class FoldedStage(nn.Module):
    """Inference form of `Stage`: every residual depthwise convolution has its identity in the centre tap."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        down = stage.downsample
        self.down = down is not None
        if down is not None:
            self.dwconv1 = fold_conv_norm(down.dwconv1, identity=1.0)
            self.ffn1 = fold_feed_forward(down.ffn1)
            self.merge = FoldedMerging(down.merge)
            self.dwconv2 = fold_conv_norm(down.dwconv2, identity=1.0)
            self.ffn2 = fold_feed_forward(down.ffn2)
        blocks = list(stage.blocks)
        self.dwconvs = modules([fold_conv_norm(block.dwconv, identity=1.0) for block in blocks])
        self.attns = nn.ModuleList(
            [FoldedAttention(block.attn) for block in blocks if block.attn is not None]
        )
        self.ffns = nn.ModuleList([fold_feed_forward(block.ffn) for block in blocks])

    def forward(self, x: Any, k: Plain) -> Any:
        """Map (B, in_chans, H, W) to (B, dim, H', W')."""
        if self.down:
            x = self.ffn1(k.conv(self.dwconv1, x), k)
            x = self.merge(x, k)
            x = self.ffn2(k.conv(self.dwconv2, x), k)
        for i, (dwconv, ffn) in enumerate(zip(self.dwconvs, self.ffns, strict=True)):
            x = k.conv(dwconv, x)
            if len(self.attns):
                x = self.attns[i](x, k)
            x = ffn(x, k)
        return x


class FoldedSHViT(FoldedNet):
    """Inference form of `SHViT`: no normalisation left but the attention's; both heads are one linear layer."""

    def __init__(self, model: SHViT) -> None:
        super().__init__()
        self.out_indices = model.out_indices
        self.stem = FoldedStem(model.stem)
        self.stages = nn.ModuleList([FoldedStage(stage) for stage in model.stages])
        heads = [head for head in (model.head, model.head_dist) if head is not None]
        self.head = _fold_heads(heads) if heads else None

    def run(self, x: Tensor, k: Plain) -> Tensor | list[Tensor]:
        """Map a picture to logits, a list of maps, or the pooled vector."""
        maps, y = [], self.stem(k.enter(x), k)
        for i, stage in enumerate(self.stages):
            y = stage(y, k)
            if self.out_indices is not None and i in self.out_indices:
                maps.append(k.leave(y))
        if self.out_indices is not None:
            return maps
        pooled = k.tokens(y).mean(1)
        return pooled if self.head is None else self.head(pooled)


def _fold_heads(heads: list[Head]) -> nn.Linear:
    """Average W (s x + t) + b over the heads into one linear layer."""
    weight = torch.zeros_like(heads[0].fc.weight, dtype=torch.float64)
    bias = torch.zeros_like(heads[0].fc.bias, dtype=torch.float64)
    for head in heads:
        scale, shift = norm_affine(head.norm)
        weight += head.fc.weight.double() * scale / len(heads)
        bias += (head.fc.weight.double() @ shift + head.fc.bias.double()) / len(heads)
    return linear_of(weight, bias, heads[0].fc.weight.dtype)


VARIANTS = {
    "shvit_s1": SHViTConfig((128, 224, 320), (2, 4, 5), (0, 48, 68)),
    "shvit_s2": SHViTConfig((128, 308, 448), (2, 4, 5), (0, 66, 96)),
    "shvit_s3": SHViTConfig((192, 352, 448), (3, 5, 5), (0, 75, 96)),
    "shvit_s4": SHViTConfig((224, 336, 448), (4, 7, 6), (0, 72, 96), default_size=256),
}
