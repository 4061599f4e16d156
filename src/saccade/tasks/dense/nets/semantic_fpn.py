"""Semantic FPN: the levels of a pyramid, enlarged step by step to the finest, summed and classified.

Kirillov et al., "Panoptic Feature Pyramid Networks", CVPR 2019, arXiv 1901.02446, with mmseg's settings: 128
channels, batch normalisation, four levels. The levels begin at the backbone's finest map (stride 4, or 16 for SHViT
and EfficientViM, whose fourth level is every second pixel of the third).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from saccade.nn.modules import modules
from saccade.tasks.dense.nets.network import Trunk
from saccade.tasks.dense.nets.options import SemanticFPNOptions
from saccade.tasks.dense.nets.pyramid import Pyramid, conv_norm_relu
from saccade.tasks.dense.nets.segmenter import Classifier, Segmenter, cut

NUM_LEVELS = 4


class SemanticHead(nn.Module):
    """Level i passes i times (at least once) through a 3x3 convolution and is enlarged by two after each.

    Args:
        width: Channels of the levels.
        head_width: Channels of the sum.
        num_classes: Classes.
        dropout: Before the classifier.
    """

    def __init__(self, width: int, head_width: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        branches = []
        for i in range(NUM_LEVELS):
            widths = [width] + [head_width] * max(1, i)
            convs = [conv_norm_relu(widths[k], head_width, 3) for k in range(len(widths) - 1)]
            branches.append(nn.ModuleList(convs))
        self.branches = modules(branches)
        self.classifier = Classifier(head_width, num_classes, dropout)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Map levels (B, width, h_i, w_i) to logits (B, num_classes, h_0, w_0)."""
        high, wide = levels[0].shape[2:]
        total = self.branches[0][0](levels[0])
        for branch, x in zip(list(self.branches)[1:], levels[1:], strict=True):
            for conv in branch:
                x = conv(x)
                size = [2 * x.shape[2], 2 * x.shape[3]]
                x = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
            # Sizes are rounded up from level to level, so what is too much lies right and below.
            total = total + cut(x, high, wide)
        return self.classifier(total)


class SemanticFPN(Segmenter):
    """The network; see the module."""

    options: SemanticFPNOptions
    head: SemanticHead

    def __init__(self, trunk: Trunk, num_classes: int, options: SemanticFPNOptions) -> None:
        neck = Pyramid(
            trunk.channels,
            trunk.strides,
            finest=options.finest_stride or trunk.strides[0],
            num_levels=NUM_LEVELS,
            width=options.width,
            # EfficientViM's authors normalise the maps for detection only.
            pre_norm=bool(options.pre_norm),
        )
        super().__init__(trunk, neck, num_classes, options)
        self.head = SemanticHead(options.width, options.head_width, num_classes, options.dropout)

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the last convolution by a fresh one."""
        self.num_classes = num_classes
        self.head.classifier = self.head.classifier.fresh(num_classes)

    def coarse_logits(self, images: Tensor) -> Tensor:
        """Return logits (B, num_classes, h, w) at the stride of the first level."""
        return self.head(self.levels(images))
