"""Eyes for motion: small enough to learn from random weights what moves where, and how the camera does.

What is seen and what is made of it are two things. Seeing has no weights: where a box is and how large follows from
sums over its mask, how the picture flows from the likeness of every cell with the cells around it in the next frame
(block matching), where the ground ends from the means of rows. So a clip is seen once and for all, and a million
steps of learning cost what a few blocks over 30 tokens cost: one token of the whole frame and one of every box.
A box stands on the ground where the ray through its lower edge meets it, which is geometry and not learned either.
Everything else is: what a flow says of the camera, where the horizon is, how to smooth a path, how large things are.

Shape legend: B clips, T frames, C = 3 + K channels, K boxes, N = 1 + K tokens a frame, D channels of a token,
S numbers seen of a frame, F facts of a box.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.errors import ConfigError, ShapeError, did_you_mean
from saccade.files import within
from saccade.nn.transformer import Block, init_transformer
from saccade.settings import check

COLOURS = 3
GRID = (6, 8)
"""Cells of the flow, down and across."""
FLOW_SIZE = (36, 48)
"""Pixels, down and across, among which flow is looked for."""
REACH = (2, 5)
"""Farthest flow that is looked for, in those pixels."""
ROWS = 72
FLOW_CHANNELS = 3
ROW_CHANNELS = 4
OBSERVATIONS = GRID[0] * GRID[1] * FLOW_CHANNELS + ROWS * ROW_CHANNELS
"""Numbers S seen of a frame."""
FACTS = 8
"""Numbers F of a box: middle x, middle y and bottom from -1 to 1 over the picture's width, halves of the logs of its
width and height in widths of the picture, whether it is there, and whether it touches a side and the bottom."""
WAVES = 5
"""Octaves of the waves that tell a place in the picture."""
PATH = 19
"""Numbers P that describe the path of a box on the ground at a frame."""
NEAREST_RAY = 0.03
"""Smallest slope of a ray towards the ground."""
HIDDEN = 128
PERIODS_S = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Periods of the waves that tell a second."""
DIRECTION, HOURS, LENGTH, MOVING, STEP_OUTPUTS = slice(0, 2), slice(2, 14), 14, 15, 16
"""What `MotionNet` says of a step: direction towards (front, right) of the first camera, clock hours 12 and 1 to 11,
log of the metres, whether it moves."""
YAW, FORWARD, EGO_OUTPUTS = 0, 1, 2
"""What it says of the camera between two frames: radians clockwise, and metres forward in camera heights."""
RIG_OUTPUTS = 3
"""What it says of the rig: log of the height in metres, log of the focal length in widths, pitch in radians."""
WAY_BUMPS = 16
ALIKE_COSINE, ALIKE_SLOPE = 0.7, 8.0
"""Two headings are as likely alike as not at this cosine of the angle between them (45 degrees), and surely so within
a few tenths."""
PAIR = 3
"""Numbers by which `MotionNet.tell` compares two boxes at a frame: whether they move alike (-1 to 1, 0 if one rests),
whether the box goes farther over the clip than the other (-1 to 1), and by how much, as a difference of logs."""
LOUD = 3.0
"""Factor of the first two. A reader begins with weights of one size for all numbers, and these are few among many."""
OF_BOX = STEP_OUTPUTS + 2 + WAY_BUMPS
"""Numbers that `MotionNet.tell` puts behind the token of a box: the outputs of its step, the metres travelled in
tens, their log, and bumps along that log, which make numbers easy to read."""
SAYS = OF_BOX + PAIR
"""Numbers behind any token. Behind a frame's those of a box are zeros, and the comparison is the first box's."""


@dataclass(frozen=True)
class MotionConfig:
    """What the network is made of."""

    width: Annotated[int, within(32, multiple_of=32)] = 96
    """Channels D of a token."""
    depth: Annotated[int, within(1)] = 3
    """Blocks over the tokens of all frames."""
    boxes: Annotated[int, within(1)] = 2
    """Boxes K that come in as masks."""

    def __post_init__(self) -> None:
        check(self)


