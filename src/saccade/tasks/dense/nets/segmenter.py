"""What all networks that name every pixel have in common."""

from __future__ import annotations

import abc
import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.errors import ShapeError
from saccade.tasks.dense.nets.network import DenseNet, picture_sizes
from saccade.tasks.dense.nets.postprocess import widen

IGNORED = 255
"""Label of pixels that count neither in the loss nor in the metrics."""


class Segmenter(DenseNet):
    """A network that gives every pixel a class; labels count from 0."""

    def forward(
        self, images: Tensor, sizes: Tensor | None = None, targets: Tensor | None = None
    ) -> dict[str, Tensor] | Tensor:
        """Give the losses in training mode, logits in evaluation mode.

        Args:
            images: (B, in_chans, H, W), normalised; smaller pictures lie in the upper left corner.
            sizes: (B, 2) integers, the true height and width of each picture; None: all of it.
            targets: (B, H, W) integers in [0, num_classes), or 255 for pixels that do not count. Pixels outside
                of `sizes` never count. Not looked at in evaluation mode.

        Returns:
            Training: scalars by name, all to be summed. Evaluation: logits (B, num_classes, H, W), at least float32.

        Raises:
            ShapeError: Sizes or targets that do not fit the batch.
        """
        shapes = picture_sizes(images, sizes)
        if not self.training:
            return self.predict(images)
        size = (images.shape[2], images.shape[3])
        if targets is None or tuple(targets.shape) != (len(images), *size):
            found = "none" if targets is None else tuple(targets.shape)
            raise ShapeError(
                f"training needs targets of shape {(len(images), *size)}; found {found} (or switch to eval mode)"
            )
        self.check_pixels(images, self.strides[-1])
        return self.losses(images, without_border(targets.to(torch.int64), shapes))

    def losses(self, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return loss_seg, the mean cross-entropy of the pixels that count."""
        return {"loss_seg": pixel_loss(self.predict(images), targets)}

    @abc.abstractmethod
    def coarse_logits(self, images: Tensor) -> Tensor:
        """Return logits (B, num_classes, h, w) at the stride of the first level."""

    def predict(self, images: Tensor) -> Tensor:
        """Return logits (B, num_classes, H, W), at least float32."""
        return enlarge(self.coarse_logits(images), self.strides[0], images)

    def export_form(self) -> SegmenterExport:
        """Return a copy of the part that exporters take: pictures in, logits out. Fold first for speed."""
        return SegmenterExport(self)


class SegmenterExport(nn.Module):
    """Pictures to logits."""

    def __init__(self, net: Segmenter) -> None:
        super().__init__()
        self.net = copy.deepcopy(net)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, in_chans, H, W) to logits (B, num_classes, H, W)."""
        return self.net.predict(images)


class Classifier(nn.Sequential):
    """Dropout of whole channels, then a 1x1 convolution to the classes."""

    def __init__(self, width: int, num_classes: int, dropout: float) -> None:
        conv = nn.Conv2d(width, num_classes, 1)
        super().__init__(nn.Dropout2d(dropout), conv)
        self.width, self.dropout = width, dropout
        nn.init.normal_(conv.weight, std=0.01)
        assert conv.bias is not None
        nn.init.zeros_(conv.bias)

    def fresh(self, num_classes: int) -> Classifier:
        """Return an untrained one for another number of classes, on the same device."""
        return Classifier(self.width, num_classes, self.dropout).to(next(self.parameters()))


def enlarge(logits: Tensor, stride: int, images: Tensor) -> Tensor:
    """Enlarge logits by their stride (bilinear, pixel areas aligned) and cut them to the pictures' size."""
    logits, (high, wide) = widen(logits), images.shape[2:]
    size = [logits.shape[2] * stride, logits.shape[3] * stride]
    return cut(F.interpolate(logits, size=size, mode="bilinear", align_corners=False), high, wide)


def cut(x: Tensor, high: int, wide: int) -> Tensor:
    """Return the upper left corner of a map."""
    if torch.compiler.is_exporting():
        # A slice is contiguous for some sizes only, and the exporter would fix which.
        rows, columns = torch.arange(high, device=x.device), torch.arange(wide, device=x.device)
        return x.index_select(2, rows).index_select(3, columns)
    return x[:, :, :high, :wide]


def pixel_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy over the pixels that count; 0 where none does."""
    total = F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")
    return total / (targets != IGNORED).sum().clamp(min=1)


def without_border(targets: Tensor, sizes: list[tuple[int, int]]) -> Tensor:
    """Return targets in which the pixels outside of the pictures are ignored; the original is untouched."""
    if all(size == tuple(targets.shape[1:]) for size in sizes):
        return targets
    targets = targets.clone()
    for target, (high, wide) in zip(targets, sizes, strict=True):
        target[high:] = IGNORED
        target[:, wide:] = IGNORED
    return targets
