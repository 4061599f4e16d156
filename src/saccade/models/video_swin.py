"""Video Swin, plain and with semantic tokens made for each step of time.

Plain: Liu et al., "Video Swin Transformer", CVPR 2022, arXiv 2106.13230: a Swin whose patches and windows also extend
in time. With `tokens_per_window` it is the video form of STViT-Swin (Chang et al., CVPR 2023, arXiv 2303.08685, whose
Kinetics numbers come without code): the third stage makes semantic tokens of each step of time by itself, as the
network of images does, and only they go on. Our choices where nothing is published: three image blocks in the third
stage of the tiny network and eleven in that of the small one, one fewer than STViT-Swin, which gives 28 % fewer
multiply-accumulates than plain (published: 27 % for both); semantic blocks attend, in turn, within the windows'
grids and over the whole grid, both over the steps of a window of time, the second kind in windows shifted by half;
the fourth stage has windows of s x s tokens.

`inflate_from_image` starts either from the weights of an image network. Then a clip of equal frames, of at most a
window of time or a whole number of them, gives what the image network gives.

Shape legend: B batch, T frames, D = T / 2 steps of time, H and W of a map, C channels, s semantic tokens along the
side of a window.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.errors import ConfigError
from saccade.nn.config import NetConfig
from saccade.nn.dense import run_blocks
from saccade.nn.modules import ModulesOf, modules
from saccade.nn.stgm import grid_of
from saccade.nn.stgm_window import WINDOW, GeneratingBlock, init_global_centers, resize_grid
from saccade.nn.token_classifier import TokenClassifier
from saccade.nn.transformer import Block, drop_rates, init_transformer
from saccade.nn.video_swin import (
    BoxAttention,
    Size,
    VideoMerging,
    VideoStem,
    VideoSwinBlock,
    fit_window,
    from_boxes,
    pad_video,
    shift_mask_3d,
    to_boxes,
)


@dataclass(frozen=True)
class VideoSwinConfig(NetConfig):
    """Sizes of one variant and the options of semantic tokens."""

    dim: int = 96
    """Channels of the first stage; doubled by each of the next."""
    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (3, 6, 12, 24)
    window: Size = (8, 7, 7)
    """Window in steps of time and tokens."""
    patch: Size = (2, 4, 4)
    """Frames and pixels of a patch."""
    frames: int = 32
    """Frames of the published input; others work."""
    tokens_per_window: int = 0
    """Semantic tokens of each 7 x 7 window of the third stage at each step of time: 4, 9 or 16; 0: plain."""
    image_blocks: int = 3
    """Blocks of the third stage before the two that make semantic tokens."""
    shortcut: bool = True
    """Residual around the first generating block."""
    global_centers: bool = False
    """Learned centres added to the query of the second generating block."""
    layer_scale: float | None = None
    """Start value of LayerScale in generating and semantic blocks; None: none."""
    drop_path: float = 0.0
    """Largest rate of stochastic depth."""
    dropout: float = 0.0
    """Share of pooled values that training drops before the classifier."""
    head_rate: float = 1.0
    """Learning rate of the classifier over that of the rest."""

    def __post_init__(self) -> None:
        """Check what no tensor operation would catch."""
        super().__post_init__()
        for name in ("depths", "heads", "window", "patch"):
            object.__setattr__(self, name, tuple(int(value) for value in getattr(self, name)))
        if not 1 <= len(self.depths) <= 4 or len(self.heads) != len(self.depths) or min(self.depths) < 1:
            raise ConfigError(
                f"depths is {self.depths} and heads {self.heads}; expected one of each for 1 to 4 stages"
            )
        if any(self.dim * 2**i % heads for i, heads in enumerate(self.heads)):
            raise ConfigError(
                f"dim is {self.dim}; expected heads {self.heads} to divide it, doubled at each stage"
            )
        for name in ("window", "patch"):
            if len(getattr(self, name)) != 3 or min(getattr(self, name)) < 1:
                raise ConfigError(
                    f"{name} is {getattr(self, name)}; expected time, height and width, each from 1"
                )
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout is {self.dropout}; expected 0 to less than 1")
        if self.tokens_per_window:
            grid_of(self.tokens_per_window)
            if len(self.depths) < 4 or not 0 <= self.image_blocks <= self.depths[2] - 2:
                raise ConfigError(
                    f"image_blocks is {self.image_blocks} and depths {self.depths}; expected four stages, and two "
                    "generating blocks behind image_blocks in the third"
                )
            if self.window[1:] != (WINDOW, WINDOW):
                raise ConfigError(
                    f"window is {self.window}; semantic tokens are made of {WINDOW} x {WINDOW} tokens"
                )


class VideoSwin(TokenClassifier):
    """The network.

    Args:
        config: Sizes.
        out_indices: Must be None.

    Raises:
        ConfigError: Feature maps were asked for.
    """

    def __init__(self, config: VideoSwinConfig, out_indices: Sequence[int] | None = None) -> None:
        super().__init__()
        if out_indices is not None:
            raise ConfigError("networks of videos give no feature maps; leave features_only out")
        self.config, self.default_size, self.default_frames = config, config.default_size, config.frames
        stages = len(config.depths)
        dims = [config.dim * 2**i for i in range(stages)]
        self.num_features = dims[-1]
        self.samples = grid_of(config.tokens_per_window) if config.tokens_per_window else 0
        time, high, wide = config.window
        self.stem = VideoStem(config.in_chans, config.dim, config.patch)
        rates = drop_rates(config.drop_path, sum(config.depths))
        made: list[ModulesOf[Block]] = []
        for i in range(stages):
            at, blocks = sum(config.depths[:i]), list[Block]()
            for j in range(config.depths[i]):
                rate, odd = rates[at + j], j % 2
                if self.samples and i == 2 and j >= config.image_blocks:
                    blocks.append(self._semantic_block(j - config.image_blocks, dims[2], rate))
                    continue
                window, shift = config.window, (time // 2 * odd, high // 2 * odd, wide // 2 * odd)
                if self.samples and i == 3:
                    window, shift = (time, self.samples, self.samples), (time // 2 * odd, 0, 0)
                blocks.append(VideoSwinBlock(dims[i], config.heads[i], window, shift, rate))
            made.append(modules(blocks))
        self.stages = modules(made)
        self.merges = modules([VideoMerging(dim) for dim in dims[:-1]])
        make_centers = self.samples and config.global_centers
        self.global_centers = (
            init_global_centers(4 * config.tokens_per_window, dims[2]) if make_centers else None
        )
        self.norm = nn.LayerNorm(dims[-1])
        self.drop = nn.Dropout(config.dropout)
        self.apply(init_transformer)
        self.reset_classifier(config.num_classes)

    def _semantic_block(self, j: int, dim: int, rate: float) -> Block:
        """Make block `j` after the image blocks: two generating ones, then local and global ones in turn."""
        config = self.config
        options = {"layer_scale": config.layer_scale, "drop_path": rate}
        if j == 0:
            return GeneratingBlock(
                dim, config.heads[2], self.samples, shortcut=config.shortcut, separate=False, **options
            )
        return Block(dim, config.heads[2], **options)

    def fold(self) -> VideoSwin:
        """Return a copy: there is nothing to fold; see `saccade.fold`."""
        return copy.deepcopy(self)

    def rate_scales(self) -> dict[str, float]:
        """Factors of the learning rate by parameter, where they are not 1."""
        return {
            name: self.config.head_rate for name, _ in self.named_parameters() if name.startswith("head.")
        }

    def image_tokens(self, x: Tensor) -> Tensor:
        """Return the tokens (B, D, H, W, C) that the semantic tokens are made of."""
        x = self.stem(x)
        for i in range(2):
            x = self.merges[i](self._run(self.stages[i], x))
        return self._run(self.stages[2][: self.config.image_blocks], x)

    def generate(self, x: Tensor) -> Tensor:
        """Turn image tokens (B, D, H, W, C) into semantic tokens (B, D, rows * s, cols * s, C), step by step."""
        blocks = list(self.stages[2])[self.config.image_blocks :]
        frames = x.flatten(0, 1)
        first = blocks[0](frames)
        grid, tokens = (first.shape[1], first.shape[2]), first.flatten(1, 2)
        query = tokens if self.global_centers is None else tokens + resize_grid(self.global_centers, grid)
        made = blocks[1](query, torch.cat([tokens, frames.flatten(1, 2)], 1))
        return made.unflatten(1, grid).unflatten(0, x.shape[:2])

    def forward_features(self, x: Tensor) -> Tensor:
        """Map a clip (B, T, in_chans, height, width) to its final tokens (B, M, C), normalised."""
        if self.samples:
            x = self.generate(self.image_tokens(x))
            for j, block in enumerate(list(self.stages[2])[self.config.image_blocks + 2 :]):
                x = self._semantic(block, x, local=j % 2 == 0)
            x = self._run(self.stages[3], self.merges[2](x))
        else:
            x = self.stem(x)
            for i, stage in enumerate(self.stages):
                x = self._run(stage, x)
                if i < len(self.merges):
                    x = self.merges[i](x)
        return self.norm(x.flatten(1, 3))

    def forward_head(self, x: Tensor, *, pre_logits: bool = False) -> Tensor:
        """Average the tokens and classify; `pre_logits` stops after the mean, (B, C)."""
        x = x.mean(1)
        return x if pre_logits or self.head is None else self.head(self.drop(x))

    def _semantic(self, block: nn.Module, x: Tensor, *, local: bool) -> Tensor:
        """Apply a block to semantic tokens (B, D, H, W, C) in windows of time."""
        steps, time = x.shape[1], self.config.window[0]
        space = (self.samples, self.samples) if local else (x.shape[2], x.shape[3])
        size, shift = fit_window(
            (x.shape[1], x.shape[2], x.shape[3]), (time, *space), (0 if local else time // 2, 0, 0)
        )
        x = pad_video(x, size)
        video: Size = (x.shape[1], x.shape[2], x.shape[3])
        # No token may look at steps that are only padding, unlike in a plain block, which has published weights.
        mask = shift_mask_3d(video, size, shift, x) if any(shift) else x.new_zeros(1, 1, 1)
        if video[0] > steps:
            real = (torch.arange(video[0], device=x.device) < steps).roll(-shift[0]).view(1, -1, 1, 1, 1)
            cells = to_boxes(real.expand(1, *video, 1), size)[0, :, :, 0]
            mask = mask + torch.where(cells, 0.0, -1e4).to(x.dtype).unsqueeze(1)
        if any(shift):
            x = x.roll(-shift[0], 1)
        boxes = to_boxes(x, size)
        bias = mask if mask.shape[0] == 1 else mask.repeat(boxes.shape[0], 1, 1)
        boxes = block(boxes.flatten(0, 1), None, bias.unsqueeze(1)).unflatten(0, boxes.shape[:2])
        x = from_boxes(boxes, size, video)
        return (x.roll(shift[0], 1) if any(shift) else x)[:, :steps]

    def _run(self, blocks: ModulesOf[Block], x: Tensor) -> Tensor:
        return run_blocks(list(blocks), x, recompute=self.recompute and self.training)


_TIMM = (
    (r"^patch_embed\.", "stem."),
    (r"^layers\.(\d)\.blocks\.", r"stages.\1."),
    (r"^head\.fc\.", "head."),
)
"""Names of timm's and the authors' Swin and ours."""


def image_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of an image Swin (ours, timm's, the authors') to those of `VideoSwin`."""
    # timm's merging opens a stage, the authors' and ours closes the one before.
    late = "layers.3.downsample.norm.weight" in state
    renamed = {}
    for name, value in state.items():
        for pattern, new in _TIMM:
            name = re.sub(pattern, new, name)
        if match := re.match(r"layers\.(\d)\.downsample\.(.*)", name):
            name = f"merges.{int(match[1]) - late}.{match[2]}"
        renamed[name] = value
    return renamed


