"""What looks like something that converts and is not, and names under which a conversion is found again."""

import dataclasses

import pytest
import timm
import torch

import saccade
from saccade.errors import ConfigError
from saccade.nn.origin import origin_of

VIT = {"img_size": 64, "depth": 6, "num_classes": 3}
SWIN = {"embed_dim": 12, "depths": (1, 1, 6, 1), "num_heads": (1, 1, 2, 2), "num_classes": 3}


def test_torchvisions_classes_of_the_same_names_are_refused():
    from torchvision.models import swin_t
    from torchvision.models.vision_transformer import VisionTransformer

    with torch.device("meta"):
        others = [VisionTransformer(32, 16, 1, 1, 32, 32), swin_t()]
    for other in others:
        with pytest.raises(ConfigError, match="comes from torchvision"):
            saccade.sparsify(other)


@pytest.mark.parametrize("recover", [False, True])
@pytest.mark.parametrize(
    ("options", "word"), [({"qkv_bias": False}, "qkv_bias"), ({"global_pool": "max"}, "global_pool")]
)
def test_swins_with_other_parts_are_refused(recover, options, word):
    with torch.device("meta"):
        base = timm.create_model("swin_tiny_patch4_window7_224", **SWIN, **options)
    with pytest.raises(ConfigError, match=word):
        saccade.sparsify(base, tokens=9, recover=recover)


@pytest.mark.parametrize(
    "options",
    [{"tokens": "16"}, {"tokens": 16.0}, {"tokens": True}, {"tokens": None}, {"image_blocks": 2.5},
     {"stgm_blocks": None}, {"units": "1"}],
)  # fmt: skip
def test_options_that_are_no_whole_numbers_are_refused(options):
    with torch.device("meta"):
        base = timm.create_model("vit_tiny_patch16_224", **VIT)
    with pytest.raises(ConfigError, match="whole number"):
        saccade.sparsify(base, **options)


def test_a_name_is_given_only_to_what_it_builds():
    with torch.device("meta"):
        found = saccade.sparsify(timm.create_model("vit_tiny_patch16_224", drop_path_rate=0.1))
        dynamic = saccade.sparsify(timm.create_model("vit_tiny_patch16_224", dynamic_img_size=True))
        other = saccade.sparsify(timm.create_model("vit_tiny_patch16_224", act_layer="relu"))
    assert dataclasses.astuple(origin_of(found)) == ("stvit/vit_tiny_patch16_224", {})
    assert origin_of(dynamic).options == {"dynamic_img_size": True}
    assert origin_of(other) is None


@pytest.mark.parametrize("name", ["timm/vit_tiny_patch16_224", "stvit/vit_tiny_patch16_224"])
def test_one_channel_comes_back(name, tmp_path):
    own = {"tokens": 4} if name.startswith("stvit") else {}
    model = saccade.create_model(name, in_chans=1, **VIT, **own).eval()
    saccade.save_weights(model, tmp_path / "a.safetensors")
    back, card = saccade.load_model(tmp_path / "a.safetensors")
    x = torch.randn(1, 1, 64, 64)
    assert card.in_chans == 1
    with torch.no_grad():
        assert torch.equal(back(x), model(x))
