"""WebDataset shards: tar files of samples, each a few members that share a name up to the first dot.

Uncompressed shards on this machine are indexed once by their headers and then behave like any other source: every
sample can be read by number, shuffled fully, and resumed exactly. Shards anywhere else (an address, a command, a
compressed tar) become a `ShardStream`, read front to back; see `saccade.data.stream`. What may be fetched or run is
decided by `saccade.trust`.

Labels come from a `cls` member (a number or a name) or a `json` member with a key label, class, cls or target.
Class names come from `dataset.json`, `classes.json` or `classes.txt` (one a line) beside the shards. `dataset.json`,
which `saccade data convert` writes, also says how many samples each shard holds.
"""

import math
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np

from saccade.data.decode import EXTENSIONS
from saccade.data.folder import PART_NAMES, list_folder
from saccade.data.source import NO_LABEL, PackedStrings, Source, index_labels
from saccade.errors import DataError
from saccade.extras import require
from saccade.files import open_regular, parse_json
from saccade.files.pictures import MAX_BYTES
from saccade.trust import Stored, check_place, given, scheme_of

MAX_SHARDS = 1_000_000
MAX_LABEL_BYTES = 1 << 20
MAX_INDEX_BYTES = 1 << 26
MAX_CLASSES = 1 << 20
MAX_DIGITS = 18
"""Of a number that is a label."""
_LABEL_KEYS = ("label", "class", "cls", "target", "class_name")

LabelToken = int | str | None
"""A label as it stands in a shard: a number, a name, or nothing."""


@dataclass
class Member:
    """One sample of a shard before anything is decoded."""

    name: str
    label: LabelToken
    offset: int
    """Of the image in the file; -1 in a stream."""
    size: int
    data: bytes | None
    """The image, in a stream."""


def is_shard_spec(spec: str) -> bool:
    """Whether a text names shards: an address, a pipe, braces, or something ending in .tar (also compressed)."""
    if scheme_of(spec) or "://" in spec or "::" in spec:
        return True
    return ".tar" in spec and (Path(spec).is_file() or "{" in spec)


def expand_shards(spec: str) -> list[str]:
    """List the shards that a text or folder names.

    Args:
        spec: A folder, a path or an address; braces such as {000..127} and lists joined by :: are expanded.

    Raises:
        DataError: No shards, or too many.
        ConfigError: A command or an address without the caller's word; see `saccade.trust`.
    """
    folder = Path(spec).expanduser()
    if folder.is_dir():
        check_place(spec)
        found = [name for name, is_folder in list_folder(folder) if not is_folder and name.endswith(".tar")]
        if not found:
            raise DataError(f"{spec}: no .tar shards in this folder")
        return [str(folder / name) for name in found]
    urls: list[str] = []
    for piece in spec.split("::"):
        if "{" in piece:
            # Counted first: the expansion builds every name before it gives the first.
            ranges = re.findall(r"\{(\d+)\.\.(\d+)", piece)
            if math.prod(abs(int(last) - int(first)) + 1 for first, last in ranges) > MAX_SHARDS:
                raise DataError(f"{spec}: more than {MAX_SHARDS} shards; check the braces")
            expand = require("braceexpand", "shards", "to expand {..} in shard names").braceexpand
            urls += expand(piece)
        else:
            urls.append(piece)
    for url in urls:
        check_place(url, spec)
    return urls


def need_local(*specs: str) -> None:
    """Refuse, before anything is fetched or run, shards that could only be streamed.

    Raises:
        DataError: An address or a command.
    """
    for spec in specs:
        typed = is_shard_spec(spec) and not isinstance(spec, Stored)
        if typed and any(scheme_of(piece) for piece in spec.split("::")):
            raise DataError(
                f"{spec}: shards at an address or of a command are read front to back only, in training; copy them "
                "to this machine first"
            )


def part_of_shards(urls: Sequence[str], part: str) -> list[str]:
    """Choose the shards whose file names say train or val; none when they do not say."""
    return [url for url in urls if any(name in _file_name(url).lower() for name in PART_NAMES[part])]


def _file_name(url: str) -> str:
    return url.rsplit("/", 1)[-1]


