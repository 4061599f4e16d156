"""The same pipeline as a Ray Data graph: one operator a stage, those on a GPU as actors that keep their weights.

Stages of one kind of machine that follow each other are fused by Ray; a stage on a GPU is never fused with one on
the CPU, so that decoding, the networks and the lifting overlap. The last operator writes the parts, so what passes
to this process is a few words a clip.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from saccade.errors import ConfigError
from saccade.extras import require
from saccade.kinematics.engine import Done, Job, Stage, attempt, finish, write_part
from saccade.kinematics.records import Rejected

BLOCKS_A_CORE = 8
"""Pieces of work: few enough to cost little, enough that no core waits long for the last one."""
Row = dict[str, Any]
"""clip_id; value, pickled, for the next stage; ended, JSON, once it is known what became of the clip."""


def run(jobs: list[Job], stages: list[Stage], folder: Path, workers: int) -> Iterator[Done]:
    """Work on clips; yields what became of each, in no order.

    Uses the Ray that is running in this process, or starts one for the time of the call.

    Args:
        jobs: Clips.
        stages: The pipeline.
        folder: Where parts go: a folder that all machines of the cluster share.
        workers: CPUs of a Ray that is started here; at least one.

    Raises:
        ConfigError: A stage needs a GPU and Ray has none.
        MissingExtraError: Ray (extra `scale`) is not installed.
    """
    # Ray reports its use to its makers unless told otherwise.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray = require("ray", "scale", "for --engine ray")
    data = require("ray.data", "scale", "for --engine ray")
    ours = not ray.is_initialized()
    if ours:
        ray.init(
            num_cpus=max(1, workers),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    try:
        quiet = data.DataContext.get_current()
        quiet.enable_progress_bars = False
        quiet.print_on_execution_start = False
        have = ray.cluster_resources()
        for stage in stages:
            if stage.gpu > have.get("GPU", 0):
                raise ConfigError(
                    f"stage {stage.name} needs {stage.gpu:g} GPU and Ray has {have.get('GPU', 0):g}; run it where "
                    "there is one, or on the CPU with the local engine"
                )
        cores = int(have.get("CPU", 1))
        rows = [{"clip_id": job.clip_id, "value": pickle.dumps(job.spec), "ended": ""} for job in jobs]
        graph = data.from_items(rows, override_num_blocks=min(len(rows), BLOCKS_A_CORE * cores))
        for index, stage in enumerate(stages):
            graph = _operator(data, graph, stage, str(folder) if index == len(stages) - 1 else None)
        for row in graph.iter_rows():
            note = json.loads(row["ended"])
            if "stop" in note:
                raise pickle.loads(row["value"])  # our own worker's exception
            rejected = tuple(Rejected(row["clip_id"], record, reason) for record, reason in note["rejected"])
            yield Done(row["clip_id"], note["tracks"], rejected, note["failed"])
    finally:
        if ours:
            ray.shutdown()


_STARTED: dict[bytes, Any] = {}


class Operator:
    """One stage as Ray runs it; weights are loaded when the first clip comes to a worker."""

    def __init__(self, stage: Stage, folder: str | None) -> None:
        """Remember the stage; `folder` is where the last one writes parts."""
        self.stage, self.folder = stage, folder

    def __call__(self, row: Row) -> Row:
        """Take one clip through the stage."""
        ended = row["ended"]
        if not ended:
            try:
                return self._work(row["clip_id"], pickle.loads(row["value"]))  # from our own worker
            except Exception as error:
                # Ray would wrap it beyond recognition, and try again.
                return {
                    "clip_id": row["clip_id"],
                    "value": pickle.dumps(error),
                    "ended": json.dumps({"stop": 1}),
                }
        if self.folder is not None and "stop" not in json.loads(ended):
            self._write(row["clip_id"], json.loads(ended))
        return row

    def _work(self, clip_id: str, value: Any) -> Row:
        value, done = attempt(self.stage, _state(self.stage), clip_id, value)
        if self.folder is not None:
            folder = Path(self.folder)
            done = write_part(folder, done) if done else finish(folder, clip_id, value)
            value = None
        return {"clip_id": clip_id, "value": pickle.dumps(value), "ended": _note(done) if done else ""}

    def _write(self, clip_id: str, note: dict[str, Any]) -> None:
        rows = tuple(Rejected(clip_id, record, reason) for record, reason in note["rejected"])
        write_part(Path(self.folder or ""), Done(clip_id, note["tracks"], rows, note["failed"]))


def _state(stage: Stage) -> Any:
    """What a stage has started in this process; Ray uses its processes for one task after the other."""
    if stage.start is None:
        return None
    # Ray's own pickle, which also takes functions of a script that was run and not imported.
    key = require("ray.cloudpickle", "scale", "for --engine ray").dumps(stage)
    if key not in _STARTED:
        _STARTED[key] = stage.start()
    return _STARTED[key]


def _operator(ray_data: Any, graph: Any, stage: Stage, folder: str | None) -> Any:
    """Add a stage to the graph: tasks on the CPU, which never wait for each other's cores; actors on a GPU."""
    if not stage.gpu:
        return graph.map(Operator(stage, folder).__call__)
    pool = ray_data.ActorPoolStrategy(min_size=1, max_size=None)
    return graph.map(
        Operator, fn_constructor_args=(stage, folder), num_gpus=stage.gpu, num_cpus=0, compute=pool
    )


def _note(done: Done) -> str:
    """What became of a clip, as text."""
    rows = [[row.record, row.reason] for row in done.rejected]
    return json.dumps({"tracks": done.tracks, "rejected": rows, "failed": done.failed})
