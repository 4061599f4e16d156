"""The interchange format: one record a track and one a question, as JSON lines or Parquet, checked when read."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from saccade.errors import ConfigError, DataError, SaccadeError
from saccade.extras import require
from saccade.files import read_lines, replacing
from saccade.kinematics.choices import check_options
from saccade.kinematics.schema import (
    QUESTION_FORMAT,
    QUESTION_SCHEMA,
    TRACK_FORMAT,
    TRACK_SCHEMA,
    check,
)

LONGEST_S = 86_400.0
"""No clip, scene or log is longer, seconds."""
_PER_SAMPLE = (
    "xyz_world", "yaw", "boxes_2d", "T_world_cam", "image_paths", "image_times_s", "visibility", "num_points",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Track:
    """One object in one clip. Lists run along `timestamps_s`; see `TRACK_SCHEMA` for units."""

    clip_id: str
    source: str
    split: str
    track_id: str
    category: str
    timestamps_s: list[float]
    xyz_world: list[list[float | None] | None]
    label_origin: str
    group: str = ""
    """Log, scene or take; the clip itself when empty."""
    size_lwh: list[float] | None = None
    yaw: list[float | None] | None = None
    boxes_2d: list[list[float] | None] | None = None
    camera: dict[str, Any] | None = None
    T_world_cam: list[list[list[float]] | None] | None = None
    up: list[float] = field(default_factory=lambda: [0.0, 0.0, 1.0])
    scale_info: dict[str, Any] | None = None
    image_paths: list[str | None] | None = None
    image_times_s: list[float | None] | None = None
    visibility: list[float | None] | None = None
    num_points: list[float | None] | None = None

    @property
    def times(self) -> np.ndarray:
        """(n,) seconds."""
        return np.asarray(self.timestamps_s, np.float64)

    @property
    def points(self) -> np.ndarray:
        """(n, 3) metres; NaN where missing."""
        rows = [(None, None, None) if row is None else row for row in self.xyz_world]
        return np.asarray(rows, np.float64).reshape(-1, 3)

    def to_dict(self) -> dict[str, Any]:
        """Return the record as written: with its format, without what is not known."""
        values = {name: value for name, value in vars(self).items() if value is not None and value != ""}
        return {"format": TRACK_FORMAT, **values}


@dataclass(frozen=True)
class Question:
    """One question with its answer; see `QUESTION_SCHEMA`."""

    id: str
    clip_id: str
    task: str
    question: str
    answer: str
    value: Any
    """Metres, km/h, hours or a ratio; a clock hour; [start, end]; a colour; same or different."""
    objects: list[dict[str, str]]
    """track_id and colour of each."""
    source: str
    split: str
    group: str = ""
    unit: str | None = None
    window_s: list[float] | None = None
    options: dict[str, list[str]] | None = None
    polarity: str | None = None
    """What is asked for: more or less, same or different."""
    clock: int | None = None
    template_id: str | None = None
    config_hash: str | None = None
    duration_s: float | None = None
    frame_times_s: list[float] | None = None
    camera_name: str | None = None

    @property
    def context(self) -> dict[str, Any]:
        """What reading an answer to it needs."""
        options = self.options or {thing["colour"]: [thing["colour"]] for thing in self.objects}
        duration = self.duration_s
        if duration is None and self.frame_times_s:
            duration = self.frame_times_s[-1]
        return {"duration_s": duration, "options": options, "asks": self.polarity, "polarity": self.polarity}

    def to_dict(self) -> dict[str, Any]:
        """Return the record as written: with its format, without what is not known."""
        values = {name: value for name, value in vars(self).items() if value is not None and value != ""}
        return {"format": QUESTION_FORMAT, **values}


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
    check(value, QUESTION_SCHEMA, where)
    task, truth = value["task"], value["value"]
    if task == "movement_direction":
        wrong, expected = not isinstance(truth, int) or not 1 <= truth <= 12, "an hour from 1 to 12"
    elif task == "direction_timestamp":
        numbers = (
            isinstance(truth, list) and len(truth) == 2 and all(isinstance(x, int | float) for x in truth)
        )
        wrong = not numbers or not -LONGEST_S <= truth[0] < truth[1] <= LONGEST_S
        expected = "[start, end] in seconds with start < end"
    elif task == "direction_comparison":
        wrong, expected = truth not in ("same", "different"), "same or different"
    elif task in ("distance_comparison", "speed_comparison"):
        names = list(_options(value, where))
        wrong, expected = (
            truth not in names or len(names) < 2,
            f"one of at least two options, and they are {names}",
        )
    else:
        wrong, expected = not isinstance(truth, int | float) or truth < 0, "a number that is not negative"
    if wrong:
        raise DataError(f"{where}: field value is {truth!r}; expected {expected} for task {task}")
    return Question(**_known(Question, value))


def _options(value: dict[str, Any], where: str) -> dict[str, list[str]]:
    """Check what a comparison chooses from.

    Raises:
        DataError: Fewer than two names, or names that are no texts.
    """
    options = value.get("options") or [thing["colour"] for thing in value["objects"]]
    try:
        return check_options(options)
    except ConfigError as error:
        raise DataError(f"{where}: field {error}") from None


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
    """Yield the numbers and plain records of a file, from 1; a broken line as its error."""
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


def pyarrow() -> Any:
    """Import pyarrow.

    Raises:
        MissingExtraError: It is not installed.
    """
    return require("pyarrow", "kinematics", "to read and write Parquet and Feather files")
