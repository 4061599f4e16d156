"""Turn a data set and a sampler into batches, made by worker processes while the network runs."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from saccade.data.dataset import Augmentation, ImageDataset
from saccade.data.dataset import collate as collate_images
from saccade.data.decode import MAX_PIXELS
from saccade.data.preprocess import Preprocess
from saccade.data.sampler import EpochSampler, OrderedSampler
from saccade.data.shards import ShardStream
from saccade.data.source import Source
from saccade.data.stream import StreamDataset
from saccade.errors import ConfigError
from saccade.files import usable_cores

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
    cores = usable_cores()
    local = max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    count = min(cores // local - 1, MAX_WORKERS)
    return max(0, count if batches is None else min(count, batches))


def make_dataset(
    source: Source,
    preprocess: Preprocess,
    *,
    augment: Augmentation | None = None,
    max_pixels: int = MAX_PIXELS,
) -> ImageDataset | StreamDataset:
    """Make the data set that fits a source: numbered samples, or batches of a stream.

    Args:
        source: From `open_source` or `open_pair`.
        preprocess: The evaluation transform, which also fixes the shape.
        augment: The training transform; None: evaluate.
        max_pixels: Larger pictures count as skipped.
    """
    if isinstance(source, ShardStream):
        return StreamDataset(source, preprocess, augment=augment, max_pixels=max_pixels)
    return ImageDataset(source, preprocess, augment=augment, max_pixels=max_pixels)


def build_loader(
    dataset: Dataset,
    sampler: EpochSampler | OrderedSampler,
    *,
    workers: int = -1,
    collate: Callable[[list[dict[str, Any]]], dict[str, Any]] = collate_images,
    pin_memory: bool = False,
    prefetch: int = 4,
) -> "DataLoader | StreamLoader":
    """Make the loader of one data set.

    Change the sampler's epoch between two iterations and the same worker processes go on. The loader draws
    nothing from torch's global generator, so that starting an epoch does not move it, and it does not matter to any
    sample how many workers there are (to the order of a stream it does).

    Args:
        dataset: `ImageDataset` or any other map-style data set, or a `StreamDataset`.
        sampler: Says which sample comes when; of a stream, how many steps there are and whose they are.
        workers: As in `count_workers`.
        collate: Joins samples into a batch (streams always use `saccade.data.collate`).
        pin_memory: Put batches into page-locked memory, for CUDA.
        prefetch: Batches that each worker keeps ready.

    Returns:
        An iterable of batches; `len()` is the number of batches left in the epoch.

    Raises:
        ConfigError: A bad number of workers.
    """
    number = count_workers(workers, batches=len(sampler))
    shared: dict[str, Any] = {
        "num_workers": number,
        "pin_memory": pin_memory,
        # Its own generator: the default one would be advanced by every epoch that is begun.
        "generator": torch.Generator().manual_seed(0),
    }
    if number > 0:
        shared |= {"prefetch_factor": prefetch, "persistent_workers": True, "worker_init_fn": _start_worker}
    if isinstance(dataset, StreamDataset):
        dataset.sampler = sampler
        return StreamLoader(dataset, sampler, DataLoader(dataset, batch_size=None, **shared))
    return DataLoader(dataset, batch_sampler=sampler, collate_fn=collate, **shared)


class StreamLoader:
    """The loader of a stream: tells the workers the sampler's epoch before each iteration."""

    def __init__(self, dataset: StreamDataset, sampler: EpochSampler | OrderedSampler, loader: DataLoader):
        self.dataset, self.sampler, self._loader = dataset, sampler, loader

    def __len__(self) -> int:
        """Batches left in the epoch (in evaluation about so many: shards end where they end)."""
        return len(self.sampler)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self.dataset.move_to(self.sampler)
        yield from self._loader


def _start_worker(worker: int) -> None:
    """Leave Ctrl-C and SIGTERM to the main process, which stops the workers in good order.

    Launchers and schedulers send both to all processes of a job. A worker that died of it would end the main process
    in the middle of a step, before it could save.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_told, args=(os.getppid(),), daemon=True).start()


def _end_when_told(parent: int) -> None:
    """Wait for the SIGTERM with which the main process ends a worker that does not answer."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
