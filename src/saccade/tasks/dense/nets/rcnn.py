"""Faster R-CNN and Mask R-CNN: propose regions, then look at each.

Ren et al., NeurIPS 2015, arXiv 1506.01497; He et al., "Mask R-CNN", ICCV 2017, arXiv 1703.06870. Assembled from
torchvision's parts with mmdet's settings: regions are read with aligned samples, as many as a region's size asks for
(torchvision: shifted by half a pixel, two by two), boxes learn by their plain absolute deltas, masks from crops of
zeros and ones, and 1000 regions of a picture go on. Proposals learn as in torchvision (smooth absolute deltas).
torchvision's labels begin at 1, with 0 for the background; that stays inside.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead

from saccade.nn.modules import modules
from saccade.tasks.dense.nets.anchors import Anchors
from saccade.tasks.dense.nets.detector import Detector, Sizes, Targets
from saccade.tasks.dense.nets.network import Trunk
from saccade.tasks.dense.nets.options import RCNNOptions
from saccade.tasks.dense.nets.postprocess import select_detections, widen
from saccade.tasks.dense.nets.pyramid import Pyramid
from saccade.tasks.dense.nets.regions import BOX_SIDE, RegionStage, StageSettings

NUM_LEVELS = 5


class ProposalHead(RPNHead):
    """torchvision's, with outputs of at least float32 whatever the precision of its convolutions."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Map levels to objectness and deltas."""
        logits, deltas = super().forward(x)
        return [widen(y) for y in logits], [widen(y) for y in deltas]


class TwoStageHead(nn.Module):
    """The proposing part, and the stages that look at what it proposes, under one name."""

    def __init__(self, rpn: RegionProposalNetwork, stages: Sequence[RegionStage]) -> None:
        super().__init__()
        self.rpn, self.stages = rpn, modules(stages)


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
    settings: tuple[StageSettings, ...] = (StageSettings(),)
    """Of the stages, in order."""

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
        stages = [
            RegionStage(
                settings, options, neck.strides[:-1], self.build_box_head(options), num_classes, self.masks
            )
            for settings in self.settings
        ]
        self.head = TwoStageHead(build_rpn(neck, options), stages)

    def build_box_head(self, options: RCNNOptions) -> nn.Module:
        """Make the part that turns a region (n, width, 7, 7) into a vector (n, fc_width)."""
        return TwoMLPHead(options.width * BOX_SIDE**2, options.fc_width)

    @property
    def stages(self) -> list[RegionStage]:
        """The looks at the regions, in order."""
        return list(self.head.stages)

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the last layers of the box and mask heads by fresh ones."""
        self.num_classes = num_classes
        for stage in self.stages:
            stage.reset_classifier(num_classes)

    def losses(self, levels: list[Tensor], sizes: Sizes, targets: Targets) -> dict[str, Tensor]:
        """Return loss_rpn_class, loss_rpn_box, loss_class, loss_box and, with masks, loss_mask.

        With several stages, the last three of each, already weighted: loss_class_1 and so on.
        """
        shifted = [{**target, "labels": target["labels"] + 1} for target in targets]
        regions, losses = self.propose(levels, sizes, shifted)
        for number, stage in enumerate(self.stages, 1):
            name = f"_{number}" if len(self.stages) > 1 else ""
            weight = stage.settings.weight
            samples = stage.sample(regions, shifted)
            logits, deltas = stage.look(levels, samples.regions)
            loss_class, loss_box = stage.box_losses(logits, deltas, samples, shifted)
            losses[f"loss_class{name}"], losses[f"loss_box{name}"] = weight * loss_class, weight * loss_box
            if self.masks:
                losses[f"loss_mask{name}"] = weight * stage.mask_loss(levels, samples, shifted)
            if number < len(self.stages):
                regions = stage.refine(logits, deltas, samples, sizes, shifted)
        return losses

    def propose(
        self, levels: list[Tensor], sizes: Sizes, targets: Targets | None = None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Return the proposed regions (n, 4) of each picture and, in training, the losses of proposing."""
        batch = ImageList(levels[0], sizes)
        named = {str(i): level for i, level in enumerate(levels)}
        regions, found = self.head.rpn(batch, named, list(targets) if targets is not None else None)
        if not found:
            return regions, {}
        return regions, {
            "loss_rpn_class": found["loss_objectness"],
            "loss_rpn_box": found["loss_rpn_box_reg"],
        }

    def detect(self, levels: list[Tensor], sizes: Sizes) -> list[dict[str, Tensor]]:
        """Return the detections of pyramid maps: boxes of the last stage, classes and masks the mean of all."""
        regions, _ = self.propose(levels, sizes)
        total, boxes, last = None, None, len(self.stages) - 1
        for number, stage in enumerate(self.stages):
            logits, deltas = stage.look(levels, regions)
            total = logits if total is None else total + logits
            if number < last:
                regions = stage.refine(logits, deltas, regions, sizes)
            else:
                boxes = stage.decode(deltas, torch.cat(regions))
        assert total is not None
        assert boxes is not None
        scores = (total / len(self.stages)).softmax(1)[:, 1:]
        counts, options = [len(r) for r in regions], self.options
        found = [
            select_detections(
                b[:, 1:],
                s,
                size,
                score_threshold=options.score_threshold,
                nms_threshold=options.nms_threshold,
                max_detections=options.max_detections,
            )
            for b, s, size in zip(boxes.split(counts), scores.split(counts), sizes, strict=True)
        ]
        if self.masks:
            self._add_masks(levels, found)
        return found

    def _add_masks(self, levels: list[Tensor], found: list[dict[str, Tensor]]) -> None:
        """Draw the masks of detections."""
        boxes = [each["boxes"] for each in found]
        labels = torch.cat([each["labels"] for each in found]) + 1
        rows = torch.arange(len(labels), device=labels.device)
        masks = [stage.mask_logits(levels, boxes)[rows, labels].sigmoid() for stage in self.stages]
        parts = torch.stack(masks).mean(0).split([len(b) for b in boxes])
        for each, part in zip(found, parts, strict=True):
            each["masks"] = part


class MaskRCNN(FasterRCNN):
    """Faster R-CNN that also draws a mask into every box."""

    masks = True
