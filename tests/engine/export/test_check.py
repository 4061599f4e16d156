"""`saccade export --check`: a bundle is judged again, long after and elsewhere."""

import json
import shutil

import pytest

from saccade.cli.main import main
from saccade.engine.export.bundle import MANIFEST, sign
from saccade.engine.export.contract import contract, write_contract
from saccade.engine.export.reference import REFERENCE
from saccade.files import sha256
from saccade.weights import Card
from saccade.zoo.loading import save_weights


@pytest.fixture
def bundle(onnx_bundle, tmp_path):
    return shutil.copytree(onnx_bundle, tmp_path / "bundle")


def check(capsys, bundle, *more):
    code = main(["export", "--check", str(bundle), "--json", *more])
    rows = json.loads(capsys.readouterr().out)["rows"]
    return code, {row["what"]: row["state"] for row in rows}


def sign_anew(bundle, change):
    """Edit a manifest as somebody would who knows how: the digests of files and of the manifest are right again."""
    values = json.loads((bundle / MANIFEST).read_text())
    change(values)
    for name, entry in values["files"].items():
        entry |= {"bytes": (bundle / name).stat().st_size, "sha256": sha256(bundle / name)}
    (bundle / MANIFEST).write_text(json.dumps(values))
    sign(bundle)


def test_a_whole_bundle_passes(capsys, bundle, shvit, tmp_path):
    save_weights(shvit[0], tmp_path / "net.safetensors", shvit[1])
    code, states = check(capsys, bundle)
    assert code == 0
    assert states.pop("network") == "not checked"
    assert states == dict.fromkeys(("files", "contents", "answers to noise", "answers to pictures"), "ok")


def test_edited_labels_are_found_though_signed_anew(capsys, bundle):
    sign_anew(bundle, lambda values: values["card"]["labels"].reverse())
    assert check(capsys, bundle) == (1, {"bundle": "failed"})


@pytest.mark.parametrize("change", [{"mean": [0.3, 0.3, 0.3]}, {"interpolation": "nearest"}])
def test_edited_preprocessing_is_found_though_the_model_file_was_edited_too(capsys, bundle, change):
    def edit(values):
        values["card"]["preprocess"] |= change
        old = contract(Card(**json.loads((bundle / MANIFEST).read_text())["card"]), "onnx", "float32")
        new = contract(Card(**values["card"]), "onnx", "float32")
        data = (bundle / "model.onnx").read_bytes()
        assert old.encode() in data
        (bundle / "model.onnx").write_bytes(data.replace(old.encode(), new.encode()))

    sign_anew(bundle, edit)
    code, states = check(capsys, bundle)
    assert code == 1
    assert (states["contents"], states["answers to noise"], states["answers to pictures"]) == (
        "ok",
        "ok",
        "failed",
    )


def test_another_networks_file_is_found(capsys, bundle, vim, tmp_path):
    from saccade.engine.export import export

    other = export(vim, "onnx", dynamic=True, out=tmp_path / "other").path
    data = (other / "model.onnx").read_bytes()
    card = Card(**json.loads((bundle / MANIFEST).read_text())["card"])
    (bundle / "model.onnx").write_bytes(data[: data.rindex(b"saccade_contract") - 4])
    write_contract(bundle / "model.onnx", "onnx", contract(card, "onnx", "float32"))
    sign_anew(bundle, lambda values: None)
    code, states = check(capsys, bundle)
    assert (code, states["answers to noise"]) == (1, "failed")


def test_an_older_bundle_says_what_is_unknown(capsys, bundle):
    def older(values):
        values["bundle_format"] = 1
        del values["files"][REFERENCE]

    (bundle / REFERENCE).unlink()
    values = json.loads((bundle / MANIFEST).read_text())
    older(values)
    data = (bundle / "model.onnx").read_bytes()
    (bundle / "model.onnx").write_bytes(data[: data.rindex(b"saccade_contract") - 4])
    values["files"]["model.onnx"] = {
        "bytes": (bundle / "model.onnx").stat().st_size,
        "sha256": sha256(bundle / "model.onnx"),
    }
    (bundle / MANIFEST).write_text(json.dumps(values))
    (bundle / "manifest.sha256").unlink()
    code, states = check(capsys, bundle)
    assert code == 0
    assert (states["files"], states["contents"], states["answers"]) == ("ok", "not checked", "not checked")
