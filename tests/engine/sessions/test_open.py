"""One interface over every way of running a network; the choice is proved, timed and remembered."""

import copy
import shutil

import pytest
import torch
from torch import nn

from saccade.engine.export import export
from saccade.engine.export.cache import recall, remember
from saccade.engine.export.session import OpenedFile
from saccade.engine.export.verify import BF16_LIMIT, difference, limit
from saccade.engine.sessions import choose, made
from saccade.engine.sessions.open import open_runner
from saccade.engine.sessions.runner import run_bundle
from saccade.errors import CheckFailed, ConfigError, ShapeError, WeightsError
from saccade.files import cache_dir
from saccade.tasks.open import load_model
from saccade.weights import Card
from saccade.zoo.loading import save_weights
from saccade.zoo.registry import create_model

SIZE = 64


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A weights file of a small real network, and the network."""
    torch.manual_seed(0)
    model = create_model("shvit_s1", num_classes=4)
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            module.momentum = 1.0
    model.train()
    with torch.no_grad():
        model(torch.randn(4, 3, SIZE, SIZE))
    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    card = Card("shvit_s1", num_classes=4, labels=list("abcd"), preprocess={"size": SIZE})
    save_weights(model.eval(), path, card)
    return path, model


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def use_cache(cache, monkeypatch):
    monkeypatch.setenv("SACCADE_CACHE", str(cache))


def want(model, images):
    with torch.no_grad():
        return model(images)


def check_equal(outputs, model, images):
    """Rounding is all that outputs differ by from the network in float64, as is asked of exported files."""
    exact = want(copy.deepcopy(model).double(), images.double())
    assert difference(outputs, exact) <= limit("float32", difference(want(model, images), exact))


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_torch(weights, precision):
    path, model = weights
    images = torch.randn(3, 3, SIZE, SIZE)
    with open_runner(path, verb="predict", backend="torch", precision=precision) as found:
        assert (found.backend, found.precision, found.device) == ("torch", precision, "cpu")
        assert found.card.labels == list("abcd")
        outputs = found.net(images)
    assert outputs.dtype == torch.float32
    if precision == "float32":
        check_equal(outputs, model, images)
    else:
        assert difference(outputs, want(model, images)) < BF16_LIMIT


def test_onnx_is_made_once(weights):
    path, model = weights
    said = []
    images = torch.randn(3, 3, SIZE, SIZE)
    for _ in range(2):
        with open_runner(path, verb="predict", backend="onnx", threads=1, log=said.append) as found:
            check_equal(found.net(images), model, images)
            assert found.session.threads == 1
    assert len([line for line in said if "once" in line]) == 1


def test_auto_proves_and_remembers(weights, monkeypatch):
    path, model = weights
    monkeypatch.setattr(choose, "ROUND_SECONDS", 0.01)
    said = []
    with open_runner(path, verb="predict", threads=1, batch=2, log=said.append) as found:
        assert found.backend in ("torch", "onnx", "openvino")
        assert found.precision == "float32"
        assert "images/s at batch 2" in found.why
        for name in ("torch", "onnx", "openvino"):
            assert name in found.why
        images = torch.randn(2, 3, SIZE, SIZE)
        check_equal(found.net(images), model, images)
    monkeypatch.setattr(choose, "_seconds", lambda *a: pytest.fail("timed again"))
    with open_runner(path, verb="predict", threads=1, batch=2) as again:
        assert again.backend == found.backend
        assert "measured before" in again.why


def test_a_wrong_candidate_is_never_taken(weights, monkeypatch):
    path, model = weights
    monkeypatch.setattr(choose, "ROUND_SECONDS", 0.01)

    def wrong(session, images):
        return want(model, images) * 1.01

    monkeypatch.setattr("saccade.engine.export.onnx.OnnxSession.__call__", wrong)
    said = []
    with open_runner(path, verb="predict", threads=1, batch=3, log=said.append) as found:
        assert found.backend != "onnx"
    assert any(line.startswith("onnx is out: ") and "differs from PyTorch by 0.01" in line for line in said)


def test_no_candidate_at_all_is_a_failed_check(weights, monkeypatch):
    def fail(*args, **kwargs):
        raise CheckFailed("no")

    monkeypatch.setattr(choose, "_prove", fail)
    with pytest.raises(CheckFailed, match="no backend gives"):
        open_runner(weights[0], verb="predict", threads=1, batch=5)


@pytest.fixture(scope="module")
def bundle(weights, tmp_path_factory):
    return export(weights[0], "torch", out=tmp_path_factory.mktemp("bundles")).path


def test_bundles_know_their_size(weights, bundle):
    model = weights[1]
    with open_runner(bundle, verb="predict") as found:
        assert (found.backend, found.size, found.batch) == ("torch", (SIZE, SIZE), None)
        images = torch.randn(2, 3, SIZE, SIZE)
        check_equal(found.net(images), model, images)
        with pytest.raises(ShapeError, match=r"takes \(batch, 3, 64, 64\); export it with --dynamic"):
            found.net(torch.randn(1, 3, 32, 64))
        with pytest.raises(ShapeError, match=r"takes \(batch, 3, 64, 64\)"):
            found.net(torch.randn(1, 1, SIZE, SIZE))
        with pytest.raises(ShapeError, match="takes"):
            found.net(torch.randn(0, 3, SIZE, SIZE))
    for options, message in (
        ({"backend": "onnx"}, "does not run with the backend 'onnx'"),
        ({"precision": "bf16"}, "this bundle is float32"),
    ):
        with pytest.raises(ConfigError, match=message):
            open_runner(bundle, verb="predict", **options)


def test_a_fixed_batch_is_fed_in_pieces():
    seen = []

    class Session:
        threads = 1

        def __call__(self, images):
            seen.append(images.clone())
            return images.mean((2, 3))

        def close(self):
            pass

    found = OpenedFile(Session(), Card("shvit_s1"), [[2, 3, 4, 4]])
    assert (found.threads, found.size) == (1, (4, 4))
    images = torch.randn(5, 3, 4, 4)
    assert torch.equal(found(images), images.mean((2, 3)))
    assert [len(piece) for piece in seen] == [2, 2, 2]
    assert torch.equal(seen[2][1], images[4])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "onxx"}, "did you mean 'onnx'"),
        ({"precision": "float16"}, "unknown precision"),
        ({"precision": "int8"}, "int8 needs calibration"),
        ({"device": "gpu"}, "unknown device"),
        ({"device": "mps" if not torch.backends.mps.is_available() else "cuda"}, "not present here"),
    ],
)
def test_refusals(weights, options, message):
    with pytest.raises(ConfigError, match=message):
        open_runner(weights[0], verb="predict", **options)


def test_a_bundle_of_another_size_is_refused(bundle):
    with pytest.raises(ConfigError, match="takes pictures of 64 px, not of 96"):
        open_runner(bundle, verb="predict", size=96)


@pytest.mark.parametrize("backend", ["torch", "onnx", "auto"])
def test_weights_run_at_the_size_that_was_asked_for(weights, backend, monkeypatch):
    monkeypatch.setattr(choose, "ROUND_SECONDS", 0.01)
    path, model = weights
    images = torch.randn(2, 3, 96, 96)
    with open_runner(path, verb="predict", backend=backend, size=96, threads=1) as found:
        assert found.card.preprocess["size"] == 96
        check_equal(found.net(images), model, images)
        with found.again() as other:
            assert (other.backend, other.why) == (found.backend, "as asked for")
            assert other.net is not found.net
            torch.testing.assert_close(other.net(images), found.net(images))


def test_a_damaged_bundle_is_refused(bundle, tmp_path):
    damaged = shutil.copytree(bundle, tmp_path / "damaged")
    (damaged / "model.pt2").write_bytes(b"")
    with pytest.raises(WeightsError, match="the manifest says"):
        open_runner(damaged, verb="predict")


def test_the_fingerprint_follows_the_tensors():
    torch.manual_seed(0)
    first, second = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    card = Card("shvit_s1", preprocess={"size": SIZE})
    assert made.fingerprint(first, card) == made.fingerprint(second, card)
    second.running_mean += 1e-7
    assert made.fingerprint(first, card) != made.fingerprint(second, card)
    for other in (
        Card("shvit_s1", {"x": 1}, preprocess={"size": SIZE}),
        Card("shvit_s1", preprocess={"size": 96}),
    ):
        assert made.fingerprint(first, other) != made.fingerprint(first, card)


def test_the_cache_remembers_and_survives_damage(cache):
    assert cache_dir() == cache
    remember("x/y", {"backend": "onnx"})
    assert recall("x/y") == {"backend": "onnx"}
    (cache / "x" / "y.json").write_text("{")
    assert recall("x/y") is None
    assert recall("never") is None


def test_an_unwritable_cache_is_no_error(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SACCADE_CACHE", str(tmp_path / "file" / "below"))
    remember("x", {})
    assert recall("x") is None


@pytest.mark.slow
def test_compile(weights):
    path, model = weights
    images = torch.randn(2, 3, SIZE, SIZE)
    with open_runner(path, verb="predict", backend="compile") as found:
        check_equal(found.net(images), model, images)


def test_equal_tensors_with_other_options_are_another_file(tmp_path, monkeypatch):
    monkeypatch.setenv("SACCADE_CACHE", str(tmp_path))
    plain = create_model("timm/mobilenetv4_conv_small", num_classes=3).eval()
    smooth = create_model("timm/mobilenetv4_conv_small", num_classes=3, act_layer="silu").eval()
    smooth.load_state_dict(plain.state_dict())
    images = torch.randn(2, 3, SIZE, SIZE)
    for model, options in ((plain, {}), (smooth, {"act_layer": "silu"})):
        card = Card("timm/mobilenetv4_conv_small", options, num_classes=3, preprocess={"size": SIZE})
        bundle = made.made_bundle(model, card, "onnx", "float32", lambda text: None)
        with run_bundle(bundle, threads=1) as found:
            check_equal(found.net(images), model, images)


def test_a_cached_file_of_another_network_is_made_again(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("SACCADE_CACHE", str(tmp_path))
    path, model = weights
    other = create_model("shvit_s1", num_classes=4).eval()
    for parameter in other.parameters():
        torch.nn.init.normal_(parameter, 0, 0.05)
    card = Card("shvit_s1", num_classes=4, labels=list("abcd"), preprocess={"size": SIZE})
    home = tmp_path / "bundles" / made.fingerprint(*load_model(path), "onnx")[:16]
    export((other, card), "onnx", out=home)
    said, images = [], torch.randn(2, 3, SIZE, SIZE)
    with open_runner(path, verb="predict", backend="onnx", threads=1, log=said.append) as found:
        check_equal(found.net(images), model, images)
    assert any("does not answer as the network does" in line for line in said)


def test_the_cache_is_pruned_the_longest_unused_first(weights, tmp_path, monkeypatch, capsys):
    import os

    from saccade.cli.main import main

    monkeypatch.setenv("SACCADE_CACHE", str(tmp_path))
    for age, name in enumerate(("new", "old", "older")):
        folder = tmp_path / "bundles" / name
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(bytes(1_000_000))
        os.utime(folder, (1e9 - 1e6 * age,) * 2)
    monkeypatch.setenv("SACCADE_CACHE_GB", "0.0015")
    assert main(["doctor", "--cache"]) == 0
    assert [p.name for p in (tmp_path / "bundles").iterdir()] == ["new"]
    text = capsys.readouterr()
    assert "bundles/older" in text.out
    assert "2 removed" in text.err
