"""kill -9 at any moment, resume, and end with the same bits as a run that nobody disturbed."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from saccade.engine.train.loop import train
from saccade.engine.train.recipe import build_recipe, load_recipe

DRIVER = Path(__file__).with_name("driver.py")
SHVIT = {"model__name": "shvit_s1", "model__options": {}, "schedule__epochs": 3, "run__channels_last": True}


def start(folder, settings):
    """Start a training process whose steps can be read from its output."""
    text = settings if isinstance(settings, str) else json.dumps(settings)
    return subprocess.Popen(
        [sys.executable, str(DRIVER), str(folder), text],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def read_until(process, wanted):
    """Read steps until `wanted` is met; False when the process ended before."""
    return any(int(line.split()[1]) >= wanted for line in process.stdout)


def final_tensors(folder):
    newest = folder / "checkpoints" / (folder / "checkpoints/LATEST").read_text().strip()
    files = [*newest.glob("*.safetensors"), folder / "best.safetensors"]
    return {f"{file.name}:{name}": value for file in files for name, value in load_file(file).items()}


def assert_same(one, other):
    a, b = final_tensors(one), final_tensors(other)
    assert a.keys() == b.keys()
    assert len(a) > 100
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def test_killed_in_an_epoch_and_resumed_in_another_process(settings_for, tmp_path):
    """A network with batch statistics, mixing, average of weights; checkpoints every two steps."""
    settings = settings_for(**SHVIT, run__save_steps=2)
    with start(tmp_path / "killed", settings) as process:
        assert read_until(process, 5), process.stderr.read()
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    folder = tmp_path / "killed"
    result = train(load_recipe(folder / "recipe.yaml"), folder, resume=True, log=lambda line: None)
    assert result.reason == "all epochs done"
    train(build_recipe("", "", settings)[0], tmp_path / "whole", log=lambda line: None)
    assert_same(folder, tmp_path / "whole")


@pytest.mark.slow
def test_killed_again_and_again_at_random_moments(settings_for, tmp_path):
    """At random times, so also while a checkpoint, the best weights or the log are being written."""
    settings = settings_for(**SHVIT | {"schedule__epochs": 8}, run__save_steps=1, run__keep=2)
    train(build_recipe("", "", settings)[0], tmp_path / "whole", log=lambda line: None)
    folder, rng, kills = tmp_path / "killed", random.Random(0), 0
    for _ in range(60):
        begun = (folder / "recipe.yaml").exists()
        with start(folder, "resume" if begun else settings) as process:
            timer = None
            for line in process.stdout:
                assert line.startswith("step")
                if timer is None and kills < 15:
                    timer = threading.Timer(rng.uniform(0, 1.0), process.kill)
                    timer.start()
            process.wait()
            if timer is not None:
                timer.cancel()
            if process.returncode == 0:
                break
            assert process.returncode == -signal.SIGKILL, process.stderr.read()
            kills += 1
    assert process.returncode == 0
    assert kills >= 5
    assert_same(folder, tmp_path / "whole")
