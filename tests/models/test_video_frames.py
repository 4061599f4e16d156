"""Networks of pictures on frames: what joins them, what order means, folding, mistakes."""

import pytest
import torch

import saccade
from saccade.errors import ConfigError, ShapeError
from saccade.zoo.registry import create_model, create_video_model


def build(name="shvit_s1", head="", seed=0, **options):
    torch.manual_seed(seed)
    return create_video_model(name, head, num_classes=4, **options).eval()


def test_mean_is_the_mean_of_frames_and_knows_no_order():
    model = build(head="mean")
    x = torch.randn(2, 3, 3, 64, 64)
    with torch.no_grad():
        picture = create_model("shvit_s1", num_classes=4).eval()
        picture.load_state_dict(
            {
                **picture.state_dict(),
                **{k.removeprefix("backbone.net."): v for k, v in model.state_dict().items()},
            },
            strict=False,
        )
        vectors = torch.stack([model.backbone.net(x[:, t]) for t in range(3)], 1)
        expected = model.head(vectors.mean(1))
        assert torch.allclose(model(x), expected, atol=1e-5)
        assert torch.allclose(model(x), model(x.flip(1)), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "length"),
    [
        ("shvit_s1", {}, 320),
        ("shvit_s1", {"cells": 2, "stage": 0}, 4 * 128),
        ("efficientvim_m1", {"cells": 2, "stage": -2}, 4 * 192),
        ("timm/test_vit2", {}, 64),
        ("timm/test_resnet", {"cells": 3, "stage": 1}, 9 * 32),
    ],
)
def test_transformer_sees_order_and_folds(name, options, length):
    model = build(name, frames=4, width=32, **options)
    size = 64
    if name == "timm/test_vit2":
        model, size = build(name, frames=4, width=32, options={"img_size": 32}), 32
    assert model.temporal.proj.in_features == length
    x = torch.randn(2, 4, 3, size, size)
    with torch.no_grad():
        logits = model(x)
        assert logits.shape == (2, 4)
        assert not torch.allclose(logits, model(x.flip(1)), atol=1e-5)
        assert torch.allclose(saccade.fold(model)(x), logits, rtol=1e-3, atol=1e-4)
        assert model(x[:, :3]).shape == (2, 4)  # positions in time are interpolated
    model.train()(x).sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_semantic_tokens_lie_side_by_side():
    options = {"img_size": 64, "tokens": 4, "image_blocks": 1}
    model = build("stvit_deit_tiny", frames=2, width=32, cells=2, options=options)
    assert model.temporal.proj.in_features == 4 * 192
    x = torch.randn(1, 2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(saccade.fold(model)(x), model(x), atol=1e-5)


def test_decay_leaves_vectors_and_positions_alone():
    model = build(frames=4, width=32)
    spared = model.weight_decay_exempt()
    assert {"temporal.time_embed", "temporal.norm.weight", "head.bias"} <= spared
    assert "temporal.proj.weight" not in spared


def test_mistakes_are_said_in_one_sentence():
    for name, head, options, words in (
        ("shvit_s1", "max", {}, "expected one of transformer, mean"),
        ("shvit_s1", "", {"wide": 3}, "did you mean 'width'"),
        ("shvit_s1", "", {"width": 40}, "multiple of 32"),
        ("shvit_s1", "", {"cells": 99}, "at most 16 cells"),
        ("shvit_s1", "", {"cells": 2, "stage": 7}, "stage numbers from 0 to 2"),
        ("stvit_r_swin_tiny", "", {"cells": 2, "stage": 0}, "leave stage out"),
        ("srvit_s", "", {}, "cannot classify frames"),
        ("video_swin_tiny", "mean", {}, "has no model.head"),
    ):
        with pytest.raises(ConfigError, match=words):
            create_video_model(name, head, **options)
    with pytest.raises(ShapeError, match=r"expected clips \(batch, frames"):
        build(head="mean")(torch.randn(1, 3, 64, 64))
    model = build("timm/test_vit2", frames=2, width=32)
    with pytest.raises(ShapeError, match="frames of the size it was trained at"):
        model.temporal(torch.randn(1, 2, 7))


@pytest.mark.parametrize("name", ["shvit_s1", "efficientvim_m1"])
@pytest.mark.parametrize(("stage", "kept"), [(0, 1), (1, 2), (-2, 2)])
def test_stages_behind_the_map_are_left_out_and_no_others(name, stage, kept):
    model = build(name, "mean", cells=2, stage=stage).train()
    assert len(model.backbone.net.stages) == kept
    model(torch.randn(2, 2, 3, 64, 64)).sum().backward()
    idle = [key for key, tensor in model.named_parameters() if tensor.requires_grad and tensor.grad is None]
    assert not idle
