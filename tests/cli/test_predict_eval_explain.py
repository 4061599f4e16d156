"""`predict`, `eval` and `explain` from the command line, in process, on a tiny folder and a tiny input size."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from saccade.cli.main import main
from saccade.weights import Card
from saccade.zoo.loading import save_weights
from saccade.zoo.registry import create_model

LABELS = ["blue", "green", "red"]
COLOURS = {"red": (220, 40, 30), "green": (40, 200, 60), "blue": (30, 60, 220)}


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """Weights that know three colours, and pictures of them; one picture is damaged."""
    folder = tmp_path_factory.mktemp("room")
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / "val" / name).mkdir(parents=True)
        for i in range(4):
            noise = rng.integers(-25, 25, (40, 50, 3)) + np.array(colour)
            Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(folder / "val" / name / f"{i}.jpg")
    (folder / "val" / "red" / "9.jpg").write_bytes(b"\xff\xd8\xff not a picture")
    torch.manual_seed(0)
    model = create_model("shvit_s1", num_classes=3)
    preprocess = {"size": 32, "crop_pct": 1.0}
    card = Card("shvit_s1", num_classes=3, labels=LABELS, preprocess=preprocess, origin="a test")
    (folder / "run").mkdir()
    train(model, folder / "val", preprocess)
    save_weights(model, folder / "run" / "best.safetensors", card)
    (folder / "run" / "recipe.yaml").write_text(f"data:\n  source: {folder}\n  val: {folder / 'val'}\n")
    (folder / "run" / "metrics.csv").write_text("epoch,train_loss,top1\n0,1.0,0.3\n1,0.5,0.9\n")
    return folder


def train(model, folder, fields):
    """Learn the colours by heart."""
    from saccade.data import Preprocess, open_source

    source, preprocess = open_source(str(folder), labels=LABELS), Preprocess.from_dict(fields)
    places = [i for i in range(len(source)) if not source.names[i].endswith("9.jpg")]
    images = torch.stack([preprocess.fast(source.read(i)) for i in places])
    labels = torch.from_numpy(source.targets[places])
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    for _ in range(12):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    for module in model.modules():  # running statistics of so few steps would be half a fresh network's
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d):
            module.reset_running_stats()
            module.momentum = None
    with torch.no_grad():
        model(images)
    model.eval()


def run(capsys, *tokens):
    code = main([str(token) for token in tokens])
    seen = capsys.readouterr()
    return code, seen.out, seen.err


def predict(capsys, room, out, *more):
    return run(
        capsys, "predict", room / "val", "--weights", room / "run", "--out", out, "--backend", "torch", *more
    )


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_predict_writes_every_picture_in_order(capsys, room, tmp_path):
    out = tmp_path / "p.csv"
    code, text, notes = predict(capsys, room, out, "--json", "--threads", 2, "--batch", 3, "--topk", 2)
    assert code == 0, notes
    said = json.loads(text)
    assert (said["rows"], said["skipped"], said["backend"], said["size"]) == (12, 1, "torch", 32)
    assert said["images_per_s"] > 0
    rows = read(out)
    assert [row["name"].replace("\\", "/") for row in rows] == [
        f"{c}/{i}.jpg" for c in LABELS for i in range(4)
    ]
    assert list(rows[0]) == ["name", "label", "confidence", "label_2", "confidence_2"]
    assert [row["label"] for row in rows] == [label for label in LABELS for _ in range(4)]
    (skipped,) = read(tmp_path / "p.skipped.csv")
    assert skipped["name"].endswith("9.jpg")
    assert "9.jpg" in notes
    assert not (tmp_path / "p.csv.part").exists()


def test_predict_goes_on_where_it_stopped(capsys, room, tmp_path, monkeypatch):
    whole, out = tmp_path / "whole.csv", tmp_path / "p.csv"
    assert predict(capsys, room, whole, "--threads", 1, "--batch", 2)[0] == 0
    from saccade.files.journal import Journal

    append, calls = Journal.append, []

    def stop_at_the_third(self, *args):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(1)
        append(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", stop_at_the_third)
        code, _, notes = predict(capsys, room, out, "--threads", 1, "--batch", 2)
    assert (code, out.exists()) == (130, False)
    assert "interrupted" in notes
    code, _, notes = predict(capsys, room, out, "--threads", 1, "--batch", 2, "--topk", 2)
    assert code == 2
    assert "topk 1, now it is 2" in notes
    code, text, notes = predict(capsys, room, out, "--threads", 2, "--batch", 3, "--json")
    assert code == 0, notes
    assert json.loads(text)["resumed"] == 4
    assert [(r["name"], r["label"]) for r in read(out)] == [(r["name"], r["label"]) for r in read(whole)]


def test_predict_logits(capsys, room, tmp_path):
    code, _, notes = predict(capsys, room, tmp_path / "p.npz", "--batch", 5)
    assert code == 0, notes
    with np.load(tmp_path / "p.npz") as found:
        assert found["logits"].shape == (12, 3)
        assert [LABELS[i] for i in found["logits"].argmax(1)] == found["label"].tolist()


def test_eval_measures_and_reports(capsys, room):
    code, text, notes = run(capsys, "eval", "--weights", room / "run", "--backend", "torch", "--json")
    assert code == 0, notes
    said = json.loads(text)
    assert (said["count"], said["skipped"], said["top1"]) == (12, 1, 1.0)
    assert 0.7 < said["top1_interval"][0] < said["top1_interval"][1] == 1
    page = (room / "run" / "report.html").read_text()
    assert "9.jpg" in page
    assert "Training" in page
    assert "100.00 %" in (room / "run" / "report.md").read_text()


def test_eval_matches_classes_by_name(capsys, room, tmp_path):
    for name in ("red", "green"):  # other numbers than in training: green 0, red 1
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(2):
            data = (room / "val" / name / f"{i}.jpg").read_bytes()
            (tmp_path / "data" / name / f"{i}.jpg").write_bytes(data)
    tokens = ["eval", "--weights", room / "run", "--backend", "torch", "--data", tmp_path / "data"]
    code, text, notes = run(capsys, *tokens, "--out", tmp_path / "r.html")
    assert code == 0, notes
    assert "top1: 1.0000  (95 % interval" in text
    assert "holds 2 of the model's 3 classes" in notes
    (tmp_path / "data" / "rde").mkdir()
    (tmp_path / "data" / "rde" / "0.jpg").write_bytes((room / "val" / "red" / "0.jpg").read_bytes())
    code, _, notes = run(capsys, *tokens)
    assert code == 2
    assert "'rde'" in notes
    assert "did you mean 'red'" in notes


def test_eval_refuses_another_number_of_classes(capsys, room, tmp_path):
    save_weights(create_model("shvit_s1", num_classes=5), tmp_path / "five.safetensors")
    code, _, notes = run(
        capsys,
        "eval",
        "--weights",
        tmp_path / "five.safetensors",
        "--data",
        room / "val",
        "--backend",
        "torch",
    )
    assert code == 2
    assert "3 classes, but the model has 5 outputs" in notes


def test_eval_measures_what_training_kept_back(capsys, room, tmp_path):
    run_folder = tmp_path / "run"
    run_folder.mkdir()
    (run_folder / "best.safetensors").write_bytes((room / "run" / "best.safetensors").read_bytes())
    text = f"data:\n  source: {room / 'val'}\n  val: ''\n  val_fraction: 0.25\nrun:\n  seed: 3\n"
    (run_folder / "recipe.yaml").write_text(text)
    code, out, notes = run(
        capsys, "eval", "--weights", run_folder, "--data", room / "val", "--backend", "torch", "--json"
    )
    assert code == 0, notes
    assert json.loads(out)["count"] + json.loads(out)["skipped"] == 3
    assert "that training kept back" in notes


def test_explain_draws(capsys, room, tmp_path):
    out = tmp_path / "x.png"
    code, text, notes = run(
        capsys, "explain", room / "val" / "red" / "0.jpg", "--weights", room / "run", "--class", "green",
        "--method", "both", "--size", 64, "--out", out, "--json",
    )  # fmt: skip
    assert code == 0, notes
    said = json.loads(text)
    assert said["class"] == "green"
    assert said["maps"][0].startswith("evidence for green, 2 x 2")
    with Image.open(out) as drawing:
        assert drawing.format == "PNG"


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        ("predict {nowhere} --weights {run}", "no such file or folder"),
        ("predict {empty} --weights {run}", "the folder is empty"),
        ("predict {val} --weights {run} --backend onx", "did you mean 'onnx'"),
        ("predict {val} --weights {run} --out p.xls", ".csv, .jsonl, .npz or .parquet"),
        ("predict {val} --weights {run} --topk 9", "between 1 and 5"),
        ("predict {val} --weights {run} --precision int8", "int8"),
        ("predict {val} --weights {junk}", "junk.safetensors"),
        ("predict {val} --weights shvit_s9", "shvit_s"),
        ("eval --weights {run} --data {nowhere}", "no such file or folder"),
        ("eval --weights {run} --data {val} --out page.pdf", ".html"),
        ("eval --weights {run}/best.safetensors", "--data"),
        ("eval --weights {run} --data {val} --speeds {nowhere}", "no such file"),
        ("explain {junk} --weights {run}", "junk.safetensors"),
        ("explain {val}/red/0.jpg --weights {run} --class rad", "did you mean 'red'"),
        (
            "explain {val}/red/0.jpg --weights timm/resnet10t --method attention",
            "no attention that can be drawn",
        ),
        ("explain {val}/red/0.jpg --weights {run} --out x.bmp", ".png"),
    ],
)
def test_bad_input_is_one_sentence(capsys, room, tmp_path, monkeypatch, tokens, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    places = {"run": room / "run", "val": room / "val", "empty": "empty", "nowhere": "nowhere"}
    filled = tokens.format(junk="junk.safetensors", **places)
    code, out, notes = run(capsys, *filled.split())
    assert code == 2, (out, notes)
    assert out == ""
    last = notes.strip().splitlines()[-1]
    assert last.startswith("saccade: ")
    assert words in last
    assert "Traceback" not in notes
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "junk.safetensors"]
