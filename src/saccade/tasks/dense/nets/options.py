"""The settings of every dense head, with the published values as defaults."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, TypeVar

from saccade.errors import ConfigError, did_you_mean


@dataclass(frozen=True)
class HeadOptions:
    """What every dense network can be asked for."""

    width: int = 256
    """Channels of the pyramid's levels."""
    finest_stride: int = 0
    """Stride of the finest level, a power of two; 0: the head's usual one."""
    pre_norm: bool | None = None
    """Normalise the backbone's maps over channels first; None: as the backbone's authors did."""
    norm_eval: bool = False
    """Keep the backbone's batch statistics as they are in training, as the published detectors do."""

    def __post_init__(self) -> None:
        """Check what no tensor operation would catch."""
        if self.finest_stride and (self.finest_stride < 2 or self.finest_stride & (self.finest_stride - 1)):
            raise ConfigError(f"finest_stride is {self.finest_stride}; expected a power of two, or 0")
        for spec in fields(self):
            value = getattr(self, spec.name)
            if spec.name != "finest_stride" and type(value) in (int, float) and value < 0:
                raise ConfigError(f"{spec.name} is {value}; expected 0 or more")
        if self.width < 1:
            raise ConfigError(f"width is {self.width}; expected 1 or more")


@dataclass(frozen=True)
class DetectOptions(HeadOptions):
    """What every detector can be asked for."""

    score_threshold: float = 0.05
    """Detections at or below this score are dropped."""
    nms_threshold: float = 0.5
    """Of two boxes of one class that overlap by more than this, the weaker is dropped."""
    max_detections: int = 100
    """Detections of one picture, the best."""


@dataclass(frozen=True)
class RetinaNetOptions(DetectOptions):
    """RetinaNet: Lin et al., ICCV 2017, arXiv 1708.02002."""

    anchor_scale: float = 4.0
    """Side of the smallest square anchor of a level, in strides; two more follow within the octave."""
    max_candidates: int = 1000
    """Pairs of anchor and class that a level may send to the suppression."""


@dataclass(frozen=True)
class RCNNOptions(DetectOptions):
    """Faster R-CNN and Mask R-CNN: Ren et al., arXiv 1506.01497; He et al., arXiv 1703.06870."""

    anchor_scale: float = 8.0
    """Side of the square anchor of a level, in strides."""
    proposals: int = 1000
    """Regions of a picture that the second stage looks at; in training it chooses from twice as many candidates."""
    samples: int = 512
    """Regions of a picture that the second stage learns from, a quarter of them objects where there are enough."""
    fc_width: int = 1024
    """Channels of the box head's vectors."""
    mask_width: int = 256
    """Channels of the mask head."""
    mask_convs: int = 4
    """3x3 convolutions of the mask head."""


@dataclass(frozen=True)
class SegmentOptions(HeadOptions):
    """What every segmenter can be asked for."""

    dropout: float = 0.1
    """Share of channels dropped before the classifier in training."""


@dataclass(frozen=True)
class SemanticFPNOptions(SegmentOptions):
    """Semantic FPN: Kirillov et al., CVPR 2019, arXiv 1901.02446."""

    head_width: int = 128
    """Channels of the head."""


@dataclass(frozen=True)
class UPerNetOptions(SegmentOptions):
    """UPerNet: Xiao et al., ECCV 2018, arXiv 1807.10221."""

    width: int = 512
    """Channels of the pyramid's levels."""
    aux_weight: float = 0.4
    """Weight of the loss of a small head on the last map but one; 0: no such head."""
    aux_width: int = 256
    """Channels of that head."""


Options = TypeVar("Options", bound=HeadOptions)


def read_options(kind: type[Options], given: dict[str, Any], head: str) -> Options:
    """Make the options of a head from keywords.

    Raises:
        ConfigError: A name that the head does not have, or a value of another type.
    """
    known = {spec.name: spec for spec in fields(kind)}
    for name, value in given.items():
        if name not in known:
            raise ConfigError(f"head {head} has no option {name!r}{did_you_mean(name, known)}")
        default = known[name].default
        wanted = (bool, type(None)) if default is None else (type(default),)
        if isinstance(default, float) and type(value) is int:
            given = {**given, name: float(value)}
        elif type(value) not in wanted:
            raise ConfigError(
                f"option {name} of head {head} is {value!r}; expected {wanted[0].__name__}, such as {default}"
            )
    return kind(**given)
