"""Equal networks, ready for the loop: opened once for every core, whatever the weights are stored as."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saccade.engine.run import read_jobs, run_batches
from saccade.engine.sessions.finite import FiniteOutputs, settled
from saccade.engine.sessions.open import open_runner
from saccade.engine.sessions.runner import Runner
from saccade.errors import ConfigError
from saccade.files import usable_cores
from saccade.tasks.base import Batch, Net, Samples, Task, device_of, unnamed
from saccade.weights import Card

FRESH = "fresh weights"
"""`Card.origin` of a bare model name."""
PROBED_BATCH = 16
"""Batch that backends are compared at."""
PROBED_BATCHES = (1, 4, 8, 16, 32, 64, 128, 256)
FEW = 64
"""With fewer samples for each worker no batch is searched for."""
Log = Callable[[str], None]


@dataclass
class Pool:
    """Equal networks, one for each worker on the CPU, a single one on an accelerator."""

    task: Task
    """What the weights are for; joins the samples that it opened."""
    runners: list[Runner]
    workers: int
    """Threads that read and run; 0: the calling one."""
    source: str
    """What was opened."""

    @property
    def first(self) -> Runner:
        """One of them."""
        return self.runners[0]

    @property
    def card(self) -> Card:
        """What the weights are."""
        return self.first.card

    @property
    def precision(self) -> str:
        """Of the arithmetic."""
        return self.first.precision

    @property
    def fresh(self) -> bool:
        """Whether the weights are untrained."""
        return self.card.origin == FRESH

    @property
    def setting(self) -> dict[str, Any]:
        """How they run, for a result."""
        first = self.first
        size = first.card.preprocess.get("size")
        values: dict[str, Any] = {"head": first.card.head} if first.card.head else {}
        values |= {"backend": first.backend, "precision": first.precision}
        values |= {"size": size} if size else {}
        return values | ({"device": first.device} if first.device != "cpu" else {})

    def choose_batch(self, samples: int) -> int:
        """Return the task's own batch, or find the fastest for so many samples."""
        first = self.first
        if first.batch is not None:
            return first.batch
        if self.task.predict_batch:
            return self.task.predict_batch
        limit = -(-samples // max(1, self.workers))
        # With few there is no time to search; every new shape is compiled anew, for many seconds each.
        if limit < FEW or first.backend == "compile":
            return max(1, min(PROBED_BATCH, limit))
        largest = 32 if first.device == "cpu" else 256
        return best_batch(first.net, self.task.example(self.card), limit=min(limit, largest))

    def for_batch(self, batch: int) -> list[Mapping[str, Net]]:
        """Return what the loop takes: the networks, filled up to a whole batch where shapes are compiled."""
        if self.first.backend != "compile":
            return [{"net": runner.net} for runner in self.runners]
        return [{"net": Filled(runner.net, batch)} for runner in self.runners]

    def run(self, samples: Samples, *, batch: int, start: int = 0) -> Generator[tuple[Batch, Any]]:
        """Run the task over samples, in their order; see `run_batches` and `read_jobs`.

        Yields:
            (batch, outputs on the CPU): the batch without samples that could not be read or whose outputs are not
            finite, which it lists under `skipped`; outputs are None where no sample is left.

        Raises:
            WeightsError: Outputs that are not finite, and not of a few samples only.
        """
        finite = FiniteOutputs(self.source, self.probe)
        jobs = read_jobs(self.task, samples, batch=batch, start=start)
        with contextlib.closing(
            run_batches(self.task, self.for_batch(batch), jobs, workers=self.workers)
        ) as stream:
            for one, found in stream:
                if not found:
                    yield one, None
                    continue
                kept, outputs = finite.keep(one, settled(found["net"]), one["first"])
                yield kept, outputs if len(kept["index"]) else None

    def probe(self) -> Any:
        """Run a network of its own on noise; nothing where its task makes none, and real samples have to do."""
        try:
            (example, *_) = self.task.example(self.card)
        except ConfigError:
            return []
        with self.first.again() as runner:
            return runner.run({"image": example, **unnamed(len(example))})


@contextmanager
def open_pool(
    source: Path | str,
    task: Task,
    *,
    verb: str,
    backend: str = "auto",
    precision: str = "float32",
    threads: int | None = None,
    device: str = "cpu",
    size: int = 0,
    samples: int = 1 << 30,
    embed: bool = False,
    log: Log = lambda text: None,
) -> Iterator[Pool]:
    """Open weights for the loop and free them afterwards.

    On the CPU there is one network a core with one thread each: more samples per second than one network with many
    threads, and nothing to tune. torch's own number of threads is put back at the end.

    Args:
        source: Run folder, weights file, bundle or model name.
        task: Whose weights they are, and what opened the samples (`task_of`).
        verb: As for `open_runner`.
        backend: Likewise.
        precision: Likewise.
        threads: Cores to use; None: all.
        device: As for `open_runner`.
        size: Side of the input in pixels; 0: that of the weights.
        samples: How many there are: no more workers than that.
        embed: As for `open_runner`.
        log: Called with sentences about the work.

    Yields:
        `Pool`.
    """
    before = torch.get_num_threads()
    workers = max(1, min(threads or usable_cores(), samples)) if task.parallel else 0
    runners: list[Runner] = []
    try:
        first = open_runner(
            source,
            verb=verb,
            backend=backend,
            precision=precision,
            threads=1 if workers else threads,
            device=device,
            size=size,
            batch=PROBED_BATCH,
            embed=embed,
            log=log,
        )
        runners.append(first)
        if "measured before" in first.why or not first.why.startswith("fastest"):  # else `log` has had it
            log(f"{first.backend} {first.precision}: {first.why}")
        if first.device == "cpu" and first.backend != "compile":
            runners += [first.again() for _ in range(workers - 1)]
        yield Pool(task, runners, workers, str(source))
    finally:
        for runner in runners:
            runner.close()
        torch.set_num_threads(before)


def best_batch(net: Net, example: tuple[Tensor, ...], *, limit: int = 32, patience_s: float = 0.25) -> int:
    """Find the batch size with the most samples per second, by trying a few for a moment each.

    Args:
        net: On one core.
        example: Inputs of one sample: they fix the shapes.
        limit: Largest size that makes sense (the number of samples for each worker).
        patience_s: Time for each size, in seconds; stops early when larger batches get clearly slower.

    Returns:
        One of `PROBED_BATCHES`; the smallest within 3 % of the best, because small batches spread better.
    """
    rates: dict[int, float] = {}
    device = device_of(net)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            for size in (s for s in PROBED_BATCHES if s <= max(1, limit)):
                inputs = tuple(torch.zeros(size, *value.shape[1:], device=device) for value in example)
                rates[size] = size / _least_seconds(net, inputs, patience_s)
                if rates[size] < 0.8 * max(rates.values()):
                    break
    finally:
        torch.set_num_threads(before)
    return min(size for size, rate in rates.items() if rate >= 0.97 * max(rates.values()))


def _least_seconds(net: Net, inputs: tuple[Tensor, ...], patience_s: float) -> float:
    """Time a network: the least of its calls, in this process's own time where the work is done in it.

    The process's clock does not count what other programs take from the core, so a busy machine decides nothing.
    """
    settled(net(*inputs))  # which waits for an accelerator
    best = best_wall = float("inf")
    until = time.perf_counter() + patience_s
    while time.perf_counter() < until or best == float("inf"):
        wall, own = time.perf_counter(), time.process_time()
        settled(net(*inputs))
        best = min(best, time.process_time() - own)
        best_wall = min(best_wall, time.perf_counter() - wall)
    return best if best > 0.2 * best_wall else best_wall  # an accelerator or another process does the work


class Filled:
    """Calls a network with whole batches only, repeating the last sample."""

    def __init__(self, net: Net, batch: int) -> None:
        self.net, self.batch = net, batch

    def __call__(self, images: Tensor) -> Tensor:
        """Map any number of samples up to the batch."""
        missing = self.batch - len(images)
        full = torch.cat([images, images[-1:].expand(missing, *images.shape[1:])]) if missing else images
        return self.net(full)[: len(images)]
