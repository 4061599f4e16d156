"""Rows written so that a run may stop at any moment and go on without losing or doubling one.

While a run lasts its rows go to a journal beside the result, `OUT.part`: one JSON line of settings, then exactly one
line a picture, in order, a row or a reason why there is none. A last line that was cut off is dropped when
the journal is opened again. At the end the result is made from it in one piece and the journal goes.
Vectors (for .npz) lie in a second file of raw float32, one record a line of the journal that is a row.
"""

import csv
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from saccade import files
from saccade.errors import ConfigError, DataError

FORMATS = (".csv", ".jsonl", ".npz")
SYNC_SECONDS = 2.0


class Journal:
    """The unfinished result of a prediction run.

    Use as a context manager: it holds the file open and locked against a second run.

    Attributes:
        done: Pictures that have their line.
        resumed: How many of those were there when the journal was opened.
        broken: (name, reason) of all pictures without a row, earlier runs included.
    """

    def __init__(
        self, out: Path | str, settings: Mapping[str, Any], *, width: int = 0, restart: bool = False
    ) -> None:
        """Open the journal of `out`, or begin it.

        Args:
            out: The result: .csv, .jsonl or .npz.
            settings: JSON values that decide what the rows are; a journal begun with others is refused.
            width: Floats of a vector kept with each row (.npz); 0: none.
            restart: Throw away what is there and begin anew.

        Raises:
            ConfigError: Another suffix, other settings, or a second run at the same time.
            DataError: The journal is not one of ours.
        """
        self.out = check_out(out)
        self.path = self.out.with_name(self.out.name + ".part")
        self.vectors_path = self.out.with_name(self.out.name + ".part.f32")
        self.width = width
        self.settings: dict[str, Any] = json.loads(json.dumps(settings))
        self.done = 0
        self.broken: list[tuple[str, str]] = []
        self.out.parent.mkdir(parents=True, exist_ok=True)
        # Opened without truncation: nothing may be lost before the lock is held.
        self._file: BinaryIO = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644), "r+b")
        self._vectors: BinaryIO | None = None
        try:
            _lock(self._file, self.path)
            if width:
                self._vectors = os.fdopen(os.open(self.vectors_path, os.O_RDWR | os.O_CREAT, 0o644), "r+b")
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
        for file in (self._file, self._vectors):
            if file is not None and not file.closed:
                file.close()

    def append(
        self,
        rows: Sequence[tuple[int, Mapping[str, Any]]],
        broken: Sequence[tuple[int, str, str]] = (),
        vectors: np.ndarray | None = None,
    ) -> None:
        """Write the lines of one batch, which must be the next pictures without a gap.

        Args:
            rows: (position, row) of the pictures that have a row.
            broken: (position, name, reason) of the others.
            vectors: (len(rows), width) float32, when the journal keeps vectors.
        """
        lines: dict[int, list[Any]] = {place: ["row", dict(row)] for place, row in rows}
        lines |= {place: ["broken", name, reason] for place, name, reason in broken}
        assert sorted(lines) == list(range(self.done, self.done + len(lines))), (
            "a gap or a double in the order"
        )
        if self._vectors is not None and rows:
            assert vectors is not None
            # Before the lines: a crash between the two leaves vectors too many, which are cut off.
            self._vectors.write(np.ascontiguousarray(vectors, dtype="<f4").tobytes())
            self._vectors.flush()
        text = "".join(json.dumps(lines[place], ensure_ascii=False) + "\n" for place in sorted(lines))
        self._file.write(text.encode("utf-8", "surrogateescape"))
        self._file.flush()
        self.done += len(lines)
        self.broken += [(name, reason) for _, name, reason in broken]
        if time.monotonic() - self._synced > SYNC_SECONDS:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()

    def rows(self) -> Iterator[dict[str, Any]]:
        """Read the rows back, in order."""
        with self.path.open("rb") as file:
            next(file)
            for line in file:
                kind, *rest = _read(line)
                if kind == "row":
                    yield rest[0]

    def finish(self) -> None:
        """Make the result from the journal, and the list of broken pictures beside it, and remove the journal.

        A crash anywhere in here is repaired by running the same command again.
        """
        suffix = self.out.suffix.lower()
        with files.replacing(self.out) as temporary:
            if suffix == ".csv":
                self._write_csv(temporary)
            elif suffix == ".jsonl":
                with temporary.open("w", encoding="utf-8", errors="surrogateescape") as file:
                    file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in self.rows())
            else:
                self._write_npz(temporary)
        listing = broken_path(self.out)
        if self.broken:
            with files.replacing(listing) as temporary, _open_table(temporary) as file:
                writer = csv.writer(file)
                writer.writerow(["name", "reason"])
                writer.writerows(self.broken)
        else:
            listing.unlink(missing_ok=True)
        self.close()
        self.path.unlink(missing_ok=True)
        self.vectors_path.unlink(missing_ok=True)

    def _begin(self, restart: bool) -> None:
        """Read what is there up to the last whole line, or write the head of a new journal."""
        head = b"" if restart else self._file.readline()
        if not head.endswith(b"\n"):  # nothing, or a head that was cut off while it was written
            self._truncate(0, 0)
            text = json.dumps({"saccade": "predictions", "format": 1, "settings": self.settings}) + "\n"
            self._file.write(text.encode())
            self._file.flush()
            return
        self._check(head)
        end, rows = len(head), 0
        for line in self._file:
            try:
                kind, *rest = _read(line) if line.endswith(b"\n") else [""]
            except ValueError:
                kind, rest = "", []
            if kind == "row":
                rows += 1
            elif kind == "broken" and len(rest) == 2:
                self.broken.append((rest[0], rest[1]))
            else:
                break
            end += len(line)
            self.done += 1
        self._truncate(end, rows)

    def _check(self, head: bytes) -> None:
        """Compare the settings of an earlier run with these."""
        try:
            values = json.loads(head)
            before = values["settings"] if values["saccade"] == "predictions" else None
        except (ValueError, KeyError, TypeError):
            before = None
        if not isinstance(before, dict):
            raise DataError(
                f"{self.path}: not a journal of `saccade predict`; move it away or choose another --out"
            )
        for name in [*self.settings, *before]:
            if before.get(name) != self.settings.get(name):
                raise ConfigError(
                    f"{self.path}: this run was begun with {name} {_brief(before.get(name))}, now it is "
                    f"{_brief(self.settings.get(name))}; give the same settings to go on, or --restart to begin anew"
                )

    def _truncate(self, end: int, rows: int) -> None:
        """Cut both files to what is whole and go to their ends."""
        self._file.truncate(end)
        self._file.seek(end)
        if self._vectors is not None:
            size = 4 * self.width * rows
            if self._vectors.seek(0, os.SEEK_END) < size:
                raise DataError(
                    f"{self.vectors_path}: shorter than its journal says; begin anew with --restart"
                )
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
            flat = np.fromfile(self.vectors_path, dtype="<f4", count=len(rows) * self.width)
            columns["logits"] = flat.reshape(len(rows), self.width)
        with path.open("wb") as file:
            np.savez(file, allow_pickle=False, **columns)


