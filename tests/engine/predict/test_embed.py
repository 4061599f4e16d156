"""Vectors in place of answers: what they are, where they go, what is refused."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

import saccade
from saccade.cli.main import main
from saccade.engine.export import export
from saccade.errors import ConfigError, MissingExtraError
from saccade.tasks.classify.task import preprocess_of
from saccade.tasks.dense.nets import build_dense
from saccade.weights import Card


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """Five pictures of other shapes, one of them damaged, and a small classifier."""
    home = tmp_path_factory.mktemp("embed")
    (home / "pics").mkdir()
    rng = np.random.default_rng(0)
    for number, size in enumerate([(40, 60), (60, 40), (33, 71), (64, 64)]):
        pixels = rng.integers(0, 255, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(home / "pics" / f"{number}.png")
    (home / "pics" / "2.png").write_bytes(b"\x89PNG nothing")
    torch.manual_seed(0)
    net = saccade.create_model("shvit_s1", num_classes=3).eval()
    card = Card("shvit_s1", num_classes=3, labels=list("abc"), preprocess={"size": 64})
    saccade.save_weights(net, home / "net.safetensors", card)
    return home, net, card


def test_vectors_are_the_features_before_the_classifier(room, tmp_path):
    home, net, card = room
    found = saccade.predict(
        home / "pics", home / "net.safetensors", tmp_path / "v.npz", embed=True, threads=1
    )
    assert (found.rows, [name for name, _ in found.skipped]) == (3, ["2.png"])
    assert "topk" not in found.setting
    kept = np.load(tmp_path / "v.npz")
    assert kept["name"].tolist() == ["0.png", "1.png", "3.png"]
    assert kept["vector"].dtype == np.float32
    images = torch.stack(
        [preprocess_of(card).fast(Image.open(home / "pics" / name)) for name in kept["name"]]
    )
    with torch.no_grad():
        want = net.forward_head(net.forward_features(images), pre_logits=True)
    assert np.allclose(kept["vector"], want.numpy(), atol=1e-5 * float(want.abs().max()))


def test_a_stopped_run_goes_on(room, tmp_path):
    home = room[0]
    words = [str(home / "pics"), home / "net.safetensors"]

    def stop(done, total):
        if done >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        saccade.predict(*words, tmp_path / "v.npz", embed=True, threads=1, batch=1, progress=stop)
    with pytest.raises(ConfigError, match=r"begun with (topk|embed)"):
        saccade.predict(*words, tmp_path / "v.npz", threads=1, backend="torch")
    assert saccade.predict(*words, tmp_path / "v.npz", embed=True, threads=1).resumed == 2
    saccade.predict(*words, tmp_path / "w.npz", embed=True, threads=1)
    one, two = np.load(tmp_path / "v.npz"), np.load(tmp_path / "w.npz")
    assert np.allclose(one["vector"], two["vector"], atol=1e-6)


def test_parquet_holds_the_same(room, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    home = room[0]
    for name in ("v.npz", "v.parquet"):
        saccade.predict(home / "pics", home / "net.safetensors", tmp_path / name, embed=True, threads=1)
    table = parquet.read_table(tmp_path / "v.parquet")
    vectors = np.stack(table["vector"].to_numpy())
    assert np.array_equal(vectors, np.load(tmp_path / "v.npz")["vector"])
    assert table["name"].to_pylist() == ["0.png", "1.png", "3.png"]


def test_parquet_holds_answers_and_logits_too(room, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    home = room[0]
    saccade.predict(
        home / "pics", home / "net.safetensors", tmp_path / "a.parquet", backend="torch", threads=1
    )
    table = parquet.read_table(tmp_path / "a.parquet")
    logits = np.stack(table["logits"].to_numpy())
    assert [list("abc")[place] for place in logits.argmax(1)] == table["label"].to_pylist()


def test_refusals(room, tmp_path, capsys):
    home, net, card = room
    words = ["predict", str(home / "pics"), "--weights", str(home / "net.safetensors")]
    for flags, sentence in (
        (["--embed", str(tmp_path / "v.csv")], "vectors are written as .npz or .parquet"),
        (["--embed", str(tmp_path / "v.npz"), "--out", str(tmp_path / "a.csv")], "give one of them"),
        (["--embed", str(tmp_path / "v.npz"), "--topk", "2"], "vectors have no setting topk"),
        (["--embed", str(tmp_path / "v.npz"), "--backend", "onnx"], "leave --backend and --precision out"),
    ):
        assert main([*words, *flags]) == 2
        assert sentence in capsys.readouterr().err
    dense = build_dense("shvit_s1", "semantic_fpn", 3, width=8)
    other = Card("shvit_s1", num_classes=3, task="segment", head="semantic_fpn", head_options={"width": 8})
    saccade.save_weights(dense, tmp_path / "dense.safetensors", other)
    with pytest.raises(ConfigError, match="whose networks give no vectors"):
        saccade.predict(home / "pics", tmp_path / "dense.safetensors", tmp_path / "v.npz", embed=True)
    bundle = export((net, card), "torch", out=tmp_path / "bundles").path
    with pytest.raises(ConfigError, match="a bundle gives no vectors"):
        saccade.predict(home / "pics", bundle, tmp_path / "v.npz", embed=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundles", "dense.safetensors"]


def test_a_missing_package_is_said_before_any_work(room, tmp_path, monkeypatch):
    home = room[0]
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    monkeypatch.setattr("saccade.engine.sessions.pool.open_runner", lambda *a, **k: pytest.fail("opened"))
    with pytest.raises(MissingExtraError, match=r"saccade\[kinematics\]"):
        saccade.predict(home / "pics", home / "net.safetensors", tmp_path / "a.parquet")
    assert list(tmp_path.iterdir()) == []
