"""Motion: what is seen of a clip in, how boxed things and the camera move out. Eyes are taught so before language."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from motion_demo.network import (
    DIRECTION,
    FACTS,
    FORWARD,
    HOURS,
    LENGTH,
    MOVING,
    OBSERVATIONS,
    YAW,
    build_motion,
)
from motion_demo.samples import BOXES, MotionSamples
from motion_demo.sets import MotionSet
from saccade.data.config import AugmentConfig, DataConfig
from saccade.errors import ConfigError
from saccade.kinematics.answer_scores import interval_iou
from saccade.kinematics.blind import best_constant
from saccade.kinematics.settings import DEFAULT
from saccade.tasks.base import Batch, LossContext, Metrics, Net, Task, TaskData, device_of
from saccade.weights.card import Card

WEIGHTS = {
    "direction": 2.0, "hour": 1.0, "length": 0.5, "moving": 0.5, "way": 1.0, "which": 0.5, "ego": 1.0, "rig": 0.3,
}  # fmt: skip
"""Shares of the parts in the loss."""
EGO_SCALE = (20.0, 2.0)
"""Brings radians a step and camera heights a step to about 1."""
RIG_SCALE = (4.0, 6.0, 20.0)
"""The same for the rig."""
WIDTH = 96
"""Of a frame in pixels, where no data says another."""
FRAMES = 10


class Motion(Task):
    """A batch has observations (B, T, S), facts (B, T, K, F), seconds (B, T), and the targets of `targets_of`."""

    name = "motion"
    main_metric = "mean"
    channels_last = False
    unsupported = dict.fromkeys(("export", "bench", "explain"), "use `saccade vlm demo`")

    def preprocess(self, card: Card) -> dict[str, Any]:
        """Return the width of the frames."""
        return dict(card.preprocess) or {"size": WIDTH}

    def open(
        self, data: DataConfig, augment: AugmentConfig, card: Card, *, seed: int, train: bool = True
    ) -> TaskData:
        """Open sets of `motion_demo.sets`.

        Args:
            data: `source` and `val`: their folders.
            augment: Not used: mirrors and the direction of time are drawn in any case.
            card: Of the network.
            seed: Not used.
            train: False: open only validation clips.

        Raises:
            DataError: Not such folders.
            ConfigError: No validation set, which has to be of other rigs.
        """
        if train and not data.val:
            raise ConfigError(
                "data.val is empty; name a set of clips by other rigs, since clips of a training set share theirs"
            )
        held = MotionSet(data.val or data.source)
        val = MotionSamples(held, vary=False)
        facts = {"size": held.plan.size}
        if not train:
            return TaskData(None, val, [], facts)
        learned = MotionSet(data.source)
        if learned.plan.shape != held.plan.shape:
            raise ConfigError(
                f"{data.val} has clips of {held.plan.shape} and {data.source} of {learned.plan.shape}; expected "
                "equal shapes"
            )
        note = f"{len(learned)} clips to train on, {len(held)} to validate with"
        return TaskData(MotionSamples(learned, vary=True), val, [], facts, [note])

    def collate(self, samples: list[dict[str, Any]]) -> Batch:
        """Join samples into a batch."""
        batch: Batch = {
            name: torch.stack([sample[name] for sample in samples])
            for name, value in samples[0].items()
            if isinstance(value, Tensor)
        }
        batch["index"] = torch.tensor([sample["index"] for sample in samples], dtype=torch.int64)
        batch["name"] = [sample["name"] for sample in samples]
        batch["skipped"] = []
        return batch

    def build(self, card: Card, *, pretrained: bool = False) -> nn.Module:
        """Make the network."""
        return build_motion(card.model, card.options)

    def mix(self, batch: Batch, augment: AugmentConfig, card: Card, *, seed: int) -> Batch:
        """Leave batches alone: mirrors, time and colours of boxes were drawn with the samples."""
        return batch

    def loss(self, model: nn.Module, batch: Batch, context: LossContext) -> dict[str, Tensor]:
        """Add up how wrong the network is about things, camera and rig."""
        found = model(batch["observations"], batch["facts"], batch["seconds"])
        parts = motion_losses(found, batch)
        total = torch.stack([WEIGHTS[name] * part for name, part in parts.items()]).sum()
        return {"loss": total, **{f"loss_{name}": part for name, part in parts.items()}}

    def run(self, net: Net, batch: Batch) -> dict[str, Tensor]:
        """Run the network on a batch."""
        return net(*(batch[name].to(device_of(net)) for name in ("observations", "facts", "seconds")))

    def metrics(self, card: Card) -> MotionMetrics:
        """Make an empty accumulator."""
        return MotionMetrics()

    def rows(
        self, outputs: dict[str, Tensor], batch: Batch, card: Card, settings: Any
    ) -> list[dict[str, Any]]:
        """Turn outputs into rows: metres and last clock hour of each box."""
        hours = outputs["steps"][:, :, -1, HOURS].argmax(-1)
        return [
            {"name": name}
            | {f"way_{k}_m": float(outputs["way"][row, k].exp()) for k in range(BOXES)}
            | {f"hour_{k}": int(hours[row, k]) or 12 for k in range(BOXES)}
            for row, name in enumerate(batch["name"])
        ]

    def example(self, card: Card, *, batch: int = 1, seed: int = 0) -> tuple[Tensor, ...]:
        """Make noise for what is seen, and seconds."""
        random = torch.Generator().manual_seed(seed)
        observations = torch.randn(batch, FRAMES, OBSERVATIONS, generator=random)
        facts = torch.randn(batch, FRAMES, BOXES, FACTS, generator=random)
        return observations, facts, 0.5 * torch.arange(FRAMES).float().expand(batch, -1)


def motion_losses(found: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
    """Compare outputs of a `MotionNet` with the targets, part by part; each a mean over what is known."""
    steps, there, moving = found["steps"].float(), batch["there"], batch["moving"]
    goes = (moving & there[..., None]).float()
    length = batch["move"].norm(dim=-1)
    way = batch["move"] / length.clamp_min(1e-6)[..., None]
    known = (there & ~batch["static"]).float()
    log_way = batch["way"].clamp_min(0.1).log()
    ways = found["way"].float()
    both = known.prod(1) * ((log_way[:, 0] - log_way[:, 1]).abs() > np.log(DEFAULT.cmp_ratio))

    def mean(values: Tensor, share: Tensor) -> Tensor:
        return (values * share).sum() / share.sum().clamp_min(1)

    def smooth(one: Tensor, two: Tensor) -> Tensor:
        return F.smooth_l1_loss(one, two, reduction="none", beta=0.2)

    hours = F.cross_entropy(
        steps[..., HOURS].flatten(0, 2), batch["hour"].flatten(), ignore_index=-1, reduction="sum"
    )
    stays = F.binary_cross_entropy_with_logits(steps[..., MOVING], moving.float(), reduction="none")
    which = F.binary_cross_entropy_with_logits(
        4.0 * (ways[:, 0] - ways[:, 1]), (log_way[:, 0] > log_way[:, 1]).float(), reduction="none"
    )
    ego, rig = (steps.new_tensor(scale) for scale in (EGO_SCALE, RIG_SCALE))
    return {
        "direction": mean((steps[..., DIRECTION] - way).square().sum(-1), goes),
        "hour": hours / (batch["hour"] >= 0).sum().clamp_min(1),
        "length": mean(smooth(steps[..., LENGTH], length.clamp_min(0.05).log()), goes),
        "moving": mean(stays, there[..., None].float().expand_as(stays)),
        "way": mean(smooth(ways, log_way), known),
        "which": mean(which, both),
        "ego": smooth(found["ego"].float() * ego, batch["ego"] * ego).mean(),
        "rig": smooth(found["rig"].float() * rig, batch["rig"] * rig).mean(),
    }


class MotionMetrics(Metrics):
    """What the heads alone would score in the seven tasks, beside the best constants of the very same clips."""

    def __init__(self) -> None:
        self.rows: dict[int, dict[str, np.ndarray]] = {}

    def update(self, outputs: dict[str, Tensor], batch: Batch) -> None:
        """Take in outputs and the batch's targets."""
        kept = {f"out_{name}": value for name, value in outputs.items()}
        kept |= {
            name: value
            for name, value in batch.items()
            if isinstance(value, Tensor) and name != "observations"
        }
        plain = {name: value.detach().float().cpu().numpy() for name, value in kept.items()}
        for row, index in enumerate(batch["index"].tolist()):
            self.rows[index] = {name: value[row] for name, value in plain.items()}

    def merge(self, others: list[Metrics]) -> None:
        """Append what other processes saw."""
        for other in others:
            assert isinstance(other, MotionMetrics)
            self.rows |= other.rows

    def compute(self) -> dict[str, float]:
        """Return metrics.

        hour, way, which, heading and span are shares of right answers: the last clock hour, the distance within 25 %,
        which of two went farther, whether two head the same way over the clip, and when a thing headed to an hour.
        mean weighs them as the seven tasks do (way and which also stand for the tasks about speed); blind is the same
        for constants. Errors: metres relative (median), degrees of the steps' directions and of the camera's turns.
        """
        if not self.rows:
            return {"count": 0.0}
        names = next(iter(self.rows.values()))
        all_rows = {name: np.stack([row[name] for row in self.rows.values()]) for name in names}
        things = all_rows["there"] * (1 - all_rows["static"]) > 0
        found, blind = _of_things(all_rows, things)
        more, more_blind = _of_pairs(all_rows, np.asarray(things.all(1)))
        found, blind = found | more, blind | more_blind
        metrics = {name: float(value) for name, value in found.items()}
        for name, table in (("mean", found), ("blind", blind)):
            seven = [
                table[key]
                for key in ("hour", "way", "way", "which", "which", "heading", "span")
                if key in table
            ]
            metrics[name] = float(np.mean(seven)) if seven else 0.0
        turn = np.abs(all_rows["out_ego"][..., YAW] - all_rows["ego"][..., YAW])
        drive = np.abs(all_rows["out_ego"][..., FORWARD] - all_rows["ego"][..., FORWARD])
        metrics |= {"turn_deg": float(np.degrees(turn).mean()), "drive_heights": float(drive.mean())}
        return {**metrics, "loss": 1 - metrics["mean"], "count": float(len(self.rows))}


