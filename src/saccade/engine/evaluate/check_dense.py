"""Look a dense data set over before training: faults of the annotations, and pictures or maps that cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from saccade.data.config import AugmentConfig, DataConfig
from saccade.errors import ConfigError, did_you_mean
from saccade.tasks import get_task
from saccade.weights.card import Card

TASKS = ("detect", "segment")


@dataclass
class DenseCheck:
    """What was found."""

    labels: list[str]
    pictures: dict[str, int]
    """Pictures of each part."""
    notes: list[str]
    """What the annotations say, and what is left out of them."""
    skipped: list[tuple[str, str, str]] = field(default_factory=list)
    """(part, name, reason) of pictures that training would leave out."""


def check_dense(
    task: str,
    data: str,
    val: str = "",
    *,
    head: str = "",
    max_pixels: int = DataConfig.max_pixels,
    progress: Callable[[int, int], None] | None = None,
) -> DenseCheck:
    """Open data as training would, and read every picture and every map or outline.

    Args:
        task: detect or segment.
        data: As for `saccade train --task TASK --data`.
        val: Validation data, when it lies elsewhere.
        head: The head that will be trained; a mask head wants outlines.
        max_pixels: Larger pictures are unreadable.
        progress: Called with (pictures done, pictures in all).

    Raises:
        ConfigError: Another task.
        DataError: Data that training would refuse.
    """
    if task not in TASKS:
        raise ConfigError(f"unknown task {task!r}{did_you_mean(task, TASKS)}")
    config = DataConfig(source=data, val=val, max_pixels=max_pixels)
    opened = get_task(task).open(config, AugmentConfig(), Card("shvit_s1", task=task, head=head), seed=0)
    parts: dict[str, Any] = {"train": opened.train, "val": opened.val}
    total, done = sum(len(part) for part in parts.values()), 0
    found = DenseCheck(opened.labels, {name: len(part) for name, part in parts.items()}, list(opened.notes))
    for name, part in parts.items():
        part.augment = None
        for index in range(len(part)):
            found.skipped += [(name, picture, reason) for picture, reason in part[index]["skipped"]]
            done += 1
            if progress is not None:
                progress(done, total)
    return found