@torch.no_grad()
def inflate_from_image(model: VideoSwin, state: Mapping[str, Tensor]) -> list[str]:
    """Fill a network of videos with the weights of its image form, so that it sees equal frames as that one does.

    A patch's weights are spread evenly over its frames; tables of relative positions are repeated for every distance
    in time, and resized where windows differ (Swin's fourth stage in the form with semantic tokens).

    Args:
        model: The network, changed in place. A head of another number of classes stays fresh.
        state: Of an image Swin or, for the form with semantic tokens, of STViT-Swin with as many image blocks; in our
            names, timm's or the authors'.

    Returns:
        Names of the tensors that stay fresh.

    Raises:
        ConfigError: The tensors do not belong to such a network.
    """
    given, fresh = image_names(state), []
    own = model.state_dict()
    for name, target in own.items():
        value = given.get(name)
        if value is not None and name == "stem.proj.weight" and value.ndim == 4:
            frames = model.config.patch[0]
            value = (value.unsqueeze(2) / frames).expand(-1, -1, frames, -1, -1).flatten(1)
        elif value is not None and name.endswith("relative_position_bias_table"):
            value = _inflate_table(value, _window_of(model, name))
        if value is None or value.shape != target.shape:
            fresh.append(name)
        else:
            target.copy_(value)
    if len(fresh) > len(own) // 2:
        raise ConfigError(
            f"{len(fresh)} of {len(own)} tensors have no counterpart in these weights; expected those of an image "
            "Swin of the same width and depth"
        )
    return fresh


