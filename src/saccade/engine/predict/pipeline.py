"""From files to outputs with every core busy and the order kept.

Each worker thread takes the next batch of files, decodes it and runs the network on it: there is no queue between
decoders and model to balance, and no core waits for another. The decoders, the resize and the runtimes all let go of
Python's lock while they compute, so threads serve as well as processes without the cost of starting those.
With fewer networks than workers (an accelerator) the workers take turns at the network and decode meanwhile.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue

import numpy as np
import torch
from torch import Tensor

from saccade.data.decode import MAX_PIXELS
from saccade.data.preprocess import Preprocess
from saccade.data.source import Source
from saccade.engine.sessions.finite import FiniteOutputs
from saccade.errors import ConfigError, DataError
from saccade.files.pictures import decoding
from saccade.tasks.base import Batch

Network = Callable[[Tensor], Tensor]
"""Maps (batch, C, S, S) float32 to (batch, outputs)."""
PROBED_BATCHES = (1, 4, 8, 16, 32, 64, 128, 256)


def run_pipeline(
    source: Source,
    preprocess: Preprocess,
    networks: Sequence[Network],
    *,
    batch: int,
    workers: int | None = None,
    start: int = 0,
    max_pixels: int = MAX_PIXELS,
    weights: str = "the weights",
) -> Generator[tuple[Batch, Tensor]]:
    """Run networks over a source in its order.

    Args:
        source: Where the pictures come from.
        preprocess: The transform of the weights.
        networks: One for each thread that may run a network at the same time, equal to each other; each should
            use one core when there are as many as workers.
        batch: Pictures at a time, at least 1.
        workers: Threads; None: one a network.
        start: Position of the first picture.
        max_pixels: Larger pictures count as skipped.
        weights: What the networks run, for messages.

    Yields:
        (batch, outputs): the batch without its pictures that could not be read or whose outputs are not finite, which
        it lists under `skipped` (name, reason); outputs (len(batch["name"]), outputs) on the CPU. In the order of the
        source.
        `batch` has `first` and `count` besides: the positions it covers, unreadable ones included.

    Raises:
        ConfigError: No networks, or numbers out of range.
        WeightsError: Outputs that are not finite, and not of a few pictures only.

    torch's own threads are set to one while the pipeline runs and put back when it is closed.
    """
    number = len(networks) if workers is None else workers
    if batch < 1 or number < 1 or not networks:
        raise ConfigError(
            f"batch {batch}, {number} workers, {len(networks)} networks: each should be at least 1"
        )
    free: SimpleQueue[Network] = SimpleQueue()
    for network in networks:
        free.put(network)
    stop = threading.Event()

    def work(first: int) -> tuple[Batch, Tensor] | None:
        if stop.is_set():
            return None
        torch.set_num_threads(1)  # OpenMP keeps the number per thread
        gathered = read_batch(source, preprocess, range(first, min(first + batch, len(source))), max_pixels)
        if not len(gathered["image"]):
            return gathered, torch.empty(0, 0)
        network = free.get()
        try:
            with torch.inference_mode():
                return gathered, network(gathered["image"])
        finally:
            free.put(network)

    def probe() -> Tensor:
        side = preprocess.size
        noise = torch.randn(1, preprocess.channels, side, side, generator=torch.Generator().manual_seed(5))
        network = free.get()
        try:
            with torch.inference_mode():
                return network(noise)
        finally:
            free.put(network)

    def ready() -> tuple[Batch, Tensor]:
        gathered, outputs = _ready(pending)
        return finite.keep(gathered, outputs, gathered["first"]) if len(outputs) else (gathered, outputs)

    finite = FiniteOutputs(weights, probe)
    before = torch.get_num_threads()
    pending: deque[Future[tuple[Batch, Tensor] | None]] = deque()
    pool = ThreadPoolExecutor(number, thread_name_prefix="saccade-predict")
    try:
        torch.set_num_threads(1)
        for first in range(start, len(source), batch):
            pending.append(pool.submit(work, first))
            # Twice the workers in flight: one slow picture holds up the order, not the other cores.
            if len(pending) > 2 * number:
                yield ready()
        while pending:
            yield ready()
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(before)


def read_batch(source: Source, preprocess: Preprocess, places: range, max_pixels: int = MAX_PIXELS) -> Batch:
    """Decode and transform the pictures at `places` one after the other into one tensor.

    Returns:
        A batch as the pipeline yields it; `image` is (readable, C, S, S) float32.
    """
    side = preprocess.size
    images = torch.empty(len(places), preprocess.channels, side, side)
    names, index, skipped = [], [], []
    for place in places:
        try:
            with decoding(source.names[place]):
                image = preprocess.fast(source.read(place), max_pixels=max_pixels)
        except DataError as error:
            skipped.append((source.names[place], str(error)))
            continue
        images[len(names)].copy_(image)
        names.append(source.names[place])
        index.append(place)
    return {
        "image": images[: len(names)],
        "label": torch.from_numpy(source.targets[index].astype(np.int64)),
        "index": torch.tensor(index, dtype=torch.int64),
        "name": names,
        "skipped": skipped,
        "first": places.start,
        "count": len(places),
    }


def best_batch(network: Network, preprocess: Preprocess, *, limit: int = 32, patience_s: float = 0.25) -> int:
    """Find the batch size with the most pictures per second, by trying a few for a moment each.

    Args:
        network: On one core.
        preprocess: Fixes the input's shape.
        limit: Largest size that makes sense (the number of pictures for each worker).
        patience_s: Time for each size, in seconds; stops early when larger batches get clearly slower.

    Returns:
        One of `PROBED_BATCHES`; the smallest within 3 % of the best, because small batches spread better.
    """
    rates: dict[int, float] = {}
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            for size in (s for s in PROBED_BATCHES if s <= max(1, limit)):
                images = torch.zeros(size, preprocess.channels, preprocess.size, preprocess.size)
                rates[size] = size / _least_seconds(network, images, patience_s)
                if rates[size] < 0.8 * max(rates.values()):
                    break
    finally:
        torch.set_num_threads(before)
    return min(size for size, rate in rates.items() if rate >= 0.97 * max(rates.values()))


def _least_seconds(network: Network, images: Tensor, patience_s: float) -> float:
    """Time a network: the least of its calls, in this process's own time where the work is done in it.

    The process's clock does not count what other programs take from the core, so a busy machine decides nothing.
    """
    network(images)
    best = best_wall = float("inf")
    until = time.perf_counter() + patience_s
    while time.perf_counter() < until or best == float("inf"):
        wall, own = time.perf_counter(), time.process_time()
        network(images)
        best = min(best, time.process_time() - own)
        best_wall = min(best_wall, time.perf_counter() - wall)
    return best if best > 0.2 * best_wall else best_wall  # an accelerator or another process does the work


def _ready(pending: "deque[Future[tuple[Batch, Tensor] | None]]") -> tuple[Batch, Tensor]:
    """Wait for the oldest batch."""
    result = pending.popleft().result()
    assert result is not None  # only after `stop`, and then nobody asks
    return result
