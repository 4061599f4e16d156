import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

import saccade
from saccade.engine.weights import check_weights, convert_weights
from saccade.errors import ConfigError, WeightsError
from saccade.nn.origin import name_of
from saccade.weights import Card
from saccade.zoo.loading import card_of

NAMES = ["shvit_s1", "efficientvim_m1_dist"]


@pytest.fixture(scope="module", params=NAMES)
def trained(request, tmp_path_factory):
    """A file of ours for a network whose every tensor has moved from its start."""
    torch.manual_seed(0)
    model = saccade.create_model(request.param, num_classes=5).eval()
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(0.1 * torch.rand_like(tensor))
    path = tmp_path_factory.mktemp("weights") / "own.safetensors"
    card = card_of(model)
    card.labels = list("abcde")
    saccade.save_weights(model, path, card)
    return model, path


@pytest.mark.parametrize(("layout", "suffix"), [("official", ".pth"), ("timm", ".safetensors")])
def test_there_and_back_is_the_same_bits(trained, tmp_path, layout, suffix):
    model, path = trained
    foreign, back = tmp_path / f"foreign{suffix}", tmp_path / "back.safetensors"
    convert_weights(path, layout, foreign)
    verdict = check_weights(foreign)
    assert verdict.fits
    assert (verdict.model, verdict.layout) == (name_of(model), layout)
    convert_weights(foreign, "saccade", back)
    before, after = load_file(path), load_file(back)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_timm_loads_what_we_write_and_agrees(trained, tmp_path):
    model, path = trained
    convert_weights(path, "timm", tmp_path / "timm.safetensors")
    peer = timm.create_model(name_of(model), num_classes=5).eval()
    peer.load_state_dict(load_file(tmp_path / "timm.safetensors"), strict=True)
    picture = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(peer(picture), model(picture), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layout", ["official", "timm"])
def test_other_layouts_carry_no_card(trained, tmp_path, layout):
    """A card says that names are ours: a file in another layout must not have one."""
    from safetensors import safe_open

    _, path = trained
    convert_weights(path, layout, tmp_path / "other.safetensors")
    with safe_open(str(tmp_path / "other.safetensors"), "pt") as file:
        assert "saccade" not in str(file.metadata())
    with safe_open(str(path), "pt") as file:
        assert "saccade" in str(file.metadata())


def test_own_layout_keeps_the_card(trained, tmp_path):
    model, path = trained
    assert convert_weights(path, "saccade", tmp_path / "copy.safetensors").labels == list("abcde")
    assert saccade.load_model(tmp_path / "copy.safetensors")[1].labels == list("abcde")
    verdict = check_weights(tmp_path / "copy.safetensors", name_of(model))
    assert verdict.fits
    assert verdict.layout == "saccade"


def test_each_kind_of_damage_is_named(tmp_path):
    state = saccade.create_model("shvit_s1").state_dict()
    state["extra.weight"] = torch.zeros(2)
    del state["stem.1.norm.bias"]
    state["stem.0.conv.weight"] = torch.zeros(16, 3, 5, 5)
    state["head.fc.bias"][3] = float("nan")
    save_file(state, tmp_path / "x.safetensors", {"saccade": Card("shvit_s1").to_json()})
    verdict = check_weights(tmp_path / "x.safetensors")
    assert not verdict.fits
    assert verdict.missing == ["stem.1.norm.bias"]
    assert verdict.unexpected == ["extra.weight"]
    assert verdict.not_finite == ["head.fc.bias"]
    assert len(verdict.mismatched) == 1
    assert "(16, 3, 5, 5), expected (16, 3, 3, 3)" in verdict.mismatched[0]


def test_another_model_does_not_fit(trained):
    _, path = trained
    assert not check_weights(path, "shvit_s4").fits


@pytest.mark.parametrize(
    ("layout", "out", "message"),
    [
        ("timm", "x.bin", "choose one of these suffixes"),
        ("saccade", "x.pth", "safetensors only"),
        ("keras", "x.safetensors", "no layout 'keras' for"),
    ],
)
def test_convert_refuses(trained, tmp_path, layout, out, message):
    with pytest.raises(WeightsError, match=message):
        convert_weights(trained[1], layout, tmp_path / out)
    assert not list(tmp_path.iterdir())


def test_check_refuses_unknown_models_and_missing_files(trained):
    with pytest.raises(ConfigError, match="did you mean 'shvit_s1'"):
        check_weights(trained[1], "shvit_s11")
    with pytest.raises(WeightsError, match="no such weights file"):
        check_weights("absent.safetensors")