def _of_things(rows: dict[str, np.ndarray], things: np.ndarray) -> tuple[dict[str, float], dict[str, float]]:
    """Score single things (n, K) that may be asked about; also returns what the best constants score."""
    found, blind = {}, {}
    steps, hours = rows["out_steps"][things], rows["hour"][things].astype(int)
    if not len(hours):
        return found, blind
    guessed = steps[..., HOURS].argmax(-1)
    last = hours[:, -1] >= 0
    if last.any():
        found["hour"] = (guessed[last, -1] == hours[last, -1]).mean()
        blind["hour"] = np.bincount(hours[last, -1]).max() / last.sum()
    way, said = rows["way"][things], np.exp(rows["out_way"][things])
    found["way"] = (np.abs(said - way) <= DEFAULT.band * way).mean()
    found["way_error"] = np.median(np.abs(said - way) / way)
    blind["way"] = best_constant(way)[1]
    move, goes = rows["move"][things], rows["moving"][things] > 0
    turned = np.angle(
        (steps[..., 0] + 1j * steps[..., 1]) * np.conj(move[..., 0] + 1j * move[..., 1]), deg=True
    )
    found["step_deg"] = np.median(np.abs(turned[goes])) if goes.any() else 0.0
    found["moving"] = ((steps[..., MOVING] > 0) == goes).mean()
    guessed = np.where(steps[..., MOVING] > 0, guessed, -1)
    truths, hits = [], []
    for truth, guess in zip(hours, guessed, strict=True):
        for hour in np.unique(truth[truth >= 0]):
            runs = _runs(truth == hour)
            if len(runs) != 1 or not 2 <= runs[0][1] - runs[0][0] <= 0.9 * len(truth):
                continue
            best = max(_runs(guess == hour), key=lambda run: run[1] - run[0], default=(0, 0))
            truths.append(runs[0])
            hits.append(interval_iou(runs[0], best) >= DEFAULT.min_iou)
    if hits:
        found["span"] = float(np.mean(hits))
        tried = list(dict.fromkeys(truths))
        blind["span"] = max(
            np.mean([interval_iou(truth, guess) >= DEFAULT.min_iou for truth in truths]) for guess in tried
        )
    return found, blind


