"""What every network of ours must do, swept over families."""

import pytest
import timm
import torch
from torch import nn

import saccade
from saccade.errors import ConfigError

SMALL = ["shvit_s1", "efficientvim_m1", "efficientvim_m1_dist"]
PARAMS = {
    "shvit_s1": 6_330_808, "shvit_s2": 11_483_072, "shvit_s3": 14_245_273, "shvit_s4": 16_588_484,
    "efficientvim_m1": 6_679_458, "efficientvim_m2": 13_903_842, "efficientvim_m3": 16_604_174,
    "efficientvim_m4": 19_606_505, "efficientvim_m1_dist": 7_643_462, "efficientvim_m2_dist": 15_315_846,
    "efficientvim_m3_dist": 18_176_178, "efficientvim_m4_dist": 21_178_509,
}  # fmt: skip


def trained(name: str, seed: int = 0, **options) -> nn.Module:
    """A network whose normalisation has run on data and whose silent branches speak, as after training."""
    torch.manual_seed(seed)
    model = saccade.create_model(name, **options)
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.0)
        nn.init.normal_(norm.bias, std=0.1)
        norm.momentum = 1.0
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith("alpha"):
            nn.init.normal_(parameter)
    with torch.no_grad():
        model(torch.randn(4, model.config.in_chans, 64, 64))
    return model.eval()


@pytest.mark.parametrize("name", PARAMS)
def test_published_parameter_counts(name):
    with torch.device("meta"):
        model = saccade.create_model(name)
    assert sum(p.numel() for p in model.parameters()) == PARAMS[name]


def test_second_head_parameter_count():
    with torch.device("meta"):
        model = saccade.create_model("shvit_s1", distilled=True)
    assert sum(p.numel() for p in model.parameters()) == 6_652_448


def test_shvit_starts_with_the_published_silent_branches():
    model = saccade.create_model("shvit_s1")
    norms = {n: m for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    silent = [name for name, norm in norms.items() if not norm.weight.any()]
    assert len(silent) == 35
    assert not any("downsample.dwconv" in name for name in silent)
    assert model.head.fc.bias.abs().max() == 0


def test_efficientvim_starts_as_published():
    model = saccade.create_model("efficientvim_m1")
    assert all(m.weight.all() for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    block = model.stages[0].blocks[0]
    assert torch.equal(block.alpha, torch.full((4, 128), 1e-4))
    assert ((block.mixer.A >= 1) & (block.mixer.A <= 16)).all()
    exempt = model.weight_decay_exempt()
    assert "stages.0.blocks.0.norm.bias" in exempt
    assert "stages.0.blocks.0.norm.weight" not in exempt
    assert "norms.3.weight" not in exempt
    assert "stages.0.blocks.0.alpha" not in exempt
    assert "stages.0.blocks.0.mixer.A" in exempt


@pytest.mark.parametrize("name", SMALL)
def test_odd_sizes_and_independence_of_batch_neighbours(name):
    model = trained(name).double()
    x = torch.randn(3, 3, 75, 50, dtype=torch.float64)
    with torch.no_grad():
        together, alone = model(x), model(x[1:2])
    assert together.shape == (3, 1000)
    assert torch.allclose(together[1:2], alone, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", [*SMALL, "shvit_s3"])
@pytest.mark.parametrize("size", [(1, 64, 64), (3, 50, 75), (9, 96, 64)])
def test_fold_is_exact_and_packed_kernels_agree(name, size):
    model = trained(name)
    batch, height, width = size
    x = torch.randn(batch, 3, height, width)
    folded = saccade.fold(model)
    assert not any(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in folded.modules())
    with torch.no_grad():
        reference = saccade.fold(model.double())(x.double())
        exact = model(x.double())
        packed = folded(x)
    plain = folded(x)  # gradients are on: the plain kernels
    assert ((reference - exact).norm() / exact.norm()).item() < 1e-12
    assert ((packed - exact).norm() / exact.norm()).item() < 2e-5
    assert ((plain - exact).norm() / exact.norm()).item() < 2e-5
    assert not packed.is_inference()


@pytest.mark.parametrize("name", ["shvit_s1", "efficientvim_m1"])
def test_all_packed_paths_agree(name, monkeypatch):
    folded = saccade.fold(trained(name))
    x = torch.randn(2, 3, 64, 64)
    expected = folded(x)
    for setting, value in {"_LARGE": 0, "_SMALL": 0, "_MAX_PACKINGS": 0, "_HAS_MKL": False}.items():
        with monkeypatch.context() as patch, torch.no_grad():
            patch.setattr(f"saccade.nn.kernels.{setting}", value)
            folded.kernels = type(folded.kernels)()
            found = folded(x)
        assert ((found - expected).norm() / expected.norm()).item() < 2e-5, setting


def test_fold_of_distilled_shvit_averages_the_heads():
    model = trained("shvit_s1", distilled=True).double()
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        expected, folded = model(x), saccade.fold(model)
        assert ((folded(x) - expected).norm() / expected.norm()).item() < 1e-12
    assert sum(isinstance(m, nn.Linear) for m in folded.modules()) == 1


@pytest.mark.parametrize("name", SMALL)
def test_fold_follows_later_weights_and_copies(name):
    import copy

    folded = saccade.fold(trained(name))
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = folded(x)
        twin = copy.deepcopy(folded)
        for parameter in folded.parameters():
            parameter.mul_(1.01)
        after = folded(x)
        assert torch.equal(twin(x), before)
        assert not torch.allclose(after, before)
        assert torch.allclose(after, folded.double()(x.double()).float(), rtol=1e-3, atol=1e-4)


def test_fold_of_a_foreign_network_and_refusal_to_fold_twice():
    model = timm.create_model("repvit_m1_1", num_classes=7).eval()
    folded = saccade.fold(model)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(folded(x), model(x), rtol=1e-3, atol=1e-5)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    with pytest.raises(ConfigError, match="already folded"):
        saccade.fold(folded)


@pytest.mark.parametrize("name", SMALL)
def test_distilled_outputs_and_gradients(name):
    options = {"distilled": True} if name == "shvit_s1" else {}
    model = trained(name, **options).train()
    outputs = model(torch.randn(2, 3, 64, 64))
    if name == "efficientvim_m1":
        outputs = (outputs, outputs)
    assert isinstance(outputs, tuple)
    (outputs[0].sum() + outputs[1].sum()).backward()
    # Training on several processes fails where a parameter to train gets no gradient.
    assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]


@pytest.mark.parametrize("name", ["shvit_s1", "efficientvim_m1"])
def test_recomputation_gives_the_same_gradients(name):
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64, requires_grad=True)
    gradients = []
    for recompute in (False, True):
        model = trained(name).double().train()
        for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)):
            norm.eval()
        model.set_grad_checkpointing(recompute)
        gradients.append(torch.autograd.grad(model(x).square().sum(), x)[0])
    assert torch.allclose(*gradients, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["shvit_s1", "efficientvim_m1"])
