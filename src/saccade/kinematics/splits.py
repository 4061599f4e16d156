"""Splits by log, scene or take, never by clip; and nothing of a benchmark in what a model is trained on."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np

from saccade.errors import CheckFailed, ConfigError
from saccade.kinematics.records import Question, Track

Record = TypeVar("Record", Track, Question)


def group_key(record: Track | Question) -> str:
    """Sixteen digits that name the log, scene or take of a record, whatever file it is in."""
    # A variant of a clip (mirrored, cut) belongs to the same group as the clip.
    group = record.group or record.clip_id.partition("~")[0]
    return hashlib.sha256(f"{record.source}\0{group}".encode()).hexdigest()[:16]


def assign_splits(
    records: Iterable[Record], shares: dict[str, float] | None = None, seed: int = 0
) -> list[Record]:
    """Give every record a split by its group.

    The split of a group follows from its name and the seed alone: more records change nobody's split.

    Args:
        records: Tracks or questions.
        shares: {split: share}, adding up to 1; by default 90 % train, 10 % val.
        seed: Another one gives other splits.

    Raises:
        ConfigError: Shares that do not add up to 1.
    """
    shares = shares or {"train": 0.9, "val": 0.1}
    if abs(sum(shares.values()) - 1) > 1e-6 or min(shares.values()) < 0:
        raise ConfigError(f"shares are {shares}; expected shares of at least 0 that add up to 1")
    found = []
    for record in records:
        digest = hashlib.sha256(f"{seed}\0{group_key(record)}".encode()).digest()
        place = int.from_bytes(digest[:8], "big") / 2**64
        ends = np.cumsum(list(shares.values()))
        split = list(shares)[min(int(np.searchsorted(ends, place, side="right")), len(shares) - 1)]
        found.append(dataclasses.replace(record, split=split))
    return found


def decontaminate(
    train: Iterable[Record], benchmark: Iterable[Track | Question]
) -> tuple[list[Record], list[Record]]:
    """Take out of a training set everything whose log, scene or take is in a benchmark.

    Returns:
        What stays and what was taken out.
    """
    taken = {group_key(record) for record in benchmark}
    kept: list[Record] = []
    dropped: list[Record] = []
    for record in train:
        (dropped if group_key(record) in taken else kept).append(record)
    return kept, dropped


def check_apart(train: Sequence[Track | Question], benchmark: Sequence[Track | Question]) -> None:
    """Refuse a training set that shares a log, scene or take with a benchmark.

    Raises:
        CheckFailed: With one of those that are shared.
    """
    taken = {group_key(record) for record in benchmark}
    shared = sorted({record.group or record.clip_id for record in train if group_key(record) in taken})
    if shared:
        raise CheckFailed(
            f"{len(shared)} groups, such as {shared[0]!r}, are in the training set and in the benchmark; take "
            "them out of the training set"
        )
