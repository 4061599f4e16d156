"""Write data in another form: folder, table or shards; whole or divided. All or nothing."""

import io
import json
import os
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from saccade import files
from saccade.data.dataset import sample_seed
from saccade.data.decode import EXTENSIONS
from saccade.data.opening import is_divided, open_source
from saccade.data.shards import ShardStream, need_local
from saccade.data.source import Source
from saccade.data.split import stratified_split
from saccade.data.table import Row, write_table
from saccade.errors import ConfigError, DataError, did_you_mean
from saccade.files import open_regular
from saccade.files.pictures import FORMATS, open_picture, read_bytes

FORMS = ("folder", "table", "shards")
SHARD_BYTES = 256 << 20

Progress = Callable[[int, int], None]


@dataclass
class Written:
    """What was written."""

    counts: dict[str, int]
    """Images in each part."""
    skipped: list[tuple[str, str]] = field(default_factory=list)
    """(name, reason) of the images that cannot be read and were left out."""


def form_of(out: Path | str, form: str = "") -> str:
    """Decide what to write: what was asked for, else a table for .csv and .tsv, else a folder.

    Raises:
        ConfigError: An unknown form.
    """
    if form and form not in FORMS:
        raise ConfigError(f"form {form!r} is unknown{did_you_mean(form, FORMS)}")
    return form or ("table" if Path(out).suffix.lower() in (".csv", ".tsv") else "folder")


def open_parts(spec: str) -> dict[str, Source]:
    """Open a place of images as it is divided: {"train", "val"}, or {"": everything}."""
    need_local(spec)
    if not is_divided(spec):
        return {"": open_source(spec)}
    train = open_source(spec, part="train")
    return {"train": train, "val": open_source(spec, part="val", labels=train.labels)}


def split_parts(spec: str, fraction: float, *, seed: int = 0) -> dict[str, Source]:
    """Divide a place of images that is not divided yet, class by class.

    Args:
        spec: As `open_source`.
        fraction: Share for validation, in (0, 1).
        seed: Another seed, another split; the same as in training.

    Raises:
        DataError: Already divided, or a stream.
    """
    need_local(spec)
    if is_divided(spec):
        raise DataError(
            f"{spec}: is divided into training and validation already; use `saccade data convert`"
        )
    source = open_source(spec)
    if isinstance(source, ShardStream):
        raise DataError(f"{spec}: streamed shards cannot be split; copy them to this machine first")
    train, val = stratified_split(source.targets, fraction, seed=seed)
    return {"train": source.subset(train), "val": source.subset(val)}


def write_parts(
    parts: dict[str, Source],
    out: Path | str,
    *,
    form: str = "",
    link: bool = False,
    seed: int = 0,
    shard_bytes: int = SHARD_BYTES,
    progress: Progress | None = None,
) -> Written:
    """Write sources in another form; file contents are copied as they are, never compressed anew.

    Files that cannot be read (missing, empty, no regular files) are left out and named; what is inside of the others
    is not looked at.

    Args:
        parts: Sources by part, from `open_parts` or `split_parts`.
        out: A file for a table, else a folder that does not exist or is empty.
        form: "folder", "table" or "shards"; empty: see `form_of`.
        link: For a folder: make links to the original files instead of copies.
        seed: Of the order in shards, which is shuffled so that a stream need not be.
        shard_bytes: Begin a new shard after so many bytes.
        progress: Called with (images done, images in all).

    Raises:
        DataError: `out` is in use, a stream, a class name that cannot be a folder, or no file can be read.
        ConfigError: An unknown form, links to things that are not files, or another process is writing there.
    """
    out, form = Path(out), form_of(out, form)
    with files.writing(out, "converting data", beside=True):
        return _write_held(parts, out, form, link, seed, shard_bytes, progress)


def _write_held(
    parts: dict[str, Source],
    out: Path,
    form: str,
    link: bool,
    seed: int,
    shard_bytes: int,
    progress: Progress | None,
) -> Written:
    """As `write_parts`, to a place whose lock is held."""
    if (out.is_dir() and any(out.iterdir())) or out.is_file():
        raise DataError(f"{out}: exists already; give another --out or remove it")
    for source in parts.values():
        if isinstance(source, ShardStream):
            raise DataError(
                f"{source.where}: streamed shards cannot be converted; copy them to this machine first"
            )
    count = _Counter(sum(len(source) for source in parts.values()), progress)
    if form == "table":
        _write_table(parts, out)
    else:
        with files.replacing(out) as temporary:
            temporary.mkdir()
            if form == "folder":
                for part, source in parts.items():
                    _write_folder(part, source, temporary / part, link, count)
            else:
                _write_shards(parts, temporary, seed, shard_bytes, count)
            if count.skipped and len(count.skipped) == count.total:
                raise DataError(
                    f"none of {count.total} images can be read, the first being {count.skipped[0][1]}"
                )
    counts = {part: len(source) - count.left_out[part] for part, source in parts.items()}
    return Written(counts, count.skipped)


class _Counter:
    """Counts images for the progress bar, and those left out."""

    def __init__(self, total: int, progress: Progress | None):
        self.total = total
        self.skipped: list[tuple[str, str]] = []
        self.left_out: Counter[str] = Counter()
        self._done, self._progress = 0, progress

    def leave_out(self, part: str, name: str, error: DataError) -> None:
        """Note an image that cannot be read."""
        self.left_out[part] += 1
        self.skipped.append((name, str(error)))
        self.step()

    def step(self) -> None:
        """Note one more image done."""
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self.total)


