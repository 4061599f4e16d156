"""Weights go in and out in every layout, safely."""

import argparse
import os
import pickle
import sys
import types

import numpy as np
import pytest
import safetensors.torch
import timm
import torch

import saccade
from saccade.errors import ConfigError, WeightsError
from saccade.tasks.open import load_model
from saccade.weights import Card
from saccade.weights.keymap import layouts, to_layout


class Attack:
    def __reduce__(self):
        return (os.system, ("touch attacked",))


@pytest.mark.parametrize("name", ["shvit_s1", "shvit_s2", "efficientvim_m1", "efficientvim_m3_dist"])
def test_timm_weights_load_and_compute_the_same(name):
    torch.manual_seed(0)
    theirs = timm.create_model(name).eval()
    ours = saccade.load_weights(saccade.create_model(name), theirs.state_dict()).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(ours(x), theirs(x), atol=1e-5)
    back = to_layout(ours.state_dict(), name.split("_")[0], "timm")
    assert back.keys() == theirs.state_dict().keys()
    theirs.load_state_dict(back)


@pytest.mark.parametrize("name", ["shvit_s1", "efficientvim_m1_dist"])
def test_every_layout_round_trips_through_a_file(name, tmp_path):
    model = saccade.create_model(name, num_classes=7)
    family = name.split("_")[0]
    for layout in layouts(family):
        path = tmp_path / f"{layout}.pth"
        torch.save({"model": to_layout(model.state_dict(), family, layout)}, path)
        loaded, card = load_model(path)
        assert (card.model, card.num_classes) == (name, 7)
        assert all(
            torch.equal(a, b)
            for a, b in zip(loaded.state_dict().values(), model.state_dict().values(), strict=True)
        )


def test_card_travels_with_the_weights(tmp_path):
    card = Card("shvit_s1", num_classes=2, labels=["cat", "dog"], options={"distilled": True})
    model = saccade.create_model("shvit_s1", num_classes=2, distilled=True)
    saccade.save_weights(model, tmp_path / "best.safetensors", card)
    loaded, read = load_model(tmp_path)
    assert read.labels == ["cat", "dog"]
    assert loaded.head_dist is not None
    with pytest.raises(WeightsError, match="safetensors"):
        saccade.save_weights(model, tmp_path / "best.pth")


def test_the_published_numbers_weights_are_chosen():
    model = saccade.create_model("efficientvim_m1")
    averaged = {name: tensor + 1 for name, tensor in model.state_dict().items()}
    content = {"model": model.state_dict(), "model_ema": averaged}
    loaded = saccade.load_weights(saccade.create_model("efficientvim_m1"), content)
    assert torch.equal(loaded.head.weights, averaged["head.weights"])


def test_heads_are_dropped_only_where_the_published_loader_does():
    distilled = saccade.create_model("efficientvim_m1_dist").state_dict()
    saccade.load_weights(saccade.create_model("efficientvim_m1"), distilled)
    saccade.load_weights(saccade.create_model("efficientvim_m1", features_only=True), distilled)
    shvit = saccade.create_model("shvit_s1", distilled=True).state_dict()
    saccade.load_weights(saccade.create_model("shvit_s1", features_only=True), shvit)
    with pytest.raises(WeightsError, match=r"unexpected .*head_dist"):
        saccade.load_weights(saccade.create_model("shvit_s1"), shvit)


def test_misfits_are_listed():
    model = saccade.create_model("shvit_s1")
    state = model.state_dict()
    state.pop("stem.0.conv.weight")
    state["surplus"] = torch.zeros(1)
    with pytest.raises(WeightsError, match=r"1 missing \(stem.0.conv.weight\); 1 unexpected \(surplus\)"):
        saccade.load_weights(model, state)
    with pytest.warns(UserWarning, match="loaded in part: 1 missing"):
        saccade.load_weights(model, state, strict=False)
    with pytest.raises(WeightsError, match="number of classes differs"):
        saccade.load_weights(saccade.create_model("shvit_s1", num_classes=3), model.state_dict())
    with pytest.raises(WeightsError, match="of another shape"):
        saccade.load_weights(saccade.create_model("shvit_s2"), model.state_dict())
    with pytest.raises(WeightsError, match="not one tensor fits"), pytest.warns(UserWarning, match="in part"):
        saccade.load_weights(model, {"a": torch.zeros(1)}, strict=False)


