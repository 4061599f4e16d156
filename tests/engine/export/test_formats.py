"""Every format that can run here, on both families: equal to PyTorch, manifests that say so, honest refusals."""

import copy
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import saccade
from saccade.engine.export import export, open_session, read_bundle, ship
from saccade.engine.export.form import Portable
from saccade.engine.export.maps import CHANNEL_BLOCK, StateMaps, to_maps
from saccade.engine.export.onnx import OnnxSession, write_onnx
from saccade.engine.export.verify import difference
from saccade.errors import CheckFailed, ConfigError, WeightsError
from saccade.nn.fold import fold

ALWAYS = ["manifest.json", "manifest.sha256", "reference.safetensors"]


def run(model, images):
    with torch.no_grad():
        return model(images)


def test_onnx_bundle_runs_at_any_batch_and_size(shvit, onnx_bundle):
    bundle = read_bundle(onnx_bundle)
    assert onnx_bundle.name == "shvit_s1-any-onnx-float32"
    assert sorted(p.name for p in onnx_bundle.iterdir()) == [*ALWAYS[:2], "model.onnx", ALWAYS[2]]
    session = open_session(bundle, threads=1)
    for shape in ((1, 3, 96, 96), (3, 3, 70, 131)):
        images = torch.randn(shape)
        assert difference(session(images), run(shvit[0], images)) < 1e-5
    session.close()


def test_manifest_says_what_was_measured(shvit, onnx_bundle):
    manifest = read_bundle(onnx_bundle).manifest
    assert manifest.card.labels == shvit[1].labels
    assert manifest.card.preprocess["size"] == 96
    assert manifest.inputs[0]["shape"] == ["batch", 3, "height", "width"]
    assert manifest.outputs[0]["shape"] == ["batch", 7]
    assert 0 < manifest.checks["max_difference"] <= manifest.tolerance <= 1e-4
    assert len(manifest.checks["cases"]) == 14
    assert torch.__version__.startswith(manifest.versions["torch"])
    json.loads((onnx_bundle / "manifest.json").read_text())


def test_the_graph_is_folded(onnx_bundle):
    kinds = [node.op_type for node in onnx.load(str(onnx_bundle / "model.onnx")).graph.node]
    assert "BatchNormalization" not in kinds
    assert kinds.count("Conv") > 20


def test_an_onnx_bundle_runs_in_openvino_too(shvit, onnx_bundle):
    session = open_session(read_bundle(onnx_bundle), threads=1, backend="openvino")
    images = torch.randn(2, 3, 96, 96)
    assert difference(session(images), run(shvit[0], images)) < 1e-5
    session.close()


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_openvino(vim, tmp_path, precision):
    shipped = export(vim, "openvino", precision=precision, out=tmp_path)
    assert shipped.path.name == f"efficientvim_m1-96-openvino-{precision}"
    assert sorted(p.name for p in shipped.path.iterdir()) == [
        *ALWAYS[:2],
        "model.bin",
        "model.xml",
        ALWAYS[2],
    ]
    images = torch.randn(2, 3, 96, 96)
    session = open_session(read_bundle(shipped.path), threads=1)
    gap = difference(session(images), run(vim[0], images))
    session.close()
    # A float32 file that ran in bfloat16 by itself would be off by some 1e-2.
    assert gap < (1e-4 if precision == "float32" else 0.15)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_torch(shvit, tmp_path, precision):
    shipped = export(shvit, "torch", precision=precision, out=tmp_path)
    session = open_session(read_bundle(shipped.path))
    images = torch.randn(3, 3, 96, 96)
    assert difference(session(images), run(shvit[0], images)) < (1e-4 if precision == "float32" else 0.15)


def test_padding_the_states_changes_nothing(vim):
    image, model = torch.randn(2, 3, 96, 96).double(), copy.deepcopy(vim[0]).double()
    folded = fold(model)
    to_maps(folded)
    module = Portable(folded)
    widths = {b.bcdt_proj.weight.shape[0] for b in module.modules() if isinstance(b, StateMaps)}
    assert widths == {32, 16}
    assert all(width % CHANNEL_BLOCK == 0 for width in widths)
    assert difference(run(module, image), run(model, image)) < 1e-11


