"""SRViT-Swift: our own radar sharpener, after the idea of Mobile-SRViT at a fraction of its cost.

The idea (convolutions for what is near, attention for what is far, an image in and an image of the same size out) is
that of Smith, Alimam, Vedula, Torlak, arXiv 2305.02074; the network is ours:

- the input is divided by its largest value, so that a radar's gain does not matter (theirs is tied to one scale);
- the work is done at half resolution on 2 x 2 pixel groups, in depthwise and 1x1 convolutions;
- attention runs among averages of 16 x 16 pixel patches, which is where far things are worth knowing: how blurred and
  how noisy this image is;
- the input is added to the output (global skip), which is then clipped to [0, 1];
- any height and width: the image is padded with zeros to a multiple of 16 and cropped again.

Shape legend: B batch, C channels, H height, W width, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saccade.errors import ShapeError
from saccade.nn.config import NetConfig
from saccade.nn.conv_norm import ConvNorm

GROUP = 2
"""Side of the pixel groups that become channels."""
PATCH = 8
"""Side of an attention patch in pixel groups."""


@dataclass(frozen=True)
class SwiftConfig(NetConfig):
    """Sizes."""

    dim: int = 48
    """Channels."""
    depth: int = 5
    """Convolution blocks."""
    attend_after: tuple[int, ...] = (1, 3)
    """Blocks (from 0) after which patches attend to each other."""
    kernel_size: int = 7
    """Of depthwise convolutions."""
    ratio: int = 2
    """Hidden width of a block over `dim`."""
    heads: int = 2
    head_dim: int = 16


class ConvBlock(nn.Module):
    """Depthwise convolution, then two 1x1 convolutions with a SiLU between; residual."""

    def __init__(self, config: SwiftConfig) -> None:
        super().__init__()
        dim, hidden = config.dim, config.ratio * config.dim
        self.near = ConvNorm(dim, dim, config.kernel_size, groups=dim)
        self.widen = ConvNorm(dim, hidden)
        self.narrow = ConvNorm(hidden, dim, norm_weight_init=0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        return x + self.narrow(F.silu(self.widen(self.near(x))))


class PatchAttention(nn.Module):
    """Attention among patch averages, brought back to every pixel by bilinear interpolation; residual."""

    def __init__(self, config: SwiftConfig) -> None:
        super().__init__()
        inner = config.heads * config.head_dim
        self.heads = config.heads
        self.norm = nn.LayerNorm(config.dim)
        self.qkv = nn.Linear(config.dim, 3 * inner, bias=False)
        self.proj = nn.Linear(inner, config.dim)
        nn.init.zeros_(self.proj.weight)
        nn.init.zeros_(self.proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W), sides a multiple of PATCH, to the same shape."""
        patches = F.avg_pool2d(x, PATCH)
        batch, _, high, wide = patches.shape
        tokens = self.norm(patches.flatten(2).transpose(1, 2))
        q, k, v = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        back = self.proj(mixed).transpose(1, 2).reshape(batch, -1, high, wide)
        return x + F.interpolate(back, scale_factor=float(PATCH), mode="bilinear", align_corners=False)


class SRViTSwift(nn.Module):
    """The network: magnitude image in, sharpened image in [0, 1] out, of the same size.

    Args:
        config: Sizes; its `num_classes` and `in_chans` play no part beyond one channel.
    """

    def __init__(self, config: SwiftConfig) -> None:
        super().__init__()
        self.config = config
        self.default_size = config.default_size
        pixels = GROUP**2
        self.stem = ConvNorm(pixels, config.dim, 3)
        self.blocks = nn.ModuleList(ConvBlock(config) for _ in range(config.depth))
        self.attention = nn.ModuleDict({str(i): PatchAttention(config) for i in config.attend_after})
        self.head = nn.Conv2d(config.dim, pixels, 3, padding=1)
        self.gain = nn.Parameter(torch.tensor(0.5))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Tensor) -> Tensor:
        """Sharpen magnitudes (B, 1, H, W), at any scale, to (B, 1, H, W) in [0, 1].

        Raises:
            ShapeError: Not one channel.
        """
        if x.ndim != 4 or x.shape[1] != 1:
            raise ShapeError(f"a radar image of shape {tuple(x.shape)}; expected (batch, 1, height, width)")
        high, wide = x.shape[2:]
        x = x / x.amax((2, 3), keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)
        side = GROUP * PATCH
        x = F.pad(x, (0, -wide % side, 0, -high % side))
        y = self.stem(F.pixel_unshuffle(x, GROUP))
        for number, block in enumerate(self.blocks):
            y = block(y)
            if str(number) in self.attention:
                y = self.attention[str(number)](y)
        y = (self.gain * x + F.pixel_shuffle(self.head(y), GROUP))[:, :, :high, :wide]
        # Clipped in the forward pass only: a value above 1 has to be able to come down again.
        return y + (y.clamp(0, 1) - y).detach() if self.training else y.clamp(0, 1)


VARIANTS: dict[str, SwiftConfig] = {
    "srvit_swift": SwiftConfig(default_size=256, num_classes=0, in_chans=1),
}
"""Configurations by name."""
