"""Samples of a source as tensors, and their batches. What is done to a sample depends on its key alone.

timm's and torchvision's transforms draw from the global generators of Python, NumPy and torch. Each sample therefore
runs with all three seeded from its key and put back afterwards, so its augmentation does not depend on which process
makes it, in which order, or what was made before: that is what lets a run stop in the middle of an epoch and go on to
the same bits.
"""

import abc
import contextlib
import hashlib
import random
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from saccade.data.decode import MAX_PIXELS, decode_rgb
from saccade.data.preprocess import Preprocess
from saccade.data.source import Source
from saccade.errors import ConfigError, DataError, is_out_of_memory

MAX_REPLACEMENTS = 100
"""So many unreadable images in a row end a run: the data is not there at all."""

Augmentation = Callable[[Image.Image], Tensor]
"""From an RGB picture to (C, S, S) float32, drawing from the global generators."""


class SampleKey(NamedTuple):
    """Which sample, and the seed of everything random that happens to it."""

    index: int
    seed: int


def sample_seed(seed: int, epoch: int, index: int, copy: int = 0) -> int:
    """Derive the seed of one sample from what it is.

    Args:
        seed: Of the run.
        epoch: From 0.
        index: Position in the data set.
        copy: Which of the sample's repeated augmentations, from 0.

    Returns:
        63 bits, equal on every machine and in every version.
    """
    packed = struct.pack("<qqqq", seed, epoch, index, copy)
    return int.from_bytes(hashlib.blake2b(packed, digest_size=8).digest(), "little") >> 1


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators of Python, NumPy and torch (CPU) inside the block, and put them back after it."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


class TolerantDataset(Dataset, abc.ABC):
    """Samples made from files, some of which may be unreadable: that never raises.

    In training the next sample that can be made stands in, under the same seed, so it is the same one every time. In
    evaluation the sample comes without content (`empty`), and the function that joins batches leaves it out. Both
    ways the sample's `skipped`, a list of (name, reason), names the files.
    """

    names: Sequence[str]
    """What to call each sample."""
    where: str
    """Where they are from, for errors."""
    notes: Sequence[str] = ()
    """Lines worth telling the user: what was left out."""
    augment: Callable[..., Any] | None = None
    """The training transform; None: evaluate."""
    advice: str = ""
    """What to do when nothing can be read, after a semicolon."""

    def __len__(self) -> int:
        return len(self.names)

    @property
    def train(self) -> bool:
        """Whether other samples may stand in."""
        return self.augment is not None

    @abc.abstractmethod
    def make(self, index: int, seed: int) -> dict[str, Any]:
        """Make the content of one sample, augmented in training.

        Raises:
            DataError: Its file is unreadable.
        """

    def empty(self) -> dict[str, Any]:
        """Return the content of a sample of evaluation that could not be made."""
        return {"image": torch.empty(0)}

    def about(self, index: int) -> dict[str, Any]:
        """Return what is known of a sample without its file."""
        return {}

    def __getitem__(self, key: int | SampleKey) -> dict[str, Any]:
        """Make one sample.

        Args:
            key: A position, or a position with the seed of everything random (that of epoch 0 and seed 0 otherwise).

        Returns:
            Its content, what is known of it, index, name and unreadable.

        Raises:
            DataError: In training, `MAX_REPLACEMENTS` samples in a row (or all of them) are unreadable.
            IndexError: No such position.
        """
        index, seed = key if isinstance(key, tuple) else (int(key), sample_seed(0, 0, int(key)))
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        skipped: list[tuple[str, str]] = []
        for step in range(min(len(self), MAX_REPLACEMENTS) if self.train else 1):
            at = (index + step) % len(self)
            try:
                content = self.make(at, seed)
            except Exception as error:
                # Memory running out over one sample is that sample's fault; anything else is ours and must show.
                if not isinstance(error, DataError) and not is_out_of_memory(error):
                    raise
                reason = str(error) if isinstance(error, DataError) else "not enough memory to decode it"
                skipped.append((self.names[at], reason))
                continue
            return self._sample(content, at, skipped)
        if not self.train:
            return self._sample(self.empty(), index, skipped)
        raise DataError(
            f"{self.where}: {len(skipped)} samples in a row cannot be read, the first being "
            f"{skipped[0][1]}{self.advice}"
        )

    def _sample(self, content: dict[str, Any], index: int, skipped: list[tuple[str, str]]) -> dict[str, Any]:
        known = {"index": index, "name": self.names[index], "skipped": skipped}
        return content | self.about(index) | known


class ImageDataset(TolerantDataset):
    """The samples of a source under a training or evaluation transform.

    A sample is a dictionary:

        image   (C, S, S) float32, normalised; without content (0, C, S, S)
        label   int, -1 when there is none
        index   int, position in the data set
        name    str
        skipped  list of (name, reason): files that could not be read while this sample was made
    """

    advice = "; run `saccade data check` on it"

    def __init__(
        self,
        source: Source,
        preprocess: Preprocess,
        *,
        augment: Augmentation | None = None,
        max_pixels: int = MAX_PIXELS,
        scaled: bool = False,
    ):
        """Join a source and a transform.

        Args:
            source: Where the images come from.
            preprocess: The evaluation transform, which also fixes the shape.
            augment: The training transform; None: evaluate.
            max_pixels: Larger pictures count as skipped.
            scaled: Scaled JPEG decoding in evaluation; see `Preprocess.fast`.

        Raises:
            ConfigError: The source is a stream.
        """
        if not len(source.names):
            raise ConfigError(
                f"{source.where}: streamed shards have no numbers; use saccade.data.make_dataset"
            )
        self.names, self.where, self.notes = source.names, source.where, source.notes
        self.source = source
        self.preprocess = preprocess
        self.augment = augment
        self.max_pixels = max_pixels
        self.scaled = scaled

    @property
    def labels(self) -> list[str]:
        """Class names in the order of the indices."""
        return self.source.labels

    def about(self, index: int) -> dict[str, Any]:
        """Return the label."""
        return {"label": int(self.source.targets[index])}

    def empty(self) -> dict[str, Any]:
        """Return no picture, of the right shape otherwise."""
        side = self.preprocess.size
        return {"image": torch.empty(0, self.preprocess.channels, side, side)}

    def make(self, index: int, seed: int) -> dict[str, Any]:
        """Decode and transform a picture.

        Raises:
            DataError: It cannot be read.
        """
        encoded = self.source.read(index)
        if self.augment is None:
            return {"image": self.preprocess.fast(encoded, max_pixels=self.max_pixels, scaled=self.scaled)}
        pixels = decode_rgb(encoded, max_pixels=self.max_pixels)
        with seeded(seed):
            return {"image": self.augment(Image.fromarray(pixels))}


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Join samples of an `ImageDataset` into one batch, leaving out those without an image.

    Args:
        samples: At least one.

    Returns:
        image (batch, C, S, S) float32, label and index (batch,) int64, name list of str, unreadable list of
        (name, reason). `batch` is 0 when every image of an evaluation batch was unreadable.
    """
    whole = [sample for sample in samples if sample["image"].ndim == 3]
    images = torch.stack([sample["image"] for sample in whole]) if whole else samples[0]["image"]
    return {
        "image": images,
        "label": torch.tensor([sample["label"] for sample in whole], dtype=torch.int64),
        "index": torch.tensor([sample["index"] for sample in whole], dtype=torch.int64),
        "name": [sample["name"] for sample in whole],
        "skipped": [entry for sample in samples for entry in sample["skipped"]],
    }
