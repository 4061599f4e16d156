"""int8 from real pictures, on a network trained for a few seconds: the metrics stay, and the file says so."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from saccade.engine.export import export, verify
from saccade.engine.export.held_out import HeldOut, Recorder
from saccade.engine.sessions.open import open_runner
from saccade.errors import CheckFailed
from saccade.tasks import get_task
from saccade.tasks.classify.task import Classify
from saccade.weights import Card
from saccade.zoo.registry import create_model

SIZE = 64


def digits(card: Card, tmp_path: Path) -> HeldOut:
    return HeldOut.open("digits", get_task("classify"), card, tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[nn.Module, Card]:
    """A network that tells a few of the scanned digits apart."""
    pytest.importorskip("sklearn")
    torch.manual_seed(0)
    model = create_model("shvit_s1", num_classes=10)
    card = Card("shvit_s1", num_classes=10, labels=[str(i) for i in range(10)], preprocess={"size": SIZE})
    card.preprocess |= {"mean": [0.5] * 3, "std": [0.5] * 3, "crop_pct": 1.0}
    pictures = digits(card, tmp_path_factory.mktemp("run"))
    samples = [pictures.train[i] for i in range(0, len(pictures.train), 4)]
    images = torch.stack([s["image"] for s in samples])
    labels = torch.tensor([s["label"] for s in samples])
    optimiser = torch.optim.AdamW(model.parameters(), 2e-3)
    generator = torch.Generator().manual_seed(0)
    model.train()
    for _ in range(30):
        pick = torch.randint(0, len(images), (48,), generator=generator)
        loss = F.cross_entropy(model(images[pick]), labels[pick])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval(), card


@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_int8_keeps_the_marks(trained, tmp_path, to):
    pytest.importorskip("nncf")
    model, card = trained
    shipped = export((model, card), to, precision="int8", data="digits", out=tmp_path)
    checks = shipped.manifest.checks
    assert shipped.bytes < 0.4 * sum(p.numel() * 4 for p in model.parameters())
    assert checks["before"] > 0.5
    assert checks["before"] - checks["after"] <= Classify.metric_loss
    assert checks["agreement"] >= Classify.agreement["int8"]
    val = digits(card, tmp_path).val
    images = torch.stack([val[i]["image"] for i in range(4)])
    with open_runner(shipped.path, verb="predict", threads=1) as found:
        assert found.precision == "int8"
        one_by_one = torch.cat([found.net(image[None]) for image in images])
        # OpenVINO computes a single picture wrongly when the batch is free.
        assert verify.difference(one_by_one, found.net(images)) < verify.INT8_BATCH_LIMIT


@pytest.mark.slow
def test_a_loss_that_is_too_large_is_refused(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(Classify, "agreement", {"int8": 1.01})
    with pytest.raises(CheckFailed, match=r"int8 answers .* like PyTorch"):
        export(trained, "onnx", precision="int8", data="digits", out=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_calibration_pictures_come_from_the_training_side(tmp_path):
    pytest.importorskip("sklearn")
    card = Card("shvit_s1", num_classes=10, labels=[str(i) for i in range(10)], preprocess={"size": 32})
    pictures = digits(card, tmp_path)
    model = create_model("shvit_s1", num_classes=10).eval()
    found = pictures.calibration(Recorder(model, card, None), 7)
    assert [image.shape for (image,) in found] == [(1, 3, 32, 32)] * 7
    assert torch.equal(found[0][0][0], pictures.train[0]["image"])
    before, after, same = pictures.measure(model, model)
    assert before == after
    assert (before["count"], same) == (len(pictures.val), 1.0)
    assert (pictures.measure(model, lambda images: -model(images))[2] or 0) < 0.5