def facts_of_masks(masks: Tensor) -> Tensor:
    """Measure filled boxes (..., height, width) in 0..1: (..., F), all 0 where there is none."""
    height, width = masks.shape[-2:]
    across, down = masks.amax(-2), masks.amax(-1)
    wide, high = across.sum(-1), down.sum(-1)
    there = (wide > 0).to(masks.dtype)
    columns = torch.arange(width, device=masks.device, dtype=masks.dtype) + 0.5
    rows = torch.arange(height, device=masks.device, dtype=masks.dtype) + 0.5
    x = (across * columns).sum(-1) / wide.clamp_min(1e-6)
    y = (down * rows).sum(-1) / high.clamp_min(1e-6)
    side = torch.maximum(across[..., 0], across[..., -1])
    scale = 2.0 / width
    found = torch.stack([
        (x - width / 2) * scale, (y - height / 2) * scale, (y + high / 2 - height / 2) * scale,
        (wide.clamp_min(0.5) / width).log() / 2, (high.clamp_min(0.5) / width).log() / 2, there, side, down[..., -1],
    ], -1)  # fmt: skip
    return found * there[..., None]


def flow_of(now: Tensor, after: Tensor) -> Tensor:
    """Find where every cell of a picture is in the next one, by block matching with parts of a pixel.

    Args:
        now: (M, 3, height, width).
        after: The same.

    Returns:
        (M, 3, 6, 8): flow to the right and down, as shares of `REACH` times how sure it is, and how sure it is
        (0: the cell has no texture, or nothing is like it; to 1).
    """
    up, side = REACH
    pair = [F.adaptive_avg_pool2d(x.mean(1, keepdim=True), FLOW_SIZE) for x in (now, after)]
    # What changes slowly over the picture is light; texture is what is left.
    flat = [x - F.avg_pool2d(x, 7, 1, 3, count_include_pad=False) for x in pair]
    cell = FLOW_SIZE[0] // GRID[0]
    energy = F.avg_pool2d(flat[0].square(), cell)[:, 0]
    padded = F.pad(flat[1], (side, side, up, up), mode="replicate")
    height, width = FLOW_SIZE
    costs = []
    for dy in range(2 * up + 1):
        for dx in range(2 * side + 1):
            gap = (flat[0] - padded[..., dy : dy + height, dx : dx + width]).square()
            costs.append(F.avg_pool2d(gap, cell))
    cost = torch.cat(costs, 1).unflatten(1, (2 * up + 1, 2 * side + 1))
    best = cost.flatten(1, 2).argmin(1)
    rows, columns = best // (2 * side + 1), best % (2 * side + 1)
    moves = []
    for axis, places, most in ((1, rows, up), (2, columns, side)):
        inner = places.clamp(1, 2 * most - 1)
        line = cost.gather(3 - axis, (columns if axis == 1 else rows)[:, None, None].expand(
            -1, *((2 * up + 1, 1) if axis == 1 else (1, 2 * side + 1)), -1, -1
        )).squeeze(3 - axis)  # fmt: skip
        low, mid, high = (line.gather(1, (inner + step)[:, None])[:, 0] for step in (-1, 0, 1))
        # A parabola through the best place and its neighbours.
        part = ((low - high) / (2 * (low - 2 * mid + high)).clamp_min(1e-6)).clamp(-0.5, 0.5)
        moves.append((inner + part - most) / most)
    least = cost.flatten(1, 2).amin(1)
    sure = (1 - least / energy.clamp_min(1e-6)).clamp(0, 1) * (energy / (energy + 0.001))
    return torch.stack([moves[1] * sure, moves[0] * sure, sure], 1)


def observations_of(colours: Tensor) -> Tensor:
    """See frames, without weights.

    Args:
        colours: (B, T, 3, height, width) from -1 to 1.

    Returns:
        (B, T, S): flow to the next frame (0 behind the last), then for every row of the picture the means of the
        three colours and how much it varies.
    """
    with torch.no_grad():
        clips, count = colours.shape[:2]
        flow = colours.new_zeros(clips, count, GRID[0] * GRID[1] * FLOW_CHANNELS)
        if count > 1:
            pairs = flow_of(colours[:, :-1].flatten(0, 1), colours[:, 1:].flatten(0, 1))
            flow[:, :-1] = pairs.flatten(1).unflatten(0, (clips, count - 1))
        flat = colours.flatten(0, 1)
        means = F.adaptive_avg_pool2d(flat, (ROWS, 1))[..., 0]
        spread = F.adaptive_avg_pool2d(flat.std(-1, keepdim=True).mean(1, keepdim=True), (ROWS, 1))[..., 0]
        rows = torch.cat([means, spread], 1).flatten(1).unflatten(0, (clips, count))
        return torch.cat([flow, rows], -1)


