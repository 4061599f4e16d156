"""Open weights of any task for an evaluation."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from saccade.engine.predict.networks import FRESH, open_networks
from saccade.engine.sessions.dense import DensePredictor, card_at, is_dense
from saccade.errors import ConfigError
from saccade.files import count_threads
from saccade.nn.fold import fold
from saccade.tasks import get_task
from saccade.tasks.base import Net, Task
from saccade.tasks.open import load_model
from saccade.weights import Card

Log = Callable[[str], None]
BATCH = 8
"""Samples at a time, where no search for the fastest is made."""


@dataclass
class Opened:
    """Equal networks, ready for the loop."""

    task: Task
    card: Card
    setting: dict[str, Any]
    """How they run, for a result."""
    groups: Callable[[int], Sequence[Mapping[str, Net]]]
    """Networks for batches of a size."""
    choose_batch: Callable[[int], int]
    """The fastest batch for so many samples."""
    workers: int = 0
    """Threads; 0: the calling one."""
    not_finite: Callable[[], list[int]] = list
    """Samples of the last batch that came to nothing because the network gave no finite numbers for them."""


@contextlib.contextmanager
def open_for_evaluation(
    weights: Path | str,
    *,
    backend: str,
    precision: str,
    threads: int | None,
    device: str,
    size: int,
    log: Log,
) -> Iterator[Opened]:
    """Open weights and free them afterwards; torch's own number of threads is put back at the end.

    Raises:
        ConfigError: A backend, precision or device that does not go with them.
    """
    before = torch.get_num_threads()
    try:
        card = card_at(weights)
        if is_dense(weights):
            with contextlib.closing(
                DensePredictor(weights, backend=backend, device=device, threads=threads)
            ) as net:
                setting = {"backend": net.backend, "device": net.device}
                yield Opened(
                    net.task, net.card, setting, lambda batch: [{"net": net}], lambda count: BATCH,
                    not_finite=lambda: net.not_finite,
                )  # fmt: skip
        elif card is None or card.task == "classify":
            options = {"precision": precision, "threads": threads, "device": device, "size": size, "say": log}
            with open_networks(weights, backend=backend, **options) as nets:
                yield Opened(
                    get_task(nets.card.task), nets.card, nets.setting,
                    lambda batch: [{"net": one} for one in nets.for_batch(batch)], nets.choose_batch, nets.workers,
                )  # fmt: skip
        else:
            yield _plain(weights, backend, precision, threads, device)
    finally:
        torch.set_num_threads(before)


def _plain(weights: Path | str, backend: str, precision: str, threads: int | None, device: str) -> Opened:
    """Open a network that only PyTorch runs."""
    model, card = load_model(weights)
    if backend not in ("auto", "torch") or precision != "float32":
        raise ConfigError(
            f"networks for the task {card.task} run with torch in float32, not with {backend} in {precision}; leave "
            "--backend and --precision out"
        )
    torch.set_num_threads(count_threads(threads))
    try:
        net = fold(model).to(device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"the device {device!r} cannot be used ({str(error)[:100]}); use cpu") from None
    setting = {"backend": "torch", "device": device}
    return Opened(get_task(card.task), card, setting, lambda batch: [{"net": net}], lambda count: BATCH)


def is_fresh(card: Card) -> bool:
    """Whether weights are untrained."""
    return card.origin == FRESH
