"""Many clips on all cores: one file a clip, written aside and renamed, so that a killed run goes on where it was.

A pipeline is a list of stages; the first takes what a job brings, each takes what the one before returned, the last
returns tracks. Stages see one clip and nothing else, so the result depends neither on the engine nor on the number
of workers nor on how often the run was killed. Work that is done is known by clip and configuration: the parts are
out/parts/CONFIG_HASH/xx/KEY.parquet, and what became of a clip without tracks is written in its part as well.

Two engines: "local" is a few processes of this machine (engine_local.py), "ray" is a Ray Data graph with an operator
for each stage (engine_ray.py).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from saccade.errors import ConfigError, DataError, SaccadeError, ShapeError, did_you_mean
from saccade.extras import require
from saccade.files import parse_json, replacing, usable_cores
from saccade.kinematics.parquet import opened_parquet, write_parquet
from saccade.kinematics.records import Rejected, Track, write_rejected
from saccade.kinematics.schema import TRACK_SCHEMA

ENGINES = ("local", "ray")
_META = b"saccade.clip"


@dataclass(frozen=True)
class Job:
    """One clip to work on."""

    clip_id: str
    """Unique; the tracks that come out carry it."""
    spec: Any
    """What the first stage takes: a seed, a path, a start and a length. Small, and it can be pickled."""


@dataclass(frozen=True)
class Product:
    """What the last stage returns; a plain list of tracks will do where nothing was rejected."""

    tracks: Sequence[Track] = ()
    rejected: Sequence[Rejected] = ()


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline. Its functions are at the top of a module, so that other processes find them."""

    name: str
    run: Callable[..., Any]
    """run(value), or run(state, value) where there is a start."""
    start: Callable[[], Any] | None = None
    """Called once in each worker: loads weights, compiles kernels; returns the state."""
    gpu: float = 0.0
    """Share of a GPU that one worker of the stage takes. On Ray such stages are actors of their own."""


@dataclass(frozen=True)
class Done:
    """What became of one clip."""

    clip_id: str
    tracks: int = 0
    rejected: tuple[Rejected, ...] = ()
    failed: bool = False
    """By something that is not the clip's fault as far as we know: tried again by the next run."""


@dataclass
class Summary:
    """What became of a run."""

    clips: int = 0
    found: int = 0
    """Clips that an earlier run had finished."""
    tracks: int = 0
    rejected: int = 0
    """Rows of the dead-letter table."""
    empty: int = 0
    """Clips without any track."""
    failed: int = 0
    seconds: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)
    """Rejections by the stage or record that they name."""

    @property
    def clips_per_s(self) -> float:
        """Clips worked on in this run, each second."""
        return (self.clips - self.found) / self.seconds if self.seconds else 0.0


