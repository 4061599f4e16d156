"""Anchors: the boxes that a detector starts from, set from the strides of its pyramid."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

RATIOS = (0.5, 1.0, 2.0)
"""Height over width."""


class Anchors(AnchorGenerator):
    """Boxes around (stride * column, stride * row), rows first, then ratios, then sizes.

    torchvision's generator, but with strides that are told instead of divided out of rounded-up maps, with sides
    that are not rounded (as in mmdet, and at 8 pixels it matters), and always in float32.

    Args:
        strides: Of the levels, fine to coarse.
        scale: Side of a level's smallest square anchor, in strides.
        num_sizes: Sizes of a level, spread evenly over one octave.
    """

    def __init__(self, strides: Sequence[int], scale: float, num_sizes: int = 1) -> None:
        sizes = [tuple(scale * stride * 2 ** (k / num_sizes) for k in range(num_sizes)) for stride in strides]
        super().__init__(sizes, (RATIOS,) * len(strides))
        self.strides = list(strides)
        self.per_place = num_sizes * len(RATIOS)

    def generate_anchors(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        scales: Sequence[float],
        aspect_ratios: Sequence[float],
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Tensor:
        """Make the boxes (ratios * sizes, 4) around the origin."""
        sides = [
            (size / math.sqrt(ratio), size * math.sqrt(ratio)) for ratio in aspect_ratios for size in scales
        ]
        return torch.tensor([[-w / 2, -h / 2, w / 2, h / 2] for w, h in sides], dtype=dtype, device=device)

    def of_maps(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return the boxes (h * w * per_place, 4) xyxy in pixels of each level, on the maps' device."""
        device = maps[0].device
        found = []
        for x, stride, sizes, ratios in zip(maps, self.strides, self.sizes, self.aspect_ratios, strict=True):
            cell = self.generate_anchors(sizes, ratios, device=device)
            rows = torch.arange(x.shape[2], device=device, dtype=torch.float32) * stride
            columns = torch.arange(x.shape[3], device=device, dtype=torch.float32) * stride
            down, across = torch.meshgrid(rows, columns, indexing="ij")
            centres = torch.stack([across, down, across, down], 2).view(-1, 1, 4)
            found.append((centres + cell).view(-1, 4))
        return found

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """Return one tensor (N, 4) over all levels for each picture, as torchvision's networks want it."""
        boxes = torch.cat(self.of_maps(feature_maps))
        return [boxes] * len(image_list.image_sizes)


def decode(coder: BoxCoder, deltas: Tensor, anchors: Tensor) -> Tensor:
    """Turn deltas (B, N, 4) into boxes (B, N, 4) xyxy; N anchors shared by the batch."""
    batch = deltas.shape[0]
    boxes = coder.decode_single(deltas.flatten(0, 1), anchors.repeat(batch, 1))
    return boxes.view(batch, -1, 4)
