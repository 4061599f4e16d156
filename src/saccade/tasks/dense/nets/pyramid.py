"""The feature pyramid that all dense heads share.

Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017, arXiv 1612.03144: 1x1 laterals, addition of
the coarser level enlarged by nearest neighbours, 3x3 outputs. Backbones whose finest map is coarse (stride 16) get
the finer levels as SHViT's detectors do: 2x2 transposed convolutions of stride 2, in a chain, on the finest merged
lateral, each with its own 3x3 output. Coarser levels are 3x3 stride-2 convolutions that begin at the last backbone
map, or every second pixel of the last output.
"""

import itertools
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from saccade.errors import ConfigError
from saccade.models.efficientvim import ChannelNorm


def conv_norm_relu(in_chans: int, out_chans: int, kernel_size: int) -> nn.Sequential:
    """Make a bias-free convolution that keeps the size, batch normalisation and ReLU."""
    conv = nn.Conv2d(in_chans, out_chans, kernel_size, padding=kernel_size // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_chans), nn.ReLU(inplace=True))


class Pyramid(nn.Module):
    """Maps of a backbone to maps of one width, each twice as coarse as the one before.

    Args:
        in_chans: Channels of the backbone's maps, fine to coarse.
        in_strides: Their strides, each twice the one before.
        finest: Stride of the first level. Finer backbone maps are not used.
        num_levels: Levels to give.
        width: Channels of a level.
        coarser: "conv" or "subsample": how levels beyond the backbone's last map are made.
        pre_norm: Normalise every used map over channels first (EfficientViM's detectors); the coarser
            convolutions read the normalised map too.
        norm: Batch normalisation and ReLU behind laterals and outputs (UPerNet).

    Raises:
        ConfigError: Strides that do not double, or a first level coarser than the last backbone map.
    """

    def __init__(
        self,
        in_chans: Sequence[int],
        in_strides: Sequence[int],
        *,
        finest: int,
        num_levels: int,
        width: int = 256,
        coarser: str = "subsample",
        pre_norm: bool = False,
        norm: bool = False,
    ) -> None:
        super().__init__()
        if any(fine * 2 != coarse for fine, coarse in itertools.pairwise(in_strides)):
            raise ConfigError(
                f"the backbone's strides are {list(in_strides)}; a pyramid needs each twice the last"
            )
        self.used = [i for i, stride in enumerate(in_strides) if stride >= finest]
        if not self.used:
            raise ConfigError(
                f"finest_stride is {finest} and the backbone's coarsest {in_strides[-1]}; ask for a finer one"
            )
        chans = [in_chans[i] for i in self.used]
        self.num_finer = (in_strides[self.used[0]] // finest).bit_length() - 1
        num_inner = max(0, min(len(chans), num_levels - self.num_finer))
        self.num_coarser = num_levels - self.num_finer - num_inner
        self.num_levels, self.width = num_levels, width
        self.strides = [finest * 2**i for i in range(num_levels)]
        self.base = in_strides[self.used[0]]
        self.pre_norms = nn.ModuleList([ChannelNorm(dim) for dim in chans] if pre_norm else [])
        self.laterals = nn.ModuleList([_conv(dim, width, 1, norm) for dim in chans])
        self.outputs = nn.ModuleList([_conv(width, width, 3, norm) for _ in range(num_inner)])
        self.finer = nn.ModuleList([nn.ConvTranspose2d(width, width, 2, 2) for _ in range(self.num_finer)])
        self.finer_outputs = nn.ModuleList([_conv(width, width, 3, norm) for _ in range(self.num_finer)])
        first = [chans[-1]] + [width] * self.num_coarser
        self.coarser = nn.ModuleList(
            [nn.Conv2d(first[i], width, 3, 2, 1) for i in range(self.num_coarser if coarser == "conv" else 0)]
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Map backbone maps (B, in_chans[i], H_i, W_i) to `num_levels` maps (B, width, h, w), fine to coarse.

        Odd sizes are rounded up from level to level; a finer level has exactly twice the size of the next.
        """
        maps = [maps[i] for i in self.used]
        if self.pre_norms:
            maps = [norm(x) for norm, x in zip(self.pre_norms, maps, strict=True)]
        merged = [lateral(x) for lateral, x in zip(self.laterals, maps, strict=True)]
        for i in range(len(merged) - 1, 0, -1):
            merged[i - 1] = merged[i - 1] + F.interpolate(merged[i], size=merged[i - 1].shape[2:])
        levels = [output(x) for output, x in zip(self.outputs, merged, strict=False)]
        x = merged[0]
        for enlarge, output in zip(self.finer, self.finer_outputs, strict=True):
            x = enlarge(x)
            levels.insert(0, output(x))
        x = maps[-1]
        for conv in self.coarser:
            x = conv(x)
            levels.append(x)
        while len(levels) < self.num_levels:
            levels.append(levels[-1][:, :, ::2, ::2])
        return levels[: self.num_levels]

    def level_sizes(self, height: int, width: int) -> list[tuple[int, int]]:
        """Return the height and width of each level for pictures of this size."""
        sizes = [(-(-height // self.base), -(-width // self.base))]
        for _ in range(self.num_finer):
            sizes.insert(0, (2 * sizes[0][0], 2 * sizes[0][1]))
        while len(sizes) < self.num_levels:
            sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
        return sizes[: self.num_levels]


def _conv(in_chans: int, out_chans: int, kernel_size: int, norm: bool) -> nn.Module:
    """Make a lateral or output."""
    if norm:
        return conv_norm_relu(in_chans, out_chans, kernel_size)
    return nn.Conv2d(in_chans, out_chans, kernel_size, padding=kernel_size // 2)
