"""Tables of path,label[,split]: comma, semicolon or tab separated, with or without a header.

Tables of videos may also have the columns start and end (`data/clips.py`).
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from saccade import files
from saccade.data.folder import PART_NAMES
from saccade.data.source import FileSource, index_labels
from saccade.errors import DataError

TABLE_SUFFIXES = frozenset({".csv", ".tsv"})
MAX_TABLE_BYTES = 1 << 30
SEPARATORS = (";", "|")
"""What people put between several labels of one picture."""
_COLUMNS = {
    "path": (
        *("path", "file", "filename", "file_name", "filepath"),
        *("image", "image_path", "img", "video", "video_path"),
    ),
    "label": ("label", "class", "class_name", "target", "category"),
    "split": ("split", "set", "part", "subset"),
    "start": ("start", "start_s", "time_start", "begin"),
    "end": ("end", "end_s", "time_end"),
}


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    path: str
    label: str = ""
    split: str = ""
    """train, val, or whatever else the table says."""
    start: str = ""
    """Of videos: the second of the file that the clip begins at."""
    end: str = ""

    def values(self) -> list[str]:
        """The cells of a table of pictures in order."""
        return [self.path, self.label, self.split]


def parse_table(text: str, where: str = "table") -> list[Row]:
    """Read a table.

    The first line is a header when it holds a known column name (path, file, image, ...; label, class, ...; split,
    set, ...) and no further line is looked at to decide. Without one the columns are path, label, split.

    Args:
        text: Contents; the separator is the comma, semicolon or tab found most often in the first line.
        where: File name for error messages.

    Returns:
        One row per line; empty lines are skipped.

    Raises:
        DataError: No rows, a line with too few or too many columns or an empty path, or bad quoting.
    """
    text = text.removeprefix("\ufeff")
    first = text.lstrip("\r\n").splitlines()[:1]
    if not first:
        raise DataError(f"{where}: the table is empty; expected lines of path,label")
    delimiter = max(",;\t", key=first[0].count)
    rows: list[Row] = []
    columns: list[str] | None = None
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for values in reader:
            if not any(value.strip() for value in values):
                continue
            if columns is None:
                columns = _columns(values, where)
                if columns is not None:
                    continue
                columns = ["path", "label", "split"][: len(values)]
            if len(values) != len(columns):
                raise DataError(
                    f"{where}, line {reader.line_num}: {len(values)} columns, but the first line has {len(columns)}"
                )
            cells = {name: value.strip() for name, value in zip(columns, values, strict=True) if name}
            if not cells["path"]:
                raise DataError(f"{where}, line {reader.line_num}: the path is empty")
            rows.append(Row(**cells))
    except csv.Error as error:
        raise DataError(f"{where}, line {reader.line_num}: {error}; check the quotes") from None
    if not rows:
        raise DataError(f"{where}: the table has a header and no rows")
    return rows


def _columns(values: list[str], where: str) -> list[str] | None:
    """Recognise a header: what each column holds, "" for columns of no interest; None when it is no header."""
    lowered = [value.strip().lower() for value in values]
    names = [next((kind for kind, known in _COLUMNS.items() if value in known), "") for value in lowered]
    if not any(names):
        if len(values) > 3:
            raise DataError(
                f"{where}: {len(values)} columns and no header; name the columns path, label and (optionally) split"
            )
        return None
    for kind in _COLUMNS:
        if names.count(kind) > 1:
            raise DataError(
                f"{where}: more than one column could be the {kind} ({', '.join(values)}); rename one"
            )
    if "path" not in names:
        raise DataError(f"{where}: no column for the path among {', '.join(values)}; name it 'path'")
    return names


def format_table(rows: Sequence[Row]) -> str:
    """Write a table that `parse_table` reads back to the same rows.

    The label and split columns are there when any row has them.

    Raises:
        DataError: A value that begins or ends with a space, or an empty path: they would not survive.
    """
    has_split = any(row.split for row in rows)
    has_label = has_split or any(row.label for row in rows)
    out = io.StringIO()
    # A lone carriage return would not be quoted of itself.
    quoting = (
        csv.QUOTE_ALL if any("\r" in text for row in rows for text in row.values()) else csv.QUOTE_MINIMAL
    )
    writer = csv.writer(out, lineterminator="\n", quoting=quoting)
    writer.writerow(["path", "label", "split"][: 1 + has_label + has_split])
    for row in rows:
        values = row.values()
        if not row.path or any(value != value.strip() or "\0" in value for value in values):
            raise DataError(f"cannot be written to a table: {values!r}; remove spaces around names")
        writer.writerow(values[: 1 + has_label + has_split])
    return out.getvalue()


def write_table(path: Path | str, rows: Sequence[Row]) -> None:
    """Write a table file atomically."""
    files.write_text(path, format_table(rows))


def read_table(path: Path) -> list[Row]:
    """Read a table file.

    Raises:
        DataError: Unreadable, too large, not UTF-8, not a table, or a split that is no part.
    """
    text = files.read_text(path, max_bytes=MAX_TABLE_BYTES, what="a table saved as UTF-8 CSV")
    rows = parse_table(text, str(path))
    for row in rows:
        if row.split and part_of(row.split) not in PART_NAMES:
            known = [name for names in PART_NAMES.values() for name in names]
            raise DataError(
                f"{path}: {row.path} has the split {row.split!r}; expected one of {', '.join(known)}, or nothing"
            )
    return rows


def part_of(split: str) -> str:
    """Translate a split value to "train" or "val"; anything else is given back in lower case."""
    split = split.lower()
    return next((part for part, names in PART_NAMES.items() if split in names), split)


def open_table(
    path: Path, *, part: str = "all", labels: list[str] | None = None, classes: bool = True
) -> FileSource:
    """Open a table of images.

    Args:
        path: The table; relative paths in it are relative to its folder.
        part: "train", "val" or "all": which rows, where there is a split column.
        labels: Fixed class names.
        classes: Whether every row must have a label.

    Returns:
        The images in the order of the table. Whether the files exist shows when they are read.

    Raises:
        DataError: As `read_table`; also a row without a label, or no row of this part.
    """
    rows = read_table(path)
    if part != "all" and any(row.split for row in rows):
        kept = [row for row in rows if part_of(row.split) == part]
        if not kept:
            splits = sorted({row.split for row in rows})
            raise DataError(
                f"{path}: no rows for {part!r}; the split column has {', '.join(map(repr, splits))}"
            )
        rows = kept
    if classes:
        for number, row in enumerate(rows, 1):
            if not row.label:
                raise DataError(
                    f"{path}: row {number} ({row.path}) has no label; add a label column path,label"
                )
    targets, names = index_labels([row.label for row in rows], labels, str(path))
    files, notes = [row.path for row in rows], _several_labels(rows, str(path))
    return FileSource(path.parent, files, targets, names, where=str(path), notes=notes)


def _several_labels(rows: Sequence[Row], where: str) -> list[str]:
    """Point out cells that look like several labels: here each is the name of one class."""
    found = [row.label for row in rows if any(sign in row.label for sign in SEPARATORS)]
    if not found:
        return []
    return [
        f"{where}: {len(found)} labels hold {' or '.join(map(repr, SEPARATORS))} (first: {found[0]!r}); each is "
        "taken for the name of one class, so give every picture one label if several were meant"
    ]


def has_parts(path: Path) -> bool:
    """Whether a table says which rows are for training and which for validation."""
    parts = {part_of(row.split) for row in read_table(path)}
    return {"train", "val"} <= parts


def rows_of(names: Sequence[str], targets: np.ndarray, labels: list[str], split: str = "") -> list[Row]:
    """Make rows from the lists of a source."""
    return [
        Row(name, labels[target] if target >= 0 else "", split)
        for name, target in zip(names, targets.tolist(), strict=True)
    ]