def test_feature_maps(name):
    model = saccade.create_model(name, features_only=True, out_indices=(1, -1)).eval()
    assert model.channels == [{"s": 224, "e": 192}[name[0]], 320]
    assert model.strides == [32, 64]
    maps = model(torch.randn(1, 3, 100, 130))
    assert [tuple(m.shape[2:]) for m in maps] == [(4, 5), (2, 3)]
    with torch.no_grad():
        folded = saccade.fold(model)
        x = torch.randn(9, 3, 256, 256)
        for a, b in zip(folded(x), model(x), strict=True):
            assert torch.allclose(a, b, rtol=1e-3, atol=1e-4)
    assert folded.channels == model.channels
    with pytest.raises(ConfigError, match="out_indices"):
        saccade.create_model(name, features_only=True, out_indices=(3,))
    with pytest.raises(ConfigError, match="features_only"):
        saccade.create_model(name, out_indices=(1,))


@pytest.mark.parametrize(
    ("name", "dtype"), [("shvit_s1", torch.bfloat16), ("efficientvim_m1", torch.float16)]
)
def test_half_precision_stays_close(name, dtype):
    model = trained(name)
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        expected = model(x)
        half = model.to(dtype)(x.to(dtype)).float()
    assert ((half - expected).norm() / expected.norm()).item() < 0.1


@pytest.mark.parametrize("name", ["shvit_s2", "efficientvim_m2_dist"])
def test_other_inputs_and_heads(name):
    model = saccade.create_model(name, num_classes=5, in_chans=1).eval()
    x = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        assert model(x).shape == (1, 5)
        folded = saccade.fold(model)
        assert torch.allclose(folded(x), model(x), atol=1e-4)
        model.reset_classifier(0)
        pooled = model(x)
        assert pooled.shape == (1, model.num_features)
        assert torch.allclose(saccade.fold(model)(x), pooled, rtol=1e-3, atol=1e-4)


def test_unknown_names_and_options_are_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'shvit_s4'"):
        saccade.create_model("shvit_s44")
    with pytest.raises(ConfigError, match="'distiled'; did you mean 'distilled'"):
        saccade.create_model("shvit_s1", distiled=True)
    with pytest.raises(ConfigError, match="timm has no model 'resnet5'"):
        saccade.create_model("timm/resnet5")
    with pytest.raises(ConfigError, match="num_classes"):
        saccade.create_model("shvit_s1", num_classes=-1)
    assert saccade.list_models("shvit*") == ["shvit_s1", "shvit_s2", "shvit_s3", "shvit_s4"]
    assert len(saccade.list_models("efficientvim*")) == 8
    assert len(saccade.list_models("stvit*")) == 11


@pytest.mark.parametrize("name", SMALL[:2])
def test_trains_in_mixed_precision(name):
    torch.manual_seed(0)
    model = saccade.create_model(name, num_classes=3).train()
    pictures = torch.randn(4, 3, 64, 96)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(pictures)
    half.float().square().sum().backward()
    unused = ("mixer.A",)  # of EfficientViM: a published tensor that its outputs do not depend on
    used = [p for name, p in model.named_parameters() if not name.endswith(unused)]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in used)
    torch.testing.assert_close(half.float(), model(pictures), atol=0.1, rtol=0.1)
