"""What of a detector leaves in a file: boxes and scores of every anchor. Their selection stays outside."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from saccade.tasks.dense.nets.retinanet import RetinaNet

SAME_PLACE = 0.99
"""Overlap from which two boxes count as the same."""
CLEAR = 1e-3
"""Detections whose score is this far above the weakest one's are compared."""
Detections = list[dict[str, Tensor]]


class JoinedBoxes(nn.Module):
    """Boxes and scores of every anchor in one tensor.

    The boxes are shares of the picture, so that the rounding of both can be measured by one scale.

    Args:
        net: Folded or not; copied.
    """

    def __init__(self, net: RetinaNet) -> None:
        super().__init__()
        self.form = net.export_form()

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, channels, H, W) to (B, N, 4 + classes)."""
        boxes, scores = self.form(image)
        x, y = boxes[..., 0::2] / image.shape[3], boxes[..., 1::2] / image.shape[2]
        return torch.cat([x[..., :1], y[..., :1], x[..., 1:], y[..., 1:], scores], 2)


def split_boxes(outputs: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Undo `JoinedBoxes`: boxes (B, N, 4) xyxy in pixels of a batch of that height and width, scores (B, N, C)."""
    scale = torch.tensor([size[1], size[0]] * 2, dtype=outputs.dtype)
    return outputs[..., :4] * scale, outputs[..., 4:]


def count_lost(got: Detections, want: Detections) -> tuple[int, int]:
    """Compare detections box by box, both ways.

    Returns:
        Detections that were compared, and those of them without one of their class in nearly their place.
    """
    seen = lost = 0
    for one, other in zip(got, want, strict=True):
        for first, second in ((one, other), (other, one)):
            near = box_iou(first["boxes"], second["boxes"]) > SAME_PLACE
            near &= first["labels"][:, None] == second["labels"]
            # Among scores that are nearly equal, as a fresh network's all are, the last digit decides what stays.
            clear = first["scores"] > first["scores"].min().item() + CLEAR if len(near) else near.any(1)
            seen, lost = seen + int(clear.sum()), lost + int((clear & ~near.any(1)).sum())
    return seen, lost
