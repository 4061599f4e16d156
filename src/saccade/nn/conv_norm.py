"""Convolution blocks shared by the SHViT and EfficientViM families.

Shape legend: B batch, C channels, H height, W width. All maps are (B, C, H, W).
"""

import torch
from torch import Tensor, nn


class ConvNorm(nn.Module):
    """Bias-free convolution followed by batch normalisation (eps 1e-5, momentum 0.1), no activation.

    Args:
        in_chans: Input channels.
        out_chans: Output channels.
        kernel_size: Side of the square kernel, odd; padding keeps the size at stride 1.
        stride: Step in both directions.
        groups: Channel groups; `in_chans` for a depthwise convolution.
        norm_weight_init: Start of the normalisation's weight; 0 makes a residual branch start silent.
    """

    def __init__(
        self,
        in_chans: int,
        out_chans: int,
        kernel_size: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        norm_weight_init: float = 1.0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_chans, out_chans, kernel_size, stride, kernel_size // 2, groups=groups, bias=False
        )
        self.norm = nn.BatchNorm2d(out_chans)
        nn.init.constant_(self.norm.weight, norm_weight_init)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_chans, H, W) to (B, out_chans, ceil(H / stride), ceil(W / stride))."""
        return self.norm(self.conv(x))


class FeedForward(nn.Module):
    """Two 1x1 convolutions with normalisation and a ReLU between: C to ratio * C and back.

    Args:
        dim: Channels in and out.
        ratio: Hidden width over `dim`.
        norm_weight_init: Start of the second normalisation's weight.
    """

    def __init__(self, dim: int, ratio: int, *, norm_weight_init: float = 1.0) -> None:
        super().__init__()
        self.fc1 = ConvNorm(dim, ratio * dim)
        self.fc2 = ConvNorm(ratio * dim, dim, norm_weight_init=norm_weight_init)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape; the residual is the caller's."""
        return self.fc2(torch.relu(self.fc1(x)))


def squeeze_width(hidden: int) -> int:
    """Round a quarter of `hidden` to the nearest multiple of 8, at least 8.

    Rounding is to nearest with halves up and has no 10 % rule, so 1232 gives 312, not 308.
    """
    return max(8, int(hidden * 0.25 + 4) // 8 * 8)


class SqueezeExcite(nn.Module):
    """Channel gate from the spatial mean: mean, 1x1 conv, ReLU, 1x1 conv, sigmoid (Hu et al., CVPR 2018).

    Args:
        dim: Channels; the inner width is `squeeze_width(dim)`.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(dim, squeeze_width(dim), 1)
        self.fc2 = nn.Conv2d(squeeze_width(dim), dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Scale the channels of (B, C, H, W)."""
        gate = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.fc2(torch.relu(self.fc1(gate))))


class PatchMerging(nn.Module):
    """Halve the map: 1x1 expand, ReLU, depthwise 3x3 stride 2, ReLU, squeeze-excite, 1x1 project.

    Args:
        in_chans: Input channels.
        out_chans: Output channels.
        hidden: Width between; 4 * in_chans in SHViT, 4 * out_chans in EfficientViM.
    """

    def __init__(self, in_chans: int, out_chans: int, hidden: int) -> None:
        super().__init__()
        self.expand = ConvNorm(in_chans, hidden)
        self.dwconv = ConvNorm(hidden, hidden, 3, stride=2, groups=hidden)
        self.se = SqueezeExcite(hidden)
        self.project = ConvNorm(hidden, out_chans)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_chans, H, W) to (B, out_chans, ceil(H / 2), ceil(W / 2))."""
        x = torch.relu(self.expand(x))
        x = torch.relu(self.dwconv(x))
        return self.project(self.se(x))


class ConvStem(nn.Sequential):
    """Four 3x3 stride-2 convolutions with normalisation, ReLU after all but the last: total stride 16.

    Args:
        in_chans: Channels of the picture.
        dim: Output channels, a multiple of 8; the widths are dim / 8, / 4, / 2, dim.
    """

    def __init__(self, in_chans: int, dim: int) -> None:
        widths = [in_chans, dim // 8, dim // 4, dim // 2, dim]
        super().__init__(*[ConvNorm(widths[i], widths[i + 1], 3, stride=2) for i in range(4)])

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_chans, H, W) to (B, dim, ceil(H / 16), ceil(W / 16))."""
        *inner, last = self
        for conv in inner:
            x = torch.relu(conv(x))
        return last(x)
