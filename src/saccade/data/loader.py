"""Turn a data set and a sampler into batches, made by worker processes while the network runs."""

import os
import signal
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler

from saccade.data.dataset import collate as collate_images
from saccade.errors import ConfigError

MAX_WORKERS = 16


def count_workers(workers: int = -1, *, batches: int | None = None) -> int:
    """Decide how many loader processes to start.

    Args:
        workers: What was asked for; -1: one per usable core less one, shared among this machine's training
            processes, at most 16 and at most one per batch.
        batches: Number of batches, when known.

    Returns:
        0 (load in the training process) or more.

    Raises:
        ConfigError: Below -1.
    """
    if workers < -1:
        raise ConfigError(f"data.workers should be -1 (automatic), 0 or more, not {workers}")
    if workers >= 0:
        return workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    local = max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    count = min(cores // local - 1, MAX_WORKERS)
    return max(0, count if batches is None else min(count, batches))


def build_loader(
    dataset: Dataset,
    sampler: Sampler | None = None,
    *,
    workers: int = -1,
    collate: Callable[[list[dict[str, Any]]], dict[str, Any]] = collate_images,
    pin_memory: bool = False,
    prefetch: int = 4,
) -> DataLoader:
    """Make the loader of one data set.

    For a map-style data set the sampler gives batches (`EpochSampler` or `OrderedSampler`); change its epoch between
    two iterations and the same worker processes go on. A streamed data set (`ShardStream`) makes its batches
    itself and takes no sampler.

    The loader draws nothing from torch's global generator, so that starting an epoch does not move it, and it does
    not matter to any sample how many workers there are (streams: see `ShardStream`).

    Args:
        dataset: Map-style, or an iterable of whole batches.
        sampler: Batches of keys for a map-style data set.
        workers: As in `count_workers`.
        collate: Joins samples into a batch.
        pin_memory: Put batches into page-locked memory, for CUDA.
        prefetch: Batches that each worker keeps ready.

    Returns:
        An iterable of batches; `len()` is the number of batches where it is known.

    Raises:
        ConfigError: A missing or superfluous sampler, or a bad number of workers.
    """
    streamed = isinstance(dataset, IterableDataset)
    if streamed == (sampler is not None):
        raise ConfigError("a map-style data set needs a sampler and a stream takes none")
    batches = len(sampler) if sampler is not None else None  # type: ignore[arg-type]
    number = count_workers(workers, batches=batches)
    shared: dict[str, Any] = {
        "num_workers": number,
        "pin_memory": pin_memory,
        # Its own generator: the default one would be advanced by every epoch that is begun.
        "generator": torch.Generator().manual_seed(0),
    }
    if number > 0:
        shared |= {"prefetch_factor": prefetch, "persistent_workers": True, "worker_init_fn": _start_worker}
    if streamed:
        return DataLoader(dataset, batch_size=None, **shared)
    return DataLoader(dataset, batch_sampler=sampler, collate_fn=collate, **shared)


def _start_worker(worker: int) -> None:
    """Leave Ctrl-C to the main process, which stops the workers in good order."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
