"""Rows written so that a run may stop at any moment and go on without losing or doubling one.

While a run lasts its rows go to a journal beside the result, `OUT.part`: one JSON line of settings, then exactly one
line a picture, in order, a row or a reason why there is none. A last line that was cut off is dropped when
the journal is opened again. At the end the result is made from it in one piece and the journal goes.
Vectors (for .npz and .parquet) lie in a second file of raw float32, one record a line of the journal that is a row.

Each line ends with its link: 16 hexadecimal digits of SHA-256 over the link of the line before (of the first one,
over the line of settings), its own JSON, and its vector. So lines that were doubled, swapped, edited or lost are
found when the journal is opened again. A journal of format 1, begun before there were links, is gone on with as it
was begun: of its lines only the form is checked.
"""

import contextlib
import csv
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from saccade.errors import ConfigError, DataError
from saccade.extras import require
from saccade.files.atomic import replacing
from saccade.files.lock import writing
from saccade.files.names import json_text, to_cell
from saccade.files.regular import open_kept
from saccade.files.stored import parse_json

FORMATS = (".csv", ".jsonl", ".npz", ".parquet")
WITH_VECTORS = (".npz", ".parquet")
"""Formats that hold vectors beside the rows."""
SKIPPED = ("skipped", "broken")
"""How lines without a row begin; the second in journals of an earlier Saccade."""
SYNC_SECONDS = 2.0
FORMAT = 2
_LINK = len(', "0123456789abcdef"]')
"""Bytes at the end of a line that its link adds."""


@dataclass
class Head:
    """The first line of a journal."""

    saccade: Literal["predictions"]
    format: int
    settings: dict[str, Any]


