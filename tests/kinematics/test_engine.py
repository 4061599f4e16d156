"""Many clips: the same file whatever the engine, the workers and the interruptions; nothing lost, nothing twice."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from saccade.errors import ConfigError, DataError
from saccade.kinematics.engine import Product, Stage, gather_parts, hash_of, part_path, read_part, run_clips
from saccade.kinematics.records import read_tracks
from saccade.kinematics.settings import Settings

from . import engine_jobs
from .engine_jobs import SLOW, STAGES, STARTED, jobs

pytest.importorskip("pyarrow")
TESTS = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Worker processes look for the stages where this process would."""
    monkeypatch.syspath_prepend(str(TESTS))
    monkeypatch.setenv("PYTHONPATH", str(TESTS))


def digest(folder):
    """Fingerprint of what a run wrote."""
    return [
        hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in ("tracks.parquet", "rejected.jsonl")
    ]


def test_processes_give_what_one_process_gives(tmp_path):
    seeds = [7, 3, 13, 20, 4, 5, 6]
    seen = []
    alone = run_clips(
        jobs(seeds), STAGES, tmp_path / "a", config_hash="c", workers=0, progress=lambda *x: seen.append(x)
    )
    both = run_clips(jobs(seeds), STARTED, tmp_path / "b", config_hash="c", workers=2)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    assert seen == [(index, 7) for index in range(8)]
    assert (alone.clips, alone.found, alone.tracks, alone.failed) == (both.clips, both.found, both.tracks, 0)
    tracks = list(read_tracks(tmp_path / "a" / "tracks.parquet"))
    assert len(tracks) == alone.tracks > 6
    order = list(dict.fromkeys(track.clip_id for track in tracks))
    assert order == [name for name in ("w7", "w3", "w20", "w4", "w5", "w6") if name in order]
    expected = engine_jobs.measure(engine_jobs.draw(7))
    assert [track.xyz_world for track in tracks if track.clip_id == "w7"] == [
        t.xyz_world for t in expected.tracks
    ]
    rows = [json.loads(line) for line in (tmp_path / "b" / "rejected.jsonl").read_text().splitlines()]
    assert {"clip_id": "w13", "record": "draw",
            "reason": "clip13.mp4: holds no frames; expected a video that is not empty"} in rows  # fmt: skip
    assert alone.rejected == len(rows) == sum(alone.reasons.values())
    assert sum(row["reason"] == "it rests" for row in rows) == len(rows) - 1 > 0
    assert alone.empty >= 1


def test_a_second_run_does_nothing_and_another_configuration_does_all(tmp_path):
    run_clips(jobs(range(4)), STAGES, tmp_path, config_hash="c", workers=0)
    before = digest(tmp_path)
    skipped = [Stage("draw", engine_jobs.die), Stage("measure", engine_jobs.measure)]
    again = run_clips(jobs(range(4)), skipped, tmp_path, config_hash="c", workers=0)
    assert again.found == 4
    assert digest(tmp_path) == before
    more = run_clips(jobs(range(6)), STAGES, tmp_path, config_hash="c", workers=0)
    assert more.found == 4
    assert run_clips(jobs(range(4)), STAGES, tmp_path, config_hash="d", workers=0).found == 0
    assert digest(tmp_path) == before
    # A damaged part is made again.
    part_path(tmp_path / "parts" / "c", "w2").write_bytes(b"PAR1 cut off")
    assert run_clips(jobs(range(4)), STAGES, tmp_path, config_hash="c", workers=0).found == 3
    assert digest(tmp_path) == before


def test_what_nobody_foresaw_is_listed_and_tried_again(tmp_path):
    first = run_clips(jobs([1, 14, 2]), STAGES, tmp_path, config_hash="c", workers=0)
    assert first.failed == 1
    assert "KeyError: 'nothing foresaw this'" in (tmp_path / "rejected.jsonl").read_text()
    assert read_part(tmp_path / "parts" / "c", "w14").failed
    mended = [Stage("draw", engine_jobs.slow), STAGES[1]]
    second = run_clips(jobs([1, 14, 2]), mended, tmp_path, config_hash="c", workers=0)
    assert (second.found, second.failed) == (2, 0)
    assert run_clips(jobs([13]), STAGES, tmp_path, config_hash="c", workers=0).found == 0
    # What is wrong with the clip itself stays so.
    assert run_clips(jobs([13]), STAGES, tmp_path, config_hash="c", workers=0).found == 1


