"""A task from outside the package walks through the whole house: no line of Saccade knows it.

The task is `tests/toy`. What the engine cannot do for it yet is marked and strict, so that the mark goes when it can.
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

import saccade
import toy
from saccade.cli.main import main
from saccade.engine.evaluate.check_samples import check_samples
from saccade.errors import ConfigError
from saccade.tasks import TASKS
from saccade.weights import Card
from toy.data import draw

ROOT = Path(__file__).parent.parent
SETTINGS = {
    "size": 12, "epochs": 20, "batch": 16, "device": "cpu", "threads": 1, "seed": 3, "data.workers": 0,
    "optim.lr": 0.02, "optim.weight_decay": 0.0, "model.pretrained": "no", "ema.decay": 0.0,
}  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def _registered():
    toy.register()
    yield
    del TASKS["count"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Lists to learn from and to predict on, one line of which cannot be drawn, and a trained run."""
    home = tmp_path_factory.mktemp("toy")
    (home / "learn.txt").write_text("".join(f"a{seed} {seed}\n" for seed in range(200)))
    lines = [f"b{seed} {seed}" for seed in range(1000, 1012)]
    lines[5] = "b1005 many"
    (home / "ask.txt").write_text("\n".join(lines) + "\n")
    train(home / "learn.txt", home / "run")
    return home


def train(data, out, **more):
    return saccade.train(data, model="dots_small", task="count", out=out, **{**SETTINGS, **more})


def weights_of(folder):
    return saccade.load_model(folder)[0].state_dict()


def test_no_line_of_the_package_knows_it():
    words = ("dots_small", "tests/toy", "toy.task", '"count":  # toy')
    for path in (ROOT / "src").rglob("*.py"):
        assert not any(word in path.read_text(encoding="utf-8") for word in words), path


def test_it_learns(home):
    log = [json.loads(line) for line in (home / "run" / "log.jsonl").read_text().splitlines()]
    epochs = [row for row in log if row["kind"] == "epoch"]
    assert epochs[-1]["right"] > 0.8
    assert epochs[-1]["off"] < epochs[0]["off"]
    model, card = saccade.load_model(home / "run")
    assert (card.model, card.task, card.preprocess) == ("dots_small", "count", {"size": 12})
    image, count = draw(9999, 12)
    assert model(image[None]).item() == pytest.approx(count, abs=0.6)


def test_a_run_that_was_stopped_goes_on_to_the_same_bits(home, tmp_path):
    train(home / "learn.txt", tmp_path / "whole", epochs=3, **{"run.save_steps": 7, "run.keep": 9})
    (stop,) = sorted((tmp_path / "whole" / "checkpoints").glob("step-*7-*"))  # in the middle of an epoch
    whole = weights_of(tmp_path / "whole")
    saccade.train(resume=stop)
    again = weights_of(tmp_path / "whole")
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_the_command_trains_it_and_names_what_it_lacks(home, tmp_path, capsys):
    flags = ["--data", str(home / "learn.txt"), "--task", "count", "--epochs", "1", "--size", "12"]
    flags += ["--device", "cpu", "--data.workers", "0", "--model.pretrained", "no"]
    assert main(["train", *flags, "--model", "dots_small", "--out", str(tmp_path / "run")]) == 0
    assert main(["train", *flags, "--model", "shvit_s1", "--out", str(tmp_path / "no")]) == 2
    assert "shvit_s1 does not count; choose dots_small" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_its_data_are_looked_over(home, monkeypatch):
    monkeypatch.setattr(toy.task.Count, "_check", lambda task, card: None)  # which knows its own model only
    calls = []
    found = check_samples("count", str(home / "ask.txt"), progress=lambda *done: calls.append(done))
    assert (found.samples, calls[-1]) == ({"train": 10, "val": 2}, (12, 12))
    assert [(part, name) for part, name, _ in found.skipped] == [("train", "b1005")]


def test_it_is_evaluated_from_python(home):
    found = saccade.evaluate(home / "run", threads=2, batch=7)
    assert (found.task, found.count, found.setting["batch"], found.setting["workers"]) == ("count", 40, 7, 2)
    assert found.metrics["right"] > 0.8
    other = saccade.evaluate(home / "run", home / "ask.txt", threads=1)
    assert (other.count, [name for name, _ in other.skipped]) == (11, ["b1005"])
    with pytest.raises(ConfigError, match="the task count has no setting 'views'; choose from size"):
        saccade.evaluate(home / "run", views="4x3")


def test_it_is_evaluated(home, tmp_path):
    assert main(["eval", "--weights", str(home / "run"), "--out", str(tmp_path / "page.html"), "--json"]) == 0
    assert "Counts are off by" in (tmp_path / "page.html").read_text()
    assert "Counts are off by" in (tmp_path / "page.md").read_text()


def test_an_evaluation_is_of_what_training_kept_back(home, tmp_path, capsys):
    run = str(home / "run")
    assert main(["eval", "--weights", run, "--out", str(tmp_path / "a.html"), "--json"]) == 0
    own = json.loads(capsys.readouterr().out)
    assert own["count"] == 40
    assert own["right"] > 0.8
    other = [
        "eval",
        "--weights",
        run,
        "--data",
        str(home / "ask.txt"),
        "--out",
        str(tmp_path / "b.html"),
        "--json",
    ]
    assert main(other) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["count"], found["skipped"]) == (11, 1)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "npz"])
