"""Open weights once for every core, ready for the pipeline."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saccade.data.preprocess import Preprocess
from saccade.engine.predict.pipeline import best_batch
from saccade.engine.sessions import Predictor, open_predictor
from saccade.files import usable_cores
from saccade.tasks.classify.task import preprocess_of
from saccade.weights import Card

FRESH = "fresh weights"
"""`Card.origin` of a bare model name."""
PROBED_BATCH = 16
"""Batch that backends are compared at."""
FEW_PICTURES = 64
"""With fewer for each worker no batch is searched for."""
Say = Callable[[str], None]


@dataclass
class Networks:
    """Equal networks, one a worker on the CPU, a single one on an accelerator."""

    predictors: list[Predictor]
    preprocess: Preprocess
    workers: int
    """Threads that decode and run."""
    fresh: bool
    """Whether the weights are untrained."""
    source: str
    """What was opened."""

    @property
    def card(self) -> Card:
        """What the weights are."""
        return self.predictors[0].card

    @property
    def setting(self) -> dict[str, Any]:
        """How they run, for a result."""
        first = self.predictors[0]
        return {"backend": first.backend, "precision": first.precision, "size": self.preprocess.size} | (
            {"device": first.device} if first.device != "cpu" else {}
        )

    def choose_batch(self, pictures: int) -> int:
        """Find the fastest batch for so many pictures."""
        first = self.predictors[0]
        if first.batch is not None:
            return first.batch
        limit = -(-pictures // self.workers)
        if limit < FEW_PICTURES:  # done before a search would be
            return min(PROBED_BATCH, limit)
        largest = 32 if first.device == "cpu" else 256
        # Every new shape is compiled anew, for many seconds each: not worth trying out.
        return (
            min(PROBED_BATCH, limit)
            if first.backend == "compile"
            else best_batch(first, self.preprocess, limit=min(limit, largest))
        )

    def for_batch(self, batch: int) -> list[Callable[[Tensor], Tensor]]:
        """Return what the pipeline calls: the predictors, filled up to a whole batch where shapes are compiled."""
        if self.predictors[0].backend != "compile":
            return list(self.predictors)
        return [_Filled(predictor, batch) for predictor in self.predictors]

    def close(self) -> None:
        """Free all runtimes."""
        for predictor in self.predictors:
            predictor.close()


@contextmanager
def open_networks(
    weights: Path | str,
    *,
    backend: str = "auto",
    precision: str = "float32",
    threads: int | None = None,
    device: str = "cpu",
    size: int = 0,
    pictures: int = 1 << 30,
    say: Say = lambda text: None,
) -> Iterator[Networks]:
    """Open weights for the pipeline and free them afterwards.

    On the CPU there is one network a core with one thread each: more pictures per second than one network with
    many threads, and nothing to tune. torch's own number of threads is put back at the end.

    Args:
        weights: Run folder, weights file, bundle or model name.
        backend: As for `open_predictor`.
        precision: As for `open_predictor`.
        threads: Cores to use; None: all.
        device: As for `open_predictor`.
        size: Side of the square input in pixels; 0: that of the weights. A size that an exported file does not take
            runs in PyTorch instead, unless a backend was named.
        pictures: How many there are: no more workers than that.
        say: Called with sentences about the work.

    Yields:
        `Networks`.
    """
    before = torch.get_num_threads()
    workers = max(1, min(threads or usable_cores(), pictures))
    networks: Networks | None = None

    def opened(name: str, kind: str, report: Say) -> Predictor:
        # A bare model name makes weights from the global generator: every worker shall get the same ones.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return open_predictor(
                weights,
                backend=name,
                precision=kind,
                threads=1,
                device=device,
                batch=PROBED_BATCH,
                say=report,
            )

    try:
        first = opened(backend, precision, say)
        networks = Networks(
            [first], preprocess_of(first.card, size), workers, first.card.origin == FRESH, str(weights)
        )
        side = networks.preprocess.size
        is_bundle = (Path(weights) / "manifest.json").is_file()
        if backend == "auto" and not is_bundle and first.size not in (None, (side, side)):
            say(f"{first.backend} was exported for {first.size[0]} px; at {side} px PyTorch runs the network")
            first.close()
            networks.predictors[0] = first = opened("torch", precision, say)
        elif "measured before" in first.why or not first.why.startswith("fastest"):  # else `say` has had it
            say(f"{first.backend} {first.precision}: {first.why}")
        if first.device == "cpu" and first.backend != "compile":
            for _ in range(workers - 1):
                networks.predictors.append(opened(first.backend, first.precision, lambda text: None))
        yield networks
    finally:
        if networks is not None:
            networks.close()
        torch.set_num_threads(before)


class _Filled:
    """Calls a network with whole batches only, repeating the last picture."""

    def __init__(self, network: Callable[[Tensor], Tensor], batch: int) -> None:
        self.network, self.batch = network, batch

    def __call__(self, images: Tensor) -> Tensor:
        missing = self.batch - len(images)
        full = torch.cat([images, images[-1:].expand(missing, -1, -1, -1)]) if missing else images
        return self.network(full)[: len(images)]
