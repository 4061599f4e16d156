"""Conversion of timm's transformers: the first forward is spatial pooling only, and what cannot be is refused."""

import dataclasses

import pytest
import timm
import torch
from torch.nn import functional as F

import saccade
from saccade.engine.bench.cost import count_macs
from saccade.errors import ConfigError
from saccade.nn.origin import origin_of
from saccade.zoo.sparse.trunk import centre_rope
from saccade.zoo.sparse.vit import plan_units

VIT = {"img_size": 96, "patch_size": 16, "embed_dim": 48, "depth": 6, "num_heads": 3, "num_classes": 5}
SWIN = {
    "img_size": 56, "patch_size": 1, "embed_dim": 12, "depths": (1, 1, 6, 1), "num_heads": (1, 1, 2, 2),
    "num_classes": 5,
}  # fmt: skip
# One model of each kind of timm's, shrunk.
MODELS = {
    "deit_tiny_patch16_224": VIT,
    "deit_tiny_distilled_patch16_224": VIT,
    "deit3_small_patch16_224": {**VIT, "init_values": 0.5},
    "vit_tiny_patch16_224": VIT,
    "vit_base_patch16_clip_224": VIT,
    "vit_base_patch16_siglip_224": VIT,
    "vit_small_patch14_dinov2": VIT,
    "vit_small_patch14_reg4_dinov2": VIT,
    "vit_base_patch16_rpn_224": VIT,
    "vit_medium_patch16_gap_256": VIT,
    "vit_so150m_patch16_reg4_gap_256": VIT,
    "vit_little_patch16_reg4_gap_256": {**VIT, "qk_norm": True},
    "eva02_tiny_patch14_224": VIT,
    "vit_small_patch16_dinov3": VIT,
    "beit_base_patch16_224": VIT,
    "vit_relpos_small_patch16_224": VIT,
    "swin_tiny_patch4_window7_224": SWIN,
}
PLAIN = [name for name in MODELS if "swin" not in name]


