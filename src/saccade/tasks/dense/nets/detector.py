"""What all detectors have in common."""

from __future__ import annotations

import abc
from collections.abc import Sequence

import torch
from torch import Tensor

from saccade.errors import ShapeError
from saccade.tasks.dense.nets.network import DenseNet, picture_sizes

Sizes = list[tuple[int, int]]
Targets = Sequence[dict[str, Tensor]]


class Detector(DenseNet):
    """A network that finds objects. Labels count from 0, boxes are xyxy in pixels of the batch."""

    masks = False
    """Whether detections have masks."""

    def forward(
        self, images: Tensor, sizes: Tensor | None = None, targets: Targets | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Give the losses in training mode, detections in evaluation mode.

        Args:
            images: (B, in_chans, H, W), normalised; smaller pictures lie in the upper left corner.
            sizes: (B, 2) integers, the true height and width of each picture; None: all of it.
            targets: One dictionary a picture: boxes (n, 4) with positive sides, labels (n,) int64 in
                [0, num_classes), and for mask heads masks (n, H, W) of zeros and ones. n may be 0.
                Not looked at in evaluation mode.

        Returns:
            Training: scalars by name, all to be summed. Evaluation: one dictionary a picture, best first:
            boxes (n, 4), labels (n,), scores (n,), and for mask heads masks (n, 28, 28), the probability of the
            object over the area of its box.

        Raises:
            ShapeError: Sizes or targets that do not fit the batch.
        """
        shapes = picture_sizes(images, sizes)
        if not self.training:
            return self.detect(self.levels(images), shapes)
        checked = self._check_targets(images, targets)
        self.check_pixels(images, self.base_strides[-1])
        return self.losses(self.levels(images), shapes, checked)

    @abc.abstractmethod
    def losses(self, levels: list[Tensor], sizes: Sizes, targets: Targets) -> dict[str, Tensor]:
        """Return the losses of pyramid maps."""

    @abc.abstractmethod
    def detect(self, levels: list[Tensor], sizes: Sizes) -> list[dict[str, Tensor]]:
        """Return the detections of pyramid maps."""

    def _check_targets(self, images: Tensor, targets: Targets | None) -> Targets:
        """Refuse targets that would fail far from here, and give them the types the losses want."""
        if targets is None or len(targets) != len(images):
            found = "none" if targets is None else len(targets)
            raise ShapeError(
                f"training needs one target a picture; found {found} for {len(images)} (or switch to eval mode)"
            )
        names = ("boxes", "labels", "masks") if self.masks else ("boxes", "labels")
        checked = []
        for target in targets:
            missing = [name for name in names if name not in target]
            if missing:
                raise ShapeError(f"a target has no {missing[0]!r}; expected the keys {', '.join(names)}")
            count = len(target["labels"])
            if tuple(target["boxes"].shape) != (count, 4):
                raise ShapeError(
                    f"a target has boxes of shape {tuple(target['boxes'].shape)} for {count} labels; "
                    f"expected ({count}, 4)"
                )
            whole = {"boxes": target["boxes"].float(), "labels": target["labels"].to(torch.int64)}
            if self.masks:
                whole["masks"] = target["masks"]
                if tuple(whole["masks"].shape) != (count, *images.shape[2:]):
                    raise ShapeError(
                        f"a target has masks of shape {tuple(whole['masks'].shape)}; "
                        f"expected {(count, *images.shape[2:])}, the size of the batch"
                    )
            checked.append(whole)
        return checked
