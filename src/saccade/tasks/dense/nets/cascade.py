"""Cascade R-CNN and Cascade Mask R-CNN: three looks at every region, each at what the one before made of it.

Cai and Vasconcelos, "Cascade R-CNN", CVPR 2018, arXiv 1712.00726, as the detectors of Swin and STViT-R have it: a
region counts as an object from an overlap of 0.5, 0.6 and 0.7, deltas are scaled ever finer, the heads are four 3x3
convolutions with batch normalisation and one linear layer, and boxes learn by their generalised overlap.
"""

from __future__ import annotations

from torch import nn
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead

from saccade.tasks.dense.nets.options import RCNNOptions
from saccade.tasks.dense.nets.rcnn import FasterRCNN
from saccade.tasks.dense.nets.regions import BOX_SIDE, StageSettings

NUM_CONVS = 4
STAGES = (
    StageSettings(0.5, (0.1, 0.1, 0.2, 0.2), 1.0, "giou"),
    StageSettings(0.6, (0.05, 0.05, 0.1, 0.1), 0.5, "giou"),
    StageSettings(0.7, (0.033, 0.033, 0.067, 0.067), 0.25, "giou"),
)


class CascadeRCNN(FasterRCNN):
    """Boxes only; see the module."""

    settings = STAGES

    def build_box_head(self, options: RCNNOptions) -> nn.Module:
        """Make the part that turns a region (n, width, 7, 7) into a vector (n, fc_width)."""
        return FastRCNNConvFCHead(
            (options.width, BOX_SIDE, BOX_SIDE),
            [options.width] * NUM_CONVS,
            [options.fc_width],
            norm_layer=nn.BatchNorm2d,
        )


class CascadeMaskRCNN(CascadeRCNN):
    """With a mask head in every stage."""

    masks = True