def build(name, **changes):
    torch.manual_seed(0)
    model = timm.create_model(name, **{**MODELS[name], **changes}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def picture(model, batch=2):
    size = model.patch_embed.img_size[0]
    return torch.randn(batch, 3, size, size)


@pytest.mark.parametrize("name", MODELS)
def test_conversion_runs_learns_and_leaves_the_base_alone(name):
    base = build(name)
    before = {key: value.clone() for key, value in base.state_dict().items()}
    x = picture(base)
    with torch.no_grad():
        expected = base(x)
    model = saccade.sparsify(base, tokens=9)
    with torch.no_grad():
        assert model(x).shape == expected.shape
        maps = model.token_maps(x)
    count = 9 * (4 if "swin" in name else 1)
    assert maps.shape[:2] == (2, count)
    assert torch.allclose(maps.sum((2, 3)), torch.ones(2, count), atol=1e-4)
    out = model.train()(x)
    (sum(o.square().sum() for o in out) if isinstance(out, tuple) else out.square().sum()).backward()
    idle = [n for n, p in model.named_parameters() if p.grad is None]
    # Relative position tables of the blocks after the first generating one have no use any more.
    assert all("relative_position" in n or "rel_pos" in n for n in idle), idle
    assert all(torch.equal(before[key], value) for key, value in base.state_dict().items())
    assert model.weight_decay_exempt() <= {n for n, _ in model.named_parameters()}


def attend(block, x, context):
    """A plain transformer block on two inputs, written out: no fused kernels, one head at a time."""
    attn, (y, z) = block.attn, (block.norm1(x), block.norm1(context))
    weights, biases = attn.qkv.weight.chunk(3), attn.qkv.bias.chunk(3)
    q, k, v = y @ weights[0].T + biases[0], z @ weights[1].T + biases[1], z @ weights[2].T + biases[2]
    d, out = q.shape[-1] // attn.num_heads, []
    for h in range(attn.num_heads):
        at = slice(h * d, (h + 1) * d)
        qh, kh = attn.q_norm(q[..., at]), attn.k_norm(k[..., at])
        out.append((qh @ kh.transpose(1, 2) * d**-0.5).softmax(-1) @ v[..., at])
    x = x + block.ls1(attn.proj(torch.cat(out, -1)))
    return x + block.ls2(block.mlp(block.norm2(x)))


@pytest.mark.parametrize(
    "name", ["deit_tiny_patch16_224", "deit3_small_patch16_224", "vit_small_patch14_reg4_dinov2",
             "vit_little_patch16_reg4_gap_256", "vit_base_patch16_siglip_224", "deit_tiny_distilled_patch16_224"]
)  # fmt: skip
@pytest.mark.parametrize("head", ["keep", "mean"])
def test_first_forward_is_spatial_pooling_only(name, head):
    base = build(name).double()
    if head == "mean" and getattr(base, "attn_pool", None) is not None:
        with pytest.raises(ConfigError, match="keep"):
            saccade.sparsify(base, head="mean")
        return
    x = picture(base).double()
    model = saccade.sparsify(base, tokens=9, head=head)
    with torch.no_grad():
        if head == "keep":
            tokens, prefix = base.norm_pre(base._pos_embed(base.patch_embed(x))), base.num_prefix_tokens
        else:
            positions = base.pos_embed[:, -36:]
            tokens, prefix = base.norm_pre(base.patch_embed(x) + positions), 0
        for block in base.blocks[:2]:
            tokens = attend(block, tokens, tokens)
        front, image = tokens[:, :prefix], tokens[:, prefix:]
        centres = (
            F.adaptive_max_pool2d(image.transpose(1, 2).unflatten(2, (6, 6)), 3).flatten(2).transpose(1, 2)
        )
        tokens = torch.cat([front, centres], 1)
        tokens = attend(base.blocks[2], tokens, torch.cat([front, image], 1))
        tokens = attend(base.blocks[3], tokens, torch.cat([tokens, image], 1))
        for block in base.blocks[4:]:
            tokens = attend(block, tokens, tokens)
        tokens = base.norm(tokens)
        expected = base.forward_head(tokens) if head == "keep" else base.head(base.fc_norm(tokens.mean(1)))
        assert torch.allclose(model(x), expected, atol=1e-9)


def test_window_pooling_starts_as_the_mean():
    base = build("vit_tiny_patch16_224")
    model = saccade.sparsify(base, tokens=9, pooling="window")
    maps = torch.randn(2, 6, 6, 48)
    with torch.no_grad():
        mean = F.avg_pool2d(maps.permute(0, 3, 1, 2), 2).flatten(2).transpose(1, 2)
        assert torch.allclose(model.pools[0](maps), mean, atol=1e-6)


@pytest.mark.parametrize("name", PLAIN)
def test_recovery_gives_the_map_back(name):
    base = build(name)
    x = picture(base)
    model = saccade.sparsify(base, tokens=4, recover=True)
    with torch.no_grad():
        assert model(x).shape == (2, 5)
        side = base.patch_embed.grid_size[0]
        maps = model.forward_intermediates(x)
        assert [m.shape for m in maps] == [(2, 48, side, side)] * 2
        early, late = model.forward_intermediates(x, indices=[0, -1])
        assert torch.allclose(late, maps[1])
        assert not torch.allclose(early, maps[0])
    features = saccade.sparsify(
        base, tokens=4, recover=True, units=2, image_blocks=1, stgm_blocks=1, features_only=True
    )
    assert (features.channels, features.strides) == ([48] * 3, [base.patch_embed.patch_size[0]] * 3)
    with torch.no_grad():
        assert len(features(x)) == 3


def test_maps_behind_the_generating_blocks_are_refused_without_recovery():
    model = saccade.sparsify(build("vit_tiny_patch16_224"), tokens=4)
    with pytest.raises(ConfigError, match="recover=True"):
        model.forward_intermediates(torch.zeros(1, 3, 96, 96), indices=[3])
    with pytest.raises(ConfigError, match="recover=True"):
        saccade.sparsify(build("vit_tiny_patch16_224"), features_only=True)


@pytest.mark.parametrize("recover", [False, True])
def test_swin_carries_its_weights_over(recover):
    base = build("swin_tiny_patch4_window7_224").double()
    model = saccade.sparsify(base, tokens=9, recover=recover)
    x = picture(base).double()
    with torch.no_grad():
        y = model.stem(x)
        theirs = base.patch_embed(x)
        assert torch.allclose(y, theirs)
        for s in range(2):
            theirs = base.layers[s](theirs)
            blocks = model.stages[s].blocks if recover else model.stages[s]
            for block in blocks:
                if s:
                    y = (model.stages[s - 1].downsample if recover else model.merges[s - 1])(y)
                y = block(y)
            assert torch.allclose(y, theirs, atol=1e-9)
        table = base.layers[3].blocks[0].attn.relative_position_bias_table
        own = (model.stages[3].blocks[0] if recover else model.stages[3][0]).attn.relative_position_bias_table
        assert torch.equal(own, table if recover else table.view(13, 13, -1)[4:9, 4:9].reshape(25, -1))
        second = (model.stages[2].blocks[2] if recover else model.stages[2][5]).attn
        rows = torch.cat([second.q.weight, second.kv.weight]) if recover else second.qkv.weight
        assert torch.equal(rows, base.layers[2].blocks[2 if recover else 5].attn.qkv.weight)
        assert torch.equal(model.head.weight, base.head.fc.weight)
        folded = saccade.fold(model)(x)
        assert torch.allclose(folded, model(x), atol=1e-9)


@pytest.mark.parametrize("recover", [False, True])
def test_a_swin_whose_last_map_is_smaller_than_a_window(recover):
    # timm shrinks the last stage's windows with the map: 4 x 4 at 128 pixels.
    with torch.no_grad():
        base = build("swin_tiny_patch4_window7_224", img_size=64, patch_size=2)
        assert base.layers[3].blocks[0].attn.window_size == (4, 4)
        assert saccade.sparsify(base, tokens=9, recover=recover)(picture(base)).shape == (2, 5)


def test_swin_keeps_its_stochastic_depth():
    model = saccade.sparsify(build("swin_tiny_patch4_window7_224", drop_path_rate=0.3), tokens=9)
    assert model.config.drop_path == 0.3
    assert model.stages[3][0].drop_path.rate == pytest.approx(0.3)


def test_a_misspelt_option_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'tokens'"):
        saccade.create_model("stvit/vit_tiny_patch16_224", token=9)


def test_swin_gives_maps_with_recovery():
    base = build("swin_tiny_patch4_window7_224")
    model = saccade.sparsify(base, tokens=9, recover=True, features_only=True).eval()
    assert (model.channels, model.strides) == ([12, 24, 48, 96], [1, 2, 4, 8])
    with torch.no_grad():
        assert [m.shape[-1] for m in model(picture(base))] == [56, 28, 14, 7]


FOLDABLE = {"deit_tiny_patch16_224", "deit3_small_patch16_224", "vit_small_patch14_reg4_dinov2",
            "vit_base_patch16_siglip_224", "deit_tiny_distilled_patch16_224", "eva02_tiny_patch14_224"}  # fmt: skip


@pytest.mark.parametrize("name", sorted(FOLDABLE))
@pytest.mark.parametrize("options", [{}, {"recover": True, "units": 2, "image_blocks": 1, "stgm_blocks": 1}])
def test_folded_form_is_the_same_function(name, options):
    model = saccade.sparsify(build(name), tokens=9, **options)
    torch.nn.init.normal_(model.global_centers)
    x = picture(model.base)
    with torch.no_grad():
        exact = model.double()(x.double())
        assert torch.allclose(saccade.fold(model)(x.double()), exact, atol=1e-10)
        folded = saccade.fold(model.float())
        assert torch.allclose(folded(x).double(), exact, rtol=1e-3, atol=1e-3)
        assert len(model.base.blocks) == 6
    assert (type(folded).__name__ == "FoldedSparseViT") == (name != "eva02_tiny_patch14_224")


def test_dynamic_sizes_and_frames():
    model = saccade.sparsify(build("vit_tiny_patch16_224", dynamic_img_size=True), tokens=9)
    clip = torch.randn(2, 3, 3, 64, 112)
    with torch.no_grad():
        together = model(clip.flatten(0, 1)).unflatten(0, (2, 3))
        assert torch.allclose(together[:, 1], model(clip[:, 1]), atol=1e-5)


def test_centre_angles_are_half_way_between_neighbours():
    angle = torch.arange(6.0)[:, None] * 0.7 + torch.arange(6.0)[None] * 0.3
    rope = torch.stack([angle.sin().flatten(), angle.cos().flatten()], -1)
    found = centre_rope(rope, (6, 6), 3)
    want = (torch.arange(3.0) * 2 + 0.5)[:, None] * 0.7 + (torch.arange(3.0) * 2 + 0.5)[None] * 0.3
    assert torch.allclose(found[:, 0], want.sin().flatten(), atol=1e-6)
    assert torch.allclose(found[:, 1], want.cos().flatten(), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "saved"), [("deit_small_patch16_224", 0.57), ("vit_base_patch16_224", 0.57)]
)
def test_costs_fall_as_published(name, saved):
    from torch.utils.flop_counter import FlopCounterMode

    counts = []
    for model in (saccade.create_model(f"timm/{name}"), saccade.create_model(f"stvit/{name}")):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.eval().to("meta")(torch.empty(1, 3, 224, 224, device="meta"))
        counts.append(counter.get_total_flops())
    assert 1 - counts[1] / counts[0] == pytest.approx(saved, abs=0.02)


