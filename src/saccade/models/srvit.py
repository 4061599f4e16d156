"""Mobile-SRViT: a small network of convolutions and patch-to-patch attention that sharpens radar images.

Smith, Alimam, Vedula, Torlak, "A Vision Transformer Approach for Efficient Near-Field Irregular SAR
Super-Resolution", WMCS 2022, arXiv 2305.02074; reference code josiahwsmith10/hybrid-freehand-imaging-ViT (GPL-3.0).
Written from the paper and the names and shapes of the published tensors, which are the names here; no code taken.

Differences: images whose sides are no multiple of the patch are padded with zeros and cropped again; the published
code refuses them. As published, the network is tied to the scale of its training images (magnitudes near 2e-3), its
output is not bounded (SiLU reaches -0.28), and it has no skip from input to output; `srvit_swift` mends all three.

Shape legend: B batch, C channels, H height, W width, P pixels of a patch, N patches, D width of a token.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saccade.errors import ShapeError
from saccade.nn.config import NetConfig
from saccade.nn.modules import modules

HEADS = 4
HEAD_DIM = 8


@dataclass(frozen=True)
class SRViTConfig(NetConfig):
    """Sizes of one published configuration."""

    patch: int = 16
    """Side of an attention patch in pixels."""
    stem: tuple[tuple[int, int], ...] = ((16, 16),) * 4
    """Channels in and out of the inverted bottlenecks before the trunk."""
    trunk: tuple[tuple[int, int], ...] = ((16, 16), (16, 16), (16, 32))
    """Channels in and out of each trunk stage's inverted bottleneck."""
    dims: tuple[int, ...] = (8, 8, 16)
    """Width of each stage's tokens."""
    depths: tuple[int, ...] = (2, 4, 3)
    """Transformer layers of each stage."""
    ratios: tuple[int, ...] = (2, 4, 4)
    """Hidden width of each stage's feed-forward over the tokens' width."""


class ConvUnit(nn.Sequential):
    """Bias-free convolution, batch normalisation, SiLU; keeps the size."""

    def __init__(self, in_chans: int, out_chans: int, kernel_size: int) -> None:
        super().__init__(
            nn.Conv2d(in_chans, out_chans, kernel_size, padding=kernel_size // 2, bias=False),
            nn.BatchNorm2d(out_chans),
            nn.SiLU(),
        )


class InvertedBottleneck(nn.Module):
    """Depthwise 3x3 and 1x1 convolution; residual where the channels stay (MobileNetV2 with expansion 1)."""

    def __init__(self, in_chans: int, out_chans: int) -> None:
        super().__init__()
        self.residual = in_chans == out_chans
        self.conv = nn.Sequential(
            nn.Conv2d(in_chans, in_chans, 3, padding=1, groups=in_chans, bias=False),
            nn.BatchNorm2d(in_chans),
            nn.SiLU(),
            nn.Conv2d(in_chans, out_chans, 1, bias=False),
            nn.BatchNorm2d(out_chans),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in, H, W) to (B, out, H, W)."""
        return x + self.conv(x) if self.residual else self.conv(x)


class Attention(nn.Module):
    """Four heads of width 8, whatever the tokens' width."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        inner = HEADS * HEAD_DIM
        self.to_qkv = nn.Linear(dim, 3 * inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B * P, N, D) to the same shape."""
        q, k, v = self.to_qkv(x).unflatten(2, (3, HEADS, HEAD_DIM)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.to_out(mixed.transpose(1, 2).flatten(2))


class TokenMlp(nn.Module):
    """Two linear layers with a SiLU between (the published numbering leaves places for its dropouts)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.ModuleDict({"0": nn.Linear(dim, hidden), "3": nn.Linear(hidden, dim)})

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., D) to the same shape."""
        return self.net["3"](F.silu(self.net["0"](x)))


class PreNorm(nn.Module):
    """Layer normalisation, then a part."""

    def __init__(self, dim: int, part: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fn = part

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., D) to the same shape."""
        return self.fn(self.norm(x))


