"""Samples of a source as tensors, and their batches. What is done to a sample depends on its key alone.

timm's and torchvision's transforms draw from the global generators of Python, NumPy and torch. Each sample therefore
runs with all three seeded from its key and put back afterwards, so its augmentation does not depend on which process
makes it, in which order, or what was made before: that is what lets a run stop in the middle of an epoch and go on to
the same bits.
"""

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
from saccade.errors import ConfigError, DataError

MAX_REPLACEMENTS = 100
"""So many broken images in a row end a run: the data is not there at all."""

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


class ImageDataset(Dataset):
    """The samples of a source under a training or evaluation transform.

    A sample is a dictionary:

        image   (C, S, S) float32, normalised
        label   int, -1 when there is none
        index   int, position in the data set
        name    str
        broken  list of (name, reason): files that could not be read while this sample was made

    An unreadable image never raises. In training the next readable sample stands in for it, under the same seed, so
    it is the same one every time. In evaluation `image` is empty, (0, C, S, S), and `collate` leaves the sample out.
    Both ways `broken` names it.
    """

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
            max_pixels: Larger pictures count as broken.
            scaled: Scaled JPEG decoding in evaluation; see `Preprocess.fast`.

        Raises:
            ConfigError: The source is a stream.
        """
        if not len(source.names):
            raise ConfigError(
                f"{source.where}: streamed shards have no numbers; use saccade.data.make_dataset"
            )
        self.source = source
        self.preprocess = preprocess
        self.augment = augment
        self.max_pixels = max_pixels
        self.scaled = scaled

    @property
    def labels(self) -> list[str]:
        """Class names in the order of the indices."""
        return self.source.labels

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: int | SampleKey) -> dict[str, Any]:
        """Make one sample.

        Args:
            key: A position, or a position with the seed of the augmentation (0 epochs, seed 0 otherwise).

        Returns:
            The sample as described at the class.

        Raises:
            DataError: In training, `MAX_REPLACEMENTS` images in a row (or all of them) are unreadable.
            IndexError: No such position.
        """
        index, seed = key if isinstance(key, tuple) else (int(key), sample_seed(0, 0, int(key)))
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        broken: list[tuple[str, str]] = []
        if self.augment is None:
            try:
                image = self.preprocess.fast(
                    self.source.read(index), max_pixels=self.max_pixels, scaled=self.scaled
                )
            except DataError as error:
                side = self.preprocess.size
                image = torch.empty(0, self.preprocess.channels, side, side)
                broken.append((self.source.names[index], str(error)))
            return self._sample(image, index, broken)
        for step in range(min(len(self), MAX_REPLACEMENTS)):
            at = (index + step) % len(self)
            try:
                pixels = decode_rgb(self.source.read(at), max_pixels=self.max_pixels)
            except DataError as error:
                broken.append((self.source.names[at], str(error)))
                continue
            with seeded(seed):
                image = self.augment(Image.fromarray(pixels))
            return self._sample(image, at, broken)
        raise DataError(
            f"{self.source.where}: {len(broken)} images in a row cannot be read, the first being {broken[0][1]}; "
            "run `saccade data check` on it"
        )

    def _sample(self, image: Tensor, index: int, broken: list[tuple[str, str]]) -> dict[str, Any]:
        return {
            "image": image,
            "label": int(self.source.targets[index]),
            "index": index,
            "name": self.source.names[index],
            "broken": broken,
        }


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Join samples of an `ImageDataset` into one batch, leaving out those without an image.

    Args:
        samples: At least one.

    Returns:
        image (batch, C, S, S) float32, label and index (batch,) int64, name list of str, broken list of
        (name, reason). `batch` is 0 when every image of an evaluation batch was unreadable.
    """
    whole = [sample for sample in samples if sample["image"].ndim == 3]
    images = torch.stack([sample["image"] for sample in whole]) if whole else samples[0]["image"]
    return {
        "image": images,
        "label": torch.tensor([sample["label"] for sample in whole], dtype=torch.int64),
        "index": torch.tensor([sample["index"] for sample in whole], dtype=torch.int64),
        "name": [sample["name"] for sample in whole],
        "broken": [entry for sample in samples for entry in sample["broken"]],
    }
