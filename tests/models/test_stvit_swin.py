"""STViT-Swin and STViT-R-Swin: equal to the release where there is one, any size, and refusals."""

import pytest
import torch
from tests import golden

import saccade
from saccade.engine.bench.cost import count_macs
from saccade.errors import ConfigError, ShapeError, WeightsError
from saccade.models.stvit_r_dense import STViTRDense
from saccade.models.stvit_r_swin import STViTRSwin
from saccade.models.stvit_swin import STViTPlainSwinConfig, STViTSwin
from saccade.nn.stgm_window import origins, window_centres
from saccade.nn.stvit_r import STViTSwinConfig

EVERY_OPTION = {"relative_pos": True, "conv_pos": True, "shortcut": True, "global_centers": True}
BLOCKS = ("image_block", "stgm_first", "stgm_second", "semantic_local", "semantic_global", "recovery")
SMALL = {"dim": 16, "heads": (1, 2, 2, 4), "num_classes": 5}


def build(kind: str, **options):
    if kind == "swin":
        config = STViTPlainSwinConfig(**{"depths": (1, 1, 5, 1), "image_blocks": 1, **SMALL, **options})
        return STViTSwin(config).eval()
    config = STViTSwinConfig(**{"depths": (1, 1, 6, 2), **SMALL, **options})
    return (STViTRSwin(config) if kind == "r" else STViTRDense(config, range(4))).eval()


def randomise(model):
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "layer_scale" in name:
                p.uniform_(0.5, 1.5)
            elif "bias_table" in name:
                p.normal_()
    return model


@pytest.mark.parametrize(
    ("case", "name", "options"),
    [("tiny_3x3", "tiny", {}), ("small_3x3", "small", {}), ("tiny_all_options", "tiny", EVERY_OPTION)],
)
def test_classifier_golden(case, name, options):
    figures = golden.load(f"stvit_r_swin_{case}")
    model = saccade.create_model(f"stvit_r_swin_{name}", **options).double().eval()
    assert sum(p.numel() for p in model.parameters()) == figures["params"]
    saccade.load_weights(model, golden.make_state(figures))
    x = golden.make_input(figures)
    features = figures["features"]
    with torch.no_grad():
        golden.assert_summary(model.stem(x).flatten(1, 2), features["patch_embed"])
        maps = model.forward_intermediates(x)
        for stage, output in enumerate(maps, 1):
            golden.assert_summary(output.flatten(1, 2), features[f"stage{stage}"])
        y = maps[1]
        for u, unit in enumerate(model.units()):
            outputs = unit.trace(y)
            for j, (label, output) in enumerate(zip(BLOCKS, outputs, strict=True)):
                golden.assert_summary(output, features[f"stage3_unit{u}_block{6 * u + j}_{label}"])
            y = outputs[-1].unflatten(1, y.shape[1:3])
        golden.assert_logits(model(x), figures)


@pytest.fixture(scope="module")
def released():
    """The dense backbone in the release's form, with the weights of its figures."""
    figures = golden.load("stvit_r_swin_tiny_dense_backbone")
    model = saccade.create_model("stvit_r_swin_tiny", features_only=True, compat=True).double().eval()
    assert sum(p.numel() for p in model.parameters()) == figures["params"]
    saccade.load_weights(model, golden.make_state(figures))
    return figures, model


@pytest.mark.parametrize("run", [0, 1, 2])
def test_dense_golden_with_the_releases_masks(run, released):
    figures, model = released
    expected = figures["runs"][run]
    x = golden.make_input(expected)
    with torch.no_grad():
        for y, summary in zip(model(x), expected["output"], strict=True):
            golden.assert_summary(y, summary)
        y = model.stem(x)
        for stage in model.stages[:2]:
            for block in stage.blocks:
                y = block(y)
            y = stage.downsample(y)
        for j, output in enumerate(model.unit.trace(model.units()[0], y)):
            golden.assert_summary(output.flatten(1, 2), expected["features"][f"stage3_block{j}"])