def test_names_and_files(tmp_path):
    name, options = "stvit/vit_tiny_patch16_224", {"tokens": 4, "recover": True, "img_size": 64, "depth": 6}
    model = saccade.create_model(name, num_classes=3, **options)
    saccade.save_weights(model, tmp_path / "a.safetensors")
    back, card = saccade.load_model(tmp_path / "a.safetensors")
    assert (card.model, card.options, card.num_classes) == (name, options, 3)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(back(x), model.eval()(x))
    converted = saccade.sparsify(timm.create_model("vit_tiny_patch16_224", num_classes=7), tokens=4)
    assert dataclasses.astuple(origin_of(converted)) == (
        "stvit/vit_tiny_patch16_224",
        {"tokens": 4},
    )
    assert origin_of(saccade.sparsify(build("vit_tiny_patch16_224"), tokens=4)) is None
    model.reset_classifier(2)
    with torch.no_grad():
        assert model(x).shape == (1, 2)


def test_exports_and_compares(tmp_path):
    from saccade.engine.export.onnx import OnnxSession, write_onnx
    from saccade.tasks.base import ExportForm

    model = saccade.sparsify(build("vit_small_patch14_reg4_dinov2"), tokens=9)
    x = picture(model.base)
    write_onnx(ExportForm(model, {"image": x}, ("output",)), tmp_path / "a.onnx")
    with torch.no_grad():
        assert torch.allclose(OnnxSession(tmp_path / "a.onnx", threads=1)(x), model(x), atol=1e-4)


