"""What an earlier version wrote still loads, gives the numbers it gave then, resumes and can be verified.

`fixtures/before` was written by the version before the rooms were moved: a run of `timm/test_convnext` on the digits
(12 steps; the checkpoint is the one after 6), its bundle of format 2, the manifest that format 1 had, and the numbers
and the table that came out. Paths of the machine were taken out of the files, and the bundle's hashes made anew.
"""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import saccade
from saccade.cli.main import main

BEFORE = Path(__file__).parent / "fixtures" / "before"
EXPECTED = json.loads((BEFORE / "expected.json").read_text())
CHECKPOINT = "checkpoints/step-000000006-00000"


@pytest.fixture
def run(tmp_path):
    return Path(shutil.copytree(BEFORE / "run", tmp_path / "run"))


@pytest.fixture
def pictures(tmp_path):
    """The pictures of `predicted.csv`."""
    y, x = np.mgrid[:40, :56]
    (tmp_path / "pics").mkdir()
    for number in range(6):
        wave = 127.5 + 127.5 * np.sin(x * (0.1 + 0.07 * number) + y * (0.3 - 0.05 * number) + number)
        picture = np.stack([wave, 255 - wave, np.full_like(wave, 40 * number)], -1)
        Image.fromarray(picture.astype(np.uint8)).save(tmp_path / "pics" / f"{number}.png")
    return tmp_path / "pics"


@pytest.fixture(params=["bundle", "bundle-1"])
def bundle(request, tmp_path):
    pytest.importorskip("onnxruntime")
    folder = shutil.copytree(BEFORE / request.param, tmp_path / request.param)
    if request.param == "bundle-1":  # the same model file under the older manifest
        shutil.copy(BEFORE / "bundle" / "model.onnx", folder)
    return Path(folder)


def inputs():
    return torch.linspace(-2, 2, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32).sin()


def answers(source):
    model, card = saccade.load_model(source)
    assert (card.model, card.task, card.labels) == ("timm/test_convnext", "classify", list("0123456789"))
    with torch.no_grad():
        return model.eval()(inputs())


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def check_same_table(found, wanted):
    assert [list(row) for row in found] == [list(row) for row in wanted]
    for row, right in zip(found, wanted, strict=True):
        for column, value in right.items():
            if column.startswith("confidence"):
                assert float(row[column]) == pytest.approx(float(value), abs=2e-5)
            else:
                assert row[column] == value


@pytest.mark.parametrize(
    ("place", "name"),
    [("", "best"), ("best.safetensors", "best"), (f"{CHECKPOINT}/model.safetensors", "checkpoint")],
)
def test_a_run_and_its_checkpoint_load_with_equal_answers(run, place, name):
    torch.testing.assert_close(answers(run / place), torch.tensor(EXPECTED[name]), rtol=1e-4, atol=1e-5)


def test_a_run_predicts_the_table_it_predicted_then(run, pictures, tmp_path):
    out = tmp_path / "now.csv"
    command = ["predict", str(pictures), "--weights", str(run), "--out", str(out), "--topk", "3"]
    assert main([*command, "--backend", "torch"]) == 0
    check_same_table(table(out), table(BEFORE / "predicted.csv"))


def test_a_run_goes_on_where_it_was_and_ends_where_it_ended(run):
    """Six steps of the earlier version and six of this one give the network of twelve steps then."""
    (run / "best.safetensors").unlink()
    assert main(["train", "--resume", str(run)]) == 0
    torch.testing.assert_close(answers(run), torch.tensor(EXPECTED["best"]), rtol=1e-3, atol=1e-4)
    last = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
    wanted = EXPECTED["metrics"]
    assert {name: last[name] for name in wanted} == pytest.approx(wanted, rel=1e-3, abs=3e-3)


def test_a_bundle_predicts_the_table_of_its_run(bundle, pictures, tmp_path):
    out = tmp_path / "now.csv"
    assert main(["predict", str(pictures), "--weights", str(bundle), "--out", str(out), "--topk", "3"]) == 0
    check_same_table(table(out), table(BEFORE / "predicted.csv"))


def test_a_bundle_is_verified_against_itself_and_its_run(bundle, run, capsys):
    assert main(["export", "--check", str(bundle), "--weights", str(run), "--json"]) == 0
    found = capsys.readouterr().out
    assert "failed" not in found
    # Format 1 kept no answers and says so.
    assert ("not checked" in found) == (bundle.name == "bundle-1")


def test_a_bundle_that_was_changed_is_refused(bundle, pictures, tmp_path, capsys):
    data = bytearray((bundle / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / "model.onnx").write_bytes(data)
    assert main(["predict", str(pictures), "--weights", str(bundle), "--out", str(tmp_path / "now.csv")]) == 2
    assert "model.onnx" in capsys.readouterr().err
    assert not (tmp_path / "now.csv").exists()
