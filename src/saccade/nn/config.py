"""What the configurations of our backbones have in common."""

from dataclasses import dataclass, field

from saccade.errors import ConfigError


@dataclass(frozen=True)
class NetConfig:
    """What every network can be asked for."""

    default_size: int = field(default=224, kw_only=True)
    """Side of the published square input, in pixels."""
    num_classes: int = field(default=1000, kw_only=True)
    """Outputs; 0: no head."""
    in_chans: int = field(default=3, kw_only=True)
    """Channels of the picture."""

    def __post_init__(self) -> None:
        """Check what no tensor operation would catch."""
        if self.num_classes < 0 or self.in_chans < 1:
            raise ConfigError(
                f"num_classes is {self.num_classes} and in_chans {self.in_chans}; expected >= 0 and >= 1"
            )


@dataclass(frozen=True)
class BackboneConfig(NetConfig):
    """Sizes of one variant of a three-stage backbone."""

    dims: tuple[int, int, int]
    """Channels of the three stages."""
    depths: tuple[int, int, int]
    """Blocks of the three stages."""
    distilled: bool = field(default=False, kw_only=True)
    """A second head for a teacher's labels; training returns both, evaluation their mean."""