def _window_of(model: VideoSwin, name: str) -> Size:
    """Return the window that a table of relative positions belongs to."""
    attention = model.get_submodule(name.rpartition(".")[0])
    assert isinstance(attention, BoxAttention)
    return attention.window


def _inflate_table(table: Tensor, window: Size) -> Tensor:
    """Repeat an image window's table ((2w - 1)^2, h) for every distance in time, resized to the window's sides."""
    side, wanted = round(table.shape[0] ** 0.5), (2 * window[1] - 1, 2 * window[2] - 1)
    if (side, side) != wanted:
        maps = table.T.reshape(1, -1, side, side).float()
        maps = F.interpolate(maps, wanted, mode="bicubic", align_corners=True)
        table = maps.flatten(2)[0].T.to(table.dtype)
    return table.repeat(2 * window[0] - 1, 1)


VARIANTS = {
    "video_swin_tiny": VideoSwinConfig(),
    "video_swin_small": VideoSwinConfig(depths=(2, 2, 18, 2)),
    "stvit_video_swin_tiny": VideoSwinConfig(tokens_per_window=9),
    "stvit_video_swin_small": VideoSwinConfig(depths=(2, 2, 18, 2), tokens_per_window=9, image_blocks=11),
}
"""`inflate_from_image` takes swin_tiny or swin_small of timm for all, stvit_swin_tiny or small for the last two."""
IMAGE_FORMS = {
    "video_swin_tiny": ("timm/swin_tiny_patch4_window7_224",),
    "video_swin_small": ("timm/swin_small_patch4_window7_224",),
    "stvit_video_swin_tiny": ("stvit_swin_tiny", "timm/swin_tiny_patch4_window7_224"),
    "stvit_video_swin_small": ("stvit_swin_small", "timm/swin_small_patch4_window7_224"),
}
"""Networks of images whose weights `inflate_from_image` takes, by name."""
