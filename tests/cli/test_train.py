"""`saccade train` from its flags to its files, and every refusal."""

import json

import numpy as np
import pytest
import yaml
from PIL import Image

from saccade.cli.main import main
from saccade.tasks.open import load_model

TINY = ["--model", "timm/test_vit2", "--model.options", "{img_size: 32}", "--model.pretrained", "no"]
SMALL = [
    *TINY,
    "--size",
    "32",
    "--batch",
    "4",
    "--data.workers",
    "0",
    "--device",
    "cpu",
    "--run.threads",
    "1",
]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "photos"
    rng = np.random.default_rng(0)
    for kind in ("cat", "dog"):
        (folder / kind).mkdir(parents=True)
        for i in range(6):
            Image.fromarray(rng.integers(0, 255, (36, 36, 3), dtype=np.uint8)).save(
                folder / kind / f"{i}.png"
            )
    return folder


@pytest.fixture(scope="module")
def run_folder(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "x"
    assert main(["train", "--data", str(photos), *SMALL, "--epochs", "2", "--out", str(folder)]) == 0
    return folder


def refused(tokens, capsys, code=2):
    """Run a command that must fail; return its one sentence."""
    assert main(["train", *tokens]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.strip().splitlines()
    assert lines[-1].startswith("saccade: ")
    assert "Traceback" not in captured.err
    return lines[-1]


def test_train_then_resume_then_fine_tune(photos, run_folder, tmp_path, capsys):
    capsys.readouterr()
    assert main(["train", "--resume", str(run_folder), "--json"]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert "this run is over" in captured.err
    assert result["ended"] == "all epochs done"
    assert result["epochs"] == 2
    assert 0 <= result["top1"] <= 1
    _, card = load_model(result["weights"])
    assert card.labels == ["cat", "dog"]
    # --weights alone says which model it is
    out = tmp_path / "y"
    tokens = ["--data", str(photos), "--weights", str(run_folder), "--freeze", "backbone", "--epochs", "1"]
    assert main(["train", *tokens, *SMALL[6:], "--out", str(out)]) == 0
    kept = yaml.safe_load((out / "recipe.yaml").read_text())
    assert kept["model"]["name"] == "timm/test_vit2"
    assert kept["model"]["options"] == {"img_size": 32}
    assert kept["optim"]["freeze"] == ["backbone"]


def test_dry_run_lists_every_setting_and_writes_nothing(photos, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tokens = [
        "--data",
        str(photos),
        "--recipe",
        "shvit_s1_imagenet",
        "--optim.lr=3e-3",
        "--augment.hflip",
        "0",
    ]
    assert main(["train", *tokens, "--run.tensorboard", "--dry-run"]) == 0
    recipe = yaml.safe_load(capsys.readouterr().out)
    assert recipe["optim"]["lr"] == 3e-3
    assert recipe["augment"]["hflip"] == 0.0
    assert recipe["optim"]["clip"] == "agc"
    assert recipe["run"]["tensorboard"] is True
    assert recipe["data"]["source"] == str(photos)
    assert list(tmp_path.iterdir()) == []
    assert main(["train", *tokens, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["optim"]["clip_value"] == 0.02


def test_dry_run_prints_what_the_run_uses(photos, tmp_path, capsys):
    tokens = [
        "--data",
        str(photos),
        "--model",
        "timm/test_vit2",
        "--model.pretrained",
        "no",
        "--data.workers",
        "0",
    ]
    tokens += ["--run.max_steps", "1", "--out", str(tmp_path / "run")]
    assert main(["train", *tokens, "--dry-run"]) == 0
    said = yaml.safe_load(capsys.readouterr().out)
    assert said["data"].pop("size") == 160
    assert said["run"].pop("device") in ("cpu", "cuda", "mps")
    assert list(tmp_path.iterdir()) == []
    assert main(["train", *tokens]) == 0
    used = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert used["data"].pop("size") is None
    assert used["run"].pop("device") == "auto"
    assert said == used
    assert said["data"]["batch"] >= 4
    assert None not in (said["schedule"]["epochs"], said["optim"]["lr"], said["run"]["threads"])
    assert said["schedule"]["warmup_epochs"] > 0
    assert said["run"]["patience"] >= 10


def test_digits_has_a_recipe_of_its_own(capsys):
    assert main(["train", "--data", "digits", "--dry-run"]) == 0
    recipe = yaml.safe_load(capsys.readouterr().out)
    assert recipe["augment"]["hflip"] == 0.0
    assert recipe["model"]["pretrained"] == "no"


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([], "say where the data is with --data"),
        (["--data", "x", "--optim.lrr", "1"], "unknown flag --optim.lrr; did you mean"),
        (["--data", "x", "--epoch", "1"], "unknown flag --epoch; did you mean"),
        (["--data", "x", "--optim.lr", "fast"], "optim.lr should be a number, not 'fast'"),
        (["--data", "x", "--optim.lr", "-1"], "optim.lr is -1 but should be between"),
        (["--data", "x", "--model", "shvit_s9"], "unknown model 'shvit_s9'"),
        (["--data", "x", "--recipe", "shvit"], "unknown recipe 'shvit'"),
        (["--data", "x", "--config", "none.yaml"], "no such recipe file"),
        (["--data", "no/such/folder", *SMALL], "no/such/folder"),
        (["--resume", "no/such/run"], "no recipe.yaml here"),
        (["--data", "x", "--weights", "no/such.safetensors"], "no/such.safetensors"),
        (["stray"], "unexpected 'stray'"),
    ],
)
def test_mistakes_end_in_one_sentence(tokens, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in refused(tokens, capsys)
    assert list(tmp_path.iterdir()) == []


def test_resuming_with_other_settings_is_refused(run_folder, photos, capsys):
    sentence = refused(["--resume", str(run_folder), "--epochs", "9"], capsys)
    assert "begun with schedule.epochs 2 and cannot be resumed with 9" in sentence
    sentence = refused(["--resume", str(run_folder), "--recipe", "digits"], capsys)
    assert "leave out --recipe" in sentence
    sentence = refused(["--data", str(photos), *SMALL, "--out", str(run_folder)], capsys)
    assert "holds a run already" in sentence


def test_one_class_and_an_empty_folder_are_refused(tmp_path, photos, capsys):
    (tmp_path / "empty").mkdir()
    assert "empty" in refused(["--data", str(tmp_path / "empty"), *SMALL], capsys)
    (tmp_path / "one/cat").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "one/cat/a.png")
    assert "class" in refused(["--data", str(tmp_path / "one"), *SMALL], capsys)


def test_help_shows_an_example_and_at_most_twelve_flags(capsys):
    main(["train", "--help"])
    text = capsys.readouterr().out
    assert "Example: saccade train --data photos/" in text
    flags = {word.strip("│ ,") for word in text.split() if word.strip("│ ,").startswith("--")}
    shown = {
        f for f in flags if not f.startswith("--no-") and "." not in f and f not in ("--help", "--version")
    }
    assert {"--data", "--model", "--recipe", "--resume", "--dry-run", "--json"} <= shown
