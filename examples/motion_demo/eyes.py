"""Eyes that were taught motion (`motion_demo.network`), in the place of Saccade's own before a language model.

They take the whole clip at once: three tokens a frame, of which one stands for the frame and one for each box. Behind
each token stands what the heads that taught it say.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from torch import Tensor

from motion_demo.network import COLOURS, SAYS, VARIANTS, MotionNet, build_motion
from saccade.errors import ConfigError, did_you_mean
from saccade.files import within
from saccade.settings import check
from saccade.tasks.answer.vlm.eyes import BOX_CHANNELS
from saccade.vlm import OwnEyes


@dataclass(frozen=True)
class MotionEyesConfig:
    """What the eyes are made of; fields with the names of `EyesConfig` mean the same."""

    encoder: str = "motion_small"
    """One of `motion_demo.network.VARIANTS`."""
    options: dict[str, Any] = field(default_factory=dict)
    img_size: Annotated[int, within(32, 1024, multiple_of=4)] = 96
    """Width of a frame in pixels; three quarters as high, as the clips were that taught them."""
    in_chans: int = COLOURS + len(BOX_CHANNELS)
    tokens: int = 1 + len(BOX_CHANNELS)
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ConfigError: A value that cannot be right.
        """
        check(self, "eyes")
        if self.encoder not in VARIANTS:
            raise ConfigError(f"eyes.encoder is {self.encoder!r}{did_you_mean(self.encoder, VARIANTS)}")
        if self.in_chans != COLOURS + len(BOX_CHANNELS) or self.tokens != 1 + len(BOX_CHANNELS):
            raise ConfigError(
                f"eyes.in_chans is {self.in_chans} and tokens {self.tokens}; these eyes have 5 and 3"
            )

    @property
    def boxes(self) -> tuple[str, ...]:
        """Colours of the boxes that come in as channels."""
        return BOX_CHANNELS

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of a frame, in pixels."""
        return 3 * self.img_size // 4, self.img_size

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON has them."""
        return dataclasses.asdict(self) | {"mean": list(self.mean), "std": list(self.std)}


class ClipEyes(OwnEyes):
    """The network behind the interface of `OwnEyes`.

    Args:
        config: What it is made of.
    """

    settings = MotionEyesConfig

    def __init__(self, config: MotionEyesConfig) -> None:
        super().__init__(config)
        self.motion = build_motion(config.encoder, config.options)
        self.dim = self.motion.config.width + SAYS

    def weight_decay_exempt(self) -> set[str]:
        """Names of the parameters that recipes do not decay."""
        return {f"motion.{name}" for name in self.motion.weight_decay_exempt()}

    def forward(self, frames: Tensor, seconds: Tensor) -> Tensor:
        """Look at clips (B, T, 5, height, width) taken at seconds (B, T); returns (B, T, 3, D)."""
        return self.motion.tell(self.motion.eyes(frames, seconds))

    def think(self, observations: Tensor, facts: Tensor, seconds: Tensor) -> Tensor:
        """Do the same for what was seen of clips before; see `MotionEyes.think`."""
        return self.motion.tell(self.motion.eyes.think(observations, facts, seconds))


def eyes_of_run(network: MotionNet, name: str, options: Mapping[str, Any], width: int) -> ClipEyes:
    """Take a network of the task motion as eyes; what its heads say is told behind the tokens.

    Args:
        network: Trained.
        name: Of the network, from its card.
        options: Of the network.
        width: Of the frames it was taught with, pixels.
    """
    eyes = ClipEyes(MotionEyesConfig(name, dict(options), width))
    eyes.motion.load_state_dict(network.state_dict())
    return eyes
