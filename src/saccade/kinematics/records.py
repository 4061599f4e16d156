"""The interchange format: one record a track and one a question, as JSON lines or Parquet, checked when read."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from saccade.errors import ConfigError, DataError, SaccadeError
from saccade.files import read_lines, replacing
from saccade.kinematics.kinds import KINDS
from saccade.kinematics.schema import TRACK_SCHEMA, Question, Track, question_schema
from saccade.kinematics.settings import LONGEST_S
from saccade.kinematics.validation import check

MAX_LINE = 1 << 26
"""Bytes of one JSON line."""
_PER_SAMPLE = (
    "xyz_world", "yaw", "boxes_2d", "T_world_cam", "image_paths", "image_times_s", "visibility", "num_points",
)  # fmt: skip


@dataclass(frozen=True)
class Rejected:
    """A record or clip that could not be used, and why: one row of the dead-letter table."""

    clip_id: str
    record: str
    reason: str


Record = TypeVar("Record", Track, Question)


def check_track(value: Any, where: str) -> Track:
    """Make a track of a plain record.

    Raises:
        DataError: A field that is missing or wrong, in one sentence with `where`.
    """
    check(value, TRACK_SCHEMA, where)
    count = len(value["timestamps_s"])
    for name in _PER_SAMPLE:
        if value.get(name) is not None and len(value[name]) != count:
            raise DataError(
                f"{where}: field {name} has {len(value[name])} items; expected {count}, one for each of timestamps_s"
            )
    if not count:
        raise DataError(
            f"{where}: field timestamps_s is empty; expected at least one time, so leave the track out"
        )
    if max(map(abs, value["timestamps_s"])) > LONGEST_S:
        raise DataError(
            f"{where}: field timestamps_s holds {max(value['timestamps_s'], key=abs):g}; expected seconds from the "
            "clip's start, at most a day"
        )
    for index, box in enumerate(value.get("boxes_2d") or ()):
        if box is not None and (box[2] <= box[0] or box[3] <= box[1]):
            raise DataError(f"{where}: field boxes_2d[{index}] is {box}; expected x0 < x1 and y0 < y1")
    if "up" in value and not sum(part * part for part in value["up"]) > 1e-18:
        raise DataError(f"{where}: field up is {value['up']}; expected an axis that is not all zero")
    return Track(**_known(Track, value))


def check_question(value: Any, where: str) -> Question:
    """Make a question of a plain record.

    Raises:
        DataError: A field that is missing or wrong, in one sentence with `where`.
    """
    check(value, question_schema(), where)
    try:
        expected = KINDS[value["task"]].wrong(value["value"], value)
    except ConfigError as error:
        raise DataError(f"{where}: field {error}") from None
    if expected is not None:
        raise DataError(
            f"{where}: field value is {value['value']!r}; expected {expected} for task {value['task']}"
        )
    return Question(**_known(Question, value))


def read_tracks(path: Path | str, rejected: list[Rejected] | None = None) -> Iterator[Track]:
    """Read tracks, one at a time.

    Args:
        path: .jsonl or .parquet, or a folder of them.
        rejected: Bad records are added here and the rest goes on; by default the first one raises.

    Raises:
        DataError: No such file, not a file of tracks, or a record that is wrong: file, record, field.
        MissingExtraError: pyarrow (extra `kinematics`) is not installed and the file is Parquet.
    """
    yield from _read(path, check_track, lambda track: f"{track.clip_id}/{track.track_id}", "track", rejected)


def read_questions(path: Path | str, rejected: list[Rejected] | None = None) -> Iterator[Question]:
    """Read questions, one at a time. Arguments and errors as for `read_tracks`."""
    yield from _read(path, check_question, lambda question: question.id, "question", rejected)


def write_records(records: Iterable[Track | Question], path: Path | str) -> int:
    """Write tracks or questions as .jsonl or .parquet, all or nothing.

    Returns:
        How many.

    Raises:
        DataError: Another kind of file name.
        MissingExtraError: pyarrow (extra `kinematics`) is not installed and the file is Parquet.
    """
    path = Path(path)
    suffix = _suffix(path)
    count = 0
    with replacing(path) as temporary:
        if suffix == ".parquet":
            from saccade.kinematics.parquet import write_parquet

            return write_parquet(records, temporary)
        with temporary.open("w", encoding="utf-8") as file:
            for record in records:
                file.write(json.dumps(record.to_dict(), ensure_ascii=False, allow_nan=False) + "\n")
                count += 1
    return count


def _known(kind: type, value: dict[str, Any]) -> dict[str, Any]:
    """Keep the fields of a record that we know, and that say something."""
    names = {item.name for item in dataclasses.fields(kind)}
    return {name: item for name, item in value.items() if name in names and item is not None}


def _suffix(path: Path) -> str:
    if path.suffix not in (".jsonl", ".parquet"):
        raise DataError(f"{path}: the name ends in {path.suffix!r}; expected .jsonl or .parquet")
    return path.suffix


def files_of(path: Path | str, kind: str) -> list[Path]:
    """Return the files of records at a path: itself, or those in the folder.

    Raises:
        DataError: Nothing there.
    """
    path = Path(path)
    if path.is_dir():
        found = sorted([*path.rglob(f"*{kind}s*.jsonl"), *path.rglob(f"*{kind}s*.parquet")])
        if not found:
            raise DataError(
                f"{path}: no {kind}s*.jsonl or {kind}s*.parquet in this folder; expected a file of {kind}s"
            )
        return found
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected {kind}s as .jsonl or .parquet")
    _suffix(path)
    return [path]


def _read(
    path: Path | str,
    make: Callable[[Any, str], Record],
    key: Callable[[Record], str],
    kind: str,
    rejected: list[Rejected] | None,
) -> Iterator[Record]:
    """Read and check records of one kind."""
    seen: dict[str, str] = {}
    for file in files_of(path, kind):
        for number, value in _plain_records(file):
            where = f"{file}: record {number}"
            if isinstance(value, dict):
                name = value.get("track_id" if kind == "track" else "id")
                where += f" ({kind} {name})" if isinstance(name, str) and name else ""
            try:
                if isinstance(value, SaccadeError):
                    raise value
                record = make(value, where)
                if (name := key(record)) in seen:
                    raise DataError(
                        f"{where}: {kind} {name} was already {seen[name]}; expected each only once"
                    )
                seen[name] = f"record {number} of {file.name}"
            except DataError as error:
                if rejected is None:
                    raise
                clip = value.get("clip_id") if isinstance(value, dict) else None
                rejected.append(Rejected(str(clip or "?"), f"{file.name}:{number}", str(error)))
                continue
            yield record


def _plain_records(file: Path) -> Iterator[tuple[int, Any]]:
    """Yield the numbers and plain records of a file, from 1; an unreadable line as its error."""
    if file.suffix == ".parquet":
        from saccade.kinematics.parquet import read_parquet

        yield from enumerate(read_parquet(file), 1)
        return
    yield from read_lines(file, unit="record", keep_broken=True)


def write_rejected(rejected: Iterable[Rejected], path: Path | str) -> int:
    """Write the dead-letter table as JSON lines."""
    rows = [dataclasses.asdict(row) for row in rejected]
    with replacing(path) as temporary:
        temporary.write_text(
            "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
        )
    return len(rows)
