"""EfficientViM: a three-stage backbone whose mixing happens on a few hidden states instead of all tokens.

Lee, Choi and Kim, "EfficientViM: Efficient Vision Mamba with Hidden State Mixer based State Space Duality",
CVPR 2025, arXiv 2411.15241; reference code mlvlab/EfficientViM (MIT). Written from the paper and the names and
shapes of the published tensors; no code taken.

Every residual is a convex mix with a learned gate per channel: x <- (1 - g) x + g f(x), g = sigmoid(alpha).
The mixer's parameter A has no effect on output or gradient (a constant per state cancels in the softmax over
tokens); it is kept so that published files load without loss, and left out of the computation.

Differences: rectangles work everywhere (the released classifier takes squares only), `features_only` maps,
recomputation in training; norm weights are stored as vectors.

Shape legend: B batch, C channels, H height, W width, L = H * W tokens (row-major), N states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.errors import ConfigError
from saccade.nn.config import BackboneConfig
from saccade.nn.conv_norm import ConvNorm, ConvStem, FeedForward, PatchMerging
from saccade.nn.dense import check_out_indices
from saccade.nn.fold import (
    FoldedMerging,
    FoldedNet,
    FoldedStem,
    fold_conv_norm,
    fold_feed_forward,
    fold_plain_conv,
    linear_of,
)
from saccade.nn.kernels import FoldedConv, Plain
from saccade.nn.modules import ModulesOf, modules, recomputed

GATE_INIT = 1e-4


@dataclass(frozen=True)
class EfficientViMConfig(BackboneConfig):
    """Sizes of one variant."""

    states: tuple[int, int, int]
    """Hidden states of the mixers in each stage; independent of the image size."""


class ChannelNorm(nn.Module):
    """Normalise over channels at each position: biased variance, eps 1e-5, affine per channel."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, ...) over its second dimension."""
        var, mean = torch.var_mean(x, 1, correction=0, keepdim=True)
        shape = (-1,) + (1,) * (x.ndim - 2)
        return (x - mean) * (var + 1e-5).rsqrt() * self.weight.view(shape) + self.bias.view(shape)


class HiddenStateMixer(nn.Module):
    """State-space duality with the channel mixing done on the hidden states (HSM-SSD, paper section 4).

    Cost per image: 3 N C L for the projection, 2 N C L for the two products, 3 C^2 N for the mixing.
    """

    def __init__(self, dim: int, num_states: int) -> None:
        super().__init__()
        self.num_states = num_states
        # Published files have it, but it cancels in the softmax. As a parameter to train, it would be one without a
        # gradient, which training on several processes refuses.
        self.A = nn.Parameter(torch.empty(num_states).uniform_(1, 16), requires_grad=False)
        self.D = nn.Parameter(torch.ones(1))
        self.bcdt_proj = nn.Conv2d(dim, 3 * num_states, 1, bias=False)
        self.dwconv = nn.Conv2d(
            3 * num_states, 3 * num_states, 3, padding=1, groups=3 * num_states, bias=False
        )
        self.hz_proj = nn.Linear(dim, 2 * dim, bias=False)
        self.out_proj = nn.Linear(dim, dim, bias=False)

    def forward(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Mix the normed map (B, C, H, W); return the new map and the hidden states (B, N, C)."""
        b, c, delta = self.dwconv(self.bcdt_proj(u)).flatten(2).split(self.num_states, 1)
        states = (delta.softmax(-1) * b) @ u.flatten(2).transpose(1, 2)
        h, z = self.hz_proj(states).chunk(2, -1)
        states = self.out_proj(h * F.silu(z) + self.D * h)
        return (states.transpose(1, 2) @ c).view_as(u), states


class Block(nn.Module):
    """Depthwise convolution, mixer, depthwise convolution, feed-forward; each gated per channel."""

    def __init__(self, dim: int, num_states: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.full((4, dim), GATE_INIT))
        self.dwconv1 = ConvNorm(dim, dim, 3, groups=dim)
        self.norm = ChannelNorm(dim)
        self.mixer = HiddenStateMixer(dim, num_states)
        self.dwconv2 = ConvNorm(dim, dim, 3, groups=dim)
        self.ffn = FeedForward(dim, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, C, H, W) to the same shape and the mixer's hidden states (B, N, C)."""
        # Under mixed precision the maps are of half precision, and lerp takes one type.
        gates = torch.sigmoid(self.alpha).view(4, 1, -1, 1, 1).to(x.dtype)
        x = x.lerp(self.dwconv1(x), gates[0])
        mixed, states = self.mixer(self.norm(x))
        x = x.lerp(mixed, gates[1])
        x = x.lerp(self.dwconv2(x), gates[2])
        return x.lerp(self.ffn(x), gates[3]), states


class Downsample(nn.Module):
    """Residual depthwise convolutions on both sides of a patch merging (hidden width 4 * out_chans)."""

    def __init__(self, in_chans: int, out_chans: int) -> None:
        super().__init__()
        self.dwconv1 = ConvNorm(in_chans, in_chans, 3, groups=in_chans)
        self.merge = PatchMerging(in_chans, out_chans, 4 * out_chans)
        self.dwconv2 = ConvNorm(out_chans, out_chans, 3, groups=out_chans)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_chans, H, W) to (B, out_chans, ceil(H / 2), ceil(W / 2))."""
        x = x + self.dwconv1(x)
        x = self.merge(x)
        return x + self.dwconv2(x)


class Stage(nn.Module):
    """The blocks, then the downsampling to the next stage, which belongs to this one in published names."""

    def __init__(self, dim: int, depth: int, num_states: int, out_chans: int | None) -> None:
        super().__init__()
        self.blocks = modules([Block(dim, num_states) for _ in range(depth)])
        self.downsample = Downsample(dim, out_chans) if out_chans else None
        self.recompute = False

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the map (B, C, H, W) before any downsampling and the last block's states (B, N, C)."""
        states = x
        for block in self.blocks:
            if self.recompute and self.training and x.requires_grad:
                x, states = recomputed(block, x)
            else:
                x, states = block(x)
        return x, states


