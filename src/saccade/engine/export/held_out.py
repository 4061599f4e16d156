"""Real data for an export: some to find int8's ranges, others to measure what a precision costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from saccade.data.config import AugmentConfig, DataConfig, read_split
from saccade.data.shards import need_local
from saccade.engine.run import gather_metrics, read_jobs, run_batches
from saccade.errors import DataError
from saccade.tasks.base import Exported, Net, Samples, Task
from saccade.trust import check_place
from saccade.weights import Card

CALIBRATION, BATCH = 300, 32
NO_AUGMENTATION = AugmentConfig(scale=(1.0, 1.0), ratio=(1.0, 1.0), hflip=0.0)
"""Samples for calibration come from the training side, but look as they will in use."""


class Recorder(Exported):
    """A network that writes down what goes into it: exactly what an exported file would be given.

    Args:
        module: Of the export form.
        card: What it is.
        size: (height, width) that the file takes; None: any.
    """

    def __init__(self, module: nn.Module, card: Card, size: tuple[int, int] | None) -> None:
        self.module, self.card, self.size = module, card, size
        self.inputs: list[tuple[Tensor, ...]] = []

    def __call__(self, *inputs: Tensor) -> Any:
        """Run the module."""
        self.inputs.append(inputs)
        return self.module(*inputs)


@dataclass
class HeldOut:
    """Both sides of a data set, as one task sees them."""

    task: Task
    card: Card
    train: Samples
    val: Samples

    @classmethod
    def open(cls, source: str, task: Task, card: Card, run: Path) -> HeldOut:
        """Open data split as the run that trained the weights split it.

        Args:
            source: As for `saccade train --data`.
            task: Reads it.
            card: Names the classes and the evaluation transform.
            run: Folder that may hold the recipe with the split.

        Raises:
            DataError: No labelled samples there.
        """
        need_local(source)
        config, seed = DataConfig(source=source, workers=0), 0
        if found := read_split(run):
            trained, seed = found
            config.val_fraction = trained.val_fraction
            if trained.source == source:
                config.val = trained.val
                check_place(config.val)
        opened = task.open(config, NO_AUGMENTATION, card, seed=seed)
        assert opened.train is not None
        return cls(task, card, opened.train if opened.plain is None else opened.plain, opened.val)

    def calibration(self, recorder: Recorder, count: int = CALIBRATION) -> list[tuple[Tensor, ...]]:
        """Return what a file would be given for samples spread evenly over the training side, one at a time.

        Only inputs of the first one's shape are taken.
        """
        total = len(self.train)
        places = torch.linspace(0, total - 1, min(count, total)).long().unique().tolist()
        jobs = read_jobs(self.task, _Chosen(self.train, places), batch=1)
        recorder.inputs.clear()
        for _ in run_batches(self.task, [{"": self.task.exported(recorder, self.card)}], jobs):
            pass
        found = [tuple(value[:1] for value in inputs) for inputs in recorder.inputs]
        if not found:
            raise DataError("none of the training samples can be read; run `saccade data check` on them")
        kept = [tuple(value.shape for value in inputs) for inputs in found]
        return [inputs for inputs, shapes in zip(found, kept, strict=True) if shapes == kept[0]]

    def measure(self, before: Net, after: Net) -> tuple[dict[str, float], dict[str, float], float | None]:
        """Run a network and a file of it over the validation side.

        Returns:
            The metrics of both, and the share of answers that are the same; None where they cannot be counted.
        """
        last: dict[str, Any] = {}
        counts = [0, 0]

        def look(name: str, outputs: Any) -> None:
            last[name] = outputs
            if name == "after":
                for place, count in enumerate(self.task.compare(outputs, last["before"])):
                    counts[place] += count

        batches = (job() for job in read_jobs(self.task, self.val, batch=BATCH))
        nets = {"before": before, "after": after}
        metrics = gather_metrics(self.task, nets, batches, self.card, look=look)
        if not last:
            raise DataError("none of the validation samples can be read; run `saccade data check` on them")
        agreement = 1 - counts[1] / counts[0] if counts[0] else None
        return metrics["before"].compute(), metrics["after"].compute(), agreement


class _Chosen:
    """Some samples of a data set."""

    def __init__(self, samples: Samples, places: list[int]) -> None:
        self._samples, self._places = samples, places
        self.names: Sequence[str] = [str(place) for place in places]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, place: int) -> dict[str, Any]:
        return self._samples[self._places[place]]
