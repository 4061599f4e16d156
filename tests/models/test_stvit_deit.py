"""STViT-DeiT computes what its specification's reference computed, and refuses what it cannot be."""

import pytest
import torch
from tests import golden

import saccade
from saccade.engine.bench.cost import count_macs
from saccade.errors import ConfigError, ShapeError, WeightsError
from saccade.models.stvit_deit import STViTDeiT, STViTDeiTConfig

CASES = {"stvit_deit_small_16": {}, "stvit_deit_small_16_weighted": {"pooling": "window"}}


def small(**options) -> STViTDeiT:
    sizes = {
        "dim": 48,
        "heads": 3,
        "depth": 6,
        "img_size": 96,
        "image_blocks": 2,
        "tokens": 9,
        "num_classes": 5,
    }
    return STViTDeiT(STViTDeiTConfig(**{**sizes, **options}))


@pytest.mark.parametrize("case", CASES)
def test_golden(case):
    figures = golden.load(case)
    model = saccade.create_model("stvit_deit_small", **CASES[case]).double().eval()
    assert sum(p.numel() for p in model.parameters()) == figures["params"]
    saccade.load_weights(model, golden.make_state(figures))
    x = golden.make_input(figures)
    with torch.no_grad():
        image = model.image_tokens(x)
        golden.assert_summary(image.flatten(1, 2), figures["features"]["image_tokens"])
        golden.assert_summary(model.pool(image), figures["features"]["pooled_centres"])
        golden.assert_summary(model.generate(image), figures["features"]["stgm_2"])
        golden.assert_summary(model.forward_features(x), figures["features"]["final_norm"])
        logits, folded = model(x), saccade.fold(model)(x)
        golden.assert_logits(logits, figures)
        golden.assert_logits(folded, figures)
        assert ((folded - logits).norm() / logits.norm()).item() < 1e-12


@pytest.mark.parametrize(
    ("options", "macs"),
    [({}, 1907039232), ({"stgm_blocks": 3}, 1.967e9), ({"stgm_blocks": 4}, 2.027e9),
     ({"image_blocks": 3}, 1.559e9), ({"image_blocks": 8}, 3.298e9)],
)  # fmt: skip
def test_costs_of_the_papers_ablations(options, macs):
    model = saccade.create_model("stvit_deit_small", **options).eval()
    assert count_macs(model, 224) == pytest.approx(macs, rel=3e-4)


@pytest.mark.parametrize("pooling", ["max", "window", "offset"])
@pytest.mark.parametrize("tokens", [4, 9, 25, 36])
def test_tokens_and_poolings(pooling, tokens):
    model = small(pooling=pooling, tokens=tokens).eval()
    x = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        assert model.forward_features(x).shape == (2, tokens, 48)
        assert torch.allclose(saccade.fold(model)(x), model(x), atol=1e-5)


@pytest.mark.parametrize("size", [(96, 128), (112, 96), (224, 160)])
def test_other_sizes_keep_the_number_of_tokens(size):
    model = small(pooling="window").eval()
    x = torch.randn(1, 3, *size)
    with torch.no_grad():
        assert model.forward_features(x).shape == (1, 9, 48)
        maps = model.token_maps(x)
        assert maps.shape == (1, 9, size[0] // 16, size[1] // 16)
        assert torch.allclose(maps.sum((2, 3)), torch.ones(1, 9))
        assert torch.allclose(saccade.fold(model)(x), model(x), atol=1e-5)


def test_semantic_tokens_are_made_frame_by_frame():
    model = small().eval()
    clip = torch.randn(2, 4, 3, 96, 96)
    with torch.no_grad():
        together = model.generate(model.image_tokens(clip.flatten(0, 1))).unflatten(0, (2, 4))
        for t in range(4):
            alone = model.generate(model.image_tokens(clip[:, t]))
            assert torch.allclose(together[:, t], alone, atol=1e-5)


@pytest.mark.parametrize("option", ["global_centers", "layer_scale"])
def test_switches_change_the_tensors(option):
    names = set(small().state_dict())
    other = set(small(**{option: False if option == "global_centers" else 1e-5}).state_dict())
    if option == "global_centers":
        assert names - other == {"global_centers"}
    else:
        assert {n.split(".")[1] for n in other - names} == {"2", "3", "4", "5"}


def test_gradients_reach_everything():
    for pooling in ("max", "window", "offset"):
        model = small(pooling=pooling, drop_path=0.1)
        if pooling == "offset":
            torch.nn.init.normal_(model.pool.gen_offset[3].weight)
        model.set_grad_checkpointing()
        model(torch.randn(2, 3, 96, 96)).square().sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize(
    ("options", "word"),
    [({"tokens": 15}, "square"), ({"tokens": 225}, "at most 196"), ({"tokens": 0}, "square"),
     ({"image_blocks": 11}, "depth"), ({"stgm_blocks": 0}, "stgm_blocks"), ({"image_blocks": -1}, "image_blocks"),
     ({"pooling": "mean"}, "max, window, offset"), ({"img_size": 100}, "multiple")],
)  # fmt: skip
def test_impossible_options_are_refused(options, word):
    with pytest.raises(ConfigError, match=word):
        saccade.create_model("stvit_deit_tiny", **options)


def test_other_refusals():
    with pytest.raises(ConfigError, match="stvit_r_swin"):
        saccade.create_model("stvit_deit_tiny", features_only=True)
    with pytest.raises(ShapeError, match="multiples of 16"):
        small()(torch.zeros(1, 3, 90, 96))
    with pytest.raises(ShapeError, match="larger picture"):
        small()(torch.zeros(1, 3, 32, 96))


def test_weights_of_another_network_are_refused_with_a_list():
    # The "Super Token" transformer of the same name has other tensors altogether.
    other = {"blocks.0.stoken.weight": torch.zeros(3), "patch_embed.proj.0.weight": torch.zeros(3)}
    with pytest.raises(WeightsError, match=r"missing \(.*unexpected \(blocks.0.stoken"):
        saccade.load_weights(small(), other)
