"""What detectors and segmenters have in common: backbone, padding, pyramid, and how they train and fold."""

from __future__ import annotations

import abc
import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import fuse_conv_bn_eval

from saccade.errors import ConfigError, ShapeError
from saccade.nn.origin import name_of
from saccade.tasks.dense.nets.options import HeadOptions
from saccade.tasks.dense.nets.pyramid import Pyramid
from saccade.zoo.loading import Fit, ForeignKeys


@dataclass
class Trunk:
    """A backbone, and which of its maps a pyramid may stand on."""

    backbone: nn.Module
    take: list[int]
    """Positions among the maps that the backbone returns, fine to coarse."""
    channels: list[int]
    strides: list[int]
    pad_to: int
    """Pictures are padded (right, below, with zeros) to a multiple of this."""
    pre_norm: bool
    """Whether the backbone's authors normalise its maps before a detector's pyramid."""


class DenseNet(nn.Module, ForeignKeys):
    """Backbone, neck and head.

    Args:
        trunk: The backbone.
        neck: The pyramid on its maps.
        num_classes: Classes, at least 1.
        options: Of the head.
    """

    head: nn.Module

    def __init__(self, trunk: Trunk, neck: Pyramid, num_classes: int, options: HeadOptions) -> None:
        super().__init__()
        if num_classes < 1:
            raise ConfigError(f"num_classes is {num_classes}; expected 1 or more")
        self.backbone, self.neck = trunk.backbone, neck
        self.take, self.channels, self.pad_to = trunk.take, trunk.channels, trunk.pad_to
        self.base_strides = trunk.strides
        self.num_classes, self.options = num_classes, options
        self.strides = neck.strides
        self.default_size = 512

    @abc.abstractmethod
    def reset_classifier(self, num_classes: int) -> None:
        """Replace the layers that know the classes by fresh ones for `num_classes`."""

    def translate(self, state: Mapping[str, Tensor]) -> Fit | None:
        """Map the tensors of a checkpoint of mmdet or mmseg; None where it is another."""
        from saccade.tasks.dense.nets.keymap import from_mmdet, is_mmdet

        return from_mmdet(state, self) if is_mmdet(state) else None

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return the backbone's maps of a batch of pictures, fine to coarse, as (B, channels[i], h, w)."""
        down, across = -images.shape[2] % self.pad_to, -images.shape[3] % self.pad_to
        if down or across:
            images = F.pad(images, (0, across, 0, down))
        try:
            found = self.backbone(images)
        except AssertionError as error:
            # How timm says that a network was built for one size.
            raise ShapeError(
                f"{name_of(self.backbone)} takes no pictures of {images.shape[2]} x "
                f"{images.shape[3]} pixels ({error}); some of timm's do with the option dynamic_img_size or "
                "strict_img_size, or pictures of another size"
            ) from None
        return [found[i] for i in self.take]

    def check_pixels(self, images: Tensor, coarsest: int) -> None:
        """Refuse to train on a single pixel of the coarsest map, which batch normalisation cannot do.

        Raises:
            ShapeError: One picture, not larger than the stride `coarsest`.
        """
        high, wide = images.shape[2:]
        if len(images) == 1 and max(high, wide) <= coarsest:
            raise ShapeError(
                f"one picture of {high} x {wide} pixels is too little to train on; "
                f"use a larger batch, or pictures above {coarsest} pixels"
            )

    def levels(self, images: Tensor) -> list[Tensor]:
        """Return the pyramid's maps of a batch of pictures."""
        return self.neck(self.maps(images))

    def train(self, mode: bool = True) -> DenseNet:
        """Switch the mode; with `norm_eval` the backbone's batch normalisations stay in evaluation mode."""
        super().train(mode)
        if mode and self.options.norm_eval:
            for module in self.backbone.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade time for memory in training, in the backbone.

        Raises:
            ConfigError: The backbone cannot.
        """
        method = getattr(self.backbone, "set_grad_checkpointing", None)
        if method is None:
            raise ConfigError(
                f"{name_of(self.backbone)} cannot recompute its activations; leave run.recompute out"
            )
        method(enable)

    def weight_decay_exempt(self) -> set[str]:
        """Names of the parameters that recipes do not decay: the backbone's own choice; elsewhere vectors."""
        own: Callable[[], set[str]] | None = getattr(self.backbone, "weight_decay_exempt", None)
        exempt = {name for name, p in self.named_parameters() if p.ndim <= 1}
        if own is None:
            return exempt
        exempt = {name for name in exempt if not name.startswith("backbone.")}
        return exempt | {f"backbone.{name}" for name in own()}

    def fold(self) -> DenseNet:
        """Return the inference form; see `saccade.fold`."""
        from saccade.nn.fold import fold

        backbone = self.backbone
        self.backbone = nn.Identity()
        try:
            folded = copy.deepcopy(self)
        finally:
            self.backbone = backbone
        folded.eval()
        for module in folded.modules():
            if isinstance(module, nn.Sequential):
                _fold_norms(module)
        folded.backbone = fold(backbone)
        return folded


def _fold_norms(chain: nn.Sequential) -> None:
    """Fold every batch normalisation that follows a convolution into it, in place."""
    for i in range(len(chain) - 1):
        conv, norm = chain[i], chain[i + 1]
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            chain[i], chain[i + 1] = fuse_conv_bn_eval(conv, norm), nn.Identity()


def picture_sizes(images: Tensor, sizes: Tensor | None) -> list[tuple[int, int]]:
    """Return the true height and width of each picture of a batch.

    Raises:
        ShapeError: Not one row a picture, or a picture larger than the batch.
    """
    high, wide = images.shape[2:]
    if sizes is None:
        return [(high, wide)] * len(images)
    rows: Sequence[Any] = sizes.tolist()
    if tuple(sizes.shape) != (len(images), 2) or any(h > high or w > wide or h < 1 or w < 1 for h, w in rows):
        raise ShapeError(
            f"sizes {rows} do not fit a batch of shape {tuple(images.shape)}; "
            "expected one row (height, width) a picture, within the batch's"
        )
    return [(int(h), int(w)) for h, w in rows]
