"""SIGTERM, as from a scheduler that stops all processes of a job: exit 143, nothing half written, and it goes on."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from saccade.cli.main import main

ENTRY = "from saccade.cli.main import entry; entry()"


def terminated(words, begun):
    """Start a command in a group of its own, and end the group once `begun()`; returns what it said."""
    process = subprocess.Popen(
        [sys.executable, "-c", ENTRY, *map(str, words)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    while process.poll() is None and not begun():
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGTERM)
    said = process.communicate()[1]
    assert process.returncode == 143, said
    assert said.splitlines()[-1] == "saccade: terminated"
    assert "Traceback" not in said
    return said


def hidden(folder):
    return list(folder.rglob(".*"))


def test_predict_leaves_its_journal_and_nothing_else(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(photos / "0.png")
    for number in range(1, 4000):
        (photos / f"{number}.png").hardlink_to(photos / "0.png")
    out, part = tmp_path / "out" / "p.csv", tmp_path / "out" / "p.csv.part"
    words = [
        "predict",
        str(photos),
        "--weights",
        "shvit_s1",
        "--out",
        str(out),
        "--batch",
        "4",
        "--size",
        "64",
    ]
    terminated(words, lambda: part.is_file() and part.read_bytes().count(b"\n") > 8)
    assert part.read_bytes().endswith(b"\n")
    assert [path.name for path in out.parent.iterdir()] == ["p.csv.part"]
    assert json.loads(part.read_bytes().split(b"\n")[0])["settings"]["topk"] == 1


def test_pairs_that_are_half_made_go(tmp_path):
    pytest.importorskip("numba")
    out = tmp_path / "set" / "pairs"
    words = ["radar", "dataset", "--samples", "64", "--shard", "1", "--out", out, "--workers", "2"]
    words += ["--nx", "16", "--ny", "2", "--size", "100", "--points", "1:3"]
    terminated(words, lambda: len(list(out.glob("*.safetensors"))) > 1)
    assert not hidden(tmp_path)
    kept = len(list(out.glob("*.safetensors")))
    assert kept < 64
    assert main([str(word) for word in words]) == 0
    assert len(list(out.glob("*.safetensors"))) == 64


def test_two_jobs_into_one_folder_of_pairs(tmp_path, capsys):
    pytest.importorskip("numba")
    from saccade.files import writing

    out = tmp_path / "pairs"
    with writing(out, "making pairs", beside=True):
        assert main(["radar", "dataset", "--samples", "1", "--out", str(out)]) == 2
    assert f"{out}: process {os.getpid()} on " in capsys.readouterr().err
