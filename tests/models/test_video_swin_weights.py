"""Kinetics weights of others in our Video Swin: the same numbers come out."""

import re

import pytest
import torch
import torchvision

import saccade
from saccade.tasks.open import load_model
from saccade.weights.keymap import to_layout

SMALL = {"dim": 12, "depths": (2, 1, 2, 1), "heads": (1, 2, 3, 4)}


def swin3d(**changes):
    """torchvision's network, every number drawn."""
    sizes = {"embed_dim": 12, "depths": [2, 1, 2, 1], "num_heads": [1, 2, 3, 4], "window_size": [8, 7, 7]}
    torch.manual_seed(0)
    net = torchvision.models.video.swin_transformer.SwinTransformer3d(
        [2, 4, 4], **sizes, num_classes=5, **changes
    )
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return net.double().eval()


@pytest.mark.parametrize("shape", [(1, 18, 3, 224, 224), (1, 5, 3, 224, 250)])
def test_torchvisions_weights_compute_the_same(shape):
    theirs = swin3d()
    ours = saccade.create_model("video_swin_tiny", num_classes=5, **SMALL).double().eval()
    saccade.load_weights(ours, theirs.state_dict())
    x = torch.randn(shape, dtype=torch.float64)
    with torch.no_grad():
        want = theirs(x.transpose(1, 2))
        assert (ours(x) - want).abs().max() <= 1e-9 * want.abs().max()


def test_the_authors_layout_goes_in_and_is_recognised(tmp_path):
    """Names of the Kinetics checkpoints: `backbone.layers.0.blocks.0...`, `cls_head.fc_cls`."""
    torch.manual_seed(0)
    net = saccade.create_model("video_swin_tiny", num_classes=7).eval()
    state = to_layout(net.state_dict(), "video_swin", "official")
    assert state["backbone.patch_embed.proj.weight"].shape == (96, 3, 2, 4, 4)
    assert "backbone.layers.2.downsample.reduction.weight" in state
    assert "cls_head.fc_cls.bias" in state
    state["backbone.layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(
        392, 392, dtype=torch.int64
    )
    torch.save({"meta": {}, "state_dict": state}, tmp_path / "k400.pth")
    loaded, card = load_model(tmp_path / "k400.pth")
    assert (card.model, card.task, card.num_classes, card.in_chans) == ("video_swin_tiny", "video", 7, 3)
    assert all(
        torch.equal(a, b)
        for a, b in zip(loaded.state_dict().values(), net.state_dict().values(), strict=True)
    )


def test_every_name_of_torchvision_is_known():
    net = saccade.create_model("video_swin_tiny")
    theirs = torchvision.models.video.swin3d_t(num_classes=1000).state_dict()
    names = {name for name in theirs if not re.search("relative_position_index", name)}
    written = to_layout(net.state_dict(), "video_swin", "torchvision")
    assert {name: tuple(theirs[name].shape) for name in names} == {
        n: tuple(v.shape) for n, v in written.items()
    }