def hash_of(values: Any) -> str:
    """Twelve hexadecimal digits of plain values: settings, options, versions of models."""
    text = json.dumps(values, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def run_clips(
    jobs: Iterable[Job],
    stages: Sequence[Stage],
    out: Path | str,
    *,
    config_hash: str,
    engine: str = "local",
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    gather: bool = True,
) -> Summary:
    """Work on all clips that no earlier run with this configuration has finished.

    A `DataError` or `ShapeError` of a stage puts the clip into the dead-letter table and the rest goes on; any other
    exception, or a worker that dies twice, does so too, and the next run tries that clip again. `ConfigError`,
    `MissingExtraError` and other errors about the user's machine stop the run.

    Args:
        jobs: Clips, in the order in which their tracks are written.
        stages: The pipeline.
        out: Folder: parts/, and with `gather` tracks.parquet and rejected.jsonl.
        config_hash: Of everything that the tracks depend on, from `hash_of`.
        engine: One of `ENGINES`.
        workers: Processes, or CPUs of Ray; as many as the machine has cores by default. With 0 the local engine
            works in this process.
        progress: Called with the number of finished clips and of all clips.
        gather: Put the parts together at the end.

    Returns:
        Counts, the same whatever the engine and however often the run was interrupted, but for the times.

    Raises:
        ConfigError: No such engine, no stages, or a clip twice.
        MissingExtraError: pyarrow (extra `kinematics`) or Ray (extra `scale`) is not installed.
    """
    if engine not in ENGINES:
        raise ConfigError(f"no engine {engine!r}{did_you_mean(engine, ENGINES)}")
    if not stages or len({stage.name for stage in stages}) != len(stages):
        raise ConfigError("expected at least one stage, each with a name of its own")
    if workers is not None and workers < 0:
        raise ConfigError(f"workers is {workers}; expected 0 or more")
    if Path(out).is_file():
        raise ConfigError(f"{out} is a file; expected a folder to write to")
    require("pyarrow", "kinematics", "to write the parts of a run")
    begun = time.perf_counter()
    wanted = {}
    for job in jobs:
        if job.clip_id in wanted:
            raise ConfigError(f"clip {job.clip_id} comes twice; expected every clip once")
        wanted[job.clip_id] = job
    folder = Path(out) / "parts" / config_hash
    done = {name: found for name in wanted if (found := read_part(folder, name)) and not found.failed}
    summary = Summary(clips=len(wanted), found=len(done))
    left = [job for name, job in wanted.items() if name not in done]
    if progress:
        progress(len(done), len(wanted))
    if left:
        count = usable_cores() if workers is None else workers
        for found in _engine(engine)(left, list(stages), folder, count):
            done[found.clip_id] = found
            if progress:
                progress(len(done), len(wanted))
    rows = [row for name in wanted for row in done[name].rejected]
    for name in wanted:
        summary.tracks += done[name].tracks
        summary.empty += not done[name].tracks
        summary.failed += done[name].failed
    summary.rejected, summary.reasons = len(rows), Counter(row.record for row in rows)
    if gather:
        gather_parts(folder, list(wanted), Path(out) / "tracks.parquet")
        write_rejected(rows, Path(out) / "rejected.jsonl")
    summary.seconds = time.perf_counter() - begun
    return summary


def _engine(name: str) -> Callable[[list[Job], list[Stage], Path, int], Iterator[Done]]:
    if name == "ray":
        from saccade.kinematics.engine_ray import run

        return run
    from saccade.kinematics.engine_local import run

    return run


def attempt(stage: Stage, state: Any, clip_id: str, value: Any) -> tuple[Any, Done | None]:
    """Take one clip through one stage.

    Returns:
        What the stage returned; or None and what became of the clip.

    Raises:
        SaccadeError: One that is about the machine or the configuration and not about the clip.
    """
    try:
        return (stage.run(value) if stage.start is None else stage.run(state, value)), None
    except (DataError, ShapeError) as error:
        return None, Done(clip_id, rejected=(Rejected(clip_id, stage.name, str(error)),))
    except SaccadeError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"[:500]
        return None, Done(clip_id, rejected=(Rejected(clip_id, stage.name, reason),), failed=True)


def finish(folder: Path, clip_id: str, value: Any) -> Done:
    """Write the part of a clip from what its last stage returned."""
    product = value if isinstance(value, Product) else Product(tuple(value))
    if strange := next((track.clip_id for track in product.tracks if track.clip_id != clip_id), None):
        reason = f"the last stage returned a track of clip {strange}; expected tracks of {clip_id}"
        return write_part(folder, Done(clip_id, rejected=(Rejected(clip_id, "tracks", reason),), failed=True))
    done = Done(clip_id, len(product.tracks), tuple(product.rejected))
    return write_part(folder, done, product.tracks)


def part_path(folder: Path, clip_id: str) -> Path:
    """File of a clip. Names of clips may hold anything, so it is called by their hash."""
    key = hashlib.sha256(clip_id.encode()).hexdigest()[:24]
    return folder / key[:2] / f"{key}.parquet"


def write_part(folder: Path, done: Done, tracks: Sequence[Track] = ()) -> Done:
    """Write what became of a clip; all or nothing, and the same bytes each time."""
    rows = [[row.record, row.reason] for row in done.rejected]
    note = {"clip_id": done.clip_id, "tracks": done.tracks, "rejected": rows, "failed": done.failed}
    with replacing(part_path(folder, done.clip_id)) as temporary:
        write_parquet(tracks, temporary, metadata={_META.decode(): json.dumps(note)})
    return done


@dataclass
class _Note:
    """What a part says about its clip."""

    clip_id: str
    tracks: int
    rejected: list[tuple[str, str]]
    failed: bool = False


def read_part(folder: Path, clip_id: str) -> Done | None:
    """Read what became of a clip; None where no run has finished it, or its file is damaged."""
    path = part_path(folder, clip_id)
    try:
        with opened_parquet(path) as file:
            note = parse_json((file.schema_arrow.metadata or {})[_META], _Note, where=str(path))
    except (DataError, KeyError):
        return None
    if note.clip_id != clip_id:
        return None
    rows = tuple(Rejected(clip_id, record, reason) for record, reason in note.rejected)
    return Done(clip_id, note.tracks, rows, note.failed)


def gather_parts(folder: Path, clip_ids: Sequence[str], path: Path | str) -> int:
    """Put the parts of clips into one file of tracks, in order; returns how many tracks.

    Raises:
        DataError: A part that is missing or damaged.
    """
    parquet = require("pyarrow.parquet", "kinematics", "to read the parts of a run")
    arrow = require("pyarrow", "kinematics", "to read the parts of a run")
    count, waiting, writer = 0, [], None
    with replacing(path) as temporary:
        try:
            for index, clip_id in enumerate(clip_ids):
                part = part_path(folder, clip_id)
                try:
                    with opened_parquet(part) as file:
                        table = file.read()
                    if table.num_rows:  # parts of an earlier version have their columns in another order
                        table = table.select(list(TRACK_SCHEMA["properties"]))
                except (DataError, KeyError) as error:
                    raise DataError(
                        f"{part}: the part of clip {clip_id} cannot be read ({str(error)[:120]}); run again"
                    ) from None
                if table.num_rows:
                    meta = {name: value for name, value in table.schema.metadata.items() if name != _META}
                    waiting.append(table.replace_schema_metadata(meta))
                    count += table.num_rows
                if waiting and (sum(map(len, waiting)) >= 256 or index == len(clip_ids) - 1):
                    writer = writer or parquet.ParquetWriter(temporary, waiting[0].schema, compression="zstd")
                    writer.write_table(arrow.concat_tables(waiting).combine_chunks())
                    waiting = []
            if waiting:
                writer = writer or parquet.ParquetWriter(temporary, waiting[0].schema, compression="zstd")
                writer.write_table(arrow.concat_tables(waiting).combine_chunks())
        finally:
            if writer:
                writer.close()
        if writer is None:
            write_parquet((), temporary)
    return count


def _plain(value: Any) -> Any:
    """Plain form of a data class for hashing."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise ConfigError(
        f"{type(value).__name__} cannot be hashed; expected plain values or a data class of them"
    )
