"""Real pictures for an export: some to find int8's ranges, others to measure what a precision costs."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saccade.data.config import AugmentConfig, DataConfig, read_split
from saccade.data.shards import need_local
from saccade.errors import DataError
from saccade.tasks import Task, get_task
from saccade.trust import check_place
from saccade.weights import Card

CALIBRATION, BATCH = 300, 32
NO_AUGMENTATION = AugmentConfig(scale=(1.0, 1.0), ratio=(1.0, 1.0), hflip=0.0)
"""The calibration pictures come from the training side, but look as they will in use."""


@dataclass
class Pictures:
    """Both sides of a data set, as one task sees them."""

    task: Task
    card: Card
    train: Any
    val: Any

    @classmethod
    def open(cls, source: str, card: Card, size: int, run: Path | None) -> "Pictures":
        """Open data split as the run that trained the weights split it.

        Args:
            source: As for `saccade train --data`.
            card: Names the task, the classes and the evaluation transform.
            size: Side of the pictures in pixels.
            run: Run folder whose recipe has the split; None: the defaults.

        Raises:
            DataError: No labelled pictures there.
        """
        need_local(source)
        config, seed = DataConfig(source=source, size=size, workers=0), 0
        if run is not None and (found := read_split(run)):
            trained, seed = found
            config.val_fraction = trained.val_fraction
            if trained.source == source:
                config.val = trained.val
                check_place(config.val)
        task = get_task(card.task)
        opened = task.open(config, NO_AUGMENTATION, card, seed=seed)
        assert opened.train is not None
        return cls(task, card, opened.train, opened.val)

    def calibration(self, count: int = CALIBRATION) -> list[Tensor]:
        """Return pictures (1, channels, height, width) spread evenly over the training side."""
        total = len(self.train)
        places = torch.linspace(0, total - 1, min(count, total)).long().unique().tolist()
        batches = [self.task.collate([self.train[place]])["image"] for place in places]
        found = [image for image in batches if len(image)]
        if not found:
            raise DataError("none of the training pictures can be read; run `saccade data check` on them")
        return found

    def measure(
        self, runs: dict[str, Callable[[Tensor], Tensor]]
    ) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
        """Run networks and sessions over the validation side.

        Args:
            runs: By name; the first is what the others are compared with.

        Returns:
            The task's metrics by name, and by name the share of pictures with the first one's answer.
        """
        metrics = {name: self.task.metrics(self.card) for name in runs}
        same, count = dict.fromkeys(runs, 0), 0
        for start in range(0, len(self.val), BATCH):
            places = range(start, min(start + BATCH, len(self.val)))
            batch = self.task.collate([self.val[place] for place in places])
            if not len(batch["image"]):
                continue
            answers = None
            for name, run in runs.items():
                with torch.no_grad():
                    outputs = run(batch["image"])
                metrics[name].update(outputs, batch)
                answer = outputs.argmax(1)
                answers = answer if answers is None else answers
                same[name] += int((answer == answers).sum())
            count += len(batch["image"])
        if not count:
            raise DataError("none of the validation pictures can be read; run `saccade data check` on them")
        return {name: mark.compute() for name, mark in metrics.items()}, {
            n: s / count for n, s in same.items()
        }