def mirror_observations(observations: Tensor) -> Tensor:
    """Turn what is seen (..., S) of frames into what is seen of their mirror images."""
    cells = GRID[0] * GRID[1] * FLOW_CHANNELS
    flow = observations[..., :cells].unflatten(-1, (FLOW_CHANNELS, *GRID)).flip(-1)
    flow = flow * flow.new_tensor([-1.0, 1.0, 1.0])[:, None, None]
    return torch.cat([flow.flatten(-3), observations[..., cells:]], -1)


def on_ground(facts: Tensor, ego: Tensor, rig: Tensor) -> Tensor:
    """Put boxes on the ground: the foot of each is where the ray through its lower edge meets a plane.

    Args:
        facts: (B, T, K, F).
        ego: (B, T - 1, 2), as of `MotionNet`.
        rig: (B, 3), as of `MotionNet`.

    Returns:
        (B, T, K, 2): to the front and to the right of the first camera, in camera heights. Rays that meet the ground
        beyond some thirty heights, or never, are taken to meet it there.
    """
    focal, pitch = 2 * rig[:, 1].exp()[:, None, None], rig[:, 2][:, None, None]
    cosine, sine = pitch.cos(), pitch.sin()
    across, down = facts[..., 0] / focal, facts[..., 2] / focal
    reach = 1 / (cosine * down + sine).clamp_min(NEAREST_RAY)
    ahead, aside = reach * (cosine - sine * down), reach * across
    yaw = ego[..., YAW]
    heading = F.pad(yaw.cumsum(1), (1, 0))
    # A turning camera drives along a chord.
    chord = ego[..., FORWARD] / (yaw / 2).cos()
    middle = heading[:, :-1] + yaw / 2
    eye = torch.stack([chord * middle.cos(), chord * middle.sin()], -1).cumsum(1)
    eye = F.pad(eye, (0, 0, 1, 0))[:, :, None]
    cosine, sine = heading.cos()[..., None], heading.sin()[..., None]
    return eye + torch.stack([ahead * cosine - aside * sine, ahead * sine + aside * cosine], -1)


def path_features(facts: Tensor, ego: Tensor, rig: Tensor) -> Tensor:
    """Describe the paths of boxes on the ground, (B, T, K, P): places, steps before and after, directions, sizes."""
    place = on_ground(facts, ego, rig)
    there = facts[..., 5:6]
    step = (place[:, 1:] - place[:, :-1]) * there[:, 1:] * there[:, :-1]
    after, before = F.pad(step, (0, 0, 0, 0, 0, 1)), F.pad(step, (0, 0, 0, 0, 1, 0))
    ways = (after, before, after + before)
    lengths = [way.norm(dim=-1, keepdim=True) for way in ways]
    units = [way / length.clamp_min(1e-3) for way, length in zip(ways, lengths, strict=True)]
    logs = [length.clamp_min(0.02).log() for length in lengths]
    far = place.norm(dim=-1, keepdim=True)
    height = rig[:, None, None, :1].expand_as(far)
    sizes = [2 * facts[..., place : place + 1] + far.clamp_min(0.1).log() for place in (3, 4)]
    found = [place / 8, far.clamp_min(0.1).log(), after, before, *units, *logs, *sizes, height]
    return torch.cat(found, -1).clamp(-8, 8) * there


