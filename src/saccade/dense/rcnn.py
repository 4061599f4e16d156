"""Faster R-CNN and Mask R-CNN: propose regions, then look at each.

Ren et al., NeurIPS 2015, arXiv 1506.01497; He et al., "Mask R-CNN", ICCV 2017, arXiv 1703.06870. Assembled from
torchvision's parts with mmdet's settings: regions are read with aligned samples, as many as a region's size asks for
(torchvision: shifted by half a pixel, two by two), and 1000 regions of a picture go on. torchvision's labels begin
at 1, with 0 for the background; that stays inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import roi_align
from torchvision.ops.poolers import LevelMapper

from saccade.dense.anchors import Anchors
from saccade.dense.detector import Detector, Sizes, Targets
from saccade.dense.network import Trunk
from saccade.dense.options import RCNNOptions
from saccade.dense.postprocess import select_detections, widen
from saccade.dense.pyramid import Pyramid

NUM_LEVELS = 5
BOX_SIDE, MASK_SIDE = 7, 14
CODER_WEIGHTS = (10.0, 10.0, 5.0, 5.0)


class RegionAlign(nn.Module):
    """Read regions off the pyramid: each from the level whose stride fits its size (Lin et al., equation 1).

    Args:
        strides: Of the levels that may be read, fine to coarse.
        side: Samples across a region.
    """

    def __init__(self, strides: Sequence[int], side: int) -> None:
        super().__init__()
        self.strides, self.side = list(strides), side
        first, last = (stride.bit_length() - 1 for stride in (self.strides[0], self.strides[-1]))
        self.mapper = LevelMapper(first, last)

    def forward(self, levels: Sequence[Tensor], boxes: list[Tensor], sizes: Any = None) -> Tensor:
        """Map boxes (n_i, 4) of each picture to (sum of n_i, C, side, side), at least float32."""
        levels = [widen(x) for x in levels[: len(self.strides)]]
        rows = [torch.cat([b.new_full((len(b), 1), i), b], 1) for i, b in enumerate(boxes)]
        regions = torch.cat(rows).to(levels[0].dtype)
        level_of = self.mapper(boxes)
        found = levels[0].new_zeros(len(regions), levels[0].shape[1], self.side, self.side)
        for i, (x, stride) in enumerate(zip(levels, self.strides, strict=True)):
            here = torch.nonzero(level_of == i).flatten()
            if len(here) or i == 0:
                part = roi_align(x, regions[here], self.side, 1 / stride, aligned=True)
                found = found.index_copy(0, here, part.to(found.dtype))
        return found


class ProposalHead(RPNHead):
    """torchvision's, with outputs of at least float32 whatever the precision of its convolutions."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Map levels to objectness and deltas."""
        logits, deltas = super().forward(x)
        return [widen(y) for y in logits], [widen(y) for y in deltas]