def _local_path(url: str) -> Path | None:
    """Path of an uncompressed shard on this machine; None for anything else."""
    if scheme_of(url):
        return None
    if url.startswith("file://"):
        url = urlsplit(url).path
    path = Path(url).expanduser()
    return path if path.suffix == ".tar" else None


def read_members(tar: tarfile.TarFile, *, keep: bool) -> Iterator[Member]:
    """Go through the samples of an open tar file.

    Args:
        tar: Opened for reading, by position or as a stream.
        keep: Read the images now (a stream cannot go back).

    Yields:
        Samples that have an image, in the order of the file.

    Raises:
        DataError: An absurdly large member.
        tarfile.TarError: The file is damaged.
    """
    current: Member | None = None
    key, label = None, None
    for info in tar:
        tar.members = []  # type: ignore[attr-defined]  # the list is kept for random access by name, which nobody wants here
        folder, _, file = info.name.rpartition("/")
        stem, dot, suffix = file.partition(".")
        if not info.isreg() or not dot or not stem or stem.startswith("__"):
            continue
        name = f"{folder}/{stem}" if folder else stem
        if name != key:
            if current is not None:
                current.label = label
                yield current
            key, current, label = name, None, None
        kind = suffix.lower()
        if kind in ("cls", "json"):
            if info.size > MAX_LABEL_BYTES:
                raise DataError(f"{tar.name}: {info.name} is {info.size} bytes, too large for a label")
            found = _read_label(kind, _extract(tar, info))
            label = found if found is not None else label
        elif "." + kind.rpartition(".")[2] in EXTENSIONS:
            if info.size > MAX_BYTES:
                raise DataError(f"{tar.name}: {info.name} is {info.size} bytes, too large for an image")
            if current is None:
                current = Member(
                    name, None, info.offset_data, info.size, _extract(tar, info) if keep else None
                )
    if current is not None:
        current.label = label
        yield current


