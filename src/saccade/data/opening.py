"""Recognise what the user pointed at and open it: folder, table, shards, one picture or a built-in name."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from saccade.data.builtin import BUILTIN, open_builtin
from saccade.data.config import DataConfig
from saccade.data.decode import is_image_name
from saccade.data.folder import descend, find_parts, has_class_folders, list_folder, open_classes, open_flat
from saccade.data.left_out import LeftOut
from saccade.data.shards import ShardStream, expand_shards, is_shard_spec, open_shards, part_of_shards
from saccade.data.source import NO_LABEL, FileSource, Source, index_labels
from saccade.data.split import stratified_split
from saccade.data.table import TABLE_SUFFIXES, has_parts, open_table
from saccade.data.zips import ZipSource
from saccade.errors import DataError, did_you_mean
from saccade.trust import check_place, trusting

MAX_VAL_FRACTION = 0.9


@dataclass
class SourcePair:
    """Training and validation samples under the same class names."""

    train: Source
    val: Source
    labels: list[str]
    notes: list[str] = field(default_factory=list)
    """How the split was made, what was left out."""


def kind_of(spec: str) -> str:
    """Recognise what a place of images is.

    Returns:
        "builtin", "folder", "table", "shards", "zip" or "image".

    Raises:
        DataError: Nothing there, or a file of no known kind.
    """
    if not spec:
        raise DataError("no data was given; name a folder, a table, shards, or digits with --data")
    if spec.removeprefix("builtin:") in BUILTIN and not Path(spec).exists():
        return "builtin"
    if is_shard_spec(spec):
        expand_shards(spec)  # refuses what may be neither fetched nor run
        return "shards"
    check_place(spec)
    path = Path(spec).expanduser()
    if path.is_dir():
        inside = list_folder(path)
        if any(name.endswith(".tar") for name, _ in inside) and not has_class_folders(path):
            return "shards"
        return "folder"
    if not path.exists():
        raise DataError(_not_there(spec, path))
    if path.suffix.lower() in TABLE_SUFFIXES:
        return "table"
    if is_image_name(path):
        return "image"
    if path.suffix.lower() == ".zip":
        return "zip"
    raise DataError(f"{spec}: expected a folder, a table (.csv, .tsv), shards (.tar), a .zip or an image")


def open_source(
    spec: str,
    *,
    part: str = "all",
    labels: list[str] | None = None,
    classes: bool = True,
    allow_pipe: bool = False,
) -> Source:
    """Open a place of images.

    Args:
        spec: A folder (class folders, or any images), an image, a table (.csv, .tsv) of path,label[,split],
            WebDataset shards (a .tar, a folder of them, braces, or an address), or a built-in name (digits).
        part: "train", "val" or "all": which side, where the place is divided. A folder with train/ and
            val/ has to be one of them for "all" too, and then is train/ when `classes`, everything when not.
        labels: Fixed class names, as of a trained model; None: those found, in natural order.
        classes: False: labels are taken where they are found, and any images will do (prediction).
        allow_pipe: Run the command of a place that is one (pipe:...), unless it comes from a file.

    Returns:
        The samples in a fixed order. Shards at an address that is not a local path give a `ShardStream`.

    Raises:
        DataError: Nothing there, no images, no classes, or class names that do not fit.
        ConfigError: A command, or of a stored place an address, that the caller did not allow; see `saccade.trust`.
    """
    if allow_pipe:
        with trusting(pipe=True):
            return open_source(spec, part=part, labels=labels, classes=classes)
    if part not in ("train", "val", "all"):
        raise DataError(f"part {part!r} is unknown{did_you_mean(part, ('train', 'val', 'all'))}")
    kind = kind_of(spec)
    if kind == "builtin":
        source = open_builtin(spec.removeprefix("builtin:"), part=part)
        return _relabel(source, labels) if labels is not None else source
    if kind == "shards":
        return open_shards(spec, part=part, labels=labels, classes=classes)
    path = Path(spec).expanduser()
    if kind == "table":
        return open_table(path, part=part, labels=labels, classes=classes)
    if kind in ("image", "zip"):
        if classes:
            thing = "a single image has no class" if kind == "image" else "a .zip is only predicted on"
            raise DataError(f"{spec}: {thing}; give a folder with one folder per class")
        if kind == "zip":
            return ZipSource(path, spec)
        return FileSource(path.parent, [path.name], [NO_LABEL], [], where=spec)
    return _open_folder(path, spec, part, labels, classes)


def _open_folder(path: Path, spec: str, part: str, labels: list[str] | None, classes: bool) -> Source:
    """Open a folder of any layout."""
    home = descend(path)
    train, val = find_parts(home)
    if train is not None and (val is not None or part != "val"):
        if part == "all" and not classes:
            return open_flat(path, where=spec)
        chosen = val if part == "val" and val is not None else train
        source = open_classes(chosen, labels, where=str(chosen))
        if chosen is train:
            source.notes += _beside(path, home, {train, val}).notes(spec)
        return source
    if not classes and not _fits_classes(home, labels):
        return open_flat(path, where=spec)
    if not has_class_folders(home):
        flat = open_flat(home, where=spec)
        raise DataError(
            f"{spec}: {len(flat)} images but no class folders; put each class into a folder of its own, "
            "or list them in a table of path,label"
        )
    source = open_classes(home, labels, where=spec)
    source.notes += _beside(path, home.parent if home != path else home, {home, path}).notes(spec)
    return source


def _beside(path: Path, home: Path, kept: set[Path | None]) -> LeftOut:
    """Count what lies beside the folders that are `kept`, from `home` up to what the user named."""
    left_out = LeftOut()
    for folder in (home, *home.parents) if kept != {path} else ():
        kept.add(folder)
        for name, is_folder in list_folder(folder, left_out):
            if folder / name not in kept:
                left_out.add(f"{name}/" if is_folder else name, "beside what is read")
        if folder == path:
            break
    return left_out


def _fits_classes(folder: Path, labels: list[str] | None) -> bool:
    """Whether a folder is nothing but class folders, with the names that are expected."""
    entries = list_folder(folder)
    folders = [name for name, is_folder in entries if is_folder]
    loose = any(is_image_name(name) for name, is_folder in entries if not is_folder)
    return bool(folders) and not loose and labels is not None and set(folders) <= set(labels)


def is_divided(spec: str) -> bool:
    """Whether a place says itself which samples are for training and which for validation."""
    kind = kind_of(spec)
    if kind == "builtin":
        return True
    path = Path(spec).expanduser()
    if kind == "folder":
        home = descend(path)
        return None not in find_parts(home)
    if kind == "table":
        return has_parts(path)
    if kind == "shards":
        urls = expand_shards(spec)
        return bool(part_of_shards(urls, "train")) and bool(part_of_shards(urls, "val"))
    return False


def open_pair(config: DataConfig, *, seed: int = 0, labels: list[str] | None = None) -> SourcePair:
    """Open training and validation data, splitting where there is no validation data.

    Args:
        config: Says where.
        seed: Of the split, when one is made.
        labels: Fixed class names.

    Returns:
        Both sides.

    Raises:
        DataError: As `open_source`; also one class only, too few samples to split, or a stream without
            validation data.
    """
    notes: list[str] = []
    if config.val or is_divided(config.source):
        train = open_source(config.source, part="train", labels=labels)
        val_spec = config.val or config.source
        _check_classes(train)
        val = open_source(
            val_spec, part="val" if not config.val or is_divided(val_spec) else "all", labels=train.labels
        )
        notes.append(f"validation: {len(val)} images of {config.val or 'the val part of ' + config.source}")
        notes += train.notes + val.notes
        return SourcePair(train, val, train.labels, notes)
    whole = open_source(config.source, part="train", labels=labels)
    _check_classes(whole)
    if isinstance(whole, ShardStream):
        raise DataError(
            f"{config.source}: streamed shards cannot be split; name validation shards with data.val"
        )
    if not 0 < config.val_fraction < MAX_VAL_FRACTION:
        raise DataError(f"data.val_fraction should be in (0, {MAX_VAL_FRACTION}), not {config.val_fraction}")
    train_indices, val_indices = stratified_split(whole.targets, config.val_fraction, seed=seed)
    if not len(val_indices):
        raise DataError(
            f"{config.source}: {len(whole)} images are too few to keep some for validation; name data.val"
        )
    notes += whole.notes
    notes.append(
        f"validation: {len(val_indices)} of {len(whole)} images kept back, class by class "
        f"(seed {seed}, data.val_fraction {config.val_fraction:g})"
    )
    single = [name for name, count in whole.counts().items() if count == 1]
    if single:
        notes.append(f"{len(single)} classes have one image and none for validation (first: {single[0]!r})")
    return SourcePair(whole.subset(train_indices), whole.subset(val_indices), whole.labels, notes)


def _check_classes(source: Source) -> None:
    """Refuse training data with fewer than two classes.

    Raises:
        DataError: One class, or none.
    """
    if isinstance(source, ShardStream):
        present = len(source.labels)
    else:
        present = len(np.unique(source.targets[source.targets >= 0]))
    if present < 2:
        names = f" ({source.labels[0]!r})" if source.labels else ""
        raise DataError(
            f"{source.where}: {present} class{names}; a classifier needs two or more folders of images, one per class"
        )


def _relabel(source: Source, labels: list[str]) -> Source:
    """Number the classes of a source by other names' places."""
    found = [source.labels[target] for target in source.targets.tolist()]
    source.targets, source.labels = index_labels(found, labels, source.where)
    return source


def _not_there(spec: str, path: Path) -> str:
    """Say that a path does not exist, with the nearest names that do."""
    parent = path.parent
    while not parent.is_dir() and parent != parent.parent:
        path, parent = parent, parent.parent
    try:
        names = [entry.name for entry in parent.iterdir() if not entry.name.startswith(".")]
    except OSError:
        names = []
    names += [name for name in BUILTIN if parent == Path()]
    return f"{spec}: no such file or folder{did_you_mean(path.name, names)}"
