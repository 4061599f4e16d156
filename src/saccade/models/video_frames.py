"""A network of pictures on every frame of a clip, and something small that looks along time.

Two ways to join the frames: `mean`, the average of their vectors, which knows nothing of their order, and
`transformer`, a few blocks over the tokens of all frames with learned positions in time and in the picture. A frame
gives one vector, a grid of cells of the network's last map, or its semantic tokens.

Shape legend: B batch, T frames, K tokens a frame, F features of a token, C channels of the transformer.
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
    """Side of the grid of tokens that a frame's last map is pooled to; 1: its pooled vector."""
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


class FrameTokens(nn.Module):
    """Run a network on frames and bring what it gives into tokens.

    Args:
        net: Gives a vector (N, F), a list of maps (N, F, H, W), of which the last counts, or has `forward_features`
            that gives tokens (N, K, F), when `semantic`.
        cells: See `VideoHeadConfig`; of semantic tokens all are kept.
        semantic: Take the final tokens of a network of semantic tokens.
    """

    def __init__(self, net: nn.Module, cells: int, *, semantic: bool) -> None:
        super().__init__()
        self.net, self.cells, self.semantic = net, cells, semantic

    def forward(self, x: Tensor) -> Tensor:
        """Map frames (N, in_chans, height, width) to tokens (N, K, F)."""
        if self.semantic:
            return self.net.forward_features(x)  # pyright: ignore[reportCallIssue]
        found = self.net(x)
        if self.cells == 1:
            return found.unsqueeze(1)
        return F.adaptive_avg_pool2d(found[-1], self.cells).flatten(2).transpose(1, 2)


class VideoFrames(nn.Module):
    """The network.

    Args:
        net: The network of pictures; see `FrameTokens`.
        features: Length F of its vectors.
        tokens: Tokens K of a frame.
        config: What stands behind it.
        num_classes: Outputs.
        semantic: See `FrameTokens`.
    """

    def __init__(
        self,
        net: nn.Module,
        features: int,
        tokens: int,
        config: VideoHeadConfig,
        num_classes: int,
        *,
        semantic: bool = False,
    ) -> None:
        super().__init__()
        self.config = config
        self.backbone = FrameTokens(net, config.cells, semantic=semantic)
        self.temporal = (
            TemporalTransformer(features, tokens, config) if config.kind == "transformer" else None
        )
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
        tokens = run_blocks([self.backbone], frames, recompute=self.recompute and self.training)
        tokens = tokens.unflatten(0, x.shape[:2])
        pooled = tokens.mean((1, 2)) if self.temporal is None else self.temporal(tokens)
        return pooled if self.head is None else self.head(self.drop(pooled))


class TemporalTransformer(nn.Module):
    """Blocks over the tokens of all frames, with learned positions.

    Args:
        features: Length F of a token.
        tokens: Tokens K of a frame.
        config: Width, depth and frames.
    """

    def __init__(self, features: int, tokens: int, config: VideoHeadConfig) -> None:
        super().__init__()
        width = config.width
        self.norm_in = nn.LayerNorm(features)
        self.proj = nn.Linear(features, width)
        self.time_embed = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, config.frames, width), std=0.02))
        space = torch.empty(1, tokens, width)
        self.space_embed = nn.Parameter(nn.init.trunc_normal_(space, std=0.02)) if tokens > 1 else None
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
        """Map tokens (B, T, K, F) to one vector a clip, (B, C).

        Raises:
            ShapeError: Frames of another size than positions are stored for.
        """
        y = self.proj(self.norm_in(x)) + self.times(x.shape[1]).unsqueeze(2)
        if self.space_embed is not None:
            if self.space_embed.shape[1] != x.shape[2]:
                raise ShapeError(
                    f"a frame gives {x.shape[2]} tokens and the network has positions for "
                    f"{self.space_embed.shape[1]}; use frames of the size it was trained at"
                )
            y = y + self.space_embed.unsqueeze(1)
        y = y.flatten(1, 2)
        for block in self.blocks:
            y = block(y)
        return self.norm(y).mean(1)
