"""The inference form of STViT-R's dense backbone."""

import pytest
import torch
from torch import nn

import saccade
from saccade.models.stvit_r_dense import FoldedSTViTRDense, STViTRDense
from saccade.nn.stvit_r import STViTSwinConfig
from saccade.zoo.registry import create_model


@pytest.mark.parametrize("options", [{}, {"compat": True}, {"relative_pos": True, "conv_pos": True}])
def test_folding_changes_nothing(options):
    sizes = {"dim": 16, "depths": (1, 1, 6, 2), "heads": (1, 2, 2, 4)}
    net = STViTRDense(STViTSwinConfig(**sizes, **options), range(4)).double().eval()
    for name, parameter in net.named_parameters():
        if "layer_scale" in name or parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.3, 1)
        else:
            nn.init.normal_(parameter, std=0.05)
    folded = saccade.fold(net)
    assert isinstance(folded, FoldedSTViTRDense)
    # The third stage's map is a multiple of the window on both axes, on one, on none.
    for size in ((112, 112), (112, 150), (90, 150)):
        images = torch.randn(2, 3, *size, dtype=torch.float64)
        with torch.no_grad():
            found, wanted = folded(images), net(images)
        for one, other in zip(found, wanted, strict=True):
            assert one.shape == other.shape
            assert torch.allclose(one, other, rtol=1e-10, atol=1e-10)


def test_the_folded_form_makes_only_the_maps_asked_for():
    net = create_model("stvit_r_swin_tiny", features_only=True, out_indices=(1, 2)).eval()
    images = torch.randn(1, 3, 96, 64)
    with torch.no_grad():
        found, wanted = saccade.fold(net)(images), net(images)
    assert len(found) == 2
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in zip(found, wanted, strict=True))
