"""The environments of their own: the rewriting is exact, failures are sentences, and (slow) the real thing works."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from saccade.engine.export import environment, export, open_session, read_bundle, workers
from saccade.engine.export.form import portable
from saccade.engine.export.verify import difference
from saccade.engine.export.worker import rewrite
from saccade.errors import CheckFailed, ConfigError, MissingExtraError, ShapeError
from saccade.files import sha256
from saccade.tasks import get_task


@pytest.mark.parametrize("family", ["shvit", "vim"])
def test_the_rewriting_is_exact_and_leaves_nothing_undelegated(family, request):
    form = portable(get_task("classify"), *request.getfixturevalue(family))
    image = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0)).double()
    module = torch.export.export(form.module.double(), (image,)).module()
    want = module(image)
    rewrite(module)
    assert difference(module(image), want) < 1e-11
    left = {str(node.target) for node in module.graph.nodes if node.op == "call_function"}
    unwanted = ("matmul", "split", "chunk", "group_norm", "layer_norm")
    assert not [name for name in left if any(word in name for word in unwanted)]


def test_a_package_that_is_missing_there_is_a_sentence(shvit, tmp_path, monkeypatch):
    # Our own interpreter in the place of the other environment: it has no executorch.
    monkeypatch.setattr(workers, "environment", lambda name, log: Path(sys.executable))
    with pytest.raises(
        CheckFailed, match=r"executorch: the conversion failed .*No module named 'executorch'"
    ):
        export(shvit, "executorch", out=tmp_path)
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
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "environment.py"))
    (tmp_path / "environments").mkdir()
    (tmp_path / "environments" / "build.txt").write_text("# nothing\n")
    return tmp_path / "environments" / "executorch.txt"


def make_wheel(folder: Path, name: str) -> Path:
    """Write the smallest package that pip installs."""
    path = folder / f"{name}-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", "here = True\n")
        wheel.writestr(f"{name}-1.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        wheel.writestr(
            f"{name}-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{name}-1.dist-info/RECORD", "")
    return path


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
@pytest.mark.parametrize("change", ["none", "another file", "no hash"])
def test_a_package_whose_file_is_not_the_pinned_one_is_refused(pins, tmp_path, monkeypatch, change):
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    wheel = make_wheel(tmp_path, "tiny")
    digest = "0" * 64 if change == "another file" else sha256(wheel)
    pins.write_text("tiny==1\n" if change == "no hash" else f"tiny==1 --hash=sha256:{digest}\n")
    if change == "none":
        python = environment.environment("executorch", lambda text: None)
        assert subprocess.run([python, "-c", "import tiny; assert tiny.here"], check=False).returncode == 0
        return
    with pytest.raises(MissingExtraError, match="pip's messages are in"):
        environment.environment("executorch", lambda text: None)
    left = [p for p in (tmp_path / "cache" / "environments").iterdir() if p.suffix != ".log"]
    assert left == []


@pytest.mark.parametrize("name", ["build", "executorch", "litert"])
def test_every_pin_has_a_hash(name):
    text = environment._pins(name).read_text(encoding="utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        assert line.startswith("#") or re.fullmatch(
            r"[\w.-]+==\S+( +--hash=sha256:[0-9a-f]{64})+", line.strip()
        ), line


@pytest.mark.slow
@pytest.mark.parametrize("form", ["executorch", "litert"])
@pytest.mark.parametrize("family", ["shvit", "vim"])
def test_the_real_environment(form, family, request, tmp_path):
    model, card = request.getfixturevalue(family)
    shipped = export((model, card), form, out=tmp_path)
    if form == "executorch":
        assert shipped.manifest.details["delegated_share"] > 0.95
    session = open_session(read_bundle(shipped.path), threads=1)
    images = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        assert difference(session(images), model(images)) < 1e-4
    session.close()
