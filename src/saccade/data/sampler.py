"""Which sample comes when: deterministic by seed and epoch, shared over processes, resumable at any step."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from saccade.data.dataset import SampleKey, sample_seed
from saccade.errors import ConfigError

ROUND_TO = 256
"""With repeated augmentation an epoch's length is rounded down to a multiple of this, as DeiT's and timm's is."""


class EpochSampler(Sampler[list[SampleKey]]):
    """Batches of one training epoch for one process.

    The order is a permutation drawn from (seed, epoch). Position p of it belongs to process p modulo `world`, so
    step s of all processes together sees the same samples as step s of one process with a batch `world` times as
    large. Every process has the same number of steps.

    With `repeats` > 1 each sample stands so many times in a row, each time with another augmentation, and so the
    copies fall to different processes (repeated augmentation: Hoffer et al., CVPR 2020; as in DeiT). The epoch keeps
    the length it would have without repeats, hence sees only about one in `repeats` of the distinct samples.

    Use as the `batch_sampler` of a loader; the keys go to `ImageDataset`.
    """

    def __init__(
        self,
        num_samples: int,
        *,
        seed: int = 0,
        epoch: int = 0,
        batch: int = 64,
        rank: int = 0,
        world: int = 1,
        repeats: int = 1,
        start_step: int = 0,
        drop_last: bool = True,
        shuffle: bool = True,
        groups: np.ndarray | None = None,
    ):
        """Fix the epoch.

        Args:
            num_samples: Length of the data set, at least 1.
            seed: Of the run.
            epoch: From 0; `set_epoch` changes it.
            batch: Samples per process and step, at least 1.
            rank: This process, 0..world-1.
            world: Number of processes.
            repeats: Copies of each sample, at least 1.
            start_step: Begin with this step, as if those before it had been taken.
            drop_last: Leave out a last batch that is not full, unless it is the only one. Otherwise the order
                is continued from its beginning until every process has equally many samples.
            shuffle: False: the order of the data set.
            groups: (num_samples,) integers: as far as possible the samples of a step are of one group (pictures of
                alike aspect, which then need little padding). Needs `shuffle` and no repeats.

        Raises:
            ConfigError: A number out of range.
        """
        for name, value, least in (
            ("num_samples", num_samples, 1),
            ("batch", batch, 1),
            ("world", world, 1),
            ("repeats", repeats, 1),
            ("epoch", epoch, 0),
            ("start_step", start_step, 0),
        ):
            if value < least:
                raise ConfigError(f"{name} should be at least {least}, not {value}")
        if not 0 <= rank < world:
            raise ConfigError(f"rank should be in 0..{world - 1}, not {rank}")
        self.num_samples, self.seed, self.epoch, self.batch = num_samples, seed, epoch, batch
        self.rank, self.world, self.repeats = rank, world, repeats
        self.start_step, self.drop_last, self.shuffle = start_step, drop_last, shuffle
        self.groups = groups if shuffle and repeats == 1 and groups is not None and np.ptp(groups) else None
        if self.steps < start_step:
            raise ConfigError(f"start_step {start_step} is beyond the {self.steps} steps of an epoch")

    @property
    def samples_per_process(self) -> int:
        """Samples that this process takes in a whole epoch."""
        if self.repeats > 1:
            count = (
                self.num_samples // ROUND_TO * ROUND_TO if self.num_samples >= ROUND_TO else self.num_samples
            )
            share = -(-count // self.world) if count < ROUND_TO else count // self.world
        else:
            share = -(-self.num_samples // self.world)
            if self.drop_last and self.num_samples // self.world >= self.batch:
                share = self.num_samples // self.world
        if self.drop_last and share >= self.batch:
            share -= share % self.batch
        return share

    @property
    def steps(self) -> int:
        """Steps of a whole epoch, the same in every process."""
        return -(-self.samples_per_process // self.batch)

    def __len__(self) -> int:
        """Steps that are left from `start_step` on."""
        return self.steps - self.start_step

    def set_epoch(self, epoch: int, start_step: int = 0) -> None:
        """Move to another epoch, to begin at `start_step`."""
        if epoch < 0 or not 0 <= start_step <= self.steps:
            raise ConfigError(f"epoch {epoch}, step {start_step}: expected a step in 0..{self.steps}")
        self.epoch, self.start_step = epoch, start_step

    def order(self) -> np.ndarray:
        """The permutation of this epoch, before repeats: (num_samples,) int64."""
        if not self.shuffle:
            return np.arange(self.num_samples)
        # PCG64 and permutation are stable across NumPy versions by its compatibility policy for bit streams;
        # drawing keys and sorting them relies on the bit stream only.
        draws = np.random.PCG64(sample_seed(self.seed, self.epoch, -1)).random_raw(self.num_samples)
        order = np.argsort(draws, kind="stable")
        if self.groups is None:
            return order
        # Whole steps of one group each, in an order drawn anew; what fills no step is mixed into the last ones.
        size, steps, rest = self.batch * self.world, [], []
        for group in np.unique(self.groups):
            members = order[self.groups[order] == group]
            whole = len(members) // size * size
            steps += list(members[:whole].reshape(-1, size))
            rest.append(members[whole:])
        again = np.random.PCG64(sample_seed(self.seed, self.epoch, -3)).random_raw(len(steps))
        return np.concatenate([*(steps[i] for i in np.argsort(again, kind="stable")), *rest])

    def __iter__(self) -> Iterator[list[SampleKey]]:
        order, seed, epoch = self.order(), self.seed, self.epoch
        share, batch = self.samples_per_process, self.batch
        for step in range(self.start_step, self.steps):
            keys = []
            for k in range(step * batch, min((step + 1) * batch, share)):
                turn, copy = divmod(k * self.world + self.rank, self.repeats)
                lap, place = divmod(turn, self.num_samples)
                index = int(order[place])
                # Samples that come again to fill up the processes are augmented anew.
                keys.append(SampleKey(index, sample_seed(seed, epoch, index, copy + lap * self.repeats)))
            yield keys


class OrderedSampler(Sampler[list[int]]):
    """Batches in the order of the data set, each sample exactly once over all processes.

    Process r takes batches r, r + world, r + 2 world, ... so processes may differ by one batch: for evaluation and
    prediction, where nothing waits for the others.
    """

    def __init__(
        self, num_samples: int, *, batch: int = 64, rank: int = 0, world: int = 1, start_batch: int = 0
    ):
        """Fix the batches.

        Args:
            num_samples: Length of the data set.
            batch: Samples per batch, at least 1.
            rank: This process, 0..world-1.
            world: Number of processes.
            start_batch: Skip so many of this process's batches.

        Raises:
            ConfigError: A number out of range.
        """
        if batch < 1 or not 0 <= rank < world or start_batch < 0 or num_samples < 0:
            raise ConfigError(f"batch {batch}, rank {rank} of {world}, start {start_batch}: out of range")
        self.num_samples, self.batch, self.rank, self.world = num_samples, batch, rank, world
        self.start_batch = start_batch

    def __len__(self) -> int:
        """Batches that are left for this process."""
        batches = -(-self.num_samples // self.batch)
        return max(0, len(range(self.rank, batches, self.world)) - self.start_batch)

    def __iter__(self) -> Iterator[list[int]]:
        first = self.rank + self.start_batch * self.world
        for number in range(first, -(-self.num_samples // self.batch), self.world):
            yield list(range(number * self.batch, min((number + 1) * self.batch, self.num_samples)))
