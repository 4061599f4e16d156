"""Parameter groups, freezing, layer decay, clipping, and the average of the weights."""

import pytest
import timm
import timm.optim
import torch
from accelerate import Accelerator
from torch import nn

from saccade.engine.train.ema import Ema
from saccade.engine.train.optim import (
    build_optimizer,
    clip_gradients,
    freeze,
    layer_scales,
    no_decay_names,
    param_groups,
    set_lr,
    train_mode,
)
from saccade.engine.train.recipe import EmaConfig, OptimConfig
from saccade.errors import ConfigError
from saccade.tasks.dense.nets import build_dense
from saccade.zoo.registry import create_model


@pytest.fixture(scope="module")
def shvit():
    return create_model("shvit_s1", num_classes=3)


@pytest.fixture(scope="module")
def vim():
    return create_model("efficientvim_m1", num_classes=3)


def test_rules_of_weight_decay(shvit, vim):
    vectors = {n for n, p in shvit.named_parameters() if p.ndim == 1}
    assert no_decay_names(shvit, "1d") == vectors
    assert no_decay_names(shvit, "model") == no_decay_names(shvit, "1d_bias")
    assert no_decay_names(shvit, "none") == set()
    # The published EfficientViM decays gates and channel-norm weights, but not their biases.
    spared = no_decay_names(vim, "model")
    assert "stages.0.blocks.0.alpha" not in spared
    assert "stages.0.blocks.0.norm.weight" not in spared
    assert "stages.0.blocks.0.norm.bias" in spared


def test_groups_hold_every_trainable_parameter_once(vim):
    groups = param_groups(vim, OptimConfig(weight_decay=0.05))
    names = [name for group in groups for name in group["names"]]
    assert sorted(names) == sorted(name for name, p in vim.named_parameters() if p.requires_grad)
    assert {group["weight_decay"] for group in groups} == {0.0, 0.05}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vit_tiny_patch16_224", {"depth": 3}),
        ("deit_tiny_distilled_patch16_224", {"depth": 3}),
        ("swin_tiny_patch4_window7_224", {"embed_dim": 24, "depths": (1, 2, 1, 1)}),
        ("test_convnext", {}),
    ],
)
def test_layer_decay_is_timms(name, options):
    net = timm.create_model(name, num_classes=3, **options)
    names = {id(parameter): parameter_name for parameter_name, parameter in net.named_parameters()}
    wanted = {
        names[id(parameter)]: group["lr_scale"]
        for group in timm.optim.param_groups_layer_decay(net, layer_decay=0.75)
        for parameter in group["params"]
    }
    assert layer_scales(net, 0.75) == pytest.approx(wanted)
    assert len(set(wanted.values())) > 3


def test_layer_decay_of_our_transformer_is_that_of_timms():
    theirs = timm.create_model("deit_tiny_patch16_224", num_classes=3)
    ours = create_model("stvit_deit_tiny", num_classes=3)
    want, found = layer_scales(theirs, 0.75), layer_scales(ours, 0.75)
    for name in (
        "cls_token",
        "pos_embed",
        "blocks.0.norm1.weight",
        "blocks.11.mlp.fc2.bias",
        "norm.weight",
        "head.bias",
    ):
        if name in found:
            assert found[name] == pytest.approx(want[name]), name
    assert min(found.values()) == pytest.approx(0.75**13)


def test_layer_decay_falls_from_head_to_stem(shvit):
    scales = layer_scales(shvit, 0.8)
    assert scales["head.fc.weight"] == 1.0
    stem = {scale for name, scale in scales.items() if name.startswith("stem")}
    assert stem == {min(scales.values())}
    (lowest,) = stem
    optimizer = build_optimizer(shvit, OptimConfig(layer_decay=0.8))
    set_lr(optimizer, 0.01)
    assert max(group["lr"] for group in optimizer.param_groups) == 0.01
    assert min(group["lr"] for group in optimizer.param_groups) == pytest.approx(0.01 * lowest)


def test_freezing_the_backbone_leaves_the_head_and_keeps_statistics():
    model = create_model("shvit_s1", num_classes=3)
    freeze(model, ("backbone",))
    trainable = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trainable == {"head.norm.weight", "head.norm.bias", "head.fc.weight", "head.fc.bias"}
    train_mode(model)
    before = {n: b.clone() for n, b in model.named_buffers()}
    model(torch.randn(2, 3, 32, 32))
    moved = {n for n, b in model.named_buffers() if not torch.equal(b, before[n])}
    assert moved == {"head.norm.running_mean", "head.norm.running_var", "head.norm.num_batches_tracked"}


def test_a_dense_network_is_a_backbone_with_a_large_head():
    net = build_dense("shvit_s1", "retinanet", 2, width=8)
    frozen = freeze(net, ("backbone",))
    assert frozen == sorted(name for name, _ in net.named_parameters() if name.startswith("backbone."))
    scales = layer_scales(net, 0.5)
    assert {scale for name, scale in scales.items() if not name.startswith("backbone.")} == {1.0}
    assert (
        scales["backbone.stages.2.blocks.3.ffn.fc1.conv.weight"] > scales["backbone.stem.0.conv.weight"] > 0
    )
    assert no_decay_names(net, "model") == net.weight_decay_exempt()


def test_freezing_nothing_or_everything_is_refused(shvit):
    with pytest.raises(ConfigError, match=r"no parameter starts with 'stagez'"):
        freeze(shvit, ("stagez",))
    with pytest.raises(ConfigError, match="nothing to train"):
        freeze(shvit, ("backbone", "head"))


def test_adaptive_clipping_limits_each_unit_to_its_weights():
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    accelerator = Accelerator(cpu=True)
    model.weight.grad = torch.randn(3, 4) * torch.tensor([[100.0], [1e-4], [5.0]])
    model.bias.grad = torch.randn(3) * 50
    given = model.weight.grad.clone()
    clip_gradients(accelerator, model, OptimConfig(clip="agc", clip_value=0.02))
    limit = 0.02 * model.weight.detach().norm(dim=1)
    assert torch.allclose(model.weight.grad.norm(dim=1)[[0, 2]], limit[[0, 2]])
    assert torch.equal(model.weight.grad[1], given[1])  # small enough: untouched
    assert model.bias.grad.norm() <= 0.02 * model.bias.detach().norm() * 1.0001


def test_norm_clipping():
    model = nn.Linear(4, 3)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    clip_gradients(Accelerator(cpu=True), model, OptimConfig(clip="norm", clip_value=0.5))
    assert torch.cat([p.grad.flatten() for p in model.parameters()]).norm() == pytest.approx(0.5, rel=1e-4)


def test_average_of_weights_follows_the_formula():
    model = nn.BatchNorm1d(2)
    ema = Ema(model, EmaConfig(decay=0.9, warmup=False))
    with torch.no_grad():
        model.weight.fill_(3.0)
        model.num_batches_tracked.fill_(7)
    expected = 1.0
    for _ in range(5):
        ema.update(model)
        expected = 0.9 * expected + 0.1 * 3.0
    assert torch.allclose(ema.module.weight, torch.full((2,), expected))
    assert ema.module.num_batches_tracked == 7
    assert ema.count == 5
    assert not ema.module.weight.requires_grad


def test_warm_average_starts_near_the_weights():
    ema = Ema(nn.Linear(1, 1), EmaConfig(decay=0.999, warmup=True))
    assert ema.decay() == pytest.approx(0.1)
    ema.count = 10**6
    assert ema.decay() == 0.999
