"""A network of pictures on every frame of a clip, and something small that looks along time.

Two ways to join the frames: `mean`, the average of their vectors, which knows nothing of their order, and
`transformer`, a few blocks over them with learned positions in time. A frame's vector is what the network pools, or
the cells of a coarse grid over one of its maps, or its semantic tokens: then it also says where things are.

Shape legend: B batch, T frames, F length of a frame's vector, C channels of the transformer.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.errors import ConfigError, ShapeError
from saccade.nn.dense import run_blocks
from saccade.nn.fold import fold
from saccade.nn.transformer import Block, init_transformer

HEADS = ("transformer", "mean")
"""Ways to join frames; the first is the default."""
MAX_CELLS = 16


@dataclass(frozen=True)
class VideoHeadConfig:
    """What stands behind the frames' network."""

    kind: str = "transformer"
    """One of `HEADS`."""
    frames: int = 16
    """Frames that positions in time are stored for; others interpolate them."""
    cells: int = 1
    """Side of the grid that a frame's map is pooled to, whose cells lie side by side in the frame's vector; 1: the
    vector that the network pools itself."""
    stage: int = -1
    """Which map of the frames' network, from 0; negatives count from the last. Early ones show small things."""
    width: int = 256
    """Channels C of the transformer."""
    depth: int = 2
    """Its blocks."""
    dropout: float = 0.0
    """Share of pooled values that training drops before the classifier."""

    def __post_init__(self) -> None:
        """Check every field."""
        if self.kind not in HEADS:
            raise ConfigError(f"model.head {self.kind!r} is unknown; expected one of {', '.join(HEADS)}")
        if self.width < 32 or self.width % 32:
            raise ConfigError(f"width is {self.width}; expected a multiple of 32, the channels of a head")
        if self.frames < 1 or self.depth < 1 or not 1 <= self.cells <= MAX_CELLS:
            raise ConfigError(
                f"frames is {self.frames}, depth {self.depth} and cells {self.cells}; expected at least 1 each, and "
                f"at most {MAX_CELLS} cells"
            )
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout is {self.dropout}; expected 0 to less than 1")


class FrameVectors(nn.Module):
    """Run a network on frames and bring what it gives into one vector each.

    Args:
        net: Gives a vector (N, F), a list of one map (N, F, H, W), or, when `semantic`, tokens (N, K, F) by its
            `forward_features`.
        cells: See `VideoHeadConfig`; of semantic tokens all are kept.
        semantic: Take the final tokens of a network of semantic tokens.
    """

    def __init__(self, net: nn.Module, cells: int, *, semantic: bool) -> None:
        super().__init__()
        self.net, self.cells, self.semantic = net, cells, semantic

    def forward(self, x: Tensor) -> Tensor:
        """Map frames (N, in_chans, height, width) to vectors (N, F), of several cells or tokens side by side."""
        if self.semantic:
            return self.net.forward_features(x).flatten(1)  # pyright: ignore[reportCallIssue]
        found = self.net(x)
        return found if self.cells == 1 else F.adaptive_avg_pool2d(found[-1], self.cells).flatten(1)


class VideoFrames(nn.Module):
    """The network.

    Args:
        net: The network of pictures; see `FrameVectors`.
        features: Length F of its vectors.
        config: What stands behind it.
        num_classes: Outputs.
        semantic: See `FrameVectors`.
    """

    def __init__(
        self,
        net: nn.Module,
        features: int,
        config: VideoHeadConfig,
        num_classes: int,
        *,
        semantic: bool = False,
    ) -> None:
        super().__init__()
        self.config = config
        self.backbone = FrameVectors(net, config.cells, semantic=semantic)
        self.temporal = TemporalTransformer(features, config) if config.kind == "transformer" else None
        self.num_features = features if self.temporal is None else config.width
        self.drop = nn.Dropout(config.dropout)
        self.recompute = False
        self.reset_classifier(num_classes)

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the head by a fresh one with `num_classes` outputs; 0 removes it."""
        self.num_classes = num_classes
        self.head = nn.Linear(self.num_features, num_classes) if num_classes else None
        if self.head is not None:
            init_transformer(self.head)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade time for memory in training: keep the frames' inputs only."""
        self.recompute = enable

    def weight_decay_exempt(self) -> set[str]:
        """Names of the parameters that recipes do not decay: vectors and positions."""
        return {name for name, p in self.named_parameters() if p.ndim <= 1 or name.endswith("_embed")}

    def fold(self) -> VideoFrames:
        """Return a copy with the folded network of pictures; see `saccade.fold`."""
        net, self.backbone.net = self.backbone.net, nn.Identity()
        try:
            copied = copy.deepcopy(self)
        finally:
            self.backbone.net = net
        copied.backbone.net = copy.deepcopy(net).eval() if self.backbone.semantic else fold(net)
        return copied

    def forward(self, x: Tensor) -> Tensor:
        """Map clips (B, T, in_chans, height, width) to logits (B, num_classes), or to vectors without a head.

        Raises:
            ShapeError: Not a batch of clips.
        """
        if x.ndim != 5:
            raise ShapeError(
                f"the input has shape {tuple(x.shape)}; expected clips (batch, frames, channels, height, width)"
            )
        frames = x.flatten(0, 1)
        seen = run_blocks([self.backbone], frames, recompute=self.recompute and self.training)
        seen = seen.unflatten(0, x.shape[:2])
        pooled = seen.mean(1) if self.temporal is None else self.temporal(seen)
        return pooled if self.head is None else self.head(self.drop(pooled))


class TemporalTransformer(nn.Module):
    """Blocks over the vectors of all frames, with learned positions in time.

    Args:
        features: Length F of a vector.
        config: Width, depth and frames.
    """

    def __init__(self, features: int, config: VideoHeadConfig) -> None:
        super().__init__()
        width = config.width
        self.norm_in = nn.LayerNorm(features)
        self.proj = nn.Linear(features, width)
        self.time_embed = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, config.frames, width), std=0.02))
        self.blocks = nn.ModuleList([Block(width, width // 32) for _ in range(config.depth)])
        self.norm = nn.LayerNorm(width)
        self.apply(init_transformer)

    def times(self, frames: int) -> Tensor:
        """Return the positions of so many frames, (1, frames, C), interpolated where they are not as stored."""
        if frames == self.time_embed.shape[1]:
            return self.time_embed
        stored = self.time_embed.transpose(1, 2)
        return F.interpolate(stored, frames, mode="linear", align_corners=False).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map vectors (B, T, F) to one vector a clip, (B, C).

        Raises:
            ShapeError: Vectors of another length, as of frames of another size.
        """
        if x.shape[2] != self.proj.in_features:
            raise ShapeError(
                f"a frame gives {x.shape[2]} values and the network was made for {self.proj.in_features}; use frames "
                "of the size it was trained at"
            )
        y = self.proj(self.norm_in(x)) + self.times(x.shape[1])
        for block in self.blocks:
            y = block(y)
        return self.norm(y).mean(1)
