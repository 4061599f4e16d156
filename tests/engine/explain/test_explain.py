"""Class maps against a closed form, attention against the models' own formula, drawings against their pixels."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from saccade.data.preprocess import Preprocess
from saccade.engine.explain import attention_maps, class_map, draw_explanation
from saccade.engine.explain.attention import record_attention, rollout
from saccade.engine.explain.draw import Panel, colours, overlay
from saccade.engine.explain.run import explain, seen_box
from saccade.errors import ConfigError, DataError, ShapeError
from saccade.zoo.registry import create_model


class Pooled(nn.Module):
    """Convolution, mean, linear: Grad-CAM has a closed form here."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.fc = nn.Linear(6, 4)

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)))


def calibrated(name, **options):
    """Build a network whose branches are not silent: fresh ones end in zero weights."""
    torch.manual_seed(0)
    model = create_model(name, **options)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
    model.train()(torch.randn(4, 3, 64, 64))
    return model.eval()


@pytest.fixture(scope="module")
def shvit():
    return calibrated("shvit_s1", num_classes=5)


def test_class_map_of_a_pooled_linear_head_is_the_class_activation_map():
    torch.manual_seed(0)
    model, image = Pooled().eval(), torch.randn(1, 3, 9, 7)
    found = class_map(model, image, 2)
    want = torch.einsum("c,chw->hw", model.fc.weight[2], model.conv(image)[0]).clamp(min=0).detach()
    torch.testing.assert_close(found.heat, want / want.max())
    assert found.layer == "conv"
    assert model.conv.weight.grad is None


def test_class_map_takes_the_first_answer_and_works_on_frozen_weights(shvit):
    for parameter in shvit.parameters():
        parameter.requires_grad_(False)
    image = torch.randn(1, 3, 96, 128, generator=torch.Generator().manual_seed(1))
    found = class_map(shvit, image)
    assert found.target == int(shvit(image).argmax())
    assert found.heat.shape == (2, 2)
    assert 0 <= found.heat.min() <= found.heat.max() <= 1
    assert not shvit.stages[0]._forward_hooks


@pytest.mark.parametrize("name", ["efficientvim_m1", "timm/resnet10t", "timm/test_vit"])
def test_class_map_works_on_any_family(name):
    torch.manual_seed(0)
    size = {"timm/test_vit": 160}.get(name, 64)
    found = class_map(create_model(name, num_classes=3).eval(), torch.randn(1, 3, size, size))
    assert min(found.heat.shape) > 1
    assert bool(found.heat.isfinite().all())


def test_class_map_reads_channels_last_models():
    torch.manual_seed(0)
    model = create_model("timm/swin_tiny_patch4_window7_224", num_classes=3, img_size=64, window_size=2,
                         depths=(1, 1, 1, 1), embed_dim=24, num_heads=(1, 1, 1, 1)).eval()  # fmt: skip
    assert class_map(model, torch.randn(1, 3, 64, 64)).heat.shape == (2, 2)


@pytest.mark.parametrize(
    ("model", "shape", "target", "error", "message"),
    [
        (Pooled(), (2, 3, 8, 8), None, ShapeError, "one picture"),
        (Pooled(), (1, 3, 8, 8), 4, ConfigError, "classes 0 to 3"),
        (nn.Conv2d(3, 4, 1), (1, 3, 8, 8), None, ConfigError, "does not return logits"),
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 4)), (1, 3, 2, 2), None, ConfigError, "no spatial map"),
    ],
)
def test_class_map_refuses(model, shape, target, error, message):
    with pytest.raises(error, match=message):
        class_map(model, torch.randn(shape), target)


def test_shvit_attention_is_what_the_block_used(shvit):
    image = torch.randn(1, 3, 128, 96, generator=torch.Generator().manual_seed(2))
    seen = []
    block = shvit.stages[1].blocks[2].attn
    handle = block.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0], output)))
    records, _ = record_attention(shvit, image)
    handle.remove()
    (one,) = [r for r in records if (r.stage, r.block) == (2, 3)]
    assert one.grid == (4, 3)
    torch.testing.assert_close(one.weights.sum(1), torch.ones(12))
    # The block's output from the recorded weights alone.
    x, output = seen[0]
    with torch.no_grad():
        mine, rest = x.split([block.attended, block.rest], 1)
        values = block.qkv(block.norm(mine)).flatten(2)[:, 32:]
        mixed = (values[0] @ one.weights.T).view_as(mine)
        torch.testing.assert_close(block.proj(torch.relu(torch.cat([mixed, rest], 1))), output)


