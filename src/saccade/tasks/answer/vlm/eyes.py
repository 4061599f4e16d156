"""Eyes: frames of a clip and their seconds in, a few visual tokens a frame out.

Any network of pictures looks at every frame by itself: one of semantic tokens gives those (STViT, arXiv 2303.08685:
16 a frame), any other the cells of a grid over one of its maps. Then a few blocks let tokens look at other frames.
What a token knows of time is the second of its frame, so frames may lie unevenly. Things that a question is about can
come in as filled boxes in channels of their own, where a drawn line is finer than a token.

Pure torch: the same eyes are trained by themselves and put before a language model (`eyes_model.py`).

Shape legend: B clips, T frames, C channels of a frame, N tokens a frame, D channels of a token.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from saccade.errors import ConfigError, SaccadeError, ShapeError, WeightsError
from saccade.files import parse_json, replacing, within
from saccade.files.tensors import read_tensors
from saccade.models.stvit_deit import resize_positions
from saccade.nn.dense import run_blocks
from saccade.nn.transformer import Block, init_transformer
from saccade.settings import check, make
from saccade.weights import locate, read_weights
from saccade.zoo.loading import match_state, outer_sizes
from saccade.zoo.registry import FOREIGN, create_model, family_of, task_of

BOX_CHANNELS = ("red", "blue")
"""Boxes that come in as channels, in this order behind the colours of the picture: 1 inside, 0 outside."""
PERIODS_S = tuple(2.0 ** (k / 2) for k in range(15))
"""Periods of the waves that tell a second, from 1 to 128 s."""
EYES_KEY = "saccade_eyes"
"""Where the configuration stands in the metadata of a file."""
_PLAIN = 3
"""Channels of a picture without boxes."""
Spread = Annotated[float, within(above=0)]
"""A divisor."""


@dataclass(frozen=True)
class EyesConfig:
    """What the eyes are made of."""

    encoder: str = "stvit_deit_small"
    """Network of pictures: a name of `saccade models list`, timm/NAME or stvit/NAME."""
    options: dict[str, Any] = field(default_factory=dict)
    """Its options, as of `create_model`."""
    in_chans: Annotated[int, within(_PLAIN, _PLAIN + len(BOX_CHANNELS))] = _PLAIN
    """Channels C: 3, or more when filled boxes come in as well; see `BOX_CHANNELS`."""
    img_size: Annotated[int, within(8, 4096)] = 224
    """Side of a frame in pixels."""
    tokens: Annotated[int, within(1, 1024)] = 16
    """Tokens N a frame, a square number."""
    stage: Annotated[int, within(-8, 8)] = -1
    """Of networks without semantic tokens: which map, from 0; negatives count from the last."""
    mixer: Literal["time", "joint", "none"] = "time"
    """Which tokens look at each other: the same token of all frames, all tokens of all frames, or none."""
    depth: Annotated[int, within(0, 64)] = 2
    """Blocks of the mixer."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Subtracted from colours in [0, 1] before they come in: ImageNet's, as our classifiers have it."""
    std: tuple[Spread, Spread, Spread] = (0.229, 0.224, 0.225)
    """Divisor after the mean."""

    def __post_init__(self) -> None:
        """Check every field that can be checked without building.

        Raises:
            ConfigError: A value that cannot be right, with the nearest name where it is a name.
        """
        check(self, "eyes")
        if task_of(self.encoder) != "classify":
            raise ConfigError(
                f"eyes.encoder is {self.encoder}, which does not take single pictures of things; expected a "
                "classifier such as stvit_deit_small"
            )
        if math.isqrt(self.tokens) ** 2 != self.tokens:
            raise ConfigError(f"eyes.tokens is {self.tokens}; expected a square number, such as 16")
        if (self.mixer == "none") != (self.depth == 0):
            raise ConfigError(
                f"eyes.mixer is {self.mixer} and depth {self.depth}; expected depth 0 with none, and only with it"
            )

    @property
    def boxes(self) -> tuple[str, ...]:
        """Colours of the boxes that come in as channels."""
        return BOX_CHANNELS[: self.in_chans - _PLAIN]

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of a frame, in pixels."""
        return self.img_size, self.img_size

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON has them."""
        return dataclasses.asdict(self) | {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EyesConfig:
        """Read plain values.

        Raises:
            ConfigError: A name that is none, or a value that cannot be right.
        """
        return make(cls, values, "eyes")


@dataclass(frozen=True)
class Plan:
    """How the network of a configuration is built, found out without memory or weights."""

    form: dict[str, Any]
    """Keyword arguments of `create_model`, besides in_chans."""
    semantic: bool
    dim: int
    """Channels D."""


def plan_encoder(config: EyesConfig) -> Plan:
    """Find out what a network gives.

    Raises:
        ConfigError: A network that does not give the tokens that are asked for.
    """
    name = config.encoder
    semantic = family_of(name) in ("stvit_deit", "stvit_swin") or name.startswith("stvit/")
    maps: dict[str, Any] = {"features_only": True, "out_indices": (config.stage,)}
    form: dict[str, Any] = {"num_classes": 0} if semantic else maps
    if family_of(name) == "stvit_deit" or name.startswith("stvit/"):
        form["tokens"] = config.tokens
    # timm's transformers are made for one size and have to be told; its convolutions refuse to be told.
    sized = {"img_size": config.img_size}
    tries = [sized, {}] if name.startswith(FOREIGN) else [sized if "stvit_deit" in name else {}]
    error: Exception | None = None
    for extra in tries:
        whole = {**form, **extra, **config.options}
        try:
            with torch.device("meta"):
                net = FrameEncoder(create_model(name, in_chans=config.in_chans, **whole), config, semantic)
                found = net.eval()(torch.empty(2, config.in_chans, config.img_size, config.img_size))
        except ConfigError as refused:
            error = error or refused
        except (ShapeError, RuntimeError, AssertionError, ValueError) as refused:
            text = " ".join(str(refused).split())[:160]
            error = ConfigError(f"{name} does not take frames of {config.img_size} pixels ({text})")
        else:
            return Plan(whole, semantic, int(found.shape[2]))
    assert error is not None
    raise error


class FrameEncoder(nn.Module):
    """A network of pictures and how its tokens are taken.

    Args:
        net: Of `create_model`.
        config: Tokens and size.
        semantic: Take its semantic tokens, and not the cells of a grid over its map.
    """

    def __init__(self, net: nn.Module, config: EyesConfig, semantic: bool) -> None:
        super().__init__()
        self.net: Any = net
        self.name, self.tokens, self.semantic = config.encoder, config.tokens, semantic
        self.kept = semantic and (family_of(config.encoder) != "timm" or not hasattr(net, "head_mode"))
        """Whether all its tokens are semantic ones; others have class tokens before them."""

    def forward(self, x: Tensor) -> Tensor:
        """Map frames (B * T, C, height, width) to tokens (B * T, N, D).

        Raises:
            ConfigError: Another number of tokens, or a map that is coarser than the grid.
        """
        if self.semantic:
            found = self.net.forward_features(x)
            count = found.shape[1] if self.kept else min(found.shape[1], self.tokens)
            if count != self.tokens:
                raise ConfigError(
                    f"{self.name} gives {count} semantic tokens of frames of {x.shape[3]} pixels; expected "
                    f"eyes.tokens to say so, not {self.tokens}"
                )
            return found[:, -self.tokens :]
        grid = math.isqrt(self.tokens)
        found = self.net(x)[-1]
        if min(found.shape[2:]) < grid:
            raise ConfigError(
                f"{self.name} gives a map of {found.shape[2]}x{found.shape[3]} cells of frames of {x.shape[3]} "
                f"pixels, too coarse for eyes.tokens {self.tokens}; expected larger frames, an earlier eyes.stage "
                "or fewer tokens"
            )
        return F.adaptive_avg_pool2d(found, grid).flatten(2).transpose(1, 2)


class Eyes(nn.Module):
    """The network.

    Args:
        config: What it is made of.

    Raises:
        ConfigError: A network that does not give the tokens that are asked for.
    """

    def __init__(self, config: EyesConfig) -> None:
        super().__init__()
        plan = plan_encoder(config)
        self.config, self.dim = config, plan.dim
        net = create_model(config.encoder, in_chans=config.in_chans, **plan.form)
        self.encoder = FrameEncoder(net, config, plan.semantic)
        self.norm_in = nn.LayerNorm(self.dim)
        self.token_embed = nn.Parameter(torch.empty(1, 1, config.tokens, self.dim))
        self.time_embed = nn.Linear(2 * len(PERIODS_S), self.dim)
        self.blocks = nn.ModuleList([Block(self.dim, _heads(self.dim)) for _ in range(config.depth)])
        self.norm = nn.LayerNorm(self.dim)
        self.recompute = False
        for part in (self.time_embed, self.blocks):
            part.apply(init_transformer)
        nn.init.trunc_normal_(self.token_embed, std=0.02)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade time for memory in training: keep the inputs of blocks only."""
        self.recompute = enable
        if hasattr(self.encoder.net, "set_grad_checkpointing"):
            self.encoder.net.set_grad_checkpointing(enable)

    def weight_decay_exempt(self) -> set[str]:
        """Names of the parameters that recipes do not decay: vectors and positions."""
        of_net = getattr(self.encoder.net, "weight_decay_exempt", set)()
        own = {name for name, p in self.named_parameters() if p.ndim <= 1 or name == "token_embed"}
        return own | {f"encoder.net.{name}" for name in of_net}

    def forward(self, frames: Tensor, seconds: Tensor) -> Tensor:
        """Look at clips. What a clip gives does not depend on the others of the batch.

        Args:
            frames: (B, T, C, height, width), normalised as the encoder was trained with; behind the three colours
                come the boxes of `config.boxes`, 1 inside and 0 outside.
            seconds: (B, T) or (T,), when the frames were taken, from the start of the clip.

        Returns:
            (B, T, N, D).

        Raises:
            ShapeError: Frames or seconds of another shape.
        """
        if frames.ndim != 5 or frames.shape[2] != self.config.in_chans:
            raise ShapeError(
                f"the frames have shape {tuple(frames.shape)}; expected (clips, frames, {self.config.in_chans} "
                "channels, height, width)"
            )
        if seconds.shape not in (frames.shape[:2], frames.shape[1:2]):
            raise ShapeError(
                f"the seconds have shape {tuple(seconds.shape)}; expected one for each frame, "
                f"{tuple(frames.shape[:2])}"
            )
        x = self._look(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        x = self.norm_in(x) + self.token_embed + self.time_embed(self._waves(seconds))[..., None, :]
        return self.norm(self._mix(x))

    def _look(self, frames: Tensor) -> Tensor:
        whole = self.recompute and self.training and not hasattr(self.encoder.net, "set_grad_checkpointing")
        if not whole:
            return self.encoder(frames)
        found = checkpoint(self.encoder, frames, use_reentrant=False)
        assert isinstance(found, Tensor)
        return found

    def _waves(self, seconds: Tensor) -> Tensor:
        """Tell seconds (..., T) by waves (..., T, 30); in float32, since bfloat16 has no tenths beyond 16 s."""
        periods = torch.tensor(PERIODS_S, device=seconds.device)
        angles = (2 * math.pi / periods) * seconds.float()[..., None]
        return torch.cat([angles.sin(), angles.cos()], -1).to(self.time_embed.weight.dtype)

    def _mix(self, x: Tensor) -> Tensor:
        """Let tokens (B, T, N, D) look at other frames."""
        clips, frames, tokens = x.shape[:3]
        recompute = self.recompute and self.training
        if self.config.mixer == "joint":
            return run_blocks(list(self.blocks), x.flatten(1, 2), recompute=recompute).unflatten(
                1, (frames, tokens)
            )
        if self.config.mixer == "time":
            x = run_blocks(list(self.blocks), x.transpose(1, 2).flatten(0, 1), recompute=recompute)
            return x.unflatten(0, (clips, tokens)).transpose(1, 2)
        return x


def _heads(dim: int) -> int:
    """Heads of about 64 channels."""
    return min((h for h in range(1, dim + 1) if dim % h == 0), key=lambda h: abs(dim / h - 64))


def load_encoder(eyes: Eyes, source: Path | str) -> Eyes:
    """Put the weights of a classifier into the eyes' network; its head is left behind.

    Channels of boxes begin at zero weights, so that the eyes see as the classifier did. Position embeddings of
    STViT-DeiT for another size are interpolated.

    Args:
        eyes: Changed.
        source: Run of `saccade train`, or a weights file in any layout that `saccade.load_weights` knows.

    Returns:
        The same eyes.

    Raises:
        WeightsError: Weights that are missing, or for another network.
    """
    config, path = eyes.config, locate(source)
    family = family_of(config.encoder)
    state, card = read_weights(path, family=family)
    if card is not None and card.model != config.encoder:
        raise WeightsError(f"{path}: these weights are for {card.model}, the eyes have {config.encoder}")
    channels = card.in_chans if card is not None else outer_sizes(state)[1]
    if channels not in (_PLAIN, config.in_chans):
        raise WeightsError(
            f"{path}: these weights take {channels} channels; expected {_PLAIN} or {config.in_chans}"
        )
    form = plan_encoder(config).form
    if card is not None and family == "stvit_deit":  # may have been trained at another size
        form |= {"img_size": card.options.get("img_size", 224)}
    twin = create_model(config.encoder, in_chans=channels, **form)
    fit = match_state(twin, state, family=family)
    foreign = [
        name for name in fit.unexpected if not name.split(".")[0].startswith(("head", "fc", "classif"))
    ]
    wrong = [*fit.missing, *foreign, *fit.mismatched]
    if wrong:
        raise WeightsError(
            f"{path}: does not fit {config.encoder} with eyes.options {config.options}: {len(wrong)} tensors are "
            f"missing, foreign or of another shape, such as {wrong[0]}"
        )
    own = eyes.encoder.net.state_dict()
    for name, tensor in fit.mapped.items():
        wanted = own[name]
        if tensor.shape != wanted.shape and name == "pos_embed":
            old, new = math.isqrt(tensor.shape[1]), math.isqrt(wanted.shape[1])
            tensor = resize_positions(tensor, old, new, new)
        elif tensor.ndim == 4 and tensor.shape[1] != wanted.shape[1]:
            tensor = torch.cat([tensor, tensor.new_zeros(wanted[:, channels:].shape)], 1)
        own[name] = tensor
    eyes.encoder.net.load_state_dict(own)
    return eyes


def save_eyes(eyes: Eyes, path: Path | str) -> None:
    """Write eyes with their configuration as one safetensors file, whole or not at all."""
    path = Path(path)
    if path.suffix != ".safetensors":
        raise WeightsError(f"{path}: eyes are written as .safetensors")
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in eyes.state_dict().items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={EYES_KEY: json.dumps(eyes.config.to_dict(), sort_keys=True)})


def load_eyes(path: Path | str) -> Eyes:
    """Build the eyes of a file of `save_eyes`.

    Raises:
        WeightsError: No such file, one that holds something else, or a damaged one.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file; expected eyes written by save_eyes")
    state, about = read_tensors(path)
    if EYES_KEY not in about:
        raise WeightsError(f"{path}: holds no eyes; expected a file written by save_eyes")
    values = parse_json(about[EYES_KEY], dict[str, Any], where=f"{path}: eyes", error=WeightsError)
    try:
        eyes = Eyes(EyesConfig.from_dict(values))
        eyes.load_state_dict(state)
    except SaccadeError:
        raise
    except (ValueError, TypeError, RuntimeError, LookupError, MemoryError, OverflowError) as error:
        raise WeightsError(f"{path}: these eyes are damaged ({' '.join(str(error).split())[:120]})") from None
    return eyes
