"""What every place of images looks like: a numbered list of names and labels, and a way to read one.

A `Source` holds no pixels and no open files, so it is cheap to copy into loader processes.
"""

import abc
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np

from saccade.data.decode import Encoded
from saccade.errors import DataError, did_you_mean

NO_LABEL = -1
"""The label of a sample that has none."""


class PackedStrings(Sequence[str]):
    """An immutable list of strings in two arrays.

    A list of a million Python strings is copied page by page into every forked loader process, because
    counting references writes to it; two arrays stay shared.
    """

    def __init__(self, strings: Iterable[str]):
        # File names that are not valid UTF-8 come from the system with surrogates; keep them as they are.
        pieces = [text.encode("utf-8", "surrogateescape") for text in strings]
        self._ends = np.cumsum([len(piece) for piece in pieces], dtype=np.int64)
        self._text = np.frombuffer(b"".join(pieces), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        start = int(self._ends[index - 1]) if index else 0
        return self._text[start : int(self._ends[index])].tobytes().decode("utf-8", "surrogateescape")


class Source(abc.ABC):
    """A numbered list of samples.

    Attributes:
        names: What to call each sample in reports, unique within the source.
        targets: (length,) int64 class indices, or `NO_LABEL`.
        labels: Class names in the order of the indices; empty when there are no classes.
        notes: Lines worth telling the user about how this source was read.
        where: The path or address it was opened from.
    """

    names: Sequence[str]
    targets: np.ndarray
    labels: list[str]
    notes: list[str]
    where: str

    def __len__(self) -> int:
        return len(self.targets)

    @abc.abstractmethod
    def read(self, index: int) -> Encoded:
        """Give sample `index` as file contents, a path, or a Pillow image.

        Raises:
            DataError: It cannot be read.
        """

    def path(self, index: int) -> Path | None:
        """File of sample `index`, when it is one file of its own."""
        value = self.read(index)
        return value if isinstance(value, Path) else None

    def subset(self, indices: Sequence[int] | np.ndarray) -> "Source":
        """Choose samples by number, in the order given."""
        return Subset(self, np.asarray(indices, dtype=np.int64))

    def counts(self) -> dict[str, int]:
        """Number of samples of each class."""
        numbers = np.bincount(self.targets[self.targets >= 0], minlength=len(self.labels))
        return {label: int(number) for label, number in zip(self.labels, numbers, strict=False)}


class FileSource(Source):
    """Images that are files of their own under one folder."""

    def __init__(
        self,
        root: Path,
        files: Sequence[str],
        targets: Sequence[int] | np.ndarray,
        labels: list[str],
        *,
        where: str = "",
        notes: Iterable[str] = (),
    ):
        """Keep the list.

        Args:
            root: Folder that relative `files` are under.
            files: Path of each image, relative to `root` or absolute; also its name.
            targets: Class index of each.
            labels: Class names.
            where: What the user called this source.
            notes: For the user.
        """
        self.root = root
        self.names = PackedStrings(files)
        self.targets = np.asarray(targets, dtype=np.int64)
        self.labels = labels
        self.notes = list(notes)
        self.where = where or str(root)

    def read(self, index: int) -> Path:
        """Give the path of sample `index`."""
        return self.root / self.names[index]


class Subset(Source):
    """Some samples of another source."""

    def __init__(self, parent: Source, indices: np.ndarray):
        self.parent = parent
        self.indices = indices
        self.names = _Chosen(parent.names, indices)
        self.targets = parent.targets[indices]
        self.labels = parent.labels
        self.notes = []
        self.where = parent.where

    def read(self, index: int) -> Encoded:
        """Give what the parent reads."""
        return self.parent.read(int(self.indices[index]))


class _Chosen(Sequence[str]):
    """Names looked up in the parent, so that they are not stored twice."""

    def __init__(self, names: Sequence[str], indices: np.ndarray):
        self._names, self._indices = names, indices

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._names[int(self._indices[index])]


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sort key in which class2 comes before class10, and case does not matter before it must."""
    pieces = re.split(r"(\d+)", text)
    # The digits test is on ASCII only: int() and isdigit() disagree about other scripts' numerals.
    key = [(0, int(p), "") if p.isascii() and p.isdigit() else (1, 0, p.casefold()) for p in pieces if p]
    return [*key, (2, 0, text)]


def natural_sorted(texts: Iterable[str]) -> list[str]:
    """Sort as people do: by number where there are numbers."""
    return sorted(texts, key=natural_key)


def index_labels(found: Sequence[str], labels: list[str] | None, where: str) -> tuple[np.ndarray, list[str]]:
    """Turn class names into indices.

    Args:
        found: Class name of each sample; "" where there is none.
        labels: Fixed class names, as of a trained model; None: those that were found, in natural order.
        where: For the error message.

    Returns:
        Indices (length of `found`,) int64 and the class names.

    Raises:
        DataError: A name that is not among the fixed ones.
    """
    names = natural_sorted(set(found) - {""}) if labels is None else labels
    place = {name: index for index, name in enumerate(names)} | {"": NO_LABEL}
    try:
        return np.array([place[name] for name in found], dtype=np.int64), list(names)
    except KeyError as error:
        name = str(error.args[0])
        raise DataError(
            f"{where}: class {name!r} is not one of the {len(names)} classes of the model or training data"
            f"{did_you_mean(name, names)}"
        ) from None


def iterate_sources(source: Source) -> Iterator[tuple[str, int, Encoded]]:
    """Go through name, label and contents of every sample in order."""
    for index in range(len(source)):
        yield source.names[index], int(source.targets[index]), source.read(index)
