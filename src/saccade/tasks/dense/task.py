"""What detection and segmentation share: whole pictures, networks of a backbone and a head, padded batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from saccade.data.builtin import BUILTIN
from saccade.data.config import DataConfig
from saccade.data.dense import collate_dense
from saccade.data.scenes import SIDE, scenes_folder
from saccade.data.whole import WholePreprocess
from saccade.errors import ConfigError, DataError, did_you_mean
from saccade.tasks.base import Batch, Task
from saccade.tasks.dense.nets import HEADS, build_dense
from saccade.weights.card import Card

SCENES = "scenes"
STEP = 32
LONG_SIDE = 5 / 3
"""Longest side over the shorter one that a network is given."""


class DenseTask(Task):
    """A task whose network is a backbone with a head of one kind."""

    size_from_data = True
    kind: ClassVar[str]
    """Of its heads in `HEADS`."""
    default_head: ClassVar[str]
    default_size: ClassVar[int]
    """Shorter side in pixels that pictures are brought to unless they are smaller."""

    def shipped_recipe(self, data: str, model: str | None) -> str:
        """The built-in scenes need less than photographs."""
        return f"{'scenes_' if data == 'scenes' else ''}{self.name}{'' if data == 'scenes' else '_small'}"

    def complete(self, card: Card) -> None:
        """Fill in the default head and refuse one of another kind.

        Raises:
            ConfigError: Unknown head, or one that does something else.
        """
        card.head = card.head or self.default_head
        fitting = [name for name, head in HEADS.items() if head.kind == self.kind]
        if card.head not in fitting:
            near = did_you_mean(card.head, fitting) or f"; expected one of {', '.join(fitting)}"
            raise ConfigError(f"task {self.name} has no head {card.head!r}{near}")

    def preprocess(self, card: Card) -> dict[str, Any]:
        """Return the fields of a `WholePreprocess`."""
        return self._preprocess(card).to_dict()

    def _preprocess(
        self, card: Card, data: DataConfig | None = None, sizes: np.ndarray | None = None
    ) -> WholePreprocess:
        """Settle the size: asked for, else the card's, else the pictures' own up to the task's."""
        values = dict(card.preprocess)
        if data is not None and (data.size or "size" not in values):
            size = data.size or self.default_size
            if not data.size and data.source == SCENES:
                size = SIDE
            elif not data.size and sizes is not None and len(sizes):
                usual = float(np.median(sizes.min(1)))
                size = min(size, max(STEP, round(usual / STEP) * STEP))
            values |= {"size": size, "max_size": max(size, data.max_size or round(size * LONG_SIDE))}
        if "size" not in values:
            values |= {"size": self.default_size, "max_size": round(self.default_size * LONG_SIDE)}
        return WholePreprocess.from_dict(values)

    def place(self, spec: str) -> str:
        """Return the folder that a place of data means: the built-in scenes are drawn when first used."""
        name = spec.removeprefix("builtin:")
        if name in BUILTIN and not Path(spec).exists():
            raise DataError(
                f"{spec} holds classes of whole pictures; the built-in data of {self.name} is {SCENES}"
            )
        if name != SCENES and spec and not Path(spec).exists():
            raise DataError(f"{spec}: no such file or folder; the built-in data of {self.name} is {SCENES}")
        return str(scenes_folder()) if name == SCENES else spec

    def collate(self, samples: list[dict[str, Any]]) -> Batch:
        """Join samples into a padded batch; see `collate_dense`."""
        return collate_dense(samples, WholePreprocess())

    def build(self, card: Card, *, pretrained: bool = False) -> nn.Module:
        """Make the network with a fresh head, and a fresh or published backbone."""
        self.complete(card)
        return build_dense(
            card.model,
            card.head,
            card.num_classes,
            in_chans=card.in_chans,
            options=card.options,
            pretrained=pretrained,
            **card.head_options,
        )

    def adopt(self, model: nn.Module, old: nn.Module, found: Card) -> None:
        """Take over the backbone of a classifier, or of a detector or segmenter.

        Raises:
            ConfigError: Weights of something else.
        """
        from saccade.weights import load_weights

        if found.head:
            old = old.backbone  # pyright: ignore[reportAssignmentType]
        elif found.task != "classify":
            raise ConfigError(
                f"weights for the task {found.task} cannot start a network for {self.name}; "
                "pass a classifier's, or leave --weights out"
            )
        backbone: Any = model.backbone
        wanted = backbone.state_dict()
        kept = {name: value for name, value in old.state_dict().items() if name in wanted}
        missing = [name for name in wanted if name not in kept and not name.startswith("norm")]
        if len(missing) > len(wanted) // 2:
            raise ConfigError(f"these weights share no layers with the backbone of {found.model}")
        load_weights(backbone, {**wanted, **kept})

    def example(self, card: Card, *, batch: int = 1, seed: int = 0) -> tuple[Tensor, ...]:
        """Make normalised noise, (batch, 3, size, size), both sides multiples of 64."""
        side = -(-self._preprocess(card).size // 64) * 64
        generator = torch.Generator().manual_seed(seed)
        return (torch.randn(batch, card.in_chans, side, side, generator=generator),)


def split_indices(count: int, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide the numbers 0 to count - 1 at random: (training, validation), each sorted."""
    order = np.random.default_rng([seed, count]).permutation(count)
    kept = max(1, round(count * fraction))
    return np.sort(order[kept:]), np.sort(order[:kept])