def test_a_wrong_file_is_removed(shvit, tmp_path, monkeypatch):
    def wrong(form, path):
        with torch.no_grad():
            next(p for p in form.module.parameters() if p.ndim == 2).mul_(1.001)
        write_onnx(form, path)

    monkeypatch.setattr("saccade.engine.export.onnx.write_onnx", wrong)
    with pytest.raises(
        CheckFailed, match=r"shvit_s1-96-onnx-float32: case .* differs .* the file was removed"
    ):
        export(shvit, "onnx", out=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_export_leaves_the_old_bundle(shvit, tmp_path, monkeypatch):
    old = tmp_path / "shvit_s1-96-torch-float32"
    old.mkdir()
    (old / "mine").touch()

    def skipped(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr("saccade.engine.export.torch_export.write_torch", skipped)
    with pytest.raises(OSError, match="disk full"):
        export(shvit, "torch", out=tmp_path)
    assert (old / "mine").exists()
    assert [p.name for p in tmp_path.iterdir()] == [old.name]


@pytest.mark.parametrize(
    ("to", "options", "message"),
    [
        ("onix", {}, "did you mean 'onnx'"),
        ("onnx", {"precision": "bf16"}, "formats that do: openvino, torch"),
        ("onnx", {"precision": "fp4"}, "no format does"),
        ("openvino", {"precision": "int8"}, "add --data"),
        ("executorch", {"dynamic": True}, "fixed height and width"),
    ],
)
def test_refuses_what_does_not_go_together(shvit, tmp_path, to, options, message):
    with pytest.raises(ConfigError, match=message):
        export(shvit, to, out=tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


def test_refuses_feature_maps(tmp_path):
    from saccade.weights import Card
    from saccade.zoo.registry import create_model

    model = create_model("shvit_s1", features_only=True).eval()
    with pytest.raises(ConfigError, match="one output tensor"):
        export((model, Card("shvit_s1", preprocess={"size": 64})), "onnx", out=tmp_path)


def test_refuses_to_export_a_bundle(onnx_bundle):
    with pytest.raises(ConfigError, match="already a bundle"):
        export(onnx_bundle, "onnx")


def test_a_damaged_onnx_file_is_one_sentence(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"\x08\x01 not a graph")
    with pytest.raises(WeightsError, match="ONNX Runtime cannot open"):
        OnnxSession(tmp_path / "model.onnx")


def test_threads_are_what_was_asked_for(onnx_bundle):
    session = open_session(read_bundle(onnx_bundle), threads=1)
    assert session.threads == 1
    assert session._session.get_session_options().intra_op_num_threads == 1


def test_every_format_is_in_the_help():
    import typing

    from saccade.cli.export import export

    assert set(typing.get_args(typing.get_type_hints(export)["to"])) == set(ship.FORMATS)


def test_non_contiguous_input(shvit, onnx_bundle):
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 96, 96, 3)).astype(np.float32))
    images = images.permute(0, 3, 1, 2)
    session = open_session(read_bundle(onnx_bundle), threads=1)
    assert difference(session(images), run(shvit[0], images)) < 1e-5


@pytest.mark.parametrize("to", ["onnx", "openvino", "torch"])
def test_no_file_names_a_place_on_this_machine(shvit, tmp_path, to):
    folder = export(shvit, to, out=tmp_path).path
    places = [Path(str(module.__file__)).parent for module in (saccade, torch, sys.modules[__name__])]
    places += [tmp_path, Path.home()]
    for path in folder.iterdir():
        members = {path.name: path.read_bytes()}
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as packed:
                members |= {name: packed.read(name) for name in packed.namelist()}
        for name, content in members.items():
            assert not [str(place) for place in places if f"{place}/".encode() in content], name
            assert b'File "' not in content, name
