"""`saccade export` from the outside: one row, one JSON object, exit codes."""

import json

import pytest

from saccade.cli.main import main


@pytest.fixture
def run_folder(tmp_path):
    """A run folder as training leaves it."""
    import torch

    from saccade.weights import Card
    from saccade.zoo.loading import save_weights
    from saccade.zoo.registry import create_model

    torch.manual_seed(0)
    model = create_model("efficientvim_m1", num_classes=10).eval()
    card = Card(
        "efficientvim_m1", num_classes=10, labels=[str(i) for i in range(10)], preprocess={"size": 64}
    )
    save_weights(model, tmp_path / "run" / "best.safetensors", card)
    return tmp_path / "run"


def test_one_json_object_and_the_bundle_in_the_run_folder(run_folder, capsys):
    assert main(["export", "--weights", str(run_folder), "--to", "torch", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["verified"] is True
    assert 0 < row["max_difference"] <= row["limit"] <= 1e-4
    assert row["bundle"] == str(run_folder / "export" / "efficientvim_m1-64-torch-float32")


def test_a_failed_check_is_exit_1(run_folder, monkeypatch, capsys):
    monkeypatch.setattr("saccade.engine.export.verify.FLOOR", 0.0)
    monkeypatch.setattr("saccade.engine.export.verify.ROUNDING_MULTIPLE", 0.0)
    assert main(["export", "--weights", str(run_folder), "--to", "torch"]) == 1
    assert "the file was removed" in capsys.readouterr().err
    assert not (run_folder / "export").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--to", "onx"], "onx"),
        (["--to", "onnx", "--precision", "int8"], "add --data"),
        (["--to", "litert", "--dynamic"], "leave out --dynamic"),
    ],
)
def test_user_errors_are_exit_2(run_folder, capsys, flags, words):
    assert main(["export", "--weights", str(run_folder), *flags]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error


def test_no_such_weights(tmp_path, capsys):
    assert main(["export", "--weights", str(tmp_path / "none")]) == 2
    assert "none" in capsys.readouterr().err