class BoxPredictor(FastRCNNPredictor):
    """torchvision's, with outputs of at least float32."""

    def __init__(self, in_chans: int, num_classes: int) -> None:
        super().__init__(in_chans, num_classes + 1)
        nn.init.normal_(self.cls_score.weight, std=0.01)
        nn.init.normal_(self.bbox_pred.weight, std=0.001)
        nn.init.zeros_(self.cls_score.bias)
        nn.init.zeros_(self.bbox_pred.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (n, in_chans) to logits (n, num_classes + 1), background first, and deltas (n, 4 * the same)."""
        logits, deltas = super().forward(x)
        return widen(logits), widen(deltas)


class RegionHeads(RoIHeads):
    """torchvision's second stage, ending in our selection of detections."""

    def postprocess_detections(
        self, class_logits: Tensor, box_regression: Tensor, proposals: list[Tensor], image_shapes: Sizes
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Return boxes, scores and labels (from 1) of each picture."""
        counts = [len(boxes) for boxes in proposals]
        boxes = self.box_coder.decode(box_regression, proposals).view(len(class_logits), -1, 4)[:, 1:]
        scores = class_logits.softmax(1)[:, 1:]
        found = [
            select_detections(
                b,
                s,
                size,
                score_threshold=self.score_thresh,
                nms_threshold=self.nms_thresh,
                max_detections=self.detections_per_img,
            )
            for b, s, size in zip(boxes.split(counts), scores.split(counts), image_shapes, strict=True)
        ]
        return [f["boxes"] for f in found], [f["scores"] for f in found], [f["labels"] + 1 for f in found]


class TwoStageHead(nn.Module):
    """The proposing and the looking part, under one name."""

    def __init__(self, rpn: RegionProposalNetwork, roi: nn.Module) -> None:
        super().__init__()
        self.rpn, self.roi = rpn, roi


def build_rpn(neck: Pyramid, options: RCNNOptions) -> RegionProposalNetwork:
    """Make the part that proposes regions, on all levels of the pyramid."""
    anchors = Anchors(neck.strides, options.anchor_scale)
    return RegionProposalNetwork(
        anchors,
        ProposalHead(options.width, anchors.per_place),
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=256,
        positive_fraction=0.5,
        pre_nms_top_n={"training": 2 * options.proposals, "testing": options.proposals},
        post_nms_top_n={"training": options.proposals, "testing": options.proposals},
        nms_thresh=0.7,
    )


class FasterRCNN(Detector):
    """The network; see the module.

    The pyramid's last level serves the proposals only.
    """

    options: RCNNOptions
    head: TwoStageHead

    def __init__(self, trunk: Trunk, num_classes: int, options: RCNNOptions) -> None:
        neck = Pyramid(
            trunk.channels,
            trunk.strides,
            finest=options.finest_stride,
            num_levels=NUM_LEVELS,
            width=options.width,
            pre_norm=trunk.pre_norm if options.pre_norm is None else options.pre_norm,
        )
        super().__init__(trunk, neck, num_classes, options)
        self.head = TwoStageHead(build_rpn(neck, options), self.build_regions())

    def build_regions(self) -> nn.Module:
        """Make the second stage."""
        options, strides = self.options, self.neck.strides[:-1]
        heads = RegionHeads(
            RegionAlign(strides, BOX_SIDE),
            TwoMLPHead(options.width * BOX_SIDE**2, options.fc_width),
            BoxPredictor(options.fc_width, self.num_classes),
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            batch_size_per_image=options.samples,
            positive_fraction=0.25,
            bbox_reg_weights=CODER_WEIGHTS,
            score_thresh=options.score_threshold,
            nms_thresh=options.nms_threshold,
            detections_per_img=options.max_detections,
        )
        if self.masks:
            heads.mask_roi_pool = RegionAlign(strides, MASK_SIDE)
            heads.mask_head = MaskRCNNHeads(options.width, (options.mask_width,) * options.mask_convs, 1)
            heads.mask_predictor = build_mask_predictor(options, self.num_classes)
        return heads

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the last layers of the box and mask heads by fresh ones."""
        self.num_classes = num_classes
        roi: Any = self.head.roi
        weight = roi.box_predictor.cls_score.weight
        roi.box_predictor = BoxPredictor(self.options.fc_width, num_classes).to(weight)
        if self.masks:
            old = roi.mask_predictor
            roi.mask_predictor = build_mask_predictor(self.options, num_classes).to(weight)
            roi.mask_predictor.conv5_mask = old.conv5_mask

    def losses(self, levels: list[Tensor], sizes: Sizes, targets: Targets) -> dict[str, Tensor]:
        """Return loss_rpn_class, loss_rpn_box, loss_class, loss_box and, with masks, loss_mask."""
        proposals, losses = self.propose(levels, sizes, targets)
        shifted = [{**target, "labels": target["labels"] + 1} for target in targets]
        _, found = self.head.roi(levels, proposals, sizes, shifted)
        losses["loss_class"], losses["loss_box"] = found["loss_classifier"], found["loss_box_reg"]
        if self.masks:
            losses["loss_mask"] = found["loss_mask"]
        return losses

    def propose(
        self, levels: list[Tensor], sizes: Sizes, targets: Targets | None = None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Return the proposed regions (n, 4) of each picture and, in training, the losses of proposing."""
        batch = ImageList(levels[0], sizes)
        named = {str(i): level for i, level in enumerate(levels)}
        proposals, found = self.head.rpn(batch, named, list(targets) if targets is not None else None)
        if not found:
            return proposals, {}
        return proposals, {
            "loss_rpn_class": found["loss_objectness"],
            "loss_rpn_box": found["loss_rpn_box_reg"],
        }

    def detect(self, levels: list[Tensor], sizes: Sizes) -> list[dict[str, Tensor]]:
        """Return the detections of pyramid maps."""
        proposals, _ = self.propose(levels, sizes)
        found, _ = self.head.roi(levels, proposals, sizes)
        for detections in found:
            detections["labels"] = detections["labels"] - 1
            if self.masks:
                detections["masks"] = widen(detections["masks"][:, 0])
        return found


class MaskRCNN(FasterRCNN):
    """Faster R-CNN that also draws a mask into every box."""

    masks = True


def build_mask_predictor(options: RCNNOptions, num_classes: int) -> MaskRCNNPredictor:
    """Make the enlarging and classifying end of a mask head; channel 0 is the background's and never read."""
    return MaskRCNNPredictor(options.mask_width, options.mask_width, num_classes + 1)
