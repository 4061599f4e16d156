"""Looking at regions: read them off the pyramid, say what is in each, move its box, draw its mask.

One `RegionStage` is the second stage of Faster and Mask R-CNN; a cascade has three. torchvision's matching, sampling
and layers; our reading of regions, losses and refinement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import clip_boxes_to_image, generalized_box_iou_loss, roi_align
from torchvision.ops.poolers import LevelMapper

from saccade.tasks.dense.nets.detector import Sizes, Targets
from saccade.tasks.dense.nets.options import RCNNOptions
from saccade.tasks.dense.nets.postprocess import widen

BOX_SIDE, MASK_SIDE = 7, 14
GIOU_WEIGHT = 10.0


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
        """Map boxes (n_i, 4) of each picture to (sum of n_i, C, side, side), in the precision of the maps."""
        dtype = levels[0].dtype
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
        return found.to(dtype)


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


@dataclass(frozen=True)
class StageSettings:
    """How one look at the regions differs from the others of a cascade."""

    overlap: float = 0.5
    """Intersection over union with an object from which a region stands for it."""
    scales: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)
    """Of the deltas of centre and size: what a head output of 1 means, in sides and as a logarithm."""
    weight: float = 1.0
    """Of its losses."""
    box_loss: str = "l1"
    """l1 on deltas, or giou on boxes (Rezatofighi et al., CVPR 2019, arXiv 1902.09630), ten times as heavy."""


@dataclass
class Samples:
    """Regions to learn from, picture by picture."""

    regions: list[Tensor]
    """(n_i, 4)."""
    matched: list[Tensor]
    """(n_i,) index of the object that each stands for, where its label is not 0."""
    labels: list[Tensor]
    """(n_i,) from 1; 0 for the background."""


class RegionStage(RoIHeads):
    """One look at regions: a box head and perhaps a mask head. torchvision's matching and sampling, our losses.

    Args:
        settings: Of the stage.
        options: Of the network.
        strides: Levels that regions are read from.
        box_head: Maps (n, width, 7, 7) to vectors (n, options.fc_width).
        num_classes: Classes.
        masks: Whether there is a mask head.
    """

    def __init__(
        self,
        settings: StageSettings,
        options: RCNNOptions,
        strides: Sequence[int],
        box_head: nn.Module,
        num_classes: int,
        masks: bool,
    ) -> None:
        super().__init__(
            RegionAlign(strides, BOX_SIDE),
            box_head,
            BoxPredictor(options.fc_width, num_classes),
            fg_iou_thresh=settings.overlap,
            bg_iou_thresh=settings.overlap,
            batch_size_per_image=options.samples,
            positive_fraction=0.25,
            bbox_reg_weights=tuple(1 / scale for scale in settings.scales),
            score_thresh=options.score_threshold,
            nms_thresh=options.nms_threshold,
            detections_per_img=options.max_detections,
        )
        self.settings, self.options = settings, options
        if masks:
            self.mask_roi_pool = RegionAlign(strides, MASK_SIDE)
            self.mask_head = MaskRCNNHeads(options.width, (options.mask_width,) * options.mask_convs, 1)
            width = options.mask_width if options.mask_convs else options.width
            self.mask_predictor = MaskRCNNPredictor(width, options.mask_width, num_classes + 1)

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the layers that know the classes by fresh ones."""
        weight = self.box_predictor.cls_score.weight
        self.box_predictor = BoxPredictor(self.options.fc_width, num_classes).to(weight)
        if self.has_mask():
            old: Any = self.mask_predictor
            last = nn.Conv2d(old.mask_fcn_logits.in_channels, num_classes + 1, 1).to(weight)
            nn.init.kaiming_normal_(last.weight, mode="fan_out", nonlinearity="relu")
            old.mask_fcn_logits = last

    def sample(self, regions: list[Tensor], targets: Targets) -> Samples:
        """Add the objects themselves to the regions, and choose which to learn from."""
        chosen, matched, labels, _ = self.select_training_samples(list(regions), list(targets))
        return Samples(chosen, matched, labels)

    def look(self, levels: list[Tensor], regions: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return logits (n, num_classes + 1), background first, and deltas (n, num_classes + 1, 4)."""
        logits, deltas = self.box_predictor(self.box_head(self.box_roi_pool(levels, regions)))
        return logits, deltas.view(len(logits), -1, 4)

    def decode(self, deltas: Tensor, regions: Tensor) -> Tensor:
        """Turn deltas (n, k, 4) into boxes (n, k, 4)."""
        return self.box_coder.decode_single(deltas.flatten(1), regions).view(deltas.shape)

    def box_losses(
        self, logits: Tensor, deltas: Tensor, samples: Samples, targets: Targets
    ) -> tuple[Tensor, Tensor]:
        """Return the losses of classes and boxes, both means over all samples."""
        labels = torch.cat(samples.labels)
        objects = labels > 0
        found = deltas[objects, labels[objects]]
        regions = torch.cat(samples.regions)[objects]
        goals = torch.cat(
            [t["boxes"][m[y > 0]] for t, m, y in zip(targets, samples.matched, samples.labels, strict=True)]
        ).to(found.dtype)
        if self.settings.box_loss == "giou":
            boxes = self.decode(found.unsqueeze(1), regions)[:, 0]
            loss = GIOU_WEIGHT * generalized_box_iou_loss(boxes, goals, reduction="sum")
        else:
            loss = F.l1_loss(found, self.box_coder.encode_single(goals, regions), reduction="sum")
        # With nothing proposed there is nothing to learn, but every parameter keeps its (zero) gradient.
        count = max(1, len(labels))
        return F.cross_entropy(logits, labels, reduction="sum") / count, loss / count

    def refine(
        self,
        logits: Tensor,
        deltas: Tensor,
        regions: list[Tensor] | Samples,
        sizes: Sizes,
        targets: Targets = (),
    ) -> list[Tensor]:
        """Move regions by the deltas of their likeliest class; samples by those of their true one, where they have.

        Samples that are the objects themselves are left out; the next stage adds them again.
        """
        likely = logits[:, 1:].argmax(1) + 1
        keep = None
        if isinstance(regions, Samples):
            labels = torch.cat(regions.labels)
            likely = torch.where(labels > 0, labels, likely)
            rows = zip(regions.regions, regions.matched, regions.labels, targets, strict=True)
            keep = [~_are_objects(r, m, y, target["boxes"]) for r, m, y, target in rows]
            regions = regions.regions
        places = torch.arange(len(likely), device=likely.device)
        moved = self.decode(deltas.detach()[places, likely].unsqueeze(1), torch.cat(regions))[:, 0]
        parts = moved.split([len(r) for r in regions])
        parts = [clip_boxes_to_image(part, size) for part, size in zip(parts, sizes, strict=True)]
        return parts if keep is None else [part[k] for part, k in zip(parts, keep, strict=True)]

    def mask_logits(self, levels: list[Tensor], boxes: list[Tensor]) -> Tensor:
        """Return (n, num_classes + 1, 28, 28); channel 0 belongs to nobody."""
        assert self.mask_roi_pool is not None
        assert self.mask_head is not None
        assert self.mask_predictor is not None
        return widen(self.mask_predictor(self.mask_head(self.mask_roi_pool(levels, boxes))))

    def mask_loss(self, levels: list[Tensor], samples: Samples, targets: Targets) -> Tensor:
        """Return the mean binary cross-entropy of the masks of the regions that stand for objects."""
        objects = [labels > 0 for labels in samples.labels]
        boxes = [r[o] for r, o in zip(samples.regions, objects, strict=True)]
        logits = self.mask_logits(levels, boxes)
        if not len(logits):
            return logits.sum() * 0
        labels = torch.cat([y[o] for y, o in zip(samples.labels, objects, strict=True)])
        goals = [
            crop_masks(target["masks"], matched[o], b, logits.shape[-1])
            for target, matched, o, b in zip(targets, samples.matched, objects, boxes, strict=True)
        ]
        rows = torch.arange(len(labels), device=labels.device)
        return F.binary_cross_entropy_with_logits(logits[rows, labels], torch.cat(goals).to(logits.dtype))


def _are_objects(regions: Tensor, matched: Tensor, labels: Tensor, boxes: Tensor) -> Tensor:
    """Tell which regions (n, 4) are the very boxes that they stand for."""
    if not len(boxes):
        return torch.zeros_like(labels, dtype=torch.bool)
    return (labels > 0) & (regions == boxes[matched].to(regions.dtype)).all(1)


def crop_masks(masks: Tensor, index: Tensor, boxes: Tensor, side: int) -> Tensor:
    """Cut masks (k, H, W) to boxes (n, 4), masks[index[i]] to boxes[i]; (n, side, side) of zeros and ones."""
    if not len(boxes):
        return boxes.new_zeros(0, side, side)
    rows = torch.cat([index.unsqueeze(1).to(boxes.dtype), boxes], 1)
    return (roi_align(masks.unsqueeze(1).to(boxes.dtype), rows, side, aligned=True)[:, 0] >= 0.5).to(
        boxes.dtype
    )
