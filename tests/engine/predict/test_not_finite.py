"""Networks that give no numbers: bad weights are an error before any row, a few odd pictures are left out."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from saccade.cli.main import main
from saccade.data.whole import WholePreprocess
from saccade.engine.export import export, verify
from saccade.engine.predict.sharpen import enhance, shipped_weights
from saccade.engine.sessions.finite import REASON
from saccade.errors import WeightsError
from saccade.radar import Grid, RadarImage
from saccade.tasks.dense.nets import build_dense
from saccade.tasks.dense.watch import FiniteParts
from saccade.tasks.open import load_model
from saccade.weights import Card
from saccade.zoo.loading import save_weights
from saccade.zoo.registry import create_model


def run(*argv) -> int:
    return main([str(part) for part in argv])


@pytest.fixture
def pictures(tmp_path):
    """Two classes of two pictures each."""
    rng = np.random.default_rng(0)
    for name in ("a/1.png", "a/2.png", "b/3.png", "b/4.png"):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(path)
    return tmp_path / "pictures"


def overflow(part):
    """Make weights so large that two layers of them leave single precision."""
    for parameter in part.parameters():
        if parameter.ndim > 1:
            parameter.data.mul_(1e30)


def classifier(large: bool = False, nan: bool = False):
    torch.manual_seed(0)
    model = create_model("shvit_s1", num_classes=2).eval()
    if large:
        last = [part for part in model.modules() if not list(part.children()) and list(part.parameters())][
            -2:
        ]
        for part in last:
            part.weight.data.fill_(3e38)
    if nan:
        [p for p in model.parameters() if p.ndim == 2][-1].data[0, 0] = torch.nan
    return model, Card("shvit_s1", num_classes=2, labels=["a", "b"], preprocess={"size": 32})


@pytest.mark.parametrize("damage", [{"nan": True}, {"large": True}])
@pytest.mark.parametrize("command", ["predict", "eval"])
def test_damaged_weights_are_refused_before_any_row(pictures, tmp_path, capsys, command, damage):
    model, card = classifier(**damage)
    save_weights(model, tmp_path / "net.safetensors", card)
    out = tmp_path / "out.csv"
    words = ["predict", pictures, "--out", out] if command == "predict" else ["eval", "--data", pictures]
    assert run(*words, "--weights", tmp_path / "net.safetensors", "--backend", "torch") == 2
    assert "not finite" in capsys.readouterr().err
    assert not out.exists()


def test_a_bundle_that_overflows_is_refused_before_any_row(pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SACCADE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        verify, "compare", lambda *args, **options: verify.Report()
    )  # such a file does not pass
    path = export(classifier(large=True), "onnx", out=tmp_path).path
    for words in (["predict", pictures, "--out", tmp_path / "out.csv"], ["eval", "--data", pictures]):
        assert run(*words, "--weights", path) == 2
        assert "not finite" in capsys.readouterr().err
    assert not (tmp_path / "out.csv").exists()


def test_such_weights_are_not_exported(tmp_path, capsys):
    model, card = classifier(large=True)
    save_weights(model, tmp_path / "net.safetensors", card)
    assert run("export", "--weights", tmp_path / "net.safetensors", "--to", "torch", "--out", tmp_path) == 1
    assert "not finite" in capsys.readouterr().err


@pytest.fixture(params=["retinanet", "faster_rcnn", "semantic_fpn"])
def dense(request, tmp_path):
    """A detector or segmenter, and its file after a change."""
    options = {
        "retinanet": {"width": 8, "score_threshold": 0.0},
        "faster_rcnn": {"width": 8, "fc_width": 8, "proposals": 10, "score_threshold": 0.0},
        "semantic_fpn": {"width": 8},
    }[request.param]
    torch.manual_seed(0)
    net = build_dense("shvit_s1", request.param, 2, **options).eval()
    task = "segment" if request.param == "semantic_fpn" else "detect"
    card = Card(
        "shvit_s1", num_classes=2, task=task, labels=["a", "b"], head=request.param, head_options=options
    )
    card.preprocess = {"size": 64, "max_size": 128}

    def save(large=False):
        path = tmp_path / "net.safetensors"
        if large:
            overflow(net.neck)
        save_weights(net, path, card)
        return path

    return save


def test_detectors_and_segmenters_that_overflow_are_refused(dense, pictures, tmp_path, capsys):
    out = tmp_path / "out"
    assert run("predict", pictures, "--weights", dense(large=True), "--out", out, "--threads", 1) == 2
    assert "not finite" in capsys.readouterr().err
    assert not (out / "predictions.jsonl").exists()


def test_detectors_and_segmenters_name_pictures_that_overflow(dense, pictures, tmp_path, monkeypatch):
    path, out = dense(), tmp_path / "out"
    whole, third = FiniteParts.forward, np.array(Image.open(pictures / "b/3.png"))
    size = WholePreprocess(size=64, max_size=128)
    wanted = size.normalise(size.resize(third)).mean()

    def spoil(self, images):
        found = whole(self, images)
        for place in (images.mean((1, 2, 3)) - wanted).abs().lt(1e-5).nonzero()[:, 0].tolist():
            if isinstance(found, torch.Tensor):
                found[place, 0, 0, 0] = torch.inf
            else:
                found[place]["boxes"] = torch.full_like(found[place]["boxes"], torch.nan)
        return found

    monkeypatch.setattr(FiniteParts, "forward", spoil)
    assert run("predict", pictures, "--weights", path, "--out", out, "--threads", 1, "--batch", 2) == 0
    rows = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert [row["name"] for row in rows] == ["a/1.png", "a/2.png", "b/4.png"]
    with next(out.glob("*.skipped.csv")).open(newline="") as file:
        (skipped,) = list(csv.reader(file))[1:]
    assert skipped[0] == "b/3.png"
    assert REASON in skipped[1]


def test_a_sharpener_that_overflows_is_refused(tmp_path):
    network, card = load_model(shipped_weights())
    overflow(network)
    save_weights(network, tmp_path / "s.safetensors", card)
    axis = np.arange(32) * 1e-3
    values = np.random.default_rng(0).random((32, 32), np.float32)
    with pytest.raises(WeightsError, match="not finite"):
        enhance(RadarImage(values, Grid.plane(axis, axis, 0.3), "empm"), tmp_path / "s.safetensors")
