"""Samples of streamed shards: shuffled by seed and epoch, shared over processes and workers, resumable.

What is promised less than for other sources: the shuffle is by shard and through a buffer, not full; each loader
worker reads shards of its own, so the order depends on the number of workers and processes (the augmentation of a
sample does not); and resuming in the middle of an epoch reads again what came before it, without decoding it.
"""

import hashlib
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import IterableDataset, get_worker_info

from saccade.data.dataset import Augmentation, collate, sample_seed, seeded
from saccade.data.decode import MAX_PIXELS, decode_rgb
from saccade.data.preprocess import Preprocess
from saccade.data.sampler import EpochSampler, OrderedSampler
from saccade.data.shards import Member, ShardStream, stream_members
from saccade.errors import ConfigError, DataError
from saccade.files.pictures import decoding

SHUFFLE_BUFFER = 1000
"""Encoded samples that each worker holds to shuffle among."""


class StreamDataset(IterableDataset):
    """Whole batches from streamed shards, in the steps of a sampler."""

    def __init__(
        self,
        source: ShardStream,
        preprocess: Preprocess,
        *,
        augment: Augmentation | None = None,
        max_pixels: int = MAX_PIXELS,
    ):
        """Join a stream and a transform.

        Args:
            source: The shards.
            preprocess: The evaluation transform, which also fixes the shape.
            augment: The training transform; None: evaluate.
            max_pixels: Larger pictures count as skipped.
        """
        self.source, self.preprocess, self.augment, self.max_pixels = source, preprocess, augment, max_pixels
        self.sampler: EpochSampler | OrderedSampler | None = None
        # In shared memory, so that workers that stay alive learn of a new epoch: (epoch, start step).
        self._position = torch.zeros(2, dtype=torch.int64).share_memory_()

    @property
    def labels(self) -> list[str]:
        """Class names in the order of the indices."""
        return self.source.labels

    def __len__(self) -> int:
        """Number of samples, not batches."""
        return len(self.source)

    def move_to(self, sampler: EpochSampler | OrderedSampler) -> None:
        """Take over the epoch and first step of a sampler, also in workers that are already running."""
        if isinstance(sampler, EpochSampler):
            self._position.copy_(torch.tensor([sampler.epoch, sampler.start_step]))
        else:
            self._position.copy_(torch.tensor([0, sampler.start_batch]))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info is not None else (0, 1)
        epoch, start = (int(value) for value in self._position)
        # The loader asks worker 0 first, whatever the first step is.
        worker = (worker + start) % workers
        if isinstance(self.sampler, EpochSampler):
            yield from self._train(self.sampler, epoch, start, worker, workers)
        elif isinstance(self.sampler, OrderedSampler):
            yield from self._evaluate(self.sampler, start, worker, workers)
        else:
            raise ConfigError("a stream needs a sampler; make its loader with build_loader")

    def _train(
        self, sampler: EpochSampler, epoch: int, start: int, worker: int, workers: int
    ) -> Iterator[dict[str, Any]]:
        """Yield this worker's steps of a training epoch."""
        consumer, consumers = sampler.rank * workers + worker, sampler.world * workers
        skipped: list[tuple[str, str]] = []
        members = self._endless(sampler.seed, epoch, consumer, consumers, skipped)
        copies = ((member, copy) for member in members for copy in range(sampler.repeats))
        for step in range(worker, sampler.steps, workers):
            size = min(sampler.batch, sampler.samples_per_process - step * sampler.batch)
            if step < start:
                for _ in range(size):
                    next(copies)
                skipped.clear()
                continue
            samples: list[dict[str, Any]] = []
            while len(samples) < size:
                member, copy = next(copies)
                try:
                    with decoding(member.name):
                        pixels = decode_rgb(member.data or b"", max_pixels=self.max_pixels)
                except DataError as error:
                    skipped.append((member.name, str(error)))
                    if len(skipped) > 100 * sampler.batch:
                        raise DataError(
                            f"{self.source.where}: {len(skipped)} images cannot be read; {error}"
                        ) from None
                    continue
                place = int.from_bytes(
                    hashlib.blake2b(member.name.encode(), digest_size=7).digest(), "little"
                )
                with seeded(sample_seed(sampler.seed, epoch, place, copy)):
                    assert self.augment is not None
                    image = self.augment(Image.fromarray(pixels))
                samples.append(self._sample(image, member, []))
            batch = collate(samples)
            batch["skipped"] = list(skipped)
            skipped.clear()
            yield batch

    def _endless(
        self, seed: int, epoch: int, consumer: int, consumers: int, skipped: list[tuple[str, str]]
    ) -> Iterator[Member]:
        """Read this consumer's share of the shards again and again, in an order drawn from seed and epoch."""
        for lap in itertools.count():
            # The order of the shards is common to all consumers, the shuffle within them is not.
            common = np.random.PCG64(sample_seed(seed, epoch, -3, lap)).random_raw(len(self.source.urls))
            order = [self.source.urls[i] for i in np.argsort(common, kind="stable")]
            own = np.random.PCG64(sample_seed(seed, epoch, consumer, lap))
            any_found = False
            for member in _shuffled(self._share(order, consumer, consumers, skipped), own):
                any_found = True
                yield member
            if not any_found:
                raise DataError(
                    f"{self.source.where}: no readable shard; {skipped[-1][1] if skipped else 'no images'}"
                )

    def _share(
        self, urls: list[str], consumer: int, consumers: int, skipped: list[tuple[str, str]]
    ) -> Iterator[Member]:
        """Read whole shards when there are enough for everyone, else every so-manieth sample of all of them."""
        by_shard = len(urls) >= consumers
        for url in urls[consumer::consumers] if by_shard else urls:
            try:
                for number, member in enumerate(stream_members(url, commands=self.source.commands)):
                    if by_shard or number % consumers == consumer:
                        yield member
            except DataError as error:
                skipped.append((url, str(error)))

    def _evaluate(
        self, sampler: OrderedSampler, start: int, worker: int, workers: int
    ) -> Iterator[dict[str, Any]]:
        """Yield this worker's share of every sample once."""
        skipped: list[tuple[str, str]] = []
        samples: list[dict[str, Any]] = []
        consumer, consumers = sampler.rank * workers + worker, sampler.world * workers
        skip = len(range(worker, start, workers)) * sampler.batch
        for member in self._share(self.source.urls, consumer, consumers, skipped):
            if skip > 0:
                skip -= 1
                continue
            failures: list[tuple[str, str]] = []
            try:
                with decoding(member.name):
                    image = self.preprocess.fast(member.data or b"", max_pixels=self.max_pixels)
            except DataError as error:
                side = self.preprocess.size
                image = torch.empty(0, self.preprocess.channels, side, side)
                failures.append((member.name, str(error)))
            samples.append(self._sample(image, member, failures))
            if len(samples) == sampler.batch:
                yield self._finish(samples, skipped)
                samples = []
        if samples:
            yield self._finish(samples, skipped)
        elif skipped:
            side = self.preprocess.size
            empty = {"image": torch.empty(0, self.preprocess.channels, side, side), "skipped": []}
            yield self._finish([empty], skipped)

    @staticmethod
    def _finish(samples: list[dict[str, Any]], skipped: list[tuple[str, str]]) -> dict[str, Any]:
        batch = collate(samples)
        batch["skipped"] += skipped
        skipped.clear()
        return batch

    def _sample(self, image: torch.Tensor, member: Member, skipped: list[tuple[str, str]]) -> dict[str, Any]:
        return {
            "image": image,
            "label": self.source.target(member.label),
            "index": -1,  # a stream has no numbers
            "name": member.name,
            "skipped": skipped,
        }


def _shuffled(members: Iterator[Member], draws: np.random.PCG64) -> Iterator[Member]:
    """Shuffle a stream through a buffer, and the buffer itself at the end."""
    buffer: list[Member] = []
    for member in members:
        buffer.append(member)
        if len(buffer) > SHUFFLE_BUFFER:
            yield _pick(buffer, draws)
    while buffer:
        yield _pick(buffer, draws)


def _pick(buffer: list[Member], draws: np.random.PCG64) -> Member:
    """Take out one at random."""
    place = int(draws.random_raw()) % len(buffer)
    buffer[place], buffer[-1] = buffer[-1], buffer[place]
    return buffer.pop()