def test_gradient_checkpointing_changes_nothing():
    model = saccade.sparsify(build("eva02_tiny_patch14_224"), tokens=4).train()
    x, grads = picture(model.base), []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        model(x).square().sum().backward()
        grads.append(model.base.blocks[0].attn.proj.weight.grad.clone())
    assert torch.allclose(*grads, atol=1e-5)
    assert count_macs(model.eval(), 96) > 0


@pytest.mark.parametrize(
    ("name", "options", "word"),
    [
        ("vit_tiny_patch16_224", {"tokens": 5}, "square"),
        ("vit_tiny_patch16_224", {"tokens": 49}, "at most 36"),
        ("vit_tiny_patch16_224", {"image_blocks": 5}, "6 blocks"),
        ("vit_tiny_patch16_224", {"units": 2}, "recover"),
        ("vit_tiny_patch16_224", {"head": "max"}, "keep"),
        ("vit_tiny_patch16_224", {"pooling": "avg"}, "offset"),
        ("vit_relpos_small_patch16_224", {"head": "mean"}, None),
        ("beit_base_patch16_224", {"head": "mean"}, "class token"),
        ("swin_tiny_patch4_window7_224", {"pooling": "window"}, "pooling='max'"),
        ("swin_tiny_patch4_window7_224", {"tokens": 64}, "at most 49"),
        ("swin_tiny_patch4_window7_224", {"features_only": True}, "recover=True"),
    ],
)
def test_what_does_not_fit_is_refused(name, options, word):
    base = build(name)
    if word is None:
        saccade.sparsify(base, **options)  # it has no class token to leave out
        return
    with pytest.raises(ConfigError, match=word):
        saccade.sparsify(base, **options)


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "maxvit_tiny_rw_224",
        "swin_tiny_patch4_window7_224",
        "swinv2_tiny_window8_256",
        "vit_base_patch16_plus_clip_240",
    ],
)
def test_other_networks_are_refused(name):
    options = {"window_size": 4, "img_size": 64} if name.startswith("swin_") else {}
    options = {"patch_drop_rate": 0.5} if "plus" in name else options
    with torch.device("meta"):
        base = timm.create_model(name, **options)
    with pytest.raises(ConfigError):
        saccade.sparsify(base)


def test_a_hybrid_converts_with_the_stride_of_its_map():
    with torch.device("meta"):
        model = saccade.sparsify(timm.create_model("vit_base_r50_s16_224"), recover=True, features_only=True)
    assert model.strides == [16, 16]


def test_plans():
    first, second = plan_units(12, 1, 2, 2, True)
    assert (first.start, first.image, first.made, first.stop) == (0, 1, 3, 5)
    assert (second.start, second.image, second.made, second.stop) == (6, 7, 9, 11)
