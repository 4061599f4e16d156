"""UPerNet: pooled context on the last map, a pyramid below it, all levels joined and classified.

Xiao et al., "Unified Perceptual Parsing for Scene Understanding", ECCV 2018, arXiv 1807.10221; pooling after Zhao et
al., "Pyramid Scene Parsing Network", CVPR 2017, arXiv 1612.01105; settings of mmseg. Differences: the pyramid is the
one of all heads (nearest enlargement, and the pooled map has a lateral and an output like the others), and the
branch that pools to a single pixel has no batch normalisation, which would fail on a batch of one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.tasks.dense.nets.network import Trunk
from saccade.tasks.dense.nets.options import UPerNetOptions
from saccade.tasks.dense.nets.pyramid import Pyramid, conv_norm_relu
from saccade.tasks.dense.nets.segmenter import Classifier, Segmenter, enlarge, pixel_loss

BINS = (1, 2, 3, 6)


def bin_weights(size: int, num_bins: int, like: Tensor) -> Tensor:
    """Return (num_bins, size) weights that average bins as adaptive pooling does: [floor(iL/n), ceil((i+1)L/n)).

    As a matrix, so that a file can hold it for any size.
    """
    bins = torch.arange(num_bins, device=like.device).unsqueeze(1)
    place = torch.arange(size, device=like.device)
    inside = (place >= bins * size // num_bins) & (place < -((-(bins + 1) * size) // num_bins))
    weights = inside.to(like.dtype)
    return weights / weights.sum(1, keepdim=True)


class PyramidPooling(nn.Module):
    """Averages over 1, 4, 9 and 36 areas, each projected, enlarged again and joined with the map itself.

    Args:
        in_chans: Channels of the map.
        width: Channels of every branch and of the result.
    """

    def __init__(self, in_chans: int, width: int) -> None:
        super().__init__()
        whole = nn.Sequential(nn.Conv2d(in_chans, width, 1), nn.ReLU(inplace=True))
        self.branches = nn.ModuleList([whole, *(conv_norm_relu(in_chans, width, 1) for _ in BINS[1:])])
        self.join = conv_norm_relu(in_chans + len(BINS) * width, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_chans, h, w) to (B, width, h, w)."""
        parts = [x]
        for num_bins, branch in zip(BINS, self.branches, strict=True):
            rows, columns = (bin_weights(n, num_bins, x) for n in x.shape[2:])
            pooled = branch(rows @ x @ columns.T)
            parts.append(F.interpolate(pooled, size=x.shape[2:], mode="bilinear", align_corners=False))
        return self.join(torch.cat(parts, 1))


class UPerHead(nn.Module):
    """Pooling before the pyramid, joining after it, and the auxiliary classifier."""

    def __init__(self, trunk: Trunk, num_levels: int, num_classes: int, options: UPerNetOptions) -> None:
        super().__init__()
        self.pooling = PyramidPooling(trunk.channels[-1], options.width)
        self.join = conv_norm_relu(num_levels * options.width, options.width, 3)
        self.classifier = Classifier(options.width, num_classes, options.dropout)
        self.aux = None
        if options.aux_weight:
            last = Classifier(options.aux_width, num_classes, options.dropout)
            self.aux = nn.Sequential(conv_norm_relu(trunk.channels[-2:][0], options.aux_width, 3), last)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Map levels (B, width, h_i, w_i) to logits (B, num_classes, h_0, w_0)."""
        size = levels[0].shape[2:]
        coarse = [F.interpolate(x, size=size, mode="bilinear", align_corners=False) for x in levels[1:]]
        return self.classifier(self.join(torch.cat([levels[0], *coarse], 1)))


class UPerNet(Segmenter):
    """The network; see the module."""

    options: UPerNetOptions
    head: UPerHead

    def __init__(self, trunk: Trunk, num_classes: int, options: UPerNetOptions) -> None:
        finest = options.finest_stride or trunk.strides[0]
        neck = Pyramid(
            [*trunk.channels[:-1], options.width],
            trunk.strides,
            finest=finest,
            num_levels=(trunk.strides[-1] // finest).bit_length(),
            width=options.width,
            pre_norm=bool(options.pre_norm),
            norm=True,
        )
        super().__init__(trunk, neck, num_classes, options)
        self.head = UPerHead(trunk, neck.num_levels, num_classes, options)

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the last convolutions by fresh ones."""
        self.num_classes = num_classes
        self.head.classifier = self.head.classifier.fresh(num_classes)
        if self.head.aux is not None:
            self.head.aux[1] = self.head.aux[1].fresh(num_classes)  # pyright: ignore

    def _logits(self, maps: list[Tensor]) -> Tensor:
        """Map the backbone's maps to logits at the stride of the first level."""
        return self.head(self.neck([*maps[:-1], self.head.pooling(maps[-1])]))

    def coarse_logits(self, images: Tensor) -> Tensor:
        """Return logits (B, num_classes, h, w) at the stride of the first level."""
        return self._logits(self.maps(images))

    def losses(self, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return loss_seg and, with an auxiliary head, loss_aux (already weighted)."""
        maps = self.maps(images)
        losses = {"loss_seg": pixel_loss(enlarge(self._logits(maps), self.strides[0], images), targets)}
        if self.head.aux is not None:
            logits = enlarge(self.head.aux(maps[-2:][0]), self.base_strides[-2:][0], images)
            losses["loss_aux"] = self.options.aux_weight * pixel_loss(logits, targets)
        return losses