class Transformer(nn.Module):
    """Layers of attention and feed-forward, both residual; no final normalisation."""

    def __init__(self, dim: int, depth: int, hidden: int) -> None:
        super().__init__()
        self.layers = modules(
            modules([PreNorm(dim, Attention(dim)), PreNorm(dim, TokenMlp(dim, hidden))]) for _ in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B * P, N, D) to the same shape."""
        for layer in self.layers:
            attend, feed = layer
            x = x + attend(x)
            x = x + feed(x)
        return x


class ViTBlock(nn.Module):
    """Convolutions around a transformer in which pixels at the same place of each patch see each other.

    Cost: attention is quadratic in the number of patches, once for each of the patch's pixels.
    """

    def __init__(self, chans: int, dim: int, depth: int, hidden: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.conv1 = ConvUnit(chans, chans, 3)
        self.conv2 = ConvUnit(chans, dim, 1)
        self.transformer = Transformer(dim, depth, hidden)
        self.conv3 = ConvUnit(dim, chans, 1)
        self.conv4 = ConvUnit(2 * chans, chans, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W), sides a multiple of the patch, to the same shape."""
        y = self.conv2(self.conv1(x))
        batch, dim, high, wide = y.shape
        side = self.patch
        rows, columns = high // side, wide // side
        # One sequence for each pixel of the patch: (B * P, N, D), patches row by row.
        tokens = y.reshape(batch, dim, rows, side, columns, side).permute(0, 3, 5, 2, 4, 1)
        tokens = self.transformer(tokens.reshape(batch * side * side, rows * columns, dim))
        y = tokens.reshape(batch, side, side, rows, columns, dim).permute(0, 5, 3, 1, 4, 2)
        y = self.conv3(y.reshape(batch, dim, high, wide))
        return self.conv4(torch.cat([y, x], 1))


class SRViT(nn.Module):
    """The network: magnitude image in, sharpened image out, of the same size.

    Args:
        config: Sizes; `num_classes` and `in_chans` play no part beyond one channel.
    """

    def __init__(self, config: SRViTConfig) -> None:
        super().__init__()
        self.config = config
        self.default_size = config.default_size
        first = (*config.stem, *config.trunk)[0][0]
        self.conv1 = ConvUnit(1, first, 3)
        self.stem = nn.ModuleList(InvertedBottleneck(*chans) for chans in config.stem)
        self.trunk = modules(
            nn.ModuleList(
                [
                    InvertedBottleneck(*chans),
                    ViTBlock(chans[1], dim, depth, ratio * dim, config.patch),
                ]
            )
            for chans, dim, depth, ratio in zip(
                config.trunk, config.dims, config.depths, config.ratios, strict=True
            )
        )
        self.condense_channels = nn.Sequential(ConvUnit(config.trunk[-1][1], 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Sharpen magnitudes (B, 1, H, W), with a maximum near 2e-3, to (B, 1, H, W), about [0, 1].

        Raises:
            ShapeError: Not one channel.
        """
        if x.ndim != 4 or x.shape[1] != 1:
            raise ShapeError(f"a radar image of shape {tuple(x.shape)}; expected (batch, 1, height, width)")
        high, wide = x.shape[2:]
        side = self.config.patch
        if high % side or wide % side:
            x = F.pad(x, (0, -wide % side, 0, -high % side))
        x = self.conv1(x)
        for block in self.stem:
            x = block(x)
        for stage in self.trunk:
            bottleneck, block = stage
            x = block(bottleneck(x))
        return self.condense_channels(x)[:, :, :high, :wide]


_SIXTEEN = ((16, 16),)
_B = SRViTConfig(default_size=200, num_classes=0, in_chans=1, patch=20, trunk=_SIXTEEN * 3, dims=(4, 8, 16))
VARIANTS: dict[str, SRViTConfig] = {
    "srvit_a": SRViTConfig(default_size=256, num_classes=0, in_chans=1),
    "srvit_b": _B,
    "srvit_c": replace(_B, stem=_SIXTEEN),
    "srvit_d": replace(_B, stem=_SIXTEEN, dims=(16, 16, 16)),
    "srvit_s": replace(_B, stem=(), trunk=_SIXTEEN, dims=(4,), depths=(2,), ratios=(2,)),
}
"""The published configurations; `srvit_a` is the one whose results were published."""
