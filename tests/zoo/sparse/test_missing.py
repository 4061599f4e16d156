"""A network to convert that lacks a tensor is refused by name; every tensor there is finds its place."""

import pytest
import timm
import torch
from torch import nn

import saccade
from saccade.errors import ConfigError

SWIN = {"embed_dim": 12, "depths": (1, 1, 6, 1), "num_heads": (1, 1, 2, 2), "num_classes": 3}


def swin():
    return timm.create_model("swin_tiny_patch4_window7_224", **SWIN)


@pytest.mark.parametrize("recover", [False, True])
@pytest.mark.parametrize(
    ("part", "word"),
    [
        ("norm", "norm.weight"),
        ("patch_embed.norm", "stem"),
        ("layers.1.downsample.norm", "merges.0.norm|downsample"),
        ("layers.0.blocks.0.norm2", "norm2"),
        ("layers.3.blocks.0.mlp.fc1", "fc1"),
    ],
)
def test_a_swin_without_a_part_is_refused(recover, part, word):
    base = swin()
    holder, _, name = part.rpartition(".")
    setattr(base.get_submodule(holder), name, nn.Identity())
    with pytest.raises(ConfigError, match=rf"this Swin lacks .*({word})"):
        saccade.sparsify(base, tokens=9, recover=recover)


@pytest.mark.parametrize("recover", [False, True])
def test_every_tensor_of_a_swin_is_carried_over(recover):
    base = swin()
    with torch.no_grad():
        for place, tensor in enumerate(base.parameters()):
            tensor.fill_(1000.0 + place)  # no start value comes near
    found = saccade.sparsify(base, tokens=9, recover=recover)
    fresh = [name for name, tensor in found.named_parameters() if tensor.min().item() < 1000]
    assert not [name for name in fresh if "global_centers" not in name]
