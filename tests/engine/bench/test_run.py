"""The bench command measures, checks what it measures, and writes a table, a record and a picture."""

import csv
import json

import pytest

from saccade.cli.main import main
from saccade.engine.bench.run import TOLERANCE, bench
from saccade.errors import CheckFailed, ConfigError
from saccade.weights import Card
from saccade.zoo.loading import save_weights
from saccade.zoo.registry import create_model


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.safetensors"
    save_weights(
        create_model("shvit_s1", num_classes=3), path, Card("shvit_s1", num_classes=3, numbers={"top1": 0.5})
    )
    return path


def test_table_record_and_picture(small, tmp_path, capsys):
    out = tmp_path / "speed.csv"
    tokens = [
        "--models",
        f"{small},timm/shvit_s1",
        "--backends",
        "eager,torch",
        "--size",
        "32",
        "--batch",
        "4",
    ]
    assert main(["bench", *tokens, "--seconds", "0.1", "--out", str(out), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(r["model"], r["backend"], r["kind"], r["batch"]) for r in rows] == [
        (model, backend, kind, batch)
        for kind, batch in (("latency", 1), ("throughput", 4))
        for model in ("small.safetensors", "timm/shvit_s1")
        for backend in ("eager", "torch")
    ]
    assert all(r["latency_ms_low"] <= r["latency_ms"] <= r["latency_ms_high"] for r in rows)
    assert rows[0]["ratio"] == 1
    assert rows[0]["metric"] == 0.5
    assert rows[2]["params_m"] == pytest.approx(6.330808)
    assert all(r["share_of_peak"] > 0 for r in rows)
    with out.open() as file:
        assert len(list(csv.DictReader(file))) == 8
    assert "torch" in json.loads(out.with_suffix(".machine.json").read_text())["versions"]
    assert out.with_suffix(".svg").read_text().count("<rect") == 8 + 1


def test_a_wrong_contender_is_not_measured(small, monkeypatch):
    monkeypatch.setitem(TOLERANCE, "float32", -1.0)
    with pytest.raises(CheckFailed, match="outputs differ from PyTorch"):
        bench([str(small)], ["torch"], size=32)


def test_bad_requests(small, capsys):
    with pytest.raises(ConfigError, match="'onx'; did you mean 'onnx'"):
        bench([str(small)], ["onx"])
    with pytest.raises(ConfigError, match="nothing to measure"):
        bench([], ["torch"])
    with pytest.raises(ConfigError, match="in float32, not bf16"):
        bench([str(small)], ["eager"], precision="bf16", size=32)
    assert main(["bench", "--models", "shvit_s9"]) == 2
    assert main(["bench", "--models", "shvit_s1", "--out", "table.txt"]) == 2
    assert main(["bench", "--models", "shvit_s1", "--threads", "0"]) == 2
    assert "must be positive" in capsys.readouterr().err
