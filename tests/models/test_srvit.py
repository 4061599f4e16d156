"""The radar networks: the published ones against their figures, ours against what it promises."""

import io
import sys
import types

import pytest
import torch
from tests import golden

import saccade
from saccade.errors import ConfigError, ShapeError
from saccade.models.srvit import SRViT
from saccade.tasks.open import load_model
from saccade.zoo.loading import load_weights, save_weights

PUBLISHED = {"srvit_a": 69_122, "srvit_b": 45_866, "srvit_c": 44_474, "srvit_d": 60_898, "srvit_s": 9_018}


FIGURES = {letter: golden.load(f"srvit_{letter}") for letter in "abcds"}


@pytest.mark.parametrize(
    ("letter", "number"),
    [
        # One network runs at the published 256 x 256 pixels too.
        pytest.param(letter, number, marks=[pytest.mark.slow] if case["input_shape"][2] > 64 else [])
        for letter, figures in FIGURES.items()
        for number, case in enumerate(figures["cases"])
    ],
)
def test_golden(letter, number):
    figures, case = FIGURES[letter], FIGURES[letter]["cases"][number]
    model = saccade.create_model(f"srvit_{letter}").double()
    assert {name: list(value.shape) for name, value in model.state_dict().items()} == figures["shapes"]
    load_weights(model, golden.make_state(figures))
    model.train(case["mode"] == "train")
    seen = {}
    for name, module in model.named_modules():
        if name in case["after"]:
            module.register_forward_hook(lambda _m, _i, y, name=name: seen.__setitem__(name, y))
    with torch.no_grad():
        flat = model(golden.make_tensor("input", case["input_shape"])).flatten()
    want = case["output"]
    size = want["l2"] / flat.numel() ** 0.5
    assert (flat[:16] - torch.tensor(want["first16"], dtype=flat.dtype)).abs().max() <= 1e-9 * size
    assert (flat[-4:] - torch.tensor(want["last4"], dtype=flat.dtype)).abs().max() <= 1e-9 * size
    assert abs(flat.sum().item() - want["sum"]) <= 1e-9 * want["l2"] * flat.numel() ** 0.5
    assert flat.norm().item() == pytest.approx(want["l2"], rel=1e-9)
    for name, value in seen.items():
        assert value.norm().item() == pytest.approx(case["after"][name]["l2"], rel=1e-9)
    assert not case["after"] or len(seen) == len(case["after"])


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes(name):
    with torch.device("meta"):
        model = saccade.create_model(name)
    assert sum(p.numel() for p in model.parameters()) == PUBLISHED[name]


@pytest.mark.parametrize("name", ["srvit_s", "srvit_swift"])
@pytest.mark.parametrize("size", [(32, 48), (37, 53), (16, 100), (5, 5)])
def test_any_size_goes_in_and_comes_out(name, size):
    model = saccade.create_model(name).eval()
    with torch.no_grad():
        assert model(torch.rand(2, 1, *size)).shape == (2, 1, *size)


def test_padding_does_not_reach_a_fitting_image():
    model = saccade.create_model("srvit_s").double().eval()
    x = torch.rand(1, 1, 40, 60, dtype=torch.float64)
    with torch.no_grad():
        # Attention mixes everything, so only the convolutions' reach can be compared: the same image, wider canvas.
        assert torch.equal(model(x), model(x.clone()))
        assert not torch.equal(model(x), model(torch.nn.functional.pad(x, (0, 1)))[..., :60])


class TestSwift:
    def trained(self):
        """A network whose every branch does something."""
        model = saccade.create_model("srvit_swift")
        generator = torch.Generator().manual_seed(0)
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
        return model

    def test_costs_what_was_promised(self):
        from saccade.engine.bench.cost import count_macs, count_params

        with torch.device("meta"):
            model = saccade.create_model("srvit_swift").eval()
        assert count_params(model) <= 80_000
        assert count_macs(model, 256, in_chans=1) <= 14_069_792_768 / 3

    def test_the_scale_of_the_input_does_not_matter(self):
        model, x = self.trained().double().eval(), torch.rand(1, 1, 48, 32, dtype=torch.float64)
        with torch.no_grad():
            assert torch.allclose(model(x), model(1e-7 * x), atol=1e-9)
            assert torch.isfinite(model(torch.zeros(1, 1, 32, 32, dtype=torch.float64))).all()

    def test_output_lies_in_0_1_and_values_above_can_come_down(self):
        model, x = self.trained(), torch.rand(2, 1, 32, 32)
        for mode in (True, False):
            y = model.train(mode)(x)
            assert 0 <= y.min() <= y.max() <= 1
        model.train().gain.data.fill_(5.0)
        y = model(x)
        assert (y == 1).any()
        y.sum().backward()
        assert model.gain.grad > 0

    def test_far_patches_are_heard(self):
        model = self.trained().eval()
        x = torch.rand(1, 1, 96, 96)
        x[0, 0, 0, 0] = 1.0
        other = x.clone()
        other[0, 0, 80:, 80:] *= 0.2
        with torch.no_grad():
            gap = (model(x) - model(other))[0, 0, :16, :16].abs().max()
        assert gap > 0

    def test_every_parameter_learns(self):
        model = self.trained().train()
        (model(torch.rand(2, 1, 32, 48)) - torch.rand(2, 1, 32, 48)).square().mean().backward()
        assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()] == []


def test_wrong_channels_are_refused():
    for name in ("srvit_s", "srvit_swift"):
        with pytest.raises(ShapeError, match="expected \\(batch, 1, height, width\\)"):
            saccade.create_model(name)(torch.rand(1, 3, 32, 32))
    with pytest.raises(ConfigError, match="features_only"):
        saccade.create_model("srvit_a", features_only=True)


def test_a_published_checkpoint_loads_without_running_its_objects(tmp_path, monkeypatch):
    # The published files hold, beside the tensors, a pickled object of a module `loss` that readers do not have.
    module = types.ModuleType("loss")

    class Loss:
        def __init__(self):
            self.log = [1.0, 2.0]

        def __setstate__(self, state):
            raise AssertionError("ran code of the file")

    Loss.__module__, Loss.__qualname__ = "loss", "Loss"
    module.Loss = Loss
    monkeypatch.setitem(sys.modules, "loss", module)
    model = saccade.create_model("srvit_s")
    content = {"model_state_dict": model.state_dict(), "loss": Loss(), "optimizer_state_dict": {"state": {}}}
    buffer = io.BytesIO()
    torch.save(content, buffer)
    (tmp_path / "hffh.pt").write_bytes(buffer.getvalue())
    monkeypatch.delitem(sys.modules, "loss")
    found, card = load_model(tmp_path / "hffh.pt")
    assert isinstance(found, SRViT)
    assert (card.model, card.task, card.num_classes, card.in_chans) == ("srvit_s", "restore", 0, 1)
    for name, value in found.state_dict().items():
        assert torch.equal(value, model.state_dict()[name])


@pytest.mark.parametrize("name", ["srvit_b", "srvit_c", "srvit_swift"])
def test_weights_know_what_they_are(name, tmp_path):
    model = saccade.create_model(name).eval()
    save_weights(model, tmp_path / "w.safetensors")
    found, card = load_model(tmp_path / "w.safetensors")
    assert (card.model, card.task) == (name, "restore")
    x = torch.rand(1, 1, 40, 40)
    with torch.no_grad():
        assert torch.equal(found(x), model(x))
