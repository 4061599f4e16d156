"""From boxes and scores to detections: the one way all detectors end."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import batched_nms, clip_boxes_to_image


def widen(x: Tensor) -> Tensor:
    """Return half precision as float32, where coordinates and their sums belong; the rest as it is."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def select_detections(
    boxes: Tensor,
    scores: Tensor,
    size: tuple[int, int],
    *,
    score_threshold: float,
    nms_threshold: float,
    max_detections: int,
    levels: Sequence[int] = (),
    max_candidates: int = 0,
) -> dict[str, Tensor]:
    """Choose the detections of one picture.

    Pairs of box and class above the threshold; of each level the best `max_candidates`; boxes clipped to the
    picture, empty ones dropped; suppression within each class; of all that is left the best `max_detections`.

    Args:
        boxes: (N, 4) xyxy in pixels, or (N, num_classes, 4) where every class has its own box.
        scores: (N, num_classes) in [0, 1].
        size: Height and width of the picture.
        score_threshold: Scores at or below it are dropped.
        nms_threshold: Largest overlap (intersection over union) of two detections of a class.
        max_detections: Of the picture.
        levels: How many of the N boxes each level has, in order; empty: one level.
        max_candidates: Of one level; 0: no limit.

    Returns:
        boxes (n, 4), labels (n,) int64 from 0, scores (n,), best first; at least float32.
    """
    scores, boxes = widen(scores), widen(boxes)
    num_classes = scores.shape[1]
    chosen, start = [], 0
    for count in levels or (len(scores),):
        flat = scores[start : start + count].flatten()
        index = torch.nonzero(flat > score_threshold).flatten()
        if max_candidates and len(index) > max_candidates:
            index = index[flat[index].topk(max_candidates).indices]
        chosen.append(index + start * num_classes)
        start += count
    index = torch.cat(chosen)
    labels = index % num_classes
    place = index // num_classes
    found = boxes[place] if boxes.ndim == 2 else boxes[place, labels]
    found, kept = clip_boxes_to_image(found, size), scores.flatten()[index]
    whole = ((found[:, 2:] - found[:, :2]) > 0.01).all(1)
    found, kept, labels = found[whole], kept[whole], labels[whole]
    best = batched_nms(found, kept, labels, nms_threshold)[:max_detections]
    return {"boxes": found[best], "labels": labels[best], "scores": kept[best]}