def reference_cross(block, queries, keys):
    """One window's cross-attention on explicit lists of valid tokens, without masks, padding or sharing."""
    attn = block.attn
    q, (k, v) = attn.q(block.norm1(queries)), attn.kv(block.norm1(keys)).chunk(2, -1)
    out = []
    for qh, kh, vh in zip(
        q.chunk(attn.heads, -1), k.chunk(attn.heads, -1), v.chunk(attn.heads, -1), strict=True
    ):
        out.append((qh @ kh.T * kh.shape[-1] ** -0.5).softmax(-1) @ vh)
    y = queries + block.layer_scale_1 * attn.proj(torch.cat(out, -1))
    return y + block.layer_scale_2 * block.mlp(block.norm2(y))


@pytest.mark.parametrize("size", [(14, 14), (16, 20), (14, 16), (9, 14), (7, 30)])
def test_correct_masks_mean_only_real_tokens_are_seen(size):
    model = randomise(build("dense")).double()
    blocks, (high, wide) = model.units()[0], size
    x = torch.randn(1, high, wide, 64, dtype=torch.float64)
    with torch.no_grad():
        image, first, second, _, tokens, restored = model.unit.trace(blocks, x)
        rows, cols = -(-high // 7), -(-wide // 7)
        padded = torch.zeros(7 * rows, 7 * cols, 64, dtype=torch.float64)
        padded[:high, :wide] = image[0]
        for i in range(rows):
            for j in range(cols):
                near = image[0, max(0, 7 * i - 3) : 7 * i + 11, max(0, 7 * j - 3) : 7 * j + 11].reshape(
                    -1, 64
                )
                far = image[0, max(0, 7 * i - 7) : 7 * i + 14, max(0, 7 * j - 7) : 7 * j + 14].reshape(-1, 64)
                window = padded[7 * i : 7 * i + 7, 7 * j : 7 * j + 7].permute(2, 0, 1)
                centres = torch.nn.functional.adaptive_max_pool2d(window, 3).flatten(1).T
                cell = (0, slice(3 * i, 3 * i + 3), slice(3 * j, 3 * j + 3))
                one = reference_cross(blocks[1], centres, near)
                assert torch.allclose(first[cell].reshape(9, 64), one, atol=1e-10)
                assert torch.allclose(
                    second[cell].reshape(9, 64), reference_cross(blocks[2], one, far), atol=1e-10
                )
                around = tokens[0, max(0, 3 * i - 12) : 3 * i + 15, max(0, 3 * j - 12) : 3 * j + 15].reshape(
                    -1, 64
                )
                piece = image[0, 7 * i : 7 * i + 7, 7 * j : 7 * j + 7]
                back = reference_cross(blocks[5], piece.reshape(-1, 64), around).view(piece.shape)
                assert torch.allclose(restored[0, 7 * i : 7 * i + 7, 7 * j : 7 * j + 7], back, atol=1e-10)


def test_both_modes_agree_where_no_fault_acts():
    # With exactly one axis padded, the release masks the generating blocks rightly.
    model, blocks = randomise(build("dense")), None
    faulty = build("dense", compat=True)
    faulty.load_state_dict(model.state_dict())
    x = torch.randn(2, 14, 16, 64)
    with torch.no_grad():
        ours, theirs = (m.unit.trace(m.units()[0], x) for m in (model, faulty))
    del blocks
    for a, b in zip(ours[:5], theirs[:5], strict=True):
        assert torch.allclose(a, b, atol=1e-5)
    assert not torch.allclose(ours[5], theirs[5], atol=1e-3)


def test_dense_costs_less_than_swin_where_the_release_costs_more():
    with torch.device("meta"):
        model = saccade.create_model("stvit_r_swin_small", features_only=True).eval()
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(1, 3, 800, 1280, device="meta"))
    assert counter.get_total_flops() / 2 == pytest.approx(0.69 * 187.6e9, rel=0.01)


@pytest.mark.parametrize(("name", "published"), [("tiny", 3.41), ("small", 6.51), ("base", 11.47)])
def test_stvit_swin_layout_gives_the_published_reduction(name, published):
    from saccade.zoo.facts import FACTS

    assert FACTS[f"stvit_swin_{name}"].macs / 1e9 == pytest.approx(published, abs=0.006)


