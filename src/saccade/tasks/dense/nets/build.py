"""From names to a dense network: an explicit table of heads on any backbone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from saccade.errors import ConfigError, did_you_mean
from saccade.nn.origin import set_origin
from saccade.settings import make
from saccade.tasks.dense.nets.cascade import CascadeMaskRCNN, CascadeRCNN
from saccade.tasks.dense.nets.network import DenseNet, Trunk
from saccade.tasks.dense.nets.options import (
    HeadOptions,
    RCNNOptions,
    RetinaNetOptions,
    SemanticFPNOptions,
    UPerNetOptions,
)
from saccade.tasks.dense.nets.rcnn import FasterRCNN, MaskRCNN
from saccade.tasks.dense.nets.retinanet import RetinaNet
from saccade.tasks.dense.nets.semantic_fpn import SemanticFPN
from saccade.tasks.dense.nets.upernet import UPerNet
from saccade.zoo.registry import create_model, family_of, task_of

SMALLEST_STRIDE = 4
"""Finer maps of a backbone are not used."""


@dataclass(frozen=True)
class Head:
    """One row of the table."""

    kind: str
    """detect or segment."""
    masks: bool
    """Whether its detections have masks."""
    options: type[HeadOptions]
    """The dataclass of its options."""
    finest_stride: int
    """Of the pyramid's first level where the options leave it open; 0: the backbone's."""
    build: Any
    """Called as build(trunk, num_classes, options)."""


HEADS: dict[str, Head] = {
    "mask_rcnn": Head("detect", True, RCNNOptions, 4, MaskRCNN),
    "faster_rcnn": Head("detect", False, RCNNOptions, 4, FasterRCNN),
    "retinanet": Head("detect", False, RetinaNetOptions, 8, RetinaNet),
    "cascade_mask_rcnn": Head("detect", True, RCNNOptions, 4, CascadeMaskRCNN),
    "cascade_rcnn": Head("detect", False, RCNNOptions, 4, CascadeRCNN),
    "semantic_fpn": Head("segment", False, SemanticFPNOptions, 0, SemanticFPN),
    "upernet": Head("segment", False, UPerNetOptions, 0, UPerNet),
}


def build_dense(
    backbone: str,
    head: str,
    num_classes: int,
    *,
    in_chans: int = 3,
    options: Mapping[str, Any] | None = None,
    pretrained: bool = False,
    **head_options: Any,
) -> DenseNet:
    """Build a network for detection or segmentation.

    Args:
        backbone: A model name as `create_model` takes it: ours, or `timm/NAME`.
        head: A name in `HEADS`.
        num_classes: Classes of objects, or of pixels.
        in_chans: Channels of the picture.
        options: The backbone's own options.
        pretrained: Load the backbone's published ImageNet weights.
        **head_options: Fields of the head's options, `HEADS[head].options`.

    Returns:
        The network in training mode: a `Detector` or a `Segmenter`.

    Raises:
        ConfigError: An unknown name or option, a value out of range, or a backbone without feature maps.
        WeightsError: Published weights that cannot be had.
    """
    if head not in HEADS:
        raise ConfigError(f"unknown head {head!r}{did_you_mean(head, HEADS)}")
    row = HEADS[head]
    chosen = make(row.options, head_options, head)
    chosen = dataclasses.replace(chosen, finest_stride=chosen.finest_stride or row.finest_stride)
    finest = chosen.finest_stride
    trunk = build_trunk(backbone, finest, in_chans=in_chans, options=options, pretrained=pretrained)
    net: DenseNet = row.build(trunk, num_classes, chosen)
    set_origin(net, backbone, options)
    return net


def build_trunk(
    backbone: str,
    finest: int = 0,
    *,
    in_chans: int = 3,
    options: Mapping[str, Any] | None = None,
    pretrained: bool = False,
) -> Trunk:
    """Build a backbone and choose the maps that a pyramid may stand on: of each stride the last, from 4 on.

    Args:
        backbone: Model name.
        finest: Stride of the pyramid's first level; finer maps are left out where that saves something.
        in_chans: Channels of the picture.
        options: The backbone's own options.
        pretrained: Load the published weights.

    Raises:
        ConfigError: As `build_dense`.
    """
    if task_of(backbone) != "classify":
        raise ConfigError(f"{backbone} has no feature maps; a dense head needs a classifier's backbone")
    family, own = family_of(backbone), dict(options or {})
    settings: dict[str, Any] = {"in_chans": in_chans, "features_only": True, **own}
    if family != "timm":
        # Ours make only the maps that are asked for, so that no parameter is left without a use.
        with torch.device("meta"):
            probe: Any = create_model(backbone, **settings)
        settings["out_indices"] = [i for i, stride in enumerate(probe.strides) if stride >= finest]
        if not settings["out_indices"]:
            raise ConfigError(
                f"finest_stride is {finest} and {backbone}'s coarsest map has {probe.strides[-1]}"
            )
    net: Any = create_model(backbone, pretrained=pretrained, **settings)
    strides, channels = list(net.strides), list(net.channels)
    last = {stride: i for i, stride in enumerate(strides) if stride >= SMALLEST_STRIDE or len(strides) == 1}
    take = [last[stride] for stride in sorted(last)]
    return Trunk(
        net,
        take,
        [channels[i] for i in take],
        [strides[i] for i in take],
        # Ours take any size; timm's may cut what does not fill a patch.
        pad_to=max(strides) if family == "timm" else 1,
        pre_norm=family == "efficientvim",
    )