class Journal:
    """The unfinished result of a prediction run.

    Use as a context manager: it holds the file open and locked against a second run.

    Attributes:
        done: Pictures that have their line.
        resumed: How many of those were there when the journal was opened.
        skipped: (name, reason) of all pictures without a row, earlier runs included.
    """

    def __init__(
        self,
        out: Path | str,
        settings: Mapping[str, Any],
        *,
        width: int = 0,
        column: str = "logits",
        restart: bool = False,
    ) -> None:
        """Open the journal of `out`, or begin it.

        Args:
            out: The result: .csv, .jsonl, .npz or .parquet.
            settings: JSON values that decide what the rows are; a journal begun with others is refused.
            width: Floats of a vector kept with each row (.npz, .parquet); 0: none.
            column: What the vectors are called there.
            restart: Throw away what is there and begin anew.

        Raises:
            ConfigError: Another suffix, other settings, or a second run at the same time.
            DataError: The journal is not one of ours, or was changed since it was written.
        """
        self.out = check_out(out)
        self.path = self.out.with_name(self.out.name + ".part")
        self.vectors_path = self.out.with_name(self.out.name + ".part.f32")
        self.width, self.column = width, column
        self.settings: dict[str, Any] = json.loads(json.dumps(settings))
        self.done = 0
        self.skipped: list[tuple[str, str]] = []
        self._format, self._link = FORMAT, ""
        self._vectors: BinaryIO | None = None
        self._lock, self._open = contextlib.ExitStack(), contextlib.ExitStack()
        try:
            self._lock.enter_context(writing(self.out, "predicting", beside=True))
            self._file: BinaryIO = self._open.enter_context(open_kept(self.path))
            if width:
                self._vectors = self._open.enter_context(open_kept(self.vectors_path))
            self._begin(restart)
        except BaseException:
            self.close()
            raise
        self.resumed = self.done
        self._synced = time.monotonic()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files; the journal stays on disk for the next run unless `finish` removed it."""
        with self._lock:  # let go of after the files, even when these cannot be closed
            self._open.close()

    def append(
        self,
        rows: Sequence[tuple[int, Mapping[str, Any]]],
        skipped: Sequence[tuple[int, str, str]] = (),
        vectors: np.ndarray | None = None,
    ) -> None:
        """Write the lines of one batch, which must be the next pictures without a gap.

        Args:
            rows: (position, row) of the pictures that have a row.
            skipped: (position, name, reason) of the others.
            vectors: (len(rows), width) float32, when the journal keeps vectors.
        """
        lines: dict[int, list[Any]] = {place: ["row", dict(row)] for place, row in rows}
        lines |= {place: ["skipped", name, reason] for place, name, reason in skipped}
        assert sorted(lines) == list(range(self.done, self.done + len(lines))), (
            "a gap or a double in the order"
        )
        records: dict[int, bytes] = {}
        if self._vectors is not None and rows:
            assert vectors is not None
            array = np.ascontiguousarray(vectors, dtype="<f4")
            records = {place: array[number].tobytes() for number, (place, _) in enumerate(rows)}
            # Before the lines: a crash between the two leaves vectors too many, which are cut off.
            self._vectors.write(array.tobytes())
            self._vectors.flush()
        for place in sorted(lines):
            text = json_text(lines[place]).encode()
            if self._format > 1:
                self._link = _linked(self._link, text, records.get(place, b""))
                text = _with_link(text, self._link)
            self._file.write(text + b"\n")
        self._file.flush()
        self.done += len(lines)
        self.skipped += [(name, reason) for _, name, reason in skipped]
        if time.monotonic() - self._synced > SYNC_SECONDS:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()

    def rows(self) -> Iterator[dict[str, Any]]:
        """Read the rows back, in order."""
        with self.path.open("rb") as file:
            next(file)
            for line in file:
                kind, *rest = self._parse(line)
                if kind == "row":
                    yield rest[0]

    def finish(self) -> None:
        """Make the result from the journal, and the list of unreadable pictures beside it, and remove the journal.

        A crash anywhere in here is repaired by running the same command again.
        """
        suffix = self.out.suffix.lower()
        with replacing(self.out) as temporary:
            if suffix == ".csv":
                self._write_csv(temporary)
            elif suffix == ".jsonl":
                with temporary.open("w", encoding="utf-8") as file:
                    file.writelines(json_text(row) + "\n" for row in self.rows())
            elif suffix == ".parquet":
                self._write_parquet(temporary)
            else:
                self._write_npz(temporary)
        listing = skipped_path(self.out)
        if self.skipped:
            with replacing(listing) as temporary, _open_table(temporary) as file:
                writer = csv.writer(file)
                writer.writerow(["name", "reason"])
                writer.writerows(map(to_cell, entry) for entry in self.skipped)
        else:
            listing.unlink(missing_ok=True)
        self._open.close()
        self.path.unlink(missing_ok=True)
        self.vectors_path.unlink(missing_ok=True)
        self.close()

    def _begin(self, restart: bool) -> None:
        """Read what is there up to the last whole line, or write the head of a new journal."""
        head = b"" if restart else self._file.readline()
        if not head.endswith(b"\n"):  # nothing, or a head that was cut off while it was written
            self._truncate(0, 0)
            head = json.dumps(
                {"saccade": "predictions", "format": FORMAT, "settings": self.settings}
            ).encode()
            self._file.write(head + b"\n")
            self._file.flush()
            self._link = _linked("", head, b"")
            return
        self._format = self._check(head)
        self._link = _linked("", head[:-1], b"")
        end = len(head)
        for number, line in enumerate(self._file, 2):
            if not line.endswith(b"\n"):
                break  # cut off while it was written; only the last one can be
            if wrong := self._take(line):
                raise DataError(
                    f"{self.path}: line {number} {wrong}, so the journal is not as it was written; begin anew with "
                    "--restart, or restore it"
                )
            end += len(line)
        self._truncate(end, self.done - len(self.skipped))

    def _take(self, line: bytes) -> str:
        """Count a whole line in when it is the next one; else say what is wrong with it."""
        try:
            kind, *rest = self._parse(line)
        except DataError:
            return "is none of ours"
        record = b""
        if kind == "row" and self._vectors is not None:
            record = self._vectors.read(4 * self.width)
            if len(record) < 4 * self.width:
                return f"has no vector in {self.vectors_path.name}"
        if self._format > 1:
            text = line[: -_LINK - 1] + b"]"
            self._link = _linked(self._link, text, record)
            if line != _with_link(text, self._link) + b"\n":
                return "does not follow from the one before it"
        if kind in SKIPPED:
            self.skipped.append((rest[0], rest[1]))
        self.done += 1
        return ""

    def _parse(self, line: bytes) -> list[Any]:
        """Read a whole line: kind, and its row or name and reason; names that are not UTF-8 keep their bytes.

        Raises:
            DataError: It is no such line.
        """
        values = parse_json(line.decode("utf-8", "surrogateescape"), list[Any], where=f"{self.path}: a line")
        if self._format > 1:
            del values[-1:]  # the link
        if values[:1] == ["row"] and len(values) == 2 and isinstance(values[1], dict):
            return values
        if len(values) == 3 and values[0] in SKIPPED and all(isinstance(value, str) for value in values):
            return values
        raise DataError(f"{self.path}: a line is neither a row nor a reason")

    def _check(self, head: bytes) -> int:
        """Compare the settings of an earlier run with these; returns the journal's format."""
        try:
            found = parse_json(head, Head, where=str(self.path))
        except DataError:
            raise DataError(
                f"{self.path}: not a journal of `saccade predict`; move it away or choose another --out"
            ) from None
        if found.format > FORMAT:
            raise DataError(
                f"{self.path}: written by a newer Saccade (format {found.format}); upgrade, or begin anew with "
                "--restart"
            )
        before = found.settings
        for name in [*self.settings, *before]:
            if before.get(name) != self.settings.get(name):
                raise ConfigError(
                    f"{self.path}: this run was begun with {name} {_brief(before.get(name))}, now it is "
                    f"{_brief(self.settings.get(name))}; give the same settings to go on, or --restart to begin anew"
                )
        return found.format

    def _truncate(self, end: int, rows: int) -> None:
        """Cut both files to what is whole and go to their ends."""
        self._file.truncate(end)
        self._file.seek(end)
        if self._vectors is not None:
            size = 4 * self.width * rows
            self._vectors.truncate(size)
            self._vectors.seek(size)

    def _write_csv(self, path: Path) -> None:
        with _open_table(path) as file:
            rows = self.rows()
            first = next(rows, None)
            if first is None:
                return
            writer = csv.DictWriter(file, list(first))
            writer.writeheader()
            writer.writerow(_rounded(first))
            writer.writerows(_rounded(row) for row in rows)

    def _write_npz(self, path: Path) -> None:
        rows = list(self.rows())
        columns = {name: np.array([row[name] for row in rows]) for name in (rows[0] if rows else {})}
        if self.width:
            columns[self.column] = self._kept_vectors(len(rows)).reshape(len(rows), self.width)
        with path.open("wb") as file:
            np.savez(file, allow_pickle=False, **columns)

    def _write_parquet(self, path: Path) -> None:
        arrow = require("pyarrow", "kinematics", "to write .parquet files")
        parquet = require("pyarrow.parquet", "kinematics", "to write .parquet files")
        rows = [{name: to_cell(value) for name, value in row.items()} for row in self.rows()]
        table = arrow.Table.from_pylist(rows)
        if self.width:
            flat = arrow.array(self._kept_vectors(len(rows)))
            table = table.append_column(self.column, arrow.FixedSizeListArray.from_arrays(flat, self.width))
        parquet.write_table(table, path)

    def _kept_vectors(self, rows: int) -> np.ndarray:
        return np.fromfile(self.vectors_path, dtype="<f4", count=rows * self.width)


