"""Run a network of clips over samples, the same way for evaluation and prediction."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from saccade.data.config import DataConfig
from saccade.data.loader import build_loader
from saccade.data.sampler import OrderedSampler
from saccade.data.video_clips import ClipDataset
from saccade.engine.sessions.dense import card_at
from saccade.engine.sessions.finite import FiniteOutputs
from saccade.errors import ConfigError
from saccade.files import count_threads
from saccade.nn.fold import fold
from saccade.tasks.base import Batch
from saccade.tasks.open import load_model
from saccade.tasks.video.task import Video, video_preprocess_of

BATCH = 4
"""Clips at a time."""


def is_video(source: Path | str) -> bool:
    """Whether weights classify videos."""
    card = card_at(source)
    return card is not None and card.task == "video"


class VideoPredictor:
    """A network of clips ready to run, with its evaluation transform."""

    def __init__(
        self,
        source: Path | str,
        *,
        size: int = 0,
        frames: int = 0,
        views: str = "1x1",
        backend: str = "auto",
        precision: str = "float32",
        device: str = "cpu",
        threads: int | None = None,
    ) -> None:
        """Open weights.

        Args:
            source: Run folder, weights file or the name of a network of clips.
            size: Side of the square input in pixels; 0: that of the weights.
            frames: Frames of a clip; 0: those of the weights.
            views: Temporal times spatial views whose answers are averaged: one of `VIEWS`.
            backend: auto or torch.
            precision: float32.
            device: cpu, cuda, cuda:N or mps.
            threads: Cores to use; None: all.

        Raises:
            ConfigError: Not a network of videos, or a setting that it does not have.
        """
        if backend not in ("auto", "torch") or precision != "float32":
            raise ConfigError(
                f"networks of videos run with torch in float32, not with {backend} in {precision}; leave --backend "
                "and --precision out"
            )
        model, self.card = load_model(source)
        if self.card.task != "video":
            raise ConfigError(f"{source}: a network for {self.card.task}, not one of videos")
        self._source = str(source)
        self.preprocess = video_preprocess_of(self.card, DataConfig(size=size, frames=frames, views=views))  # pyright: ignore[reportArgumentType]
        self.task, self.device = Video(), device
        torch.set_num_threads(count_threads(threads))
        try:
            self._net = fold(model).to(device)
        except (RuntimeError, AssertionError) as error:
            raise ConfigError(f"the device {device!r} cannot be used ({str(error)[:100]}); use cpu") from None

    def run(self, dataset: ClipDataset, *, batch: int = 0, start: int = 0) -> Iterator[tuple[Batch, Tensor]]:
        """Go through samples in order, from number `start` on.

        Yields:
            The batch, unreadable clips left out and listed, and logits or joined log-probabilities (n, classes) on
            the CPU. Clips whose outputs are not finite are left out and listed too.

        Raises:
            WeightsError: Outputs that are not finite, and not of a few clips only.
        """
        sampler = OrderedSampler(len(dataset) - start, batch=batch or BATCH)
        loader = build_loader(
            _From(dataset, start),  # pyright: ignore[reportArgumentType]
            sampler,
            workers=0,
            collate=self.task.collate,
        )
        finite = FiniteOutputs(self._source, self._probe)
        first = start
        with torch.inference_mode():
            for one in loader:
                count = len(one["index"]) + len(one["skipped"])
                if len(one["index"]):
                    outputs = self.task.run(self._net, one).float().cpu()
                    yield finite.keep(one, outputs, first)
                else:
                    yield one, torch.empty(0, self.card.num_classes)
                first += count

    def _probe(self) -> Tensor:
        """Run one clip of noise."""
        return self._net(self.task.example(self.card)[0].to(self.device)).float().cpu()


class _From:
    """The samples of a data set from a number on."""

    def __init__(self, dataset: ClipDataset, start: int):
        self.dataset, self.start = dataset, start

    def __len__(self) -> int:
        return len(self.dataset) - self.start

    def __getitem__(self, key: int) -> Batch:
        return self.dataset[self.start + int(key)]