def test_errors_about_the_machine_stop_the_run(tmp_path):
    for workers in (0, 1):
        with pytest.raises(ConfigError, match="no such option"):
            run_clips(jobs([1, 15, 2]), STAGES, tmp_path, config_hash="c", workers=workers)
    with pytest.raises(ConfigError, match="clip w1 comes twice"):
        run_clips(jobs([1, 1]), STAGES, tmp_path, config_hash="c")
    (tmp_path / "taken").write_text("")
    with pytest.raises(ConfigError, match="taken is a file; expected a folder"):
        run_clips(jobs([1]), STAGES, tmp_path / "taken", config_hash="c")
    with pytest.raises(ConfigError, match="did you mean 'local'"):
        run_clips(jobs([1]), STAGES, tmp_path, config_hash="c", engine="locl")
    with pytest.raises(ConfigError, match="at least one stage"):
        run_clips(jobs([1]), [], tmp_path, config_hash="c")
    with pytest.raises(DataError, match="clip w99 cannot be read"):
        gather_parts(tmp_path / "parts" / "c", ["w99"], tmp_path / "x.parquet")
    assert not (tmp_path / "x.parquet").exists()


def test_a_worker_that_dies_takes_only_its_clip(tmp_path):
    stages = [Stage("draw", engine_jobs.die), Stage("measure", engine_jobs.measure)]
    work = [engine_jobs.Job(f"w{seed}", (str(tmp_path), seed)) for seed in range(8)]
    found = run_clips(work, stages, tmp_path / "out", config_hash="c", workers=2)
    assert (found.clips, found.failed, found.reasons["worker"]) == (8, 1, 1)
    assert "ended with signal 9, 2 times" in (tmp_path / "out" / "rejected.jsonl").read_text()
    clips = {track.clip_id for track in read_tracks(tmp_path / "out" / "tracks.parquet")}
    assert "w5" in clips
    assert "w3" not in clips


def test_killed_and_resumed_nothing_is_lost_or_doubled(tmp_path):
    script = (
        "import sys\n"
        "from saccade.kinematics.engine import run_clips\n"
        "from kinematics.engine_jobs import SLOW, jobs\n"
        "if __name__ == '__main__':\n"
        "    run_clips(jobs(range(40)), SLOW, sys.argv[1], config_hash='c', workers=2)\n"
    )
    (tmp_path / "run.py").write_text(script)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "run.py"), str(tmp_path / "a")],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    parts = tmp_path / "a" / "parts" / "c"
    deadline = time.monotonic() + 20
    while len(list(parts.glob("*/*.parquet"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "a" / "tracks.parquet").exists()
    resumed = run_clips(jobs(range(40)), SLOW, tmp_path / "a", config_hash="c", workers=0)
    assert 5 <= resumed.found < 40
    run_clips(jobs(range(40)), SLOW, tmp_path / "b", config_hash="c", workers=0)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    names = [f"{track.clip_id}/{track.track_id}" for track in read_tracks(tmp_path / "a" / "tracks.parquet")]
    assert len(names) == len(set(names)) == resumed.tracks


def test_tracks_of_another_clip_are_refused(tmp_path):
    def stray(seed):
        return Product(engine_jobs.measure(engine_jobs.draw(seed + 1)).tracks)

    found = run_clips(jobs([1]), [Stage("draw", stray)], tmp_path, config_hash="c", workers=0)
    assert found.failed == 1
    assert "a track of clip w2; expected tracks of w1" in (tmp_path / "rejected.jsonl").read_text()
    assert list(read_tracks(tmp_path / "tracks.parquet")) == []


def test_parts_with_their_columns_in_another_order_are_gathered(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    run_clips(jobs([7, 3, 20]), STAGES, tmp_path, config_hash="c", workers=0)
    folder, names = tmp_path / "parts" / "c", ["w7", "w3", "w20"]
    whole = [track.to_dict() for track in read_tracks(tmp_path / "tracks.parquet")]
    part = part_path(folder, names[0])
    table = parquet.read_table(part, partitioning=None)
    parquet.write_table(table.select(table.column_names[::-1]), part)
    assert gather_parts(folder, names, tmp_path / "again.parquet") == len(whole)
    assert [track.to_dict() for track in read_tracks(tmp_path / "again.parquet")] == whole
    parquet.write_table(table.drop_columns(["camera"]), part)
    with pytest.raises(DataError, match=f"{part.name}: the part of clip {names[0]} cannot be read"):
        gather_parts(folder, names, tmp_path / "again.parquet")


def test_the_configuration_names_the_parts():
    assert hash_of({"a": 1, "b": Settings()}) == hash_of({"b": Settings(), "a": 1}) != hash_of({"a": 2})
    with pytest.raises(ConfigError, match="cannot be hashed"):
        hash_of({"a": os})
