"""The one loop that runs networks over samples, for training, evaluation, prediction and export alike.

Batches come as jobs, so that a worker thread reads a batch and runs a network on it in one go: there is no queue
between decoders and networks to balance, and no core waits for another. The decoders, the resize and the runtimes all
let go of Python's lock while they compute, so threads serve as well as processes without the cost of starting those.
With fewer networks than workers (an accelerator) the workers take turns at the network and decode meanwhile.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import torch
from torch import nn

from saccade.errors import ConfigError, DataError
from saccade.tasks.base import Batch, Metrics, Net, Samples, Task
from saccade.weights.card import Card

Job = Callable[[], Batch]
"""Reads one batch."""
Outputs = dict[str, Any]
"""What each network gave for a batch, by the network's name; empty where the batch has no readable sample."""


def run_batches(
    task: Task, pool: Sequence[Mapping[str, Net]], jobs: Iterable[Job], *, workers: int = 0
) -> Generator[tuple[Batch, Outputs]]:
    """Run networks over batches, in their order.

    Args:
        task: Says how a network runs on a batch.
        pool: Groups of named networks; every batch is run by all networks of one group. More than one group: equal
            ones, for threads that run at the same time.
        jobs: Read the batches.
        workers: Threads; 0: everything in the calling thread, without touching torch's number of threads.

    Yields:
        (batch, outputs by name).

    Modules are in evaluation mode meanwhile and each of their parts is back in its own mode afterwards. With workers,
    torch's own threads are set to one while the loop runs and put back when it is closed.

    Raises:
        ConfigError: No networks, or a negative number of workers.
    """
    if workers < 0 or not pool:
        raise ConfigError(f"{workers} workers and {len(pool)} networks; expected at least one network")
    with contextlib.ExitStack() as modes:
        for net in (net for group in pool for net in group.values()):
            modes.enter_context(evaluating(net))
        if not workers:
            for job in jobs:
                batch = job()
                yield batch, _outputs(task, pool[0], batch)
            return
        yield from _run_threads(task, pool, jobs, workers)


def _run_threads(
    task: Task, pool: Sequence[Mapping[str, Net]], jobs: Iterable[Job], workers: int
) -> Generator[tuple[Batch, Outputs]]:
    """Do as `run_batches` in threads."""
    free: SimpleQueue[Mapping[str, Net]] = SimpleQueue()
    for group in pool:
        free.put(group)
    stop = threading.Event()

    def work(job: Job) -> tuple[Batch, Outputs]:
        if stop.is_set():
            return {}, {}
        torch.set_num_threads(1)  # OpenMP keeps the number per thread
        batch = job()
        group = free.get()
        try:
            return batch, _outputs(task, group, batch)
        finally:
            free.put(group)

    before = torch.get_num_threads()
    pending: deque[Future[tuple[Batch, Outputs]]] = deque()
    threads = ThreadPoolExecutor(workers, thread_name_prefix="saccade")
    try:
        torch.set_num_threads(1)
        for job in jobs:
            pending.append(threads.submit(work, job))
            # Twice the workers in flight: one slow sample holds up the order, not the other cores.
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        stop.set()
        threads.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(before)


def _outputs(task: Task, group: Mapping[str, Net], batch: Batch) -> Outputs:
    if not len(batch["index"]):
        return {}
    with torch.no_grad():
        return {name: task.run(net, batch) for name, net in group.items()}


def read_jobs(task: Task, samples: Samples, *, batch: int, start: int = 0) -> Iterator[Job]:
    """Make the jobs that read samples in order.

    Args:
        task: Joins samples.
        samples: What is read; one that raises `DataError` is listed under `skipped` with its name and reason.
        batch: Samples at a time, at least 1.
        start: Position of the first one.

    Returns:
        Jobs whose batches have `first` and `count` besides: the positions they cover, skipped ones included.
    """
    if batch < 1:
        raise ConfigError(f"batch is {batch}; expected at least 1")

    def job(first: int) -> Batch:
        found, skipped = [], []
        last = min(first + batch, len(samples))
        for place in range(first, last):
            try:
                found.append(samples[place])
            except DataError as error:
                skipped.append((samples.names[place], str(error)))
        joined = task.collate(found) if found else {"index": torch.empty(0, dtype=torch.int64), "name": []}
        joined["skipped"] = [*joined.get("skipped", ()), *skipped]
        return {**joined, "first": first, "count": last - first}

    return ((lambda first=first: job(first)) for first in range(start, len(samples), batch))


def gather_metrics(
    task: Task,
    nets: Mapping[str, Net],
    batches: Iterable[Batch],
    card: Card,
    progress: Callable[[Batch], None] = lambda batch: None,
    look: Callable[[str, Any], None] = lambda name, outputs: None,
) -> dict[str, Metrics]:
    """Run networks over every batch, reading the data only once, and gather the task's metrics.

    Args:
        task: Knows how to run the networks and to judge their outputs.
        nets: Modules or sessions by name.
        batches: As made by `task.collate`; those without a readable sample are passed over.
        card: What the networks are: labels, preprocessing.
        progress: Called with each batch after it was taken in; may raise to stop.
        look: Called with the name and the outputs of each network, before they are taken in.

    Returns:
        The filled accumulator of each network in this process; `Metrics.merge` joins those of several processes.
    """
    metrics = {name: task.metrics(card) for name in nets}
    with contextlib.closing(
        run_batches(task, [nets], ((lambda batch=batch: batch) for batch in batches))
    ) as stream:
        for batch, found in stream:
            for name, outputs in found.items():
                look(name, outputs)
                metrics[name].update(outputs, batch)
            progress(batch)
    return metrics


@contextlib.contextmanager
def evaluating(net: Any) -> Iterator[None]:
    """Put a module in evaluation mode and each of its parts back in its own mode afterwards."""
    if not isinstance(net, nn.Module):
        yield
        return
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
