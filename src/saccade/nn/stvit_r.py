"""What the two forms of STViT-R share: the convolutional stem, the sizes, and the stages around the dumbbell units.

Chang et al., "Making Vision Transformers Efficient from A Token Sparsification View", CVPR 2023, arXiv 2303.08685,
section 3.4; names and shapes of tensors from changsn/STViT-R and changsn/STViT-R-Object-Detection (MIT).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from saccade.errors import ConfigError
from saccade.nn.conv_norm import ConvNorm
from saccade.nn.fold import fold_conv_norm
from saccade.nn.fold_swin import FoldedSwinStem
from saccade.nn.kernels import Plain
from saccade.nn.modules import ModulesOf, modules
from saccade.nn.stgm_window import WINDOW, SwinTokensConfig
from saccade.nn.swin import PositionedAttention, SwinBlock, SwinMerging, SwinStem, pad_picture
from saccade.nn.transformer import Block, drop_rates

UNIT = 6
"""Blocks of a dumbbell unit: image block, two generating, two semantic, one recovery."""


@dataclass(frozen=True)
class STViTSwinConfig(SwinTokensConfig):
    """Sizes of one variant of STViT-R; the defaults are the released models'."""

    shortcut: bool = False
    """Residual around the first generating block; always there in the dense form."""
    layer_scale: float | None = 1e-5
    """Start value of LayerScale in the generating, semantic and recovery blocks; None: none."""
    stem: str = "conv"
    """"conv": the release's two convolutions; "patch": Swin's patch embedding, for a pretrained Swin."""
    compat: bool = False
    """Dense form only: mask padded keys as the release does, faults included."""

    def __post_init__(self) -> None:
        """Check what the third stage can be made of."""
        super().__post_init__()
        if self.stem not in ("conv", "patch"):
            raise ConfigError(f'stem is {self.stem!r}; expected "conv" or "patch"')
        if self.depths[2] % UNIT or not self.depths[2]:
            raise ConfigError(
                f"the third stage has {self.depths[2]} blocks; expected a multiple of {UNIT}, whole dumbbell units"
            )


class ConvStem4(nn.Module):
    """Two stride-2 convolutions with batch normalisation and Hardswish: the stem of STViT-R, not Swin's.

    A picture whose sides are no multiple of 4 is zero-padded at the right and bottom.
    """

    def __init__(self, in_chans: int, dim: int) -> None:
        super().__init__()
        self.convs = modules(
            [ConvNorm(in_chans, dim // 2, 3, stride=2), ConvNorm(dim // 2, dim, 3, stride=2)]
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map a picture (B, in_chans, height, width) to tokens (B, ceil(height / 4), ceil(width / 4), C)."""
        x = pad_picture(x)
        for conv in self.convs:
            x = F.hardswish(conv(x))
        return x.permute(0, 2, 3, 1)


class FoldedConvStem4(nn.Module):
    """Inference form of `ConvStem4`."""

    def __init__(self, stem: ConvStem4) -> None:
        super().__init__()
        self.convs = modules([fold_conv_norm(conv) for conv in stem.convs])

    def forward(self, x: Tensor, k: Plain) -> tuple[Tensor, tuple[int, int]]:
        """Map a picture to rows (B, H * W, C) and (H, W)."""
        x = pad_picture(x)
        middle = k.conv(self.convs[0], k.enter(x))
        y = k.untokens(F.hardswish(k.tokens(middle)), middle)
        y = k.conv(self.convs[1], y)
        return F.hardswish(k.tokens(y)), (x.shape[2] // 4, x.shape[3] // 4)


def make_stem(config: STViTSwinConfig) -> ConvStem4 | SwinStem:
    """Make the stem of a configuration."""
    if config.stem == "conv":
        return ConvStem4(config.in_chans, config.dim)
    return SwinStem(config.in_chans, config.dim, config.patch)


def fold_stem(stem: ConvStem4 | SwinStem) -> FoldedConvStem4 | FoldedSwinStem:
    """Fold either stem."""
    return FoldedConvStem4(stem) if isinstance(stem, ConvStem4) else FoldedSwinStem(stem)


class Stage(nn.Module):
    """Blocks, and the merging that closes every stage but the last."""

    def __init__(self, blocks: Sequence[Block], dim: int, *, merge: bool) -> None:
        super().__init__()
        self.blocks = modules(blocks)
        self.downsample = SwinMerging(dim) if merge else None


def make_stages(config: STViTSwinConfig, units: list[list[Block]], *, shift_last: bool) -> ModulesOf[Stage]:
    """Make the four stages around given dumbbell units.

    Args:
        config: Sizes.
        units: The blocks of the third stage, unit by unit.
        shift_last: Whether the second block of the last stage shifts its windows (where maps exceed a window).
    """
    rates, dims = stage_rates(config), config.stage_dims()
    stages = []
    for s in range(4):
        if s == 2:
            blocks: list[Block] = [block for unit in units for block in unit]
        else:
            shifted = s < 3 or shift_last
            blocks = [
                SwinBlock(
                    dims[s], config.heads[s], WINDOW, WINDOW // 2 if j % 2 and shifted else 0, rates[s][j]
                )
                for j in range(config.depths[s])
            ]
        stages.append(Stage(blocks, dims[s], merge=s < 3))
    return modules(stages)


def stage_rates(config: STViTSwinConfig) -> list[list[float]]:
    """Rates of stochastic depth of each block of each stage, growing linearly over all blocks."""
    rates = iter(drop_rates(config.drop_path, sum(config.depths)))
    return [[next(rates) for _ in range(depth)] for depth in config.depths]


def semantic_block(config: STViTSwinConfig, rate: float, *, positions: int = 0) -> Block:
    """Make a generating, semantic or recovery block of the third stage: separate q and kv, LayerScale.

    Args:
        config: Sizes.
        rate: Stochastic depth.
        positions: Side of the grid for a relative position bias; 0: none.
    """
    dim, heads = config.stage_dims()[2], config.heads[2]
    block = Block(dim, heads, separate=True, layer_scale=config.layer_scale, drop_path=rate)
    if positions:
        block.attn = PositionedAttention(dim, heads, positions, separate=True)
    return block