def check_out(out: Path | str) -> Path:
    """Check that a result can be written under a name, before any work is done.

    Raises:
        ConfigError: A folder, or a suffix that is not one of `FORMATS`.
    """
    out = Path(out)
    if out.is_dir():
        raise ConfigError(f"{out}: this is a folder; give --out the name of a file")
    if out.suffix.lower() not in FORMATS:
        raise ConfigError(f"{out}: results are written as .csv, .jsonl or .npz; change the end of --out")
    return out


def broken_path(out: Path | str) -> Path:
    """Where the list of unreadable pictures of a result goes: `predictions.broken.csv` beside it."""
    return Path(out).with_suffix(".broken.csv")


def _read(line: bytes) -> list[Any]:
    """Parse a line; file names that are not UTF-8 keep their bytes as surrogates."""
    return json.loads(line.decode("utf-8", "surrogateescape"))


def _open_table(path: Path):
    return path.open("w", newline="", encoding="utf-8", errors="surrogateescape")


def _rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    """Six digits are all that a float32 probability has."""
    return {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in row.items()}


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _lock(file: BinaryIO, path: Path) -> None:
    """Refuse a second run on the same journal, where the system has advisory locks."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise ConfigError(
            f"{path}: another run is writing to it; wait for it or choose another --out"
        ) from None
