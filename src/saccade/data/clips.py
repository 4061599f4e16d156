"""Places of videos: one folder for each class, train/ and val/ beside each other, a table, or the built-in clips.

A table has the columns path, label and, as far as wanted, start, end (seconds of the file) and split.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from saccade.data.config import DataConfig
from saccade.data.folder import NO_VIDEO, PART_NAMES, list_folder, walk_files
from saccade.data.left_out import LeftOut
from saccade.data.motion_clips import CLIPS, clips_folder
from saccade.data.opening import SourcePair
from saccade.data.source import NO_LABEL, FileSource, index_labels, natural_sorted
from saccade.data.split import stratified_split
from saccade.data.table import TABLE_SUFFIXES, Row, part_of, read_table
from saccade.errors import DataError
from saccade.kinematics.video import VIDEOS


class ClipSource(FileSource):
    """Videos, or stretches of them, with their classes."""

    def __init__(
        self,
        root: Path,
        files: list[str],
        targets: np.ndarray | list[int],
        labels: list[str],
        spans: np.ndarray | None = None,
        *,
        where: str = "",
        notes: tuple[str, ...] = (),
    ):
        """Keep the list.

        Args:
            root: Folder that relative `files` are under.
            files: Path of each video.
            targets: Class index of each, or `NO_LABEL`.
            labels: Class names.
            spans: (length, 2) float64 seconds of the file, start and end; NaN: its own. None: whole files.
            where: What the user called this.
            notes: For the user.
        """
        super().__init__(root, files, targets, labels, where=where, notes=notes)
        self.spans = (
            np.full((len(files), 2), np.nan) if spans is None else np.asarray(spans, dtype=np.float64)
        )

    def span(self, index: int) -> tuple[float, float]:
        """Return the seconds of the file that sample `index` lasts from and to, as far as they are given."""
        start, end = self.spans[index]
        return 0.0 if np.isnan(start) else float(start), np.inf if np.isnan(end) else float(end)

    def subset(self, indices: np.ndarray) -> ClipSource:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Choose samples by number, in the order given."""
        files = [self.names[int(index)] for index in indices]
        return ClipSource(
            self.root, files, self.targets[indices], self.labels, self.spans[indices], where=self.where
        )


def is_video_name(name: str | Path) -> bool:
    """Whether a file's name says that it is a video."""
    return Path(name).suffix.lower() in VIDEOS


def walk_videos(root: Path, below: str = "", left_out: LeftOut | None = None) -> list[str]:
    """List the videos under a folder, hidden files left out; as `walk_files`."""
    return list(walk_files(root, is_video_name, NO_VIDEO, start=below, left_out=left_out))


def open_clips(
    spec: str, *, part: str = "all", labels: list[str] | None = None, classes: bool = True
) -> ClipSource:
    """Open a place of videos.

    Args:
        spec: A folder, a table (.csv, .tsv), one video, or clips.
        part: "train", "val" or "all": which side, where the place is divided.
        labels: Fixed class names, as of a trained model; None: those found, in natural order.
        classes: False: any videos will do (prediction).

    Raises:
        DataError: Nothing there, no videos, no classes, or class names that do not fit.
    """
    path = _place(spec)
    if path.is_file():
        if path.suffix.lower() in TABLE_SUFFIXES:
            return _open_table(path, spec, part, labels, classes)
        if classes:
            raise DataError(f"{spec}: one file has no classes; give a folder of class folders or a table")
        return ClipSource(path.parent, [path.name], [NO_LABEL], [], where=spec)
    sides = find_sides(path)
    if len(sides) == 2 and (classes or part != "all"):
        path = sides["val" if part == "val" else "train"]
    if not classes:
        left_out = LeftOut()
        files = walk_videos(path, left_out=left_out)
        if not files:
            raise DataError(f"{spec}: no videos in this folder; expected .mp4, .avi, .mkv and the like")
        notes = tuple(left_out.notes(spec))
        return ClipSource(path, files, [NO_LABEL] * len(files), [], where=spec, notes=notes)
    return _open_classes(path, spec, labels)