def _of_pairs(rows: dict[str, np.ndarray], pairs: np.ndarray) -> tuple[dict[str, float], dict[str, float]]:
    """Score pairs (n,) of things; also returns what the best constants score."""
    found, blind = {}, {}
    way, said = rows["way"][pairs], rows["out_way"][pairs]
    low, high = way.min(-1, initial=np.inf), way.max(-1, initial=0.0)
    clear = (high >= DEFAULT.cmp_ratio * low) & (high - low >= DEFAULT.cmp_abs_m)
    if clear.any():
        found["which"] = (way.argmax(1) == said.argmax(1))[clear].mean()
        blind["which"] = 0.5
    steps = rows["out_steps"][pairs]
    length = np.exp(steps[..., LENGTH]) * (steps[..., MOVING] > 0)
    unit = steps[..., DIRECTION] / np.maximum(
        np.linalg.norm(steps[..., DIRECTION], axis=-1, keepdims=True), 1e-6
    )
    angles = []
    for moves in (rows["move"][pairs].sum(2), (unit * length[..., None]).sum(2)):
        ends = moves[..., 0] + 1j * moves[..., 1]
        angles.append(np.abs(np.angle(ends[:, 0] * np.conj(ends[:, 1]), deg=True)))
    clear = (angles[0] <= DEFAULT.same_max_deg) | (angles[0] >= DEFAULT.diff_min_deg)
    same, guess = angles[0] <= DEFAULT.same_max_deg, angles[1] <= 45
    sides = [(same == guess)[clear & (same == side)] for side in (True, False)]
    if all(len(side) for side in sides):  # as balanced as the questions are
        found["heading"] = float(np.mean([side.mean() for side in sides]))
        blind["heading"] = 0.5
    return found, blind


def _runs(where: np.ndarray) -> list[tuple[int, int]]:
    """Stretches of true values as (start, one past the end)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], where.astype(int), [0]])))
    return [(int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]
