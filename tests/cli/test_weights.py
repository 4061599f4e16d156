import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import saccade
from saccade.cli.main import main


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "own.safetensors"
    saccade.save_weights(saccade.create_model("shvit_s1", num_classes=3), path)
    return path


def test_convert_then_verify(own, tmp_path, capsys):
    out = tmp_path / "official.pth"
    assert main(["weights", "convert", str(own), "--to", "official", "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "model": "shvit_s1",
        "layout": "official",
        "file": str(out),
    }
    assert main(["weights", "verify", str(out)]) == 0
    text = capsys.readouterr().out
    assert "layout: official" in text
    assert "fits: True" in text


def test_verify_ends_with_1_and_names_what_is_wrong(own, tmp_path, capsys):
    state = load_file(own)
    state["stray"] = torch.zeros(1)
    del state["head.fc.bias"]
    save_file(state, tmp_path / "damaged.safetensors")
    command = ["weights", "verify", str(tmp_path / "damaged.safetensors"), "--model", "shvit_s1"]
    assert main(command) == 1
    out, err = capsys.readouterr()
    assert "missing\thead.fc.bias" in out
    assert "unexpected\tstray" in out
    assert err.count("\n") == 1
    assert main([*command, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["fits"] is False


def test_a_pickle_with_code_is_refused_unrun(tmp_path, capsys):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"model": Bomb()}, tmp_path / "bomb.pth")
    assert main(["weights", "verify", str(tmp_path / "bomb.pth")]) == 2
    assert "refused" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()


def test_fetch_offline_names_the_id_and_the_way_out(monkeypatch, tmp_path, capsys):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert main(["weights", "fetch", "shvit_s1"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "timm/shvit_s1.in1k" in err
    assert "--weights" in err


def test_fetch_of_an_unknown_model(capsys):
    assert main(["weights", "fetch", "shvit_s11"]) == 2
    assert "did you mean 'shvit_s1'" in capsys.readouterr().err