def check_out(out: Path | str) -> Path:
    """Check that a result can be written under a name, before any work is done.

    Raises:
        ConfigError: A folder, or a suffix that is not one of `FORMATS`.
        MissingExtraError: .parquet without pyarrow.
    """
    out = Path(out)
    if out.is_dir():
        raise ConfigError(f"{out}: this is a folder; give --out the name of a file")
    if out.suffix.lower() not in FORMATS:
        raise ConfigError(
            f"{out}: results are written as .csv, .jsonl, .npz or .parquet; change the end of --out"
        )
    if out.suffix.lower() == ".parquet":
        require("pyarrow.parquet", "kinematics", "to write .parquet files")
    return out


def skipped_path(out: Path | str) -> Path:
    """Where the list of unreadable pictures of a result goes: `predictions.skipped.csv` beside it."""
    return Path(out).with_suffix(".skipped.csv")


def _linked(before: str, text: bytes, record: bytes) -> str:
    """Link of a line: of the link before it, its JSON without link, and its vector."""
    return hashlib.sha256(before.encode() + text + b"\n" + record).hexdigest()[:16]


def _with_link(text: bytes, link: str) -> bytes:
    """Put a line's link at the end of its JSON list."""
    return text[:-1] + f', "{link}"]'.encode()


def _open_table(path: Path):
    return path.open("w", newline="", encoding="utf-8")


def _rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    """Six digits are all that a float32 probability has; names as tables have them."""
    return {
        name: f"{value:.6g}" if isinstance(value, float) else to_cell(value) for name, value in row.items()
    }


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
