"""Several processes on the CPU: the same weights as one process with the same global batch."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from saccade.engine.train.loop import train
from saccade.engine.train.recipe import build_recipe

DRIVER = Path(__file__).with_name("driver.py")


def test_two_processes_train_as_one_does(settings_for, tmp_path):
    """Without batch statistics, dropout and mixing, which look at one process's share only."""
    same = {
        "model__options": {"img_size": 32},
        "augment__mixup": 0.0,
        "optim__lr": 1e-3,
        "schedule__warmup_epochs": 0,
        "schedule__epochs": 2,
    }
    two = settings_for(**same, data__batch=5)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"),
            *(str(DRIVER), str(tmp_path / "two"), json.dumps(two)),
        ],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    train(
        build_recipe("", "", settings_for(**same, data__batch=10))[0], tmp_path / "one", log=lambda line: None
    )
    state = json.loads(next((tmp_path / "two/checkpoints").glob("step-*/state.json")).read_text())
    assert state["num_processes"] == 2
    assert state["progress"]["step"] == 4
    assert state["progress"]["metrics"]["count"] == 4  # each validation image once, over both processes
    one, two = load_file(tmp_path / "one/last.safetensors"), load_file(tmp_path / "two/last.safetensors")
    worst = max((one[name] - two[name]).abs().max().item() for name in one)
    # Four steps of AdamW move weights by up to 4e-3; the order of summation shows at 1e-3 of that.
    assert worst < 4e-6
    # The loss of a step is that of the whole batch, not the first process's share.
    for kind, name in (("step", "loss"), ("epoch", "train_loss")):
        a, b = (
            [
                e[name]
                for e in map(json.loads, (tmp_path / run / "log.jsonl").read_text().splitlines())
                if e["kind"] == kind
            ]
            for run in ("one", "two")
        )
        assert len(a) == len(b) > 0
        assert max(abs(x - y) for x, y in zip(a, b, strict=True)) < 1e-4
    moved = max((one[name] - torch.zeros(())).abs().max().item() for name in one)
    assert moved > 0.1


def test_a_port_in_use_is_a_sentence(settings_for, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(taken.getsockname()[1])}
        ranks = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        done = subprocess.run(
            [
                *(
                    sys.executable,
                    "-c",
                    "from saccade.cli.main import entry; entry()",
                    "train",
                    "--device",
                    "cpu",
                ),
                *("--data", settings_for()["data.source"], "--out", str(tmp_path / "run")),
            ],
            capture_output=True,
            text=True,
            env=os.environ | place | ranks,
        )
    assert done.returncode == 2, done.stderr
    assert "the port that the training processes meet on is in use" in done.stderr
    assert "Traceback" not in done.stderr
