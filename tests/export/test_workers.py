"""The environments of their own: the rewriting is exact, failures are sentences, and (slow) the real thing works."""

import copy
import sys
from pathlib import Path

import pytest
import torch

from saccade.errors import CheckFailed, ConfigError, MissingExtraError, ShapeError
from saccade.export import environment, export_bundle, open_session, read_bundle, workers
from saccade.export.form import example, portable
from saccade.export.verify import difference
from saccade.export.worker import rewrite


@pytest.mark.parametrize("family", ["shvit", "vim"])
def test_the_rewriting_is_exact_and_leaves_nothing_undelegated(family, request):
    model, _ = request.getfixturevalue(family)
    model, image = copy.deepcopy(model).double(), example(3, (96, 96), batch=1).double()
    module = torch.export.export(portable(model, image), (image,)).module()
    want = module(image)
    rewrite(module)
    assert difference(module(image), want) < 1e-11
    left = {str(node.target) for node in module.graph.nodes if node.op == "call_function"}
    unwanted = ("matmul", "split", "chunk", "group_norm", "layer_norm")
    assert not [name for name in left if any(word in name for word in unwanted)]


def test_a_package_that_is_missing_there_is_a_sentence(shvit, tmp_path, monkeypatch):
    # Our own interpreter in the place of the other environment: it has no executorch.
    monkeypatch.setattr(workers, "environment", lambda name, say: Path(sys.executable))
    with pytest.raises(
        CheckFailed, match=r"executorch: the conversion failed .*No module named 'executorch'"
    ):
        export_bundle(shvit, "executorch", out=tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ShapeError, match="No module named 'executorch'"):
        workers.WorkerSession("executorch", tmp_path / "model.pte")


def test_core_ml_files_run_on_macos_only(tmp_path, monkeypatch):
    monkeypatch.setattr("platform.system", lambda: "Linux")
    with pytest.raises(ConfigError, match="macOS only"):
        workers.WorkerSession("coreml", tmp_path / "model.mlpackage.zip")


@pytest.fixture
def pins(tmp_path, monkeypatch):
    """Pins of an environment that needs no download, in a cache of its own."""
    monkeypatch.setenv("SACCADE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "environment.py"))
    (tmp_path / "environments").mkdir()
    return tmp_path / "environments" / "executorch.txt"


@pytest.mark.slow
def test_an_environment_is_made_once(pins):
    pins.write_text("# nothing\n")
    said = []
    python = environment.environment("executorch", said.append)
    assert python.exists()
    assert "once" in said[0]
    assert environment.environment("executorch", said.append) == python
    assert len(said) == 2


@pytest.mark.slow
def test_an_environment_that_cannot_be_made_leaves_nothing(pins, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    pins.write_text("saccade-no-such-package==1\n")
    with pytest.raises(MissingExtraError, match="pip's messages are in"):
        environment.environment("executorch", lambda text: None)
    left = [p for p in (pins.parent.parent / "cache" / "environments").iterdir() if p.suffix != ".log"]
    assert left == []


def test_a_stale_lock_is_taken_over(tmp_path):
    lock = tmp_path / "x.lock"
    lock.write_text("999999999")
    with environment._lock(lock):
        assert lock.exists()
    assert not lock.exists()


@pytest.mark.slow
@pytest.mark.parametrize("form", ["executorch", "litert"])
@pytest.mark.parametrize("family", ["shvit", "vim"])
def test_the_real_environment(form, family, request, tmp_path):
    model, card = request.getfixturevalue(family)
    shipped = export_bundle((model, card), form, out=tmp_path)
    if form == "executorch":
        assert shipped.manifest.details["delegated_share"] > 0.95
    session = open_session(read_bundle(shipped.path), threads=1)
    images = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        assert difference(session(images), model(images)) < 1e-4
    session.close()
