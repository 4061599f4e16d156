"""A plain file of any timm model goes in at every command, by --model, --weights and --labels."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

import saccade
from saccade import Source
from saccade.cli.main import main
from saccade.tasks.open import load_model

NAMES = ["green things", "red things"]


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """A plain file of a network of timm, the names of its classes, and pictures of both."""
    folder = tmp_path_factory.mktemp("named")
    torch.manual_seed(0)
    net = timm.create_model("test_resnet", num_classes=2).eval()
    rng = np.random.default_rng(0)
    for name, colour in (("green things", (30, 200, 40)), ("red things", (220, 40, 30))):
        (folder / "data" / name).mkdir(parents=True)
        for i in range(4):
            noise = (rng.integers(-20, 20, (48, 40, 3)) + np.array(colour)).clip(0, 255).astype(np.uint8)
            Image.fromarray(noise).save(folder / "data" / name / f"{i}.png")
    torch.save(
        {"state_dict": {f"module.{name}": value for name, value in net.state_dict().items()}},
        folder / "w.pth",
    )
    (folder / "labels.txt").write_text("\n".join(NAMES) + "\n")
    return folder, net


def flags(folder, *more):
    named = ["--model", "timm/test_resnet", "--weights", str(folder / "w.pth")]
    return [*named, "--labels", str(folder / "labels.txt"), *more]


def test_predict_answers_in_the_users_words(room, tmp_path, capsys):
    folder, net = room
    out = tmp_path / "p.csv"
    command = ["predict", str(folder / "data"), *flags(folder), "--backend", "torch", "--out", str(out)]
    assert main([*command, "--threads", "1"]) == 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert {row["label"] for row in rows} <= set(NAMES)
    assert len(rows) == 8
    own, _ = load_model(Source(folder / "w.pth", model="timm/test_resnet"))
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(own(x), net(x))
    capsys.readouterr()


def test_eval_matches_the_labels_with_the_folders(room, tmp_path, capsys):
    folder, _ = room
    (folder / "turned.txt").write_text("\n".join(NAMES[::-1]))
    found = []
    for labels in ("labels.txt", "turned.txt"):
        named = ["--weights", f"timm/test_resnet={folder / 'w.pth'}", "--labels", str(folder / labels)]
        command = ["eval", *named, "--data", str(folder / "data"), "--backend", "torch", "--threads", "1"]
        assert main([*command, "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out)["top1"])
    assert sum(found) == pytest.approx(
        1
    )  # of two classes: what is right under one name is wrong under the other
    (folder / "others.txt").write_text("cat\ndog\n")
    named[-1] = str(folder / "others.txt")
    assert main(["eval", *named, "--data", str(folder / "data")]) == 2
    assert "cat" in capsys.readouterr().err


def test_explain_and_export_and_bench(room, tmp_path, capsys):
    folder, _ = room
    picture = next((folder / "data" / NAMES[0]).glob("*.png"))
    assert main(["explain", str(picture), *flags(folder), "--out", str(tmp_path / "e.png"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["class"] in NAMES
    assert main(["export", *flags(folder), "--to", "torch", "--out", str(tmp_path), "--json"]) == 0
    bundle = json.loads(capsys.readouterr().out)["bundle"]
    assert json.loads((Path(bundle) / "manifest.json").read_text())["card"]["labels"] == NAMES
    assert main(["predict", str(picture), "--weights", bundle, "--labels", str(folder / "labels.txt")]) == 2
    assert "a bundle has its model and labels" in capsys.readouterr().err
    told = f"timm/test_resnet={folder / 'w.pth'}"
    command = [
        "bench",
        "--models",
        told,
        "--backends",
        "eager",
        "--seconds",
        "0.05",
        "--size",
        "32",
        "--batch",
        "1",
    ]
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["model"] == told


def small(folder, out, *more):
    settings = ["--size", "32", "--epochs", "1", "--batch", "4", "--data.workers", "0", "--device", "cpu"]
    data = ["--data", str(folder / "data"), "--val", str(folder / "data")]
    return [
        "train",
        *data,
        *settings,
        "--threads",
        "1",
        "--ema.decay",
        "0",
        "--run.log_every",
        "1",
        "--out",
        str(out),
        *more,
    ]


def test_train_goes_on_from_the_file_with_its_classifier(room, tmp_path, capsys):
    folder, net = room
    assert main(small(folder, tmp_path / "run", *flags(folder), "--optim.lr", "1e-12")) == 0
    tuned, card = load_model(tmp_path / "run")
    assert (card.model, card.labels) == ("timm/test_resnet", NAMES)
    assert torch.allclose(tuned.fc.weight, net.fc.weight, atol=1e-5)
    assert torch.allclose(tuned.conv1[0].weight, net.conv1[0].weight, atol=1e-5)
    capsys.readouterr()


def test_a_named_file_teaches(room, tmp_path, capsys):
    folder, _ = room
    teacher = Source(folder / "w.pth", model="timm/test_resnet", labels=folder / "labels.txt")
    command = small(folder, tmp_path / "run", "--model", "timm/test_resnet", "--model.pretrained", "no")
    assert main([*command, "--loss.distill", "hard", "--loss.teacher", str(teacher)]) == 0
    assert "loss_teacher" in (tmp_path / "run" / "log.jsonl").read_text()
    capsys.readouterr()


def test_from_python_a_source_goes_through_every_door(room, tmp_path):
    folder, _ = room
    source = Source(folder / "w.pth", model="timm/test_resnet", labels=folder / "labels.txt")
    _, card = saccade.load_model(source)
    assert card.labels == NAMES
    with saccade.open_predictor(source, backend="torch") as predictor:
        row = predictor(str(next((folder / "data" / NAMES[1]).glob("*.png"))))[0]
    assert row["label"] in NAMES


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ([], "name the model with --model"),
        (["--model", "timm/test_vit"], "does not fit this model"),
        (["--model", "timm/test_resnett"], "did you mean"),
        (["--model", "timm/test_resnet", "--labels", "{one}"], "1 labels for 2 outputs"),
    ],
)
def test_slips_are_one_sentence(more, sentence, room, tmp_path, capsys):
    folder, _ = room
    (tmp_path / "one.txt").write_text("cat\n")
    more = [word.format(one=tmp_path / "one.txt") for word in more]
    command = ["predict", str(folder / "data"), "--weights", str(folder / "w.pth"), *more]
    assert main([*command, "--out", str(tmp_path / "p.csv")]) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert err.count("\n") == 1
