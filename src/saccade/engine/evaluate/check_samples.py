"""Look data over before training: what their labels say, and samples that cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from saccade.data.config import AugmentConfig, DataConfig
from saccade.engine.run import read_jobs
from saccade.tasks import get_task
from saccade.weights.card import Card


@dataclass
class SampleCheck:
    """What was found."""

    labels: list[str]
    samples: dict[str, int]
    """Number of each part."""
    notes: list[str]
    """What the labels say, and what is left out of them."""
    skipped: list[tuple[str, str, str]] = field(default_factory=list)
    """(part, name, reason) of samples that training would leave out."""


def check_samples(
    task: str,
    data: str,
    val: str = "",
    *,
    max_pixels: int = DataConfig.max_pixels,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> SampleCheck:
    """Open data as training would, and read every sample with its labels.

    Args:
        task: Whose data they are.
        data: As for `saccade train --task TASK --data`.
        val: Validation data, when it lies elsewhere.
        max_pixels: Larger pictures are unreadable.
        progress: Called with (samples done, samples in all).

    Raises:
        ConfigError: No such task, or one whose data are looked over in another way.
        DataError: Data that training would refuse.
    """
    kind = get_task(task)
    kind.refuse("check", data)
    config = DataConfig(source=data, val=val, max_pixels=max_pixels)
    opened = kind.open(config, AugmentConfig(), Card("shvit_s1", task=task), seed=0)
    parts = {"train": opened.train, "val": opened.val}
    total, done = sum(len(part) for part in parts.values()), 0
    found = SampleCheck(opened.labels, {name: len(part) for name, part in parts.items()}, list(opened.notes))
    for name, part in parts.items():
        part.augment = None
        for read in read_jobs(kind, part, batch=1):
            found.skipped += [(name, sample, reason) for sample, reason in read()["skipped"]]
            done += 1
            progress(done, total)
    return found
