"""RetinaNet: every anchor says what it sees and where, trained with the focal loss.

Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, arXiv 1708.02002. Head of torchvision; the losses are
normalised by the anchors with an object of the whole batch, as in mmdet (torchvision: of each picture), where a
picture without objects counts as one.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import box_iou, sigmoid_focal_loss

from saccade.errors import ShapeError
from saccade.tasks.dense.nets.anchors import Anchors, decode
from saccade.tasks.dense.nets.detector import Detector, Sizes, Targets
from saccade.tasks.dense.nets.network import Trunk
from saccade.tasks.dense.nets.options import RetinaNetOptions
from saccade.tasks.dense.nets.postprocess import select_detections, widen
from saccade.tasks.dense.nets.pyramid import Pyramid

NUM_LEVELS = 5
PRIOR = 0.01
"""Probability of an object that a fresh classifier gives every anchor."""


class RetinaNet(Detector):
    """The network; see the module."""

    options: RetinaNetOptions
    head: RetinaNetHead

    def __init__(self, trunk: Trunk, num_classes: int, options: RetinaNetOptions) -> None:
        neck = Pyramid(
            trunk.channels,
            trunk.strides,
            finest=options.finest_stride,
            num_levels=NUM_LEVELS,
            width=options.width,
            coarser="conv",
            pre_norm=trunk.pre_norm if options.pre_norm is None else options.pre_norm,
        )
        super().__init__(trunk, neck, num_classes, options)
        self.anchors = Anchors(neck.strides, options.anchor_scale, num_sizes=3)
        self.head = RetinaNetHead(options.width, self.anchors.per_place, num_classes)
        self.coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
        self.matcher = Matcher(0.5, 0.4, allow_low_quality_matches=True)

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the last convolution of the classifier by a fresh one."""
        self.num_classes = num_classes
        branch = self.head.classification_head
        branch.num_classes = num_classes
        old = branch.cls_logits
        branch.cls_logits = nn.Conv2d(
            self.options.width, self.anchors.per_place * num_classes, 3, padding=1
        ).to(old.weight)
        nn.init.normal_(branch.cls_logits.weight, std=0.01)
        nn.init.constant_(branch.cls_logits.bias, -math.log((1 - PRIOR) / PRIOR))  # pyright: ignore

    def outputs(self, levels: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return logits (B, N, num_classes) and deltas (B, N, 4), at least float32, N anchors over all levels."""
        found = self.head(levels)
        return widen(found["cls_logits"]), widen(found["bbox_regression"])

    def predict(self, levels: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return boxes (B, N, 4) xyxy in pixels and scores (B, N, num_classes) in [0, 1]."""
        logits, deltas = self.outputs(levels)
        return decode(self.coder, deltas, torch.cat(self.anchors.of_maps(levels))), logits.sigmoid()

    def detect(self, levels: list[Tensor], sizes: Sizes) -> list[dict[str, Tensor]]:
        """Return the detections of pyramid maps."""
        counts = [x.shape[2] * x.shape[3] * self.anchors.per_place for x in levels]
        return self.select(*self.predict(levels), sizes, counts)

    def count_anchors(self, height: int, width: int) -> list[int]:
        """Count the anchors of each level for pictures of this size."""
        padded = [side + -side % self.pad_to for side in (height, width)]
        return [h * w * self.anchors.per_place for h, w in self.neck.level_sizes(padded[0], padded[1])]

    def select(
        self, boxes: Tensor, scores: Tensor, sizes: Sizes, counts: Sequence[int]
    ) -> list[dict[str, Tensor]]:
        """Choose the detections of every picture.

        Args:
            boxes: (B, N, 4) xyxy in pixels.
            scores: (B, N, num_classes) in [0, 1].
            sizes: True height and width of every picture.
            counts: Anchors of each level, from `count_anchors`.
        """
        options = self.options
        return [
            select_detections(
                boxes[i],
                scores[i],
                size,
                levels=counts,
                score_threshold=options.score_threshold,
                nms_threshold=options.nms_threshold,
                max_detections=options.max_detections,
                max_candidates=options.max_candidates,
            )
            for i, size in enumerate(sizes)
        ]

    def losses(self, levels: list[Tensor], sizes: Sizes, targets: Targets) -> dict[str, Tensor]:
        """Return loss_class (focal) and loss_box (mean absolute delta, summed over the four)."""
        logits, deltas = self.outputs(levels)
        anchors = torch.cat(self.anchors.of_maps(levels))
        centres = (anchors[:, :2] + anchors[:, 2:]) / 2
        loss_class, loss_box, num_objects = logits.sum() * 0, deltas.sum() * 0, 0
        for i, target in enumerate(targets):
            match = self._match(target["boxes"], anchors)
            objects = match >= 0
            # Anchors in the padding behind a smaller picture learn nothing, as in mmdet.
            inside = (centres < centres.new_tensor(sizes[i][::-1])).all(1)
            known = objects | (inside & (match != Matcher.BETWEEN_THRESHOLDS))
            wanted = torch.zeros_like(logits[i])
            wanted[objects, target["labels"][match[objects]]] = 1.0
            loss_class = loss_class + sigmoid_focal_loss(logits[i][known], wanted[known], reduction="sum")
            goal = self.coder.encode_single(target["boxes"][match[objects]], anchors[objects])
            loss_box = loss_box + F.l1_loss(deltas[i][objects], goal, reduction="sum")
            num_objects = num_objects + objects.sum().clamp(min=1)
        return {"loss_class": loss_class / num_objects, "loss_box": loss_box / num_objects}

    def _match(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """Say for every anchor which of (n, 4) boxes it stands for; below 0: none, or in between."""
        if len(boxes) == 0:
            return torch.full((len(anchors),), Matcher.BELOW_LOW_THRESHOLD, device=anchors.device)
        return self.matcher(box_iou(boxes, anchors))

    def export_form(self) -> RetinaNetExport:
        """Return a copy of the part that exporters take; see `RetinaNetExport`. Fold first for speed."""
        return RetinaNetExport(self)


class RetinaNetExport(nn.Module):
    """Pictures to boxes and scores, in tensors; the selection of detections stays outside of the file."""

    def __init__(self, net: RetinaNet) -> None:
        super().__init__()
        self.net = copy.deepcopy(net)
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, in_chans, H, W) to boxes (B, N, 4) xyxy in pixels and scores (B, N, num_classes) in [0, 1]."""
        return self.net.predict(self.net.levels(images))

    def detections(
        self,
        boxes: Tensor,
        scores: Tensor,
        sizes: Tensor | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> list[dict[str, Tensor]]:
        """Choose detections as the network in evaluation mode does.

        Args:
            boxes: What `forward` gave.
            scores: What `forward` gave.
            sizes: (B, 2) true heights and widths of the pictures; None: `image_size` for all.
            image_size: Height and width of the batch; None: the largest of `sizes`.

        Raises:
            ShapeError: Neither size is given, or the number of boxes does not fit the size.
        """
        if sizes is None and image_size is None:
            raise ShapeError("detections needs sizes or image_size, or both where the batch is padded")
        rows = [(int(h), int(w)) for h, w in sizes.tolist()] if sizes is not None else []
        high, wide = image_size or (max(h for h, _ in rows), max(w for _, w in rows))
        counts = self.net.count_anchors(high, wide)
        if sum(counts) != boxes.shape[1]:
            raise ShapeError(
                f"{boxes.shape[1]} boxes do not come from a batch of {high} x {wide} pixels, which has "
                f"{sum(counts)}; pass the height and width of the batch as image_size"
            )
        return self.net.select(boxes, scores, rows or [(high, wide)] * len(boxes), counts)