class FusedHeads(nn.Module):
    """One linear layer per pooled vector, their logits summed with softmax weights."""

    def __init__(self, dims: Sequence[int], num_classes: int) -> None:
        super().__init__()
        fcs = [nn.Linear(dim, num_classes) for dim in dims]
        for fc in fcs:
            nn.init.trunc_normal_(fc.weight, std=0.02)
            nn.init.zeros_(fc.bias)
        self.fcs = modules(fcs)
        self.weights = nn.Parameter(torch.ones(len(dims)))

    def forward(self, vectors: Sequence[Tensor]) -> Tensor:
        """Map vectors (B, dims[i]) to logits (B, num_classes)."""
        weights = self.weights.softmax(0)
        return torch.stack([w * fc(v) for w, fc, v in zip(weights, self.fcs, vectors, strict=True)]).sum(0)


class EfficientViM(nn.Module):
    """The network.

    Args:
        config: Sizes.
        out_indices: Stages (0 to 2) whose maps `forward` returns as a list, without a head; None: classify.
    """

    def __init__(self, config: EfficientViMConfig, out_indices: Sequence[int] | None = None) -> None:
        super().__init__()
        self.config = config
        self.default_size = config.default_size
        self.out_indices = None if out_indices is None else check_out_indices(out_indices, 3)
        self.num_classes = 0 if self.out_indices is not None else config.num_classes
        self.stem = ConvStem(config.in_chans, config.dims[0])
        widths = (*config.dims[1:], None)
        self.stages = modules(
            [Stage(config.dims[s], config.depths[s], config.states[s], widths[s]) for s in range(3)]
        )
        for linear in (m for m in self.stages.modules() if isinstance(m, nn.Linear)):
            nn.init.kaiming_uniform_(linear.weight, a=5**0.5)  # these are 1x1 convolutions in the release
        self.head_dims = (*config.dims, config.dims[-1])
        self.num_features = sum(self.head_dims)
        self.norms: ModulesOf[ChannelNorm] | None = None
        wanted = self.out_indices or (0, 1, 2)
        self.channels = [config.dims[s] for s in wanted]
        self.strides = [16 * 2**s for s in wanted]
        if self.out_indices is None:
            self.norms = modules([ChannelNorm(dim) for dim in self.head_dims])
        self.reset_classifier(self.num_classes)

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the heads by fresh ones with `num_classes` outputs; 0 removes them."""
        self.num_classes = num_classes
        self.head = FusedHeads(self.head_dims, num_classes) if num_classes else None
        self.head_dist = (
            FusedHeads(self.head_dims, num_classes) if num_classes and self.config.distilled else None
        )

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade time for memory in training: keep block inputs only."""
        for stage in self.stages:
            stage.recompute = enable

    def weight_decay_exempt(self) -> set[str]:
        """Names of the parameters that the published recipe does not decay.

        Vectors and biases, but not the weights of the channel norms: the release stores those with three
        or four dimensions, so its rule decays them (and the gates `alpha`).
        """
        decayed = {
            f"{name}.weight" for name, module in self.named_modules() if isinstance(module, ChannelNorm)
        }
        exempt = {name for name, p in self.named_parameters() if p.ndim <= 1 or name.endswith(".bias")}
        return exempt - decayed

    def fold(self) -> FoldedEfficientViM:
        """Return the inference form; see `saccade.fold`."""
        return FoldedEfficientViM(self)

    def forward_states(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return the three stage maps (B, C, H, W) and the three hidden states (B, N, C), before any head norm."""
        maps, all_states, x = [], [], self.stem(x)
        for stage in self.stages:
            x, states = stage(x)
            maps.append(x)
            all_states.append(states)
            if stage.downsample is not None:
                x = stage.downsample(x)
        return maps, all_states

    def forward_intermediates(self, x: Tensor) -> list[Tensor]:
        """Return the three stage maps, (B, dims[s], H / 16 / 2**s, W / 16 / 2**s) rounded up."""
        return self.forward_states(x)[0]

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last stage map."""
        return self.forward_intermediates(x)[-1]

    def pool(self, maps: list[Tensor], states: list[Tensor]) -> list[Tensor]:
        """Norm and average the three hidden states over N and the last map over space: four (B, C_i)."""
        if self.norms is None:
            raise ConfigError("this EfficientViM was built with features_only=True and has no pooled vectors")
        pooled = [norm(s.transpose(1, 2)).mean(2) for norm, s in zip(self.norms, states, strict=False)]
        return [*pooled, self.norms[3](maps[-1]).mean((2, 3))]

    def forward_head(
        self, maps: list[Tensor], states: list[Tensor], *, pre_logits: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Pool and classify; `pre_logits` returns the four pooled vectors side by side, (B, num_features)."""
        vectors = self.pool(maps, states)
        if pre_logits or self.head is None:
            return torch.cat(vectors, 1)
        if self.head_dist is None:
            return self.head(vectors)
        logits, distilled = self.head(vectors), self.head_dist(vectors)
        return (logits, distilled) if self.training else (logits + distilled) / 2

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor] | list[Tensor]:
        """Map a picture (B, in_chans, H, W) to logits (B, num_classes).

        With `distilled`, training returns (logits, teacher logits) and evaluation their mean. With
        `out_indices`, a list of maps. With no head, the pooled vectors side by side.
        """
        maps, states = self.forward_states(x)
        if self.out_indices is not None:
            return [maps[s] for s in self.out_indices]
        return self.forward_head(maps, states)


class FoldedBlock(nn.Module):
    """Inference form of `Block`: gates live in the weights, depthwise gates in the centre taps, A is gone.

    The mixer's gate goes into its output projection, except in a stage's last block (`last`), whose hidden
    states the head needs without it.
    """

    def __init__(self, block: Block, *, last: bool) -> None:
        super().__init__()
        gates = torch.sigmoid(block.alpha.double())
        mixer, dtype = block.mixer, block.alpha.dtype
        self.num_states = mixer.num_states
        self.dwconv1 = fold_conv_norm(block.dwconv1, out_scale=gates[0], identity=1 - gates[0])
        self.norm_weight = nn.Parameter(block.norm.weight.detach().clone(), requires_grad=False)
        self.norm_bias = nn.Parameter(block.norm.bias.detach().clone(), requires_grad=False)
        self.bcdt_proj = fold_plain_conv(mixer.bcdt_proj)
        self.dwconv = fold_plain_conv(mixer.dwconv)
        hz = mixer.hz_proj.weight.double()
        self.hz_proj = _pixel_conv(hz, dtype)
        self.scalar = nn.Parameter(mixer.D.detach().clone(), requires_grad=False)
        out = mixer.out_proj.weight.double()
        self.out_proj = _pixel_conv(out if last else out * gates[1].unsqueeze(1), dtype)
        self.gate = nn.Parameter(gates[1].to(dtype), requires_grad=False) if last else None
        self.keep = nn.Parameter((1 - gates[1]).to(dtype), requires_grad=False)
        self.dwconv2 = fold_conv_norm(block.dwconv2, out_scale=gates[2], identity=1 - gates[2])
        self.ffn = fold_feed_forward(block.ffn, gates[3])

    def forward(self, x: Any, k: Plain) -> tuple[Any, Tensor]:
        """Return the map and the mixer's hidden states (B, N, C), gated unless this is the last block."""
        x = k.conv(self.dwconv1, x)
        u = F.layer_norm(k.tokens(x), self.norm_weight.shape, self.norm_weight, self.norm_bias, eps=1e-5)
        bcdt = k.tokens(k.conv(self.dwconv, k.conv(self.bcdt_proj, k.untokens(u, x))))
        b, c, delta = bcdt.split(self.num_states, 2)[:3]  # exports pad the channels behind these
        states = (delta.softmax(1) * b).transpose(1, 2) @ u
        h, z = k.dense(self.hz_proj, states).chunk(2, 2)
        states = k.dense(self.out_proj, h * (F.silu(z) + self.scalar))
        x = k.mix(x, self.keep, c @ (states if self.gate is None else states * self.gate))
        return self.ffn(k.conv(self.dwconv2, x), k), states


class FoldedEfficientViM(FoldedNet):
    """Inference form of `EfficientViM`: all heads, their norms' affine maps and weights are one linear layer."""

    def __init__(self, model: EfficientViM) -> None:
        super().__init__()
        self.out_indices = model.out_indices
        self.stem = FoldedStem(model.stem)
        stages, downs = [], []
        for stage in model.stages:
            blocks = list(stage.blocks)
            folded = [FoldedBlock(block, last=i == len(blocks) - 1) for i, block in enumerate(blocks)]
            stages.append(modules(folded))
            if isinstance(stage.downsample, Downsample):
                down = stage.downsample
                first, second = (fold_conv_norm(conv, identity=1.0) for conv in (down.dwconv1, down.dwconv2))
                downs.append(nn.ModuleList([first, FoldedMerging(down.merge), second]))
        self.stages, self.downs = modules(stages), modules(downs)
        self.affine = nn.ParameterList()
        heads = [head for head in (model.head, model.head_dist) if head is not None]
        self.head = _fold_heads(heads, model.norms) if heads and model.norms is not None else None
        if self.head is None and model.norms is not None:
            self.affine.extend(p.detach().clone() for norm in model.norms for p in norm.parameters())

    def run(self, x: Tensor, k: Plain) -> Tensor | list[Tensor]:
        """Map a picture to logits, a list of maps, or the pooled vectors side by side."""
        maps, pooled, y = [], [], self.stem(k.enter(x), k)
        for i, stage in enumerate(self.stages):
            states = None
            for block in stage:
                y, states = block(y, k)
            if self.out_indices is None:
                pooled.append(_normed_mean(states))
            elif i in self.out_indices:
                maps.append(k.leave(y))
            if i < len(self.downs):
                first, merge, second = self.downs[i]
                y = k.conv(second, merge(k.conv(first, y), k))
        if self.out_indices is not None:
            return maps
        pooled.append(_normed_mean(k.tokens(y)))
        if self.head is not None:
            return self.head(torch.cat(pooled, 1))
        return torch.cat(
            [v * w + b for v, w, b in zip(pooled, self.affine[::2], self.affine[1::2], strict=True)], 1
        )


def _normed_mean(tokens: Tensor | None) -> Tensor:
    """Normalise (B, L, C) over channels without affine and average over L; affine and mean commute."""
    assert tokens is not None
    return F.layer_norm(tokens, tokens.shape[2:], eps=1e-5).mean(1)


def _pixel_conv(weight: Tensor, dtype: torch.dtype) -> FoldedConv:
    """Make a 1x1 convolution without bias from (out, in) weights."""
    return FoldedConv(weight.to(dtype)[:, :, None, None], weight.new_zeros(weight.shape[0], dtype=dtype))


def _fold_heads(heads: list[FusedHeads], norms: ModulesOf[ChannelNorm]) -> nn.Linear:
    """Join sum_i w_i (W_i (g_i v_i + t_i) + b_i), averaged over the heads, into one layer on the joined v_i."""
    weights, biases = [], []
    for head in heads:
        share = head.weights.double().softmax(0) / len(heads)
        parts = []
        for w, fc, norm in zip(share, head.fcs, norms, strict=True):
            parts.append(w * fc.weight.double() * norm.weight.double())
            biases.append(w * (fc.weight.double() @ norm.bias.double() + fc.bias.double()))
        weights.append(torch.cat(parts, 1))
    return linear_of(torch.stack(weights).sum(0), torch.stack(biases).sum(0), heads[0].weights.dtype)


VARIANTS = {
    "efficientvim_m1": EfficientViMConfig((128, 192, 320), (2, 2, 2), (49, 25, 9)),
    "efficientvim_m2": EfficientViMConfig((128, 256, 512), (2, 2, 2), (49, 25, 9)),
    "efficientvim_m3": EfficientViMConfig((224, 320, 512), (2, 2, 2), (49, 25, 9)),
    "efficientvim_m4": EfficientViMConfig((224, 320, 512), (3, 4, 2), (64, 32, 16), default_size=256),
}