def _extract(tar: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    file: IO[bytes] | None = tar.extractfile(info)
    data = file.read() if file is not None else b""
    if len(data) != info.size:
        raise tarfile.ReadError("unexpected end of data")
    return data


def _read_label(kind: str, data: bytes) -> LabelToken:
    """Read a label out of a cls or json member."""
    text = data.decode("utf-8", "replace").strip()
    if kind == "json":
        try:
            values = parse_json(text, where="label")
        except DataError:
            return None
        if isinstance(values, dict):
            values = next((values[key] for key in _LABEL_KEYS if key in values), None)
        if isinstance(values, bool) or not isinstance(values, int | str):
            return None
        text = str(values)
    # Longer numbers are names, as are all that are no classes of anything.
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS else text or None


def resolve_labels(
    tokens: Sequence[LabelToken], class_names: list[str] | None, labels: list[str] | None, where: str
) -> tuple[np.ndarray, list[str]]:
    """Turn labels as they stand in shards into class indices.

    Args:
        tokens: Label of each sample.
        class_names: What the numbers mean, from beside the shards.
        labels: Fixed class names, as of a trained model.
        where: For error messages.

    Returns:
        (samples,) int64 and the class names.

    Raises:
        DataError: A number without a name, or a name that is not among the fixed ones.
    """
    numbers = [token for token in tokens if isinstance(token, int)]
    largest = max(numbers, default=-1)
    if largest >= MAX_CLASSES:
        raise DataError(
            f"{where}: label {largest}; expected numbers of at most {MAX_CLASSES} classes, from 0"
        )
    # Without names the numbers are the names, unless a model has fixed what they mean.
    names = class_names or labels or [str(number) for number in range(largest + 1)]
    if largest >= len(names):
        raise DataError(
            f"{where}: label {largest} is beyond the {len(names)} class names; correct classes.txt"
        )
    found = ["" if token is None else names[token] if isinstance(token, int) else token for token in tokens]
    return index_labels(found, labels or class_names or (names if numbers else None), where)


def read_class_names(beside: str) -> tuple[list[str] | None, dict[str, int]]:
    """Read class names, and the samples per shard, from the files beside a shard.

    Args:
        beside: Path or address of any shard.

    Returns:
        Class names or None, and shard file name -> number of samples.

    Raises:
        DataError: A file is there but is not what it should be.
    """
    base, slash, _ = beside.rpartition("/")
    if scheme_of(beside) == "pipe":
        return None, {}
    for name in ("dataset.json", "classes.json", "classes.txt"):
        data = _read_beside(f"{base}{slash}{name}")
        if data is None:
            continue
        where = f"{base}{slash}{name}"
        if name.endswith(".txt"):
            return [line.strip() for line in data.decode("utf-8", "replace").splitlines() if line.strip()], {}
        values: Any = parse_json(data, where=where, max_bytes=MAX_INDEX_BYTES)
        counts = values.get("shards", {}) if isinstance(values, dict) else {}
        values = values.get("classes") if isinstance(values, dict) else values
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise DataError(f"{where}: expected a list of class names, or an object with one under 'classes'")
        if not isinstance(counts, dict) or not all(
            isinstance(count, int) and 0 <= count < 1 << 40 for count in counts.values()
        ):
            raise DataError(f"{where}: 'shards' should give a number of samples for each file name")
        return values, counts
    return None, {}


def _read_beside(url: str) -> bytes | None:
    """Read a small file, local or not; None when there is none."""
    if not scheme_of(url) and not url.startswith("file://"):
        path = Path(url)
        return path.read_bytes()[:MAX_INDEX_BYTES] if path.is_file() else None
    try:
        with open_address(url) as file:
            return file.read(MAX_INDEX_BYTES)
    except (
        OSError,
        ValueError,
    ):  # webdataset: OSError from the tool that fetches, ValueError from the address
        return None


def open_address(url: str, *, commands: bool = False) -> Any:
    """Open a shard for reading bytes: a file, an address, a command.

    Args:
        url: What to open.
        commands: Whether the caller of this call named a command and said that it may run.

    Raises:
        DataError: A command without that word, or no regular file.
        MissingExtraError: webdataset is not installed.
    """
    scheme = scheme_of(url)
    if not scheme:
        path = Path(url2pathname(urlsplit(url).path) if url.startswith("file://") else url).expanduser()
        return open_regular(path)
    if scheme == "pipe":
        if not commands:
            raise DataError(f"{url!r} runs a command; add --allow-pipe (in Python allow_pipe=True) to let it")
        url = "pipe:" + url.partition(":")[2]
    # Of webdataset's readers only that of commands goes through a shell; the others pass an address as one word.
    return require("webdataset.gopen", "shards", "to read shards from an address or pipe").gopen(url)


class ShardSource(Source):
    """Samples of uncompressed shards on this machine, read by position."""

    def __init__(
        self, paths: list[Path], *, labels: list[str] | None = None, classes: bool = True, where: str = ""
    ):
        """Index the shards by their headers; the images are not read.

        Args:
            paths: The tar files.
            labels: Fixed class names.
            classes: Whether every sample must have a label.
            where: What the user called them.

        Raises:
            DataError: A missing, damaged or empty shard, or a sample without a label.
        """
        self.where = where or str(paths[0])
        self.notes = []
        self._paths = paths
        names, tokens, shards, offsets, sizes = [], [], [], [], []
        for number, path in enumerate(paths):
            try:
                with open_regular(path) as file, tarfile.open(fileobj=file, mode="r:") as tar:
                    for member in read_members(tar, keep=False):
                        names.append(member.name)
                        tokens.append(member.label)
                        shards.append(number)
                        offsets.append(member.offset)
                        sizes.append(member.size)
                        # Headers alone do not show that the last image is cut off.
                        if member.offset + member.size > path.stat().st_size:
                            raise tarfile.ReadError("unexpected end of data")
            except OSError as error:
                raise DataError(f"{path}: the shard cannot be read ({error.strerror or error})") from None
            except tarfile.TarError as error:
                raise DataError(f"{path}: the shard is damaged ({error}); copy it again") from None
        if not names:
            raise DataError(
                f"{self.where}: no images in {len(paths)} shards; expected members such as 000.jpg, 000.cls"
            )
        if classes and None in tokens:
            name = names[tokens.index(None)]
            raise DataError(
                f"{self.where}: sample {name} has no label; expected {name.rpartition('/')[2]}.cls or .json"
            )
        if len(set(names)) < len(names):  # the same keys in several shards
            names = [f"{paths[shard].stem}/{name}" for shard, name in zip(shards, names, strict=True)]
        self.names = PackedStrings(names)
        class_names, _ = read_class_names(str(paths[0]))
        self.targets, self.labels = resolve_labels(tokens, class_names, labels, self.where)
        self._shards = np.array(shards, dtype=np.int32)
        self._offsets, self._sizes = np.array(offsets, dtype=np.int64), np.array(sizes, dtype=np.int64)

    def read(self, index: int) -> bytes:
        """Read the bytes of sample `index`."""
        path = self._paths[self._shards[index]]
        try:
            # Opened anew each time: an open file would be shared by forked loader processes, position and all.
            with open_regular(path) as file:
                file.seek(int(self._offsets[index]))
                return file.read(int(self._sizes[index]))
        except OSError as error:
            raise DataError(f"{path}: the shard cannot be read ({error.strerror or error})") from None

    def path(self, index: int) -> None:
        """Say that no sample is a file of its own."""


class ShardStream(Source):
    """Shards that can only be read front to back; `saccade.data.stream.StreamDataset` reads them.

    Attributes:
        urls: The shards.
        class_names: What numbers in the shards mean.
    """

    def __init__(
        self, urls: list[str], *, labels: list[str] | None = None, where: str = "", commands: bool = False
    ):
        """Find out how many samples and which classes there are.

        Both come from `dataset.json` beside the shards; without it, all shards are read once.

        Args:
            urls: The shards.
            labels: Fixed class names.
            where: What the user called them.
            commands: Whether shards that are commands may run.

        Raises:
            DataError: A shard cannot be read, or there are no images.
        """
        self.urls, self.commands = urls, commands
        self.where = where or urls[0]
        self.notes = []
        self.class_names, counts = read_class_names(urls[0])
        if self.class_names is not None and all(_file_name(url) in counts for url in urls):
            number = sum(counts[_file_name(url)] for url in urls)
            self.labels = labels or self.class_names
        else:
            tokens = [member.label for url in urls for member in stream_members(url, commands=commands)]
            number = len(tokens)
            _, self.labels = resolve_labels(tokens, self.class_names, labels, self.where)
            self.notes.append(
                f"{self.where}: read once to count {number} samples; `saccade data convert` writes shards that say it"
            )
        if not number:
            raise DataError(f"{self.where}: no images in {len(urls)} shards")
        self.targets = np.full(number, NO_LABEL, dtype=np.int64)
        self.names = PackedStrings([])

    def read(self, index: int) -> bytes:
        """Refuse: a stream has no numbers.

        Raises:
            DataError: Always.
        """
        raise DataError(
            f"{self.where}: streamed shards cannot be read by number; copy them to this machine first"
        )

    def target(self, token: LabelToken) -> int:
        """Class index of a label as it stands in the shard; `NO_LABEL` when there is none.

        Raises:
            DataError: A label that is none of the classes.
        """
        if token is None:
            return NO_LABEL
        names = self.class_names or self.labels
        return int(resolve_labels([token], names, self.labels, self.where)[0][0])


def stream_members(url: str, *, commands: bool = False) -> Iterator[Member]:
    """Read the samples of one shard front to back, images included; arguments as of `open_address`.

    Raises:
        DataError: The shard cannot be opened or is damaged.
    """
    try:
        with open_address(url, commands=commands) as file, tarfile.open(fileobj=file, mode="r|*") as tar:
            yield from read_members(tar, keep=True)
    except (OSError, ValueError, EOFError, tarfile.TarError) as error:
        raise DataError(f"{url}: the shard cannot be read ({error})") from None


def open_shards(
    spec: str, *, part: str = "all", labels: list[str] | None = None, classes: bool = True
) -> ShardSource | ShardStream:
    """Open shards, on this machine or elsewhere.

    Args:
        spec: As `expand_shards`.
        part: "train" or "val": only the shards whose names say so, when some do; "all": every one.
        labels: Fixed class names.
        classes: Whether every sample must have a label.

    Raises:
        DataError: No shards, a damaged one, or samples without labels.
    """
    urls = expand_shards(spec)
    if part != "all" and part_of_shards(urls, "train") and part_of_shards(urls, "val"):
        urls = part_of_shards(urls, part)
    paths = [_local_path(url) for url in urls]
    local = [path for path in paths if path is not None]
    if len(local) == len(urls):
        return ShardSource(local, labels=labels, classes=classes, where=spec)
    return ShardStream(urls, labels=labels, where=spec, commands=given().pipe)
