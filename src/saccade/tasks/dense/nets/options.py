"""The settings of every dense head, with the published values as defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from saccade.errors import ConfigError
from saccade.files import within
from saccade.settings import check


@dataclass(frozen=True)
class HeadOptions:
    """What every dense network can be asked for."""

    width: Annotated[int, within(1)] = 256
    """Channels of the pyramid's levels."""
    finest_stride: Annotated[int, within(0)] = 0
    """Stride of the finest level, a power of two; 0: the head's usual one."""
    pre_norm: bool | None = None
    """Normalise the backbone's maps over channels first; None: as the backbone's authors did."""
    norm_eval: bool = False
    """Keep the backbone's batch statistics as they are in training, as the published detectors do."""

    def __post_init__(self) -> None:
        """Check what no tensor operation would catch."""
        check(self)
        if self.finest_stride == 1 or self.finest_stride & (self.finest_stride - 1):
            raise ConfigError(f"finest_stride is {self.finest_stride}; expected a power of two, or 0")


@dataclass(frozen=True)
class DetectOptions(HeadOptions):
    """What every detector can be asked for."""

    score_threshold: Annotated[float, within(0)] = 0.05
    """Detections at or below this score are dropped."""
    nms_threshold: Annotated[float, within(0)] = 0.5
    """Of two boxes of one class that overlap by more than this, the weaker is dropped."""
    max_detections: Annotated[int, within(0)] = 100
    """Detections of one picture, the best."""


@dataclass(frozen=True)
class RetinaNetOptions(DetectOptions):
    """RetinaNet: Lin et al., ICCV 2017, arXiv 1708.02002."""

    anchor_scale: Annotated[float, within(0)] = 4.0
    """Side of the smallest square anchor of a level, in strides; two more follow within the octave."""
    max_candidates: Annotated[int, within(0)] = 1000
    """Pairs of anchor and class that a level may send to the suppression."""


@dataclass(frozen=True)
class RCNNOptions(DetectOptions):
    """Faster R-CNN and Mask R-CNN: Ren et al., arXiv 1506.01497; He et al., arXiv 1703.06870."""

    anchor_scale: Annotated[float, within(0)] = 8.0
    """Side of the square anchor of a level, in strides."""
    proposals: Annotated[int, within(0)] = 1000
    """Regions of a picture that the second stage looks at; in training it chooses from twice as many candidates."""
    samples: Annotated[int, within(0)] = 512
    """Regions of a picture that the second stage learns from, a quarter of them objects where there are enough."""
    fc_width: Annotated[int, within(0)] = 1024
    """Channels of the box head's vectors."""
    mask_width: Annotated[int, within(0)] = 256
    """Channels of the mask head."""
    mask_convs: Annotated[int, within(0)] = 4
    """3x3 convolutions of the mask head."""


@dataclass(frozen=True)
class SegmentOptions(HeadOptions):
    """What every segmenter can be asked for."""

    dropout: Annotated[float, within(0)] = 0.1
    """Share of channels dropped before the classifier in training."""


@dataclass(frozen=True)
class SemanticFPNOptions(SegmentOptions):
    """Semantic FPN: Kirillov et al., CVPR 2019, arXiv 1901.02446."""

    head_width: Annotated[int, within(0)] = 128
    """Channels of the head."""


@dataclass(frozen=True)
class UPerNetOptions(SegmentOptions):
    """UPerNet: Xiao et al., ECCV 2018, arXiv 1807.10221."""

    width: Annotated[int, within(1)] = 512
    """Channels of the pyramid's levels."""
    aux_weight: Annotated[float, within(0)] = 0.4
    """Weight of the loss of a small head on the last map but one; 0: no such head."""
    aux_width: Annotated[int, within(0)] = 256
    """Channels of that head."""