def test_it_predicts(home, tmp_path, kind):
    out = tmp_path / f"counts.{kind}"
    truths = [draw(seed, 12)[1] for seed in range(1000, 1012) if seed != 1005]
    assert main(["predict", str(home / "ask.txt"), "--weights", str(home / "run"), "--out", str(out)]) == 0
    assert "b1005" in (tmp_path / "counts.skipped.csv").read_text()
    if kind == "npz":
        found = np.load(out)
        (vectors,) = (found[name] for name in found.files if found[name].shape == (11, 1))
        assert vectors[:, 0] == pytest.approx(truths, abs=1.5)
        return
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file)) if kind == "csv" else [json.loads(line) for line in file]
    assert [row["name"] for row in rows] == [f"b{seed}" for seed in range(1000, 1012) if seed != 1005]
    right = [abs(float(row["count"]) - truth) < 0.5 for row, truth in zip(rows, truths, strict=True)]
    assert sum(right) >= 8


def test_its_settings_are_flags_and_others_are_refused(home, tmp_path, capsys):
    command = [
        "predict",
        str(home / "ask.txt"),
        "--weights",
        str(home / "run"),
        "--out",
        str(tmp_path / "a.jsonl"),
    ]
    assert main([*command, "--digits", "0"]) == 0
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert all(row["count"] == round(row["count"]) for row in rows)
    for flags, word in (
        (["--topk", "3"], "topk"),
        (["--digits", "7"], "digits"),
        (["--digit", "1"], "digits"),
    ):
        assert main([*command[:-1], str(tmp_path / "b.jsonl"), *flags]) == 2
        assert word in capsys.readouterr().err
        assert not (tmp_path / "b.jsonl").exists()


def test_settings_are_arguments_in_python(home, tmp_path):
    found = saccade.predict(str(home / "ask.txt"), home / "run", tmp_path / "a.jsonl", digits=0)
    assert (found.rows, len(found.skipped)) == (11, 1)
    with pytest.raises(ConfigError, match="digits"):
        saccade.predict(str(home / "ask.txt"), home / "run", tmp_path / "b.jsonl", digits=9)
    with pytest.raises(ConfigError, match="topk"):
        saccade.predict(str(home / "ask.txt"), home / "run", tmp_path / "b.jsonl", topk=3)


def test_a_predictor_takes_places_and_tensors(home):
    image, count = draw(1000, 12)
    with saccade.open_predictor(home / "run") as predictor:
        (row,) = predictor(image)
        assert row["count"] == pytest.approx(count, abs=0.6)
        assert predictor.outputs(image).shape == (1, 1)


def test_an_explanation_is_refused_before_any_work(home, tmp_path, capsys):
    out = tmp_path / "why.png"
    assert main(["explain", str(home / "ask.txt"), "--weights", str(home / "run"), "--out", str(out)]) == 2
    assert "cannot explain; look at the pictures, the dots can be counted" in capsys.readouterr().err
    assert not out.exists()


@pytest.fixture(scope="module")
def bundle(home):
    pytest.importorskip("onnxruntime")
    assert (
        main(["export", "--weights", str(home / "run"), "--to", "onnx", "--out", str(home / "bundles")]) == 0
    )
    (folder,) = (home / "bundles").iterdir()
    return folder


def test_it_is_exported_and_its_manifest_says_what_it_is(bundle):
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["card"]["task"] == "count"
    assert manifest["checks"]["verified"]
    assert manifest["inputs"][0]["shape"] == ["batch", 1, 24, 12]


def test_a_bundle_is_verified(home, bundle, capsys):
    assert main(["export", "--check", str(bundle), "--weights", str(home / "run")]) == 0
    assert "failed" not in capsys.readouterr().out


def test_a_bundle_predicts_what_its_run_does(home, bundle, tmp_path):
    for source, name in ((home / "run", "a.jsonl"), (bundle, "b.jsonl")):
        command = ["predict", str(home / "ask.txt"), "--weights", str(source), "--out", str(tmp_path / name)]
        assert main([*command, "--digits", "3"]) == 0
    one, two = ((tmp_path / name).read_text().splitlines() for name in ("a.jsonl", "b.jsonl"))
    assert len(one) == len(two) == 11
    for a, b in zip(one, two, strict=True):
        assert json.loads(a)["count"] == pytest.approx(json.loads(b)["count"], abs=2e-3)


def test_a_bundle_is_evaluated(home, bundle, tmp_path, capsys):
    out = ["--out", str(tmp_path / "page.html"), "--json"]
    assert main(["eval", "--weights", str(bundle), "--data", str(home / "ask.txt"), *out]) == 0
    assert json.loads(capsys.readouterr().out)["count"] == 11


def test_it_is_timed(home):
    rows = saccade.bench([home / "run"], ["eager", "torch"], batch=1, seconds=0.1)
    assert [row.backend for row in rows] == ["eager", "torch"]
    assert all(row.images_per_s > 0 and row.macs_g > 0 for row in rows)
    assert rows[0].metric == pytest.approx(saccade.load_model(home / "run")[1].numbers["right"])


def test_weights_of_a_task_that_nobody_registered(home, tmp_path, capsys):
    model = saccade.load_model(home / "run")[0]
    saccade.save_weights(model, tmp_path / "other.safetensors", Card("dots_small", task="weigh"))
    assert main(["predict", str(home / "ask.txt"), "--weights", str(tmp_path / "other.safetensors")]) == 2
    error = capsys.readouterr().err
    assert "unknown task 'weigh'" in error
    assert error.count("\n") == 1
