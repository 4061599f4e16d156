"""From the network's picture back to the file's: boxes scaled, masks of 28 x 28 drawn at full size."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.models.detection.roi_heads import paste_masks_in_image

MASK_THRESHOLD = 0.5
"""A pixel belongs to an object from this probability on."""
AT_A_TIME = 32
"""Masks drawn together, which bounds the memory."""


def to_file(detection: dict[str, Tensor], shown: tuple[int, int], size: tuple[int, int]) -> dict[str, Tensor]:
    """Put the detections of one picture into the file's own pixels.

    Args:
        detection: boxes (n, 4) in the resized picture, labels (n,), scores (n,), perhaps masks (n, 28, 28).
        shown: Height and width of the resized picture.
        size: Height and width of the file.

    Returns:
        The same on the CPU: boxes in the file's pixels, cut at its border, and masks (n, height, width) bool.
    """
    found = {name: value.detach().cpu() for name, value in detection.items()}
    scale = torch.tensor([size[1] / shown[1], size[0] / shown[0]] * 2)
    boxes = found["boxes"].float() * scale
    boxes[:, 0::2] = boxes[:, 0::2].clamp(0, size[1])
    boxes[:, 1::2] = boxes[:, 1::2].clamp(0, size[0])
    moved = {"boxes": boxes, "labels": found["labels"], "scores": found["scores"].float()}
    if "masks" in found:
        drawn = [
            paste_masks_in_image(masks[:, None].float(), part, size)[:, 0] >= MASK_THRESHOLD
            for masks, part in zip(found["masks"].split(AT_A_TIME), boxes.split(AT_A_TIME), strict=True)
        ]
        moved["masks"] = torch.cat(drawn) if drawn else torch.zeros(0, *size, dtype=torch.bool)
    return moved