def test_settings_in_a_published_checkpoint_do_no_harm(tmp_path, monkeypatch):
    node = type("CfgNode", (dict,), {"__module__": "yacs.config"})
    module = types.ModuleType("yacs.config")
    module.CfgNode = node
    monkeypatch.setitem(sys.modules, "yacs", types.ModuleType("yacs"))
    monkeypatch.setitem(sys.modules, "yacs.config", module)
    model = saccade.create_model("efficientvim_m1")
    content = {
        "model": to_layout(model.state_dict(), "efficientvim", "official"),
        "config": node(depth=node(a=1)),
        "args": argparse.Namespace(lr=1e-3),
        "max_accuracy": np.float64(72.9),
    }
    torch.save(content, tmp_path / "official.pth")
    monkeypatch.delitem(sys.modules, "yacs.config")
    loaded, card = load_model(tmp_path / "official.pth")
    assert card.model == "efficientvim_m1"
    assert torch.equal(loaded.head.weights, model.head.weights)


def test_code_in_a_checkpoint_is_refused_and_never_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state = saccade.create_model("shvit_s1").state_dict()
    torch.save({"model": state, "extra": Attack()}, "new.pth")
    torch.save({"model": state, "extra": Attack()}, "old.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "bare.pth").write_bytes(pickle.dumps({"model": Attack()}))
    for name in ("new.pth", "old.pth", "bare.pth"):
        with pytest.raises(WeightsError, match="refused"):
            load_model(name)
    assert not (tmp_path / "attacked").exists()


def test_damaged_and_foreign_files_are_one_sentence(tmp_path):
    whole = tmp_path / "a.safetensors"
    saccade.save_weights(saccade.create_model("shvit_s1"), whole)
    (tmp_path / "cut.safetensors").write_bytes(whole.read_bytes()[:5000])
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "empty.pth").write_bytes(b"")
    torch.save(torch.zeros(3), tmp_path / "tensor.pth")
    safetensors.torch.save_file({"w": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    for name in (
        "cut.safetensors",
        "text.pth",
        "empty.pth",
        "tensor.pth",
        "foreign.safetensors",
        "absent.pth",
    ):
        with pytest.raises(WeightsError) as caught:
            load_model(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_weights_of_another_model_are_refused(tmp_path):
    path = tmp_path / "s1.safetensors"
    saccade.save_weights(saccade.create_model("shvit_s1"), path)
    with pytest.raises(WeightsError, match="for shvit_s1, the model is shvit_s3"):
        saccade.load_weights(saccade.create_model("shvit_s3"), path)


def test_cards_are_checked():
    with pytest.raises(WeightsError, match="not valid JSON"):
        Card.from_json("{", "x")
    with pytest.raises(WeightsError, match="no model name"):
        Card.from_json("[]", "x")
    with pytest.raises(WeightsError, match="upgrade"):
        Card.from_json('{"model": "a", "format": 99}', "x")
    with pytest.raises(WeightsError, match="x: model card: field labels: expected array, got int"):
        Card.from_json('{"model": "a", "labels": 3}', "x")
    assert Card.from_json(Card("shvit_s1", labels=["é"]).to_json()).labels == ["é"]


def test_a_name_is_enough_and_an_unknown_one_is_not(tmp_path):
    model, card = load_model("shvit_s1")
    assert (card.model, model.training) == ("shvit_s1", False)
    with pytest.raises(ConfigError, match="no file or folder 'shvit_x1'"):
        load_model("shvit_x1")


def test_offline_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match=r"timm/shvit_s1.in1k: the hub cannot be reached"):
        saccade.create_model("shvit_s1", pretrained=True)
    with pytest.raises(WeightsError, match="no published distilled weights"):
        saccade.create_model("shvit_s1", pretrained=True, distilled=True)