def _write_table(parts: dict[str, Source], out: Path) -> None:
    """List the files relative to the table."""
    rows = []
    home = out.absolute().parent
    for part, source in parts.items():
        for index in range(len(source)):
            path = source.path(index)
            if path is None:
                raise ConfigError(
                    f"{source.where}: these samples are no files to list; convert to a folder first"
                )
            try:
                shown = os.path.relpath(path.absolute(), home)
            except ValueError:  # another drive
                shown = str(path.absolute())
            rows.append(Row(Path(shown).as_posix(), _label(source, index), part))
    write_table(out, rows)


def _write_folder(part: str, source: Source, root: Path, link: bool, count: _Counter) -> None:
    """Write one folder per class."""
    for label in source.labels:
        if (
            label in ("", ".", "..")
            or "/" in label
            or "\\" in label
            or "\0" in label
            or label.startswith(".")
        ):
            raise DataError(f"{source.where}: class {label!r} cannot be a folder name; rename it")
        (root / label).mkdir(parents=True, exist_ok=True)
    root.mkdir(parents=True, exist_ok=True)
    taken: set[str] = set()
    for index in range(len(source)):
        original = source.path(index)
        try:
            data, suffix = _contents(source, index, original, link)
        except DataError as error:
            count.leave_out(part, source.names[index], error)
            continue
        folder = root / _label(source, index)
        # The last piece alone: names from shards may be any path, also one that leads out of the folder.
        name = source.names[index].replace("\\", "/").rpartition("/")[2]
        stem = Path(name).stem.lstrip(".") if Path(name).suffix.lower() in EXTENSIONS else name.lstrip(".")
        target = folder / f"{stem or 'image'}{suffix}"
        again = 1
        while str(target).lower() in taken:  # lower: some file systems do not tell cases apart
            again += 1
            target = folder / f"{stem}-{again}{suffix}"
        taken.add(str(target).lower())
        if data is not None:
            target.write_bytes(data)
        else:
            assert original is not None
            target.symlink_to(original.absolute())
        count.step()


def _contents(source: Source, index: int, original: Path | None, link: bool) -> tuple[bytes | None, str]:
    """Read a sample to be copied, or look whether there is a file to be linked to (None), and find its suffix.

    Raises:
        DataError: It cannot be read.
        ConfigError: No file to link to.
    """
    if link and original is None:
        raise ConfigError(f"{source.where}: these samples are no files to link to; leave out --link")
    if original is None:
        return read_image(source, index)
    if not link:
        return read_bytes(original), original.suffix
    open_regular(original).close()
    return None, original.suffix


def _write_shards(parts: dict[str, Source], root: Path, seed: int, shard_bytes: int, count: _Counter) -> None:
    """Write tar files of image, cls and json members, and dataset.json beside them."""
    counts: dict[str, int] = {}
    labels: list[str] = []
    for part, source in parts.items():
        labels = source.labels
        draws = np.random.PCG64(sample_seed(seed, 0, 0, len(part))).random_raw(len(source))
        order = np.argsort(draws, kind="stable")
        stem = part or "all"
        tar, size = None, 0
        try:
            for place, index in enumerate(order.tolist()):
                try:
                    members = list(_members(source, index))
                except DataError as error:
                    count.leave_out(part, source.names[int(index)], error)
                    continue
                if tar is None or size > shard_bytes:
                    if tar is not None:
                        tar.close()
                    name = f"{stem}-{sum(key.startswith(stem + '-') for key in counts):06d}.tar"
                    tar, size, counts[name] = tarfile.open(root / name, "w"), 0, 0  # noqa: SIM115
                for suffix, data in members:
                    info = tarfile.TarInfo(f"{place:09d}{suffix}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
                    size += len(data) + 512
                counts[name] += 1
                count.step()
        finally:
            if tar is not None:
                tar.close()
    facts = {"classes": labels, "samples": sum(counts.values()), "shards": counts}
    (root / "dataset.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False), encoding="utf-8")


def _members(source: Source, index: int) -> Iterator[tuple[str, bytes]]:
    """The files of one sample in a shard."""
    data, suffix = read_image(source, index)
    target = int(source.targets[index])
    yield suffix, data
    facts: dict[str, str] = {"name": source.names[index]}
    if target >= 0:
        yield ".cls", str(target).encode()
        facts["label"] = source.labels[target]
    yield ".json", json.dumps(facts, ensure_ascii=False).encode()


def read_image(source: Source, index: int) -> tuple[bytes, str]:
    """Read the encoded image of a sample and find the suffix that fits it.

    Returns:
        File contents, and a suffix such as .jpg: the file's own when it has one that means an image, else
        by the contents. Pictures made on the spot become PNG.

    Raises:
        DataError: It cannot be read, or is no image and its name does not say one.
    """
    encoded = source.read(index)
    if isinstance(encoded, Image.Image):
        buffer = io.BytesIO()
        encoded.save(buffer, "PNG")
        return buffer.getvalue(), ".png"
    data = read_bytes(encoded)
    suffix = Path(source.names[index]).suffix.lower()
    if suffix in EXTENSIONS:
        return data, suffix
    picture = open_picture(data, source.names[index])
    return data, FORMATS.get(picture.format or "", (".png",))[0]


def _label(source: Source, index: int) -> str:
    target = int(source.targets[index])
    return source.labels[target] if target >= 0 else ""
