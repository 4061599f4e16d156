"""Recognise what the user pointed at and open it: folder, table, shards, one picture or a built-in name."""

from dataclasses import dataclass, field

from saccade.data.config import DataConfig
from saccade.data.source import Source


@dataclass
class SourcePair:
    """Training and validation samples under the same class names."""

    train: Source
    val: Source
    labels: list[str]
    notes: list[str] = field(default_factory=list)
    """How the split was made, what was left out."""


def open_source(spec: str, *, part: str = "all", labels: list[str] | None = None, classes: bool = True) -> Source:
    """Open a place of images.

    Args:
        spec: A folder (class folders, or any images), an image, a table (.csv, .tsv) of path,label[,split],
            WebDataset shards (a .tar, a folder of them, braces, or an address), or a built-in name (digits).
        part: "train", "val" or "all": which side, where the place is divided.
        labels: Fixed class names, as of a trained model; None: those found, in natural order.
        classes: False: labels are not needed, any images will do (prediction).

    Returns:
        The samples in a fixed order.

    Raises:
        DataError: Nothing there, no images, no classes, or class names that do not fit.
    """
    raise NotImplementedError


def open_pair(config: DataConfig, *, seed: int = 0, labels: list[str] | None = None) -> SourcePair:
    """Open training and validation data, splitting where there is no validation data.

    Args:
        config: Says where.
        seed: Of the split, when one is made.
        labels: Fixed class names.

    Returns:
        Both sides.

    Raises:
        DataError: As `open_source`; also one class only, or too few samples to split.
    """
    raise NotImplementedError