def open_clip_pair(config: DataConfig, *, seed: int = 0, labels: list[str] | None = None) -> SourcePair:
    """Open training and validation videos, splitting class by class where they are not divided.

    Args:
        config: Says where; its `val_fraction` is kept back where nothing says what to validate on.
        seed: Of the split, when one is made.
        labels: Fixed class names.

    Raises:
        DataError: As `open_clips`; also one class only, or too few videos to keep some back.
    """
    divided = is_divided(config.source)
    train = open_clips(config.source, part="train" if divided else "all", labels=labels)
    present = len(np.unique(train.targets))
    if present < 2:
        raise DataError(f"{config.source}: {present} class; a classifier needs two or more, one folder each")
    if config.val or divided:
        spec = config.val or config.source
        val = open_clips(spec, part="val" if is_divided(spec) else "all", labels=train.labels)
        return SourcePair(
            train,
            val,
            train.labels,
            [f"validation: {len(val)} videos of {val.where}", *train.notes, *val.notes],
        )
    kept, out = stratified_split(train.targets, config.val_fraction, seed=seed)
    if not len(out):
        raise DataError(
            f"{config.source}: {len(train)} videos are too few to keep some for validation; name data.val"
        )
    note = (
        f"validation: {len(out)} of {len(train)} videos kept back, class by class (seed {seed}, "
        f"data.val_fraction {config.val_fraction:g})"
    )
    return SourcePair(train.subset(kept), train.subset(out), train.labels, [*train.notes, note])


def is_divided(spec: str) -> bool:
    """Whether a place says itself which videos are for training and which for validation."""
    path = _place(spec)
    if path.is_file():
        return path.suffix.lower() in TABLE_SUFFIXES and {"train", "val"} <= {
            part_of(row.split) for row in read_table(path)
        }
    return len(find_sides(path)) == 2


def find_sides(folder: Path) -> dict[str, Path]:
    """Find train/ and val/ inside a folder, by any of their usual names; each must hold class folders."""
    names = {name.lower(): folder / name for name, is_folder in list_folder(folder) if is_folder}
    found = {}
    for part, known in PART_NAMES.items():
        for name in known:
            if name in names and any(is_folder for _, is_folder in list_folder(names[name])):
                found.setdefault(part, names[name])
    return found


def _place(spec: str) -> Path:
    """Return the folder or file that a place of videos means; the built-in clips are drawn when first used."""
    if not spec:
        raise DataError("no data was given; name a folder of videos, a table of them, or clips with --data")
    if spec.removeprefix("builtin:") == CLIPS and not Path(spec).exists():
        return clips_folder()
    path = Path(spec).expanduser()
    if not path.exists():
        raise DataError(f"{spec}: no such file or folder; the built-in videos are called {CLIPS}")
    if path.is_file() and path.suffix.lower() not in TABLE_SUFFIXES and not is_video_name(path):
        raise DataError(f"{spec}: expected a folder of videos, a table (.csv, .tsv) or a video")
    return path


def _open_classes(folder: Path, where: str, labels: list[str] | None) -> ClipSource:
    """Open a folder whose sub-folders are the classes."""
    files: list[str] = []
    found: list[str] = []
    notes: list[str] = []
    left_out = LeftOut()
    for name, is_folder in list_folder(folder, left_out):
        if not is_folder:
            left_out.add(name, "beside the class folders")
            continue
        inside = walk_videos(folder, name, left_out)
        if not inside:
            notes.append(f"{where}: class folder {name!r} has no videos and is left out")
        files += inside
        found += [name] * len(inside)
    if not files:
        loose = len(walk_videos(folder))
        held = f"{loose} videos but no class folders" if loose else "no videos"
        raise DataError(
            f"{where}: {held}; put the videos of each class into a folder of its own, or list them in a table"
        )
    notes += left_out.notes(where)
    targets, names = index_labels(found, labels, where)
    return ClipSource(folder, files, targets, names, where=where, notes=tuple(notes))


def _open_table(path: Path, where: str, part: str, labels: list[str] | None, classes: bool) -> ClipSource:
    """Open a table of videos; relative paths are relative to its folder."""
    rows = read_table(path)
    if part != "all" and any(row.split for row in rows):
        rows = [row for row in rows if part_of(row.split) == part]
        if not rows:
            raise DataError(f"{where}: no rows for {part!r} in the split column")
    for number, row in enumerate(rows, 1):
        if classes and not row.label:
            raise DataError(f"{where}: row {number} ({row.path}) has no label; add a column label")
    names = list(labels) if labels else natural_sorted({row.label for row in rows} - {""})
    if not classes:  # labels are looked at where they are known, and nothing depends on them
        known = set(names)
        rows = [row if row.label in known else Row(row.path, "", "", row.start, row.end) for row in rows]
    targets, names = index_labels([row.label for row in rows], names, where)
    spans = np.array([[_second(row, cell, where) for cell in ("start", "end")] for row in rows])
    return ClipSource(path.parent, [row.path for row in rows], targets, names, spans, where=where)


def _second(row: Row, cell: str, where: str) -> float:
    """Read a start or an end; NaN where there is none."""
    text = getattr(row, cell)
    if not text:
        return np.nan
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e7 or (cell == "end" and row.start and value <= _second(row, "start", where)):
        raise DataError(
            f"{where}: {row.path} has the {cell} {text!r}; expected seconds, start before end, both from 0"
        )
    return value