class MotionEyes(nn.Module):
    """Frames with boxes and their seconds in, tokens of the frame and of every box out.

    First the frames say how the camera moves and what the rig is; with that, boxes are put on the ground
    (`on_ground`), and blocks look at all of it over time.

    Args:
        config: What it is made of.
    """

    def __init__(self, config: MotionConfig) -> None:
        super().__init__()
        dim = config.width
        self.config, self.dim, self.tokens = config, dim, 1 + config.boxes
        waves = FACTS * (1 + 2 * WAVES)
        self.frame = nn.Sequential(nn.Linear(OBSERVATIONS, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, dim))
        self.camera = nn.Sequential(
            nn.Linear(2 * dim, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, EGO_OUTPUTS + RIG_OUTPUTS)
        )
        self.place = nn.Sequential(nn.Linear(waves + PATH, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.kind_embed = nn.Parameter(torch.zeros(1, 1, self.tokens, dim))
        self.time_embed = nn.Linear(2 * len(PERIODS_S), dim)
        self.blocks = nn.ModuleList([Block(dim, dim // 32) for _ in range(config.depth)])
        self.norm = nn.LayerNorm(dim)
        for part in (self.time_embed, self.blocks):
            part.apply(init_transformer)
        nn.init.trunc_normal_(self.kind_embed, std=0.02)

    def weight_decay_exempt(self) -> set[str]:
        """Names of the parameters that recipes do not decay."""
        return {name for name, p in self.named_parameters() if p.ndim <= 1 or name.endswith("kind_embed")}

    def forward(self, frames: Tensor, seconds: Tensor) -> Tensor:
        """Look at clips.

        Args:
            frames: (B, T, 3 + K, height, width): colours from -1 to 1, then filled boxes, 1 inside and 0 outside.
            seconds: (B, T) or (T,), when the frames were taken.

        Returns:
            (B, T, 1 + K, D).

        Raises:
            ShapeError: Frames or seconds of another shape.
        """
        boxes = self.config.boxes
        if frames.ndim != 5 or frames.shape[2] != COLOURS + boxes:
            raise ShapeError(
                f"the frames have shape {tuple(frames.shape)}; expected (clips, frames, {COLOURS + boxes} channels, "
                "height, width)"
            )
        if seconds.shape not in (frames.shape[:2], frames.shape[1:2]):
            raise ShapeError(
                f"the seconds have shape {tuple(seconds.shape)}; expected one for each frame, "
                f"{tuple(frames.shape[:2])}"
            )
        dtype = self.norm.weight.dtype
        observations = observations_of(frames[:, :, :COLOURS].float()).to(dtype)
        return self.think(observations, facts_of_masks(frames[:, :, COLOURS:].float()).to(dtype), seconds)

    def think(self, observations: Tensor, facts: Tensor, seconds: Tensor) -> Tensor:
        """Make tokens (B, T, 1 + K, D) of what was seen; arguments as of `look`."""
        return self.look(observations, facts, seconds)[0]

    def look(self, observations: Tensor, facts: Tensor, seconds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Make tokens of what was seen, and say how the camera moves.

        Args:
            observations: (B, T, S), from `observations_of`; at least two frames.
            facts: (B, T, K, F), from `facts_of_masks`.
            seconds: (B, T) or (T,).

        Returns:
            Tokens (B, T, 1 + K, D), ego (B, T - 1, 2) and rig (B, 3), see `MotionNet`.
        """
        frame = self.frame(observations)
        mean = frame.mean(1, keepdim=True)
        camera = self.camera(torch.cat([frame, mean.expand_as(frame)], -1))
        ego, rig = camera[:, :-1, :EGO_OUTPUTS], camera[..., EGO_OUTPUTS:].mean(1)
        # What is learned of paths does not pull at the camera, which has truths of its own to learn from.
        paths = path_features(facts, ego.detach(), rig.detach())
        octaves = math.pi * 2.0 ** torch.arange(WAVES, device=facts.device, dtype=facts.dtype)
        angles = (facts[..., None] * octaves).flatten(-2)
        things = self.place(torch.cat([facts, angles.sin(), angles.cos(), paths], -1))
        x = torch.cat([frame[:, :, None], things], 2) + self.kind_embed
        count, tokens = x.shape[1:3]
        x = x + self.time_embed(self._waves(seconds)).view(-1, count, 1, self.dim)
        x = x.flatten(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.norm(x).unflatten(1, (count, tokens)), ego, rig

    def _waves(self, seconds: Tensor) -> Tensor:
        """Tell seconds (..., T) by waves."""
        periods = torch.tensor(PERIODS_S, device=seconds.device)
        angles = (2 * math.pi / periods) * seconds.float()[..., None]
        return torch.cat([angles.sin(), angles.cos()], -1).to(self.time_embed.weight.dtype)


def _compare(steps: Tensor, way: Tensor) -> Tensor:
    """Compare the first two boxes, (B, T, 2, PAIR) for either of them; zeros where there is one.

    Args:
        steps: (B, K, T, 16), as of `MotionNet`.
        way: (B, K), as of `MotionNet`.
    """
    if steps.shape[1] < 2:
        return steps.new_zeros(len(steps), steps.shape[2], steps.shape[1], PAIR)
    units = F.normalize(steps[:, :2, :, DIRECTION], dim=-1)
    alike = (ALIKE_SLOPE / 2 * ((units[:, 0] * units[:, 1]).sum(-1) - ALIKE_COSINE)).tanh()
    alike = LOUD * alike * steps[:, :2, :, MOVING].sigmoid().prod(1)
    ahead = (way[:, 0] - way[:, 1]).clamp(-3, 3)[:, None].expand_as(alike)
    return torch.stack(
        [torch.stack([alike, LOUD * (2 * side).tanh(), side], -1) for side in (ahead, -ahead)], 2
    )


class MotionNet(nn.Module):
    """Eyes with heads that say how everything moves: what the eyes are taught by.

    Args:
        config: Of the eyes.
    """

    def __init__(self, config: MotionConfig) -> None:
        super().__init__()
        dim = config.width
        self.config = config
        self.eyes = MotionEyes(config)
        self.step = nn.Sequential(nn.Linear(2 * dim, dim), nn.GELU(), nn.Linear(dim, STEP_OUTPUTS))
        self.way = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, 1))

    def weight_decay_exempt(self) -> set[str]:
        """Names of the parameters that recipes do not decay."""
        return {name for name, p in self.named_parameters() if p.ndim <= 1 or name.endswith("kind_embed")}

    def forward(self, observations: Tensor, facts: Tensor, seconds: Tensor) -> dict[str, Tensor]:
        """Say how boxed things and the camera move.

        Args:
            observations: As of `MotionEyes.think`.
            facts: As of `MotionEyes.think`.
            seconds: As of `MotionEyes.think`.

        Returns:
            steps (B, K, T - 1, 16), way (B, K) log of the metres travelled, ego (B, T - 1, 2), rig (B, 3).
        """
        x, ego, rig = self.eyes.look(observations, facts, seconds)
        return {**self.heads(x), "ego": ego, "rig": rig}

    def heads(self, x: Tensor) -> dict[str, Tensor]:
        """Read tokens (B, T, 1 + K, D)."""
        things = x[:, :, 1:]
        pairs = torch.cat([things[:, :-1], things[:, 1:]], -1)
        return {"steps": self.step(pairs).transpose(1, 2), "way": self.way(things.mean(1))[..., 0]}

    def tell(self, x: Tensor) -> Tensor:
        """Put what the heads say behind the tokens, for a reader such as a language model.

        Args:
            x: (B, T, 1 + K, D), from the eyes.

        Returns:
            (B, T, 1 + K, D + SAYS). A box's token at frame t tells the step from t on (the last one the step before);
            the frame's token compares the first two boxes, and has zeros where a box has more to tell.
        """
        found = self.heads(x)
        steps = torch.cat([found["steps"], found["steps"][:, :, -1:]], 2)
        way = found["way"].clamp(-1.0, 5.0)[..., None]
        centres = torch.linspace(0.0, 4.0, WAY_BUMPS, device=x.device, dtype=x.dtype)
        bumps = torch.exp(-0.5 * ((way - centres) * (WAY_BUMPS - 1) / 4.0).square())
        total = torch.cat([way.exp() / 10, way, bumps], -1)[:, :, None].expand(-1, -1, x.shape[1], -1)
        things = torch.cat(
            [
                steps[..., DIRECTION],
                steps[..., HOURS].softmax(-1),
                steps[..., LENGTH, None],
                steps[..., MOVING, None].sigmoid(),
                total,
            ],
            -1,
        )
        pair = _compare(steps, found["way"])
        pair = torch.cat([pair[:, :, :1], F.pad(pair, (0, 0, 0, things.shape[1] - pair.shape[2]))], 2)
        things = F.pad(things.transpose(1, 2), (0, 0, 1, 0))
        return torch.cat([x, things, pair], -1)


VARIANTS: dict[str, dict[str, Any]] = {
    "motion_tiny": {"width": 64, "depth": 2},
    "motion_small": {},
}
"""Networks by name, as differences from `MotionConfig`."""


def build_motion(name: str, options: Mapping[str, Any]) -> MotionNet:
    """Make a network by name.

    Args:
        name: One of `VARIANTS`.
        options: Fields of `MotionConfig` that differ.

    Raises:
        ConfigError: An unknown name or option.
    """
    if name not in VARIANTS:
        raise ConfigError(f"no motion network {name!r}{did_you_mean(name, VARIANTS)}")
    known = [entry.name for entry in dataclasses.fields(MotionConfig)]
    for option in options:
        if option not in known:
            raise ConfigError(f"model.options has no {option!r}{did_you_mean(option, known)}")
    return MotionNet(MotionConfig(**{**VARIANTS[name], **options}))
