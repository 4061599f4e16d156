"""Reading a bundle that is whole, and refusing every kind of bundle that is not."""

import json
import shutil
from pathlib import Path

import pytest

from saccade.engine.export.bundle import (
    MANIFEST,
    Manifest,
    bundle_name,
    is_bundle,
    read_bundle,
    sign,
    write_manifest,
)
from saccade.engine.export.contract import contract, write_contract
from saccade.errors import WeightsError
from saccade.weights import Card


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole bundle with a small file in it."""
    path = tmp_path / "net-32-onnx-float32"
    path.mkdir()
    (path / "model.onnx").write_bytes(b"\x08\x09")
    manifest = Manifest(
        card=Card("shvit_s1", labels=["cat", "dög"], num_classes=2),
        format="onnx",
        precision="float32",
        inputs=[{"name": "image", "dtype": "float32", "shape": ["batch", 3, 32, 32]}],
        outputs=[{"name": "output", "dtype": "float32", "shape": ["batch", 2]}],
    )
    write_contract(path / "model.onnx", "onnx", contract(manifest.card, "onnx", "float32"))
    write_manifest(path, manifest)
    return path


def edit(folder: Path, **changes) -> None:
    values = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**values, **changes}))
    sign(folder)


def test_reads_what_was_written(folder):
    bundle = read_bundle(folder)
    assert bundle.manifest.card.labels == ["cat", "dög"]
    assert bundle.model == folder / "model.onnx"
    assert bundle.manifest.size == (32, 32)
    assert bundle.manifest.batch is None
    assert is_bundle(folder)
    assert not is_bundle(folder.parent)


def test_a_moved_bundle_still_reads(folder, tmp_path):
    moved = shutil.move(folder, tmp_path / "elsewhere")
    assert read_bundle(moved).manifest.precision == "float32"


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("shvit_s1", 224, "shvit_s1-224-onnx-int8"),
        ("timm/resnet18.a1", (224, 224), "timm_resnet18.a1-224-onnx-int8"),
        ("shvit_s1", (192, 256), "shvit_s1-192x256-onnx-int8"),
        ("shvit_s1", None, "shvit_s1-any-onnx-int8"),
    ],
)
def test_names(name, size, expected):
    assert bundle_name(name, size, "onnx", "int8") == expected


def test_refuses_a_changed_file(folder):
    data = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(b"\x08\x0a" + data[2:])
    with pytest.raises(WeightsError, match="SHA-256"):
        read_bundle(folder)


def test_refuses_a_truncated_file(folder):
    (folder / "model.onnx").write_bytes(b"weight")
    with pytest.raises(WeightsError, match="6 bytes, the manifest says 88"):
        read_bundle(folder)


def test_refuses_a_missing_file(folder):
    (folder / "model.onnx").unlink()
    with pytest.raises(WeightsError, match="missing"):
        read_bundle(folder)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "sub/model.onnx", "..", "a\\b", ".hidden", ""])
def test_refuses_names_outside_the_folder(folder, name):
    edit(folder, files={name: {"bytes": 7, "sha256": "0"}})
    with pytest.raises(WeightsError, match="not a file of the bundle's own folder"):
        read_bundle(folder)


def test_refuses_a_link_to_itself(folder):
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").symlink_to("model.onnx")
    with pytest.raises(WeightsError, match="listed in the manifest but missing"):
        read_bundle(folder)


def test_refuses_a_link_out_of_the_folder(folder, tmp_path):
    (folder / "model.onnx").rename(tmp_path / "real.onnx")
    (folder / "model.onnx").symlink_to(tmp_path / "real.onnx")
    with pytest.raises(WeightsError, match="own folder"):
        read_bundle(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bundle_format": 99}, "upgrade Saccade"),
        ({"bundle_format": "1"}, "bundle_format"),
        ({"files": {}}, "lists no files"),
        ({"files": []}, "field files"),
        ({"inputs": []}, "expected inputs"),
        ({"inputs": [{"shape": ["batch", 3, -1, 5]}]}, "sensible shape"),
        ({"inputs": [{"shape": ["batch", 3, 10**9, 5]}]}, "sensible shape"),
        ({"card": {"labels": []}}, "no model name"),
        ({"card": 3}, "field card"),
        ({"format": None}, "field format"),
    ],
)
def test_refuses_odd_manifests(folder, changes, message):
    edit(folder, **changes)
    with pytest.raises(WeightsError, match=message):
        read_bundle(folder)


@pytest.mark.parametrize("text", ["", "[1]", "{", "\x00", '{"a":' * 100_000])
def test_refuses_what_is_no_manifest(folder, text):
    (folder / MANIFEST).write_text(text)
    with pytest.raises(WeightsError):
        read_bundle(folder)


def test_refuses_a_huge_manifest(folder, monkeypatch):
    monkeypatch.setattr("saccade.engine.export.bundle.MAX_MANIFEST_BYTES", 10)
    with pytest.raises(WeightsError, match="larger than"):
        read_bundle(folder)


def test_refuses_a_plain_folder(tmp_path):
    with pytest.raises(WeightsError, match=r"no manifest\.json"):
        read_bundle(tmp_path)


def test_an_edited_manifest_is_refused(folder):
    text = (folder / MANIFEST).read_text().replace('"cat"', '"dog"')
    (folder / MANIFEST).write_text(text)
    with pytest.raises(WeightsError, match="was damaged or edited"):
        read_bundle(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": ["dög", "cat"]},
        {"preprocess": {"mean": [0.5, 0.5, 0.5]}},
        {"preprocess": {"interpolation": "bilinear"}},
        {"options": {"act_layer": "silu"}},
    ],
)
def test_a_manifest_edited_and_signed_anew_is_refused(folder, changes):
    card = json.loads((folder / MANIFEST).read_text())["card"]
    edit(folder, card={**card, **changes})
    with pytest.raises(WeightsError, match="are not those that the model file was exported with"):
        read_bundle(folder)


def test_a_missing_digest_is_no_older_bundle(folder):
    (folder / "manifest.sha256").unlink()
    with pytest.raises(WeightsError, match=r"manifest\.sha256: missing"):
        read_bundle(folder)


def test_a_bundle_of_an_older_saccade_still_reads_and_says_what_is_unknown(folder):
    (folder / "model.onnx").write_bytes(b"\x08\x09")
    write_manifest(folder, read_manifest_only(folder))
    edit(folder, bundle_format=1)
    (folder / "manifest.sha256").unlink()
    bundle = read_bundle(folder)
    assert bundle.manifest.card.num_classes == 2
    assert len(bundle.unchecked) == 2


def read_manifest_only(folder: Path) -> Manifest:
    values = json.loads((folder / MANIFEST).read_text())
    return Manifest(**{**values, "card": Card(**values["card"])})