def test_attention_maps_by_stage_and_block(shvit):
    image = torch.randn(1, 3, 96, 96)
    stages, logits = attention_maps(shvit, image)
    assert [m.name for m in stages] == ["stage 2", "stage 3"]
    assert [tuple(m.heat.shape) for m in stages] == [(3, 3), (2, 2)]
    blocks, _ = attention_maps(shvit, image, per_block=True)
    assert [m.name for m in blocks][:2] == ["stage 2, block 1", "stage 2, block 2"]
    assert len(blocks) == 9
    for one in [*stages, *blocks]:
        assert float(one.heat.sum()) == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(logits, shvit(image)[0].detach())


def test_efficientvim_states():
    model = calibrated("efficientvim_m1", num_classes=5)
    image = torch.randn(1, 3, 64, 96)
    records, _ = record_attention(model, image)
    assert [tuple(r.weights.shape) for r in records[:2]] == [(49, 24)] * 2
    torch.testing.assert_close(records[0].weights.sum(1), torch.ones(49))
    maps, _ = attention_maps(model, image)
    assert [m.name for m in maps] == ["stage 1", "stage 2", "stage 3"]


def test_attention_refuses_models_without():
    with pytest.raises(ConfigError, match=r"no attention that can be drawn.*--method cam"):
        attention_maps(Pooled(), torch.randn(1, 3, 8, 8))


def test_rollout():
    one = torch.tensor([[0.5, 0.5], [0.25, 0.75]])
    torch.testing.assert_close(rollout([one]), torch.tensor([[0.75, 0.25], [0.125, 0.875]]))
    torch.testing.assert_close(rollout([one, one]).sum(1), torch.ones(2))
    assert torch.equal(rollout([torch.eye(3)] * 4), torch.eye(3))


def test_seen_box_is_the_centre_crop():
    preprocess = Preprocess(size=224, crop_pct=0.875)
    assert seen_box(preprocess, 512, 256) == (144, 16, 368, 240)
    assert seen_box(Preprocess(size=64, crop_pct=1.0, mode="squash"), 100, 50) == (0, 0, 100, 50)


def test_overlay_is_bright_where_the_heat_is():
    photo = Image.new("RGB", (80, 40), (128, 128, 128))
    heat = np.zeros((2, 4))
    heat[0, 3] = 5.0
    pixels = np.asarray(overlay(photo, heat, (0, 0, 80, 40))).astype(int).sum(-1)
    assert pixels[5, 75] > pixels[35, 5] + 150


def test_overlay_keeps_what_was_not_seen():
    photo = Image.effect_noise((60, 40), 80).convert("RGB")
    drawn = np.asarray(overlay(photo, np.ones((1, 1)), (20, 0, 40, 40))).astype(int)
    dimmed = np.asarray(overlay(photo, np.zeros((1, 1)), (20, 0, 40, 40))).astype(int)
    assert np.array_equal(drawn[:, :20], dimmed[:, :20])
    assert not np.array_equal(drawn[:, 20:40], dimmed[:, 20:40])


def test_colours_rise_in_lightness():
    light = colours(np.linspace(0, 1, 64)) @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(light) > 0).all()


@pytest.mark.parametrize(("size", "panels"), [((300, 200), 1), ((90, 400), 2), ((64, 64), 9)])
def test_drawing_fits_any_picture(size, panels):
    photo = Image.new("L", size, 90)
    heat = np.random.default_rng(0).random((3, 3))
    drawing = draw_explanation(
        photo, [Panel(f"map {i}", heat) for i in range(panels)], box=(0, 0, *size),
        answers=[("a very long class name that will not fit", 0.9), ("b", 0.0)], chosen="b", title="t",
    )  # fmt: skip
    assert drawing.mode == "RGB"
    assert min(drawing.size) > 200


def test_explain_writes_a_picture(tmp_path, shvit):
    from saccade.weights import Card
    from saccade.zoo.loading import save_weights

    weights = tmp_path / "w.safetensors"
    labels = ["ant", "bee", "cat", "dog", "eel"]
    save_weights(shvit, weights, Card("shvit_s1", num_classes=5, labels=labels, preprocess={"size": 64}))
    photo = tmp_path / "p.jpg"
    Image.effect_noise((120, 80), 70).convert("RGB").save(photo)
    found = explain(photo, weights, tmp_path / "x.png", method="both", target="dog")
    assert found.target == "dog"
    assert [label in labels for label, _ in found.answers] == [True] * 5
    assert len(found.maps) == 3
    with Image.open(tmp_path / "x.png") as drawing:
        assert drawing.width > 800
    with pytest.raises(ConfigError, match="no class 'dgo'; did you mean 'dog'"):
        explain(photo, weights, tmp_path / "x.png", target="dgo")
    with pytest.raises(ConfigError, match=r"written as \.png"):
        explain(photo, weights, tmp_path / "x.gif")
    (tmp_path / "no.jpg").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"no\.jpg: .*not an image"):
        explain(tmp_path / "no.jpg", weights, tmp_path / "x.png")