@pytest.mark.parametrize("kind", ["swin", "r"])
@pytest.mark.parametrize("tokens", [4, 9, 16])
def test_token_counts_and_sizes(kind, tokens):
    model = build(kind, tokens_per_window=tokens)
    for size in ((224, 224), (256, 192), (160, 300)):
        x = torch.randn(1, 3, *size)
        with torch.no_grad():
            assert model(x).shape == (1, 5)
            maps = model.token_maps(x)
        high, wide = -(-size[0] // 16), -(-size[1] // 16)
        assert maps.shape == (1, tokens * -(-high // 7) * -(-wide // 7), high, wide)
        assert torch.allclose(maps.sum((2, 3)), torch.ones(()), atol=1e-5)


@pytest.mark.parametrize("kind", ["swin", "r", "dense"])
def test_every_parameter_learns_with_every_option(kind):
    model = randomise(build(kind, **EVERY_OPTION, drop_path=0.1)).train()
    model.set_grad_checkpointing()
    y = model(torch.randn(2, 3, 224, 224))
    (y if kind != "dense" else sum(m.square().mean() for m in y)).sum().backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert silent == []


def test_patch_origins_are_the_releases_at_224():
    assert origins(14, 2) == [0, 4]
    assert origins(21, 3) == [0, 6, 11]
    assert origins(16, 3) == [0, 6, 6]
    assert origins(7, 1) == [0]


def test_centres_repeat_the_border_of_a_cut_window():
    x = torch.arange(8.0).view(1, 1, 8, 1).expand(1, 7, 8, 1)
    centres, windows = window_centres(x, 3)
    assert windows == (1, 2)
    assert centres[1].flatten().tolist() == [7.0] * 9


def test_token_first_norm_is_shared_by_batch_of_frames():
    model = build("r")
    clip = torch.randn(2, 3, 3, 112, 112)
    with torch.no_grad():
        together = model(clip.flatten(0, 1)).unflatten(0, (2, 3))
        assert torch.allclose(together[:, 1], model(clip[:, 1]), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "word"),
    [
        ("stvit_swin_tiny", {"tokens_per_window": 64}, "at most 49"),
        ("stvit_r_swin_tiny", {"tokens_per_window": 5}, "square"),
        ("stvit_swin_tiny", {"image_blocks": 5}, "0 to 4"),
        ("stvit_swin_tiny", {"features_only": True}, "stvit_r_swin"),
    ],
)
def test_impossible_options_are_refused(name, options, word):
    with pytest.raises(ConfigError, match=word):
        saccade.create_model(name, **options)


def test_relative_positions_fit_one_size():
    with pytest.raises(ShapeError, match="224 pixels"):
        build("r", relative_pos=True)(torch.randn(1, 3, 256, 256))


@pytest.fixture(scope="module")
def official():
    """A published classifier's file."""
    figures = golden.load("stvit_r_swin_tiny_3x3")
    computed = {name: torch.zeros(shape) for name, shape in figures["computed"].items()}
    return golden.make_state(figures) | computed


class TestCheckpoints:
    def test_computed_tensors_are_ignored(self, official):
        model = saccade.create_model("stvit_r_swin_tiny")
        saccade.load_weights(model, official)

    def test_a_classifier_starts_a_dense_backbone(self, official):
        model = saccade.create_model("stvit_r_swin_tiny", features_only=True)
        state = official
        saccade.load_weights(model, state)
        assert torch.equal(model.stages[0].blocks[0].mlp.fc1.weight.double(),
                           state["layers.0.blocks.0.mlp.fc1.weight"].float().double())  # fmt: skip

    def test_a_detectors_file(self):
        figures = golden.load("stvit_r_swin_tiny_dense_backbone")
        state = {f"backbone.{name}": tensor for name, tensor in golden.make_state(figures).items()}
        state["neck.lateral_convs.0.conv.weight"] = torch.zeros(2)
        state["roi_head.bbox_head.0.fc_cls.weight"] = torch.zeros(2)
        model = saccade.create_model("stvit_r_swin_tiny", features_only=True)
        saccade.load_weights(model, {"state_dict": state})
        assert torch.equal(model.norms["3"].weight, state["backbone.norm3.weight"].float())

    def test_a_damaged_or_other_file_is_refused_with_a_list(self, official):
        lost = "layers.2.blocks.1.attn.q.weight"
        with pytest.raises(WeightsError, match=rf"1 missing \({lost}\)"):
            saccade.load_weights(
                saccade.create_model("stvit_r_swin_tiny"), {k: v for k, v in official.items() if k != lost}
            )
        # The small network has two units more.
        longer = {name.replace("layers.2.blocks.0", "layers.2.blocks.6"): v for name, v in official.items()}
        with pytest.raises(WeightsError, match="unexpected"):
            saccade.load_weights(saccade.create_model("stvit_r_swin_tiny"), official | longer)

    def test_a_training_checkpoint_is_recognised(self, official, tmp_path):
        torch.save({"model": official, "epoch": 3}, tmp_path / "a.pth")
        model, card = saccade.load_model(tmp_path / "a.pth")
        assert card.model == "stvit_r_swin_tiny"
        assert model.num_classes == 1000

    def test_ours_come_back(self, tmp_path):
        model = saccade.create_model("stvit_swin_tiny", tokens_per_window=16, num_classes=3)
        saccade.save_weights(model, tmp_path / "a.safetensors")
        back, card = saccade.load_model(tmp_path / "a.safetensors")
        assert card.options == {"tokens_per_window": 16}
        assert all(
            torch.equal(a, b)
            for a, b in zip(model.state_dict().values(), back.state_dict().values(), strict=True)
        )


def test_swin_blocks_are_timms():
    import timm

    base = timm.create_model("swin_tiny_patch4_window7_224").double().eval()
    from saccade.nn.swin import SwinBlock

    theirs = base.layers[0].blocks[1]
    ours = SwinBlock(96, 3, 7, 3).double().eval()
    ours.load_state_dict({k: v for k, v in theirs.state_dict().items() if k in ours.state_dict()})
    x = torch.randn(2, 56, 56, 96, dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(ours(x), theirs(x), atol=1e-10)


def test_macs_counter_agrees_on_cpu():
    model = saccade.create_model("stvit_r_swin_tiny").eval()
    assert count_macs(model, 224) == 3_537_598_464


@pytest.mark.parametrize("kind", ["swin", "r"])
@pytest.mark.parametrize("size", [(224, 224), (256, 192), (150, 300), (448, 224)])
@pytest.mark.parametrize("options", [{}, {"tokens_per_window": 16, **EVERY_OPTION}, {"shortcut": False}])
def test_folded_form_is_the_same_function(kind, size, options):
    if kind == "r" and options.get("relative_pos") and size != (224, 224):
        options = {**options, "relative_pos": False}
    model = randomise(build(kind, **options))
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        exact = model.double()(x.double())
        assert torch.allclose(saccade.fold(model)(x.double()), exact, rtol=1e-11, atol=1e-11)
        folded = saccade.fold(model.float())
        for _ in range(2):  # the second call uses what the first one kept
            assert torch.allclose(folded(x).double(), exact, rtol=1e-3, atol=1e-4)
        if kind == "swin" or not options.get("relative_pos"):
            assert torch.allclose(
                folded(x[:, :, :160, :160]), model(x[:, :, :160, :160]), rtol=1e-3, atol=1e-4
            )


def test_folded_classifier_equals_the_golden():
    figures = golden.load("stvit_r_swin_tiny_all_options")
    model = saccade.create_model("stvit_r_swin_tiny", **EVERY_OPTION).double().eval()
    saccade.load_weights(model, golden.make_state(figures))
    with torch.no_grad():
        golden.assert_logits(saccade.fold(model)(golden.make_input(figures)), figures)


@pytest.mark.parametrize("kind", [pytest.param("swin", marks=pytest.mark.slow), "r"])
def test_folded_form_exports(kind, tmp_path):
    from saccade.engine.export.onnx import OnnxSession, write_onnx
    from saccade.nn.fold import fold
    from saccade.tasks.base import ExportForm

    model = randomise(build(kind, tokens_per_window=4))
    x = torch.randn(2, 3, 160, 96)  # neither side a multiple of a window in the third stage
    write_onnx(ExportForm(fold(model), {"image": x}, ("output",)), tmp_path / "a.onnx")
    session = OnnxSession(tmp_path / "a.onnx", threads=1)
    with torch.no_grad():
        assert torch.allclose(session(x), model(x), rtol=1e-3, atol=1e-4)
