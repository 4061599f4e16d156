"""Features judged by neighbours and by a linear model, on data of any classes."""

import json

import numpy as np
import pytest
import torch

import saccade
from saccade.cli.main import main
from saccade.engine.evaluate import probe
from saccade.errors import ConfigError
from saccade.weights import Card


def blobs(rng, count, spread=0.1):
    """Vectors around the corners of a triangle, and their classes."""
    labels = rng.integers(0, 3, count)
    return (np.eye(3)[labels] + spread * rng.normal(size=(count, 3))).astype(np.float32), torch.from_numpy(
        labels
    )


@pytest.mark.parametrize("rule", [probe._neighbours, probe._regression])
def test_what_lies_together_is_told_apart(rule):
    rng = np.random.default_rng(0)
    (known, learned), (asked, wanted) = blobs(rng, 90), blobs(rng, 300)
    shares, note = rule(known, learned, asked, 4)
    assert shares.shape == (300, 4)
    assert np.allclose(shares.sum(1), 1)
    assert (shares[:, 3] == 0).all()  # a class that the training side lacks
    assert (shares.argmax(1) == wanted.numpy()).mean() > 0.97
    assert "90 training samples" in note


def test_neighbours_vote_by_cosine_and_the_nearest_counts_most():
    known = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 5.0]], np.float32)
    shares, _ = probe._neighbours(known, torch.tensor([0, 1, 1]), np.array([[7.0, 0.0]], np.float32), 2)
    votes = [np.exp((cosine - 1) / probe.TEMPERATURE) for cosine in (1, 0.9 / np.hypot(0.9, 0.1), 0)]
    assert shares[0] == pytest.approx(np.array([votes[0], votes[1] + votes[2]]) / sum(votes))


def test_neighbours_beyond_one_block():
    rng = np.random.default_rng(1)
    (known, learned), (asked, _) = blobs(rng, 40), blobs(rng, 600)
    whole, _ = probe._neighbours(known, learned, asked, 3)
    tail, _ = probe._neighbours(known, learned, asked[590:], 3)
    assert np.allclose(whole[590:], tail)


@pytest.mark.parametrize("kind", ["knn", "linear"])
def test_digits_from_random_features(tmp_path, capsys, kind):
    pytest.importorskip("sklearn")
    torch.manual_seed(0)
    net = saccade.create_model("shvit_s1", num_classes=2).eval()  # other classes than the data has
    card = Card("shvit_s1", num_classes=2, labels=["x", "y"], preprocess={"size": 32, "crop_pct": 1.0})
    saccade.save_weights(net, tmp_path / "net.safetensors", card)
    command = ["eval", "--weights", str(tmp_path / "net.safetensors"), "--data", "digits", "--probe", kind]
    assert main([*command, "--out", str(tmp_path / "page.html"), "--json"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["probe"] == kind
    assert found["top1"] > 0.5 > 3 * found["constant"]
    assert found["top1_interval"][0] < found["top1"] < found["top1_interval"][1]
    assert "The most frequent class of the training side alone" in said.err
    page = (tmp_path / "page.html").read_text()
    assert f"--probe {kind}" in page


def test_refusals(tmp_path, capsys):
    with pytest.raises(ConfigError, match="knn or linear"):
        probe.probe("shvit_s1", "digits", "forest")
    with pytest.raises(ConfigError, match="--data"):
        probe.probe("shvit_s1", "")
    assert (
        main(["eval", "--weights", "shvit_s1", "--data", "digits", "--probe", "knn", "--backend", "onnx"])
        == 2
    )
    assert "has no --backend" in capsys.readouterr().err
