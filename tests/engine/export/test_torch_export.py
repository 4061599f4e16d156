"""The guard before PyTorch's own reader: what our exporter writes passes, what could run code does not."""

import io
import json
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from saccade.engine.export.form import Portable
from saccade.engine.export.torch_export import TorchSession, check_program, write_torch
from saccade.errors import WeightsError
from saccade.tasks.base import ExportForm


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    path = tmp_path_factory.mktemp("program") / "model.pt2"
    free = {"image": {0: "batch", 2: "height", 3: "width"}}
    form = ExportForm(Portable(model.eval()), {"image": torch.randn(2, 3, 96, 96)}, ("output",), free)
    write_torch(form, path)
    return path


def tamper(program: Path, out: Path, member: str, change) -> Path:
    """Copy an archive, passing one member's bytes through `change` (a missing one is added)."""
    with zipfile.ZipFile(program) as source, zipfile.ZipFile(out, "w") as target:
        names = source.namelist()
        prefix = names[0].split("/")[0]
        for name in names:
            data = source.read(name)
            target.writestr(name, change(data) if name == f"{prefix}/{member}" else data)
        if f"{prefix}/{member}" not in names:
            target.writestr(f"{prefix}/{member}", change(b""))
    return out


def test_ours_passes_and_runs(program):
    check_program(program)
    session = TorchSession(program)
    assert session(torch.randn(5, 3, 70, 90)).shape == (5, 2)


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("boom"),))


def evil_pickle(_: bytes) -> bytes:
    buffer = io.BytesIO()
    torch.save({"x": Bomb()}, buffer)
    return buffer.getvalue()


def evil_expression(data: bytes) -> bytes:
    values = json.loads(data)
    text = json.dumps(values).replace("Symbol(", "__import__('os').system(", 1)
    assert "__import__" in text
    return text.encode()


def evil_operator(data: bytes) -> bytes:
    values = json.loads(data)
    values["graph_module"]["graph"]["nodes"][0]["target"] = "torch.ops.evil.run.default"
    return json.dumps(values).encode()


def pickled_weight(data: bytes) -> bytes:
    values = json.loads(data)
    next(iter(values["config"].values()))["use_pickle"] = True
    return json.dumps(values).encode()


@pytest.mark.parametrize(
    ("member", "change", "message"),
    [
        ("data/sample_inputs/model.pt", evil_pickle, "refused, it holds a foreign object"),
        ("models/model.json", evil_expression, "the expression"),
        ("models/model.json", evil_operator, "the operator 'torch.ops.evil"),
        ("data/weights/model_weights_config.json", pickled_weight, "a pickled payload"),
        ("data/constants/custom_obj_0", lambda _: pickle.dumps(Bomb()), "does not write"),
        ("data/aotinductor/model/lib.so", lambda _: b"\x7fELF", "does not write"),
        ("models/model.json", lambda _: b"{", "not valid JSON|not a program"),
    ],
)
def test_refuses_what_could_run_code(program, tmp_path, monkeypatch, member, change, message):
    monkeypatch.chdir(tmp_path)
    bad = tamper(program, tmp_path / "bad.pt2", member, change)
    with pytest.raises(WeightsError, match=message):
        TorchSession(bad)
    assert not (tmp_path / "boom").exists()


def test_refuses_what_is_no_archive(tmp_path):
    (tmp_path / "model.pt2").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(WeightsError, match=r"not a program of torch\.export"):
        check_program(tmp_path / "model.pt2")


def test_refuses_names_that_leave_the_archive(program, tmp_path):
    with pytest.raises(WeightsError, match="outside the archive"):
        check_program(tamper(program, tmp_path / "bad.pt2", "../../evil", lambda _: b"x"))
