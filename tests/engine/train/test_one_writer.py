"""Two trainings into one folder, and trainings that a scheduler ends."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from saccade.cli.main import main
from saccade.engine.train.log import RunLog
from saccade.engine.train.loop import train
from saccade.engine.train.recipe import build_recipe, dump_recipe, load_recipe
from saccade.errors import DataError

ENTRY = "from saccade.cli.main import entry; entry()"
DRIVER = Path(__file__).with_name("driver.py")


def start(*words, module=()):
    """Start `saccade WORDS`, or a module, in a process group of its own."""
    call = [sys.executable, *(module or ("-c", ENTRY)), *map(str, words)]
    return subprocess.Popen(
        call,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )


@pytest.fixture
def recipe_file(settings_for, tmp_path):
    """Write a recipe with changes."""

    def make(**changes):
        file = tmp_path / "recipe.yaml"
        file.write_text(dump_recipe(build_recipe("", "", settings_for(**changes))[0]))
        return file

    return make


def wait_for_step(folder, step):
    """Wait until a checkpoint of some step is there."""
    while True:
        there = [int(path.name.split("-")[1]) for path in folder.glob("checkpoints/step-*")]
        if there and max(there) >= step:
            return
        time.sleep(0.01)


def assert_same(one, other):
    for name in ("last.safetensors", "best.safetensors"):
        a, b = load_file(one / name), load_file(other / name)
        assert a.keys() == b.keys()
        assert [key for key in a if not torch.equal(a[key], b[key])] == []


def hidden(folder):
    return [path for path in folder.rglob(".*") if path.name != ".saccade.lock"]


def test_a_second_training_is_refused_and_told_of_the_first(recipe_file, tmp_path, capsys):
    folder, file = tmp_path / "run", recipe_file(schedule__epochs=500, run__save_steps=1)
    with start("train", "--config", file, "--out", folder) as first:
        wait_for_step(folder, 2)
        for words in (["--config", str(file), "--out", str(folder)], ["--resume", str(folder)]):
            assert main(["train", *words]) == 2
            said = capsys.readouterr().err
            assert f"process {first.pid} on " in said
            assert "(training); wait for it" in said
        first.kill()
    capsys.readouterr()
    assert main(["train", "--config", str(file), "--out", str(folder)]) == 2  # the dead one holds nothing
    assert "holds a run already; go on with --resume" in capsys.readouterr().err


def test_a_terminated_training_saves_and_ends_with_the_same_bits(recipe_file, settings_for, tmp_path):
    """The signal reaches the loader processes too, as from a scheduler."""
    changes = {"schedule__epochs": 6, "data__workers": 1, "run__save_steps": 2}
    folder, file = tmp_path / "run", recipe_file(**changes)
    with start("train", "--config", file, "--out", folder) as process:
        wait_for_step(folder, 2)
        os.killpg(process.pid, signal.SIGTERM)
        said = process.communicate()[1]
    assert process.returncode == 143, said
    assert f"interrupted and saved; go on with: saccade train --resume {folder}" in said
    assert "Traceback" not in said
    assert not hidden(tmp_path)
    result = train(load_recipe(folder / "recipe.yaml"), folder, resume=True, log=lambda line: None)
    assert result.reason == "all epochs done"
    train(build_recipe("", "", settings_for(**changes))[0], tmp_path / "whole", log=lambda line: None)
    assert_same(folder, tmp_path / "whole")


def test_a_training_by_two_processes_saves_when_it_is_terminated(recipe_file, tmp_path):
    """The launcher gets the signal and passes it on, to the loader processes as well."""
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "--no-python")
    folder = tmp_path / "run"
    file = recipe_file(schedule__epochs=500, data__workers=1, run__save_steps=10)
    words = (sys.executable, "-c", ENTRY, "train", "--config", file, "--out", folder, "--device", "cpu")
    with start(*words, module=launcher) as process:
        wait_for_step(folder, 10)
        assert json.loads((folder / ".saccade.owner").read_text())["job"] == "training"
        process.send_signal(signal.SIGTERM)
        said = process.communicate()[1]
    assert process.returncode != 0
    assert f"interrupted and saved; go on with: saccade train --resume {folder}" in said
    assert not hidden(tmp_path)
    newest = folder / "checkpoints" / (folder / "checkpoints" / "LATEST").read_text().strip()
    assert json.loads((newest / "state.json").read_text())["num_processes"] == 2


def test_a_log_that_is_a_pipe_is_refused_and_not_waited_for(tmp_path):
    log = RunLog(tmp_path)
    os.mkfifo(tmp_path / "log.jsonl")
    with pytest.raises(DataError, match=r"log\.jsonl: cannot be written"):
        log.write("step", step=1)
