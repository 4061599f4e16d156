"""Ray gives the very files that the local engine gives."""

import hashlib
import os
from pathlib import Path

import pytest

from saccade.errors import ConfigError
from saccade.kinematics.engine import Stage, run_clips

from .engine_jobs import STAGES, STARTED, count_start, draw, jobs, measure_in

pytest.importorskip("pyarrow")
ray = pytest.importorskip("ray")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # of Ray's own making
]


def test_same_files_as_the_local_engine(tmp_path, monkeypatch):
    tests = str(Path(__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")]))
    seeds = [7, 3, 13, 14, 20, 4, 5, 6]
    local = run_clips(jobs(seeds), STAGES, tmp_path / "local", config_hash="c", workers=0)
    ray.init(num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
    try:
        found = run_clips(jobs(seeds[:4]), STAGES, tmp_path / "ray", config_hash="c", engine="ray")
        assert (found.clips, found.found, found.failed) == (4, 0, 1)
        # Goes on where it was, now with a stage that keeps a state; and the Ray that was there stays.
        actor = [Stage("draw", draw), Stage("measure", measure_in, start=count_start, gpu=0.5)]
        rest = run_clips(jobs(seeds), actor, tmp_path / "ray", config_hash="c", engine="ray")
        assert (rest.clips, rest.found, rest.tracks) == (8, 3, local.tracks)
        assert ray.is_initialized()
        with pytest.raises(ConfigError, match="no such option"):
            run_clips(jobs([15]), STAGES, tmp_path / "stop", config_hash="c", engine="ray")
        two = [Stage("draw", draw), Stage("measure", measure_in, start=count_start, gpu=2)]
        with pytest.raises(ConfigError, match="stage measure needs 2 GPU and Ray has 1"):
            run_clips(jobs([1]), two, tmp_path / "stop", config_hash="c", engine="ray")
        again = run_clips(jobs(seeds), STARTED, tmp_path / "cpu", config_hash="c", engine="ray")
        assert again.tracks == local.tracks
    finally:
        ray.shutdown()
    for name in ("tracks.parquet", "rejected.jsonl"):
        one, two = ((tmp_path / engine / name).read_bytes() for engine in ("local", "ray"))
        assert hashlib.sha256(one).digest() == hashlib.sha256(two).digest(), name
