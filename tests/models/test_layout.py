"""Feature maps are (B, C, H, W) whatever layout timm's networks use inside, also where height equals channels."""

import contextlib
import re
import sys
from pathlib import Path

import pytest
import timm
import torch

import saccade
from saccade.engine.explain import class_map
from saccade.tasks.dense.nets import build_dense
from saccade.zoo.registry import create_model, create_video_model

SWIN = {"depths": (1, 1, 1, 1), "embed_dim": 16, "num_heads": (1, 1, 1, 1), "strict_img_size": False}
CHANNELS_LAST = {
    "timm/swin_tiny_patch4_window7_224": SWIN,
    "timm/swin_s3_tiny_224": {**SWIN, "window_size": 7},
    "timm/swinv2_tiny_window8_256": SWIN,
    "timm/mambaout_femto": {"depths": (1, 1, 1, 1), "dims": (16, 24, 32, 40)},
    "timm/sequencer2d_s": {"layers": (1, 1, 1, 1), "embed_dims": (16, 24, 32, 40), "hidden_sizes": (4, 4, 4, 4),
                           "img_size": 64},
}  # fmt: skip
"""Small ones of every family of timm that works with channels last; the first map has 16 channels."""


def sides(name: str) -> tuple[int, int]:
    """Return the side of a square picture whose first map is as high as it has channels, and a step to others."""
    return (112, 28) if "sequencer" in name else (64, 32)  # first stride 7, and 4 elsewhere


@pytest.mark.parametrize("name", CHANNELS_LAST)
def test_maps_are_channels_first_where_height_equals_channels(name):
    torch.manual_seed(0)
    net = create_model(name, features_only=True, **CHANNELS_LAST[name]).eval()
    plain = timm.create_model(name.removeprefix("timm/"), features_only=True, **CHANNELS_LAST[name]).eval()
    assert plain.output_fmt.value == "NHWC"
    plain.load_state_dict(net.state_dict())
    first, step = sides(name)
    for high, wide in ((first, first), (first, first + step), (first + step, first)):
        image = torch.randn(2, 3, high, wide)
        with torch.no_grad():
            found, raw = net(image), plain(image)
        for a, b, channels in zip(found, raw, net.channels, strict=True):
            assert torch.equal(a, b.permute(0, 3, 1, 2))
            assert a.shape[1] == channels
        assert (raw[0].shape[1] == net.channels[0]) == (high == first)


def test_every_family_of_timm_that_declares_channels_last_is_tested_here():
    """The wrapper's declaration is what decides, so a new family has to come into the list above."""
    families = {}
    for name in timm.list_models():
        families.setdefault(timm.models.model_entrypoint(name).__module__, []).append(name)
    declared = set()
    for family, names in families.items():
        source = Path(str(sys.modules[family].__file__)).read_text(encoding="utf-8")
        if re.search(r"output_fmt(: str)? = 'NHWC'", source) is None:
            continue
        with torch.device("meta"), contextlib.suppress(RuntimeError, AttributeError):
            net = timm.create_model(min(names, key=len), features_only=True)
            if net.output_fmt.value == "NHWC":
                declared.add(family)
    tested = {timm.models.model_entrypoint(name.removeprefix("timm/")).__module__ for name in CHANNELS_LAST}
    assert declared
    assert declared <= tested


@pytest.mark.parametrize("name", CHANNELS_LAST)
def test_a_segmenter_trains_and_answers_on_changing_sizes(name):
    torch.manual_seed(0)
    net = build_dense(name, "semantic_fpn", num_classes=3, options=CHANNELS_LAST[name], width=8)
    optimiser = torch.optim.SGD(net.parameters(), 1e-3)
    first, step = sides(name)
    for high, wide in ((first, first), (first, first + step), (first + step, first)):
        loss = net.train()(torch.randn(2, 3, high, wide), None, torch.randint(0, 3, (2, high, wide)))[
            "loss_seg"
        ]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        assert loss.isfinite()
        with torch.no_grad():
            assert net.eval()(torch.randn(1, 3, high, wide)).shape[1] == 3
    # A picture of which only the right half differs changes what stands on the right, not below.
    image = torch.zeros(1, 3, first, first)
    other = image.clone()
    other[..., -first // 4 :] = 3.0
    with torch.no_grad():
        change = (net.maps(image)[0] - net.maps(other)[0]).abs().sum((0, 1))
    assert change[:, -1].mean() > 2 * change[-1, : change.shape[1] // 2].mean()


def test_folding_keeps_channels_first():
    torch.manual_seed(0)
    for name in ("timm/mambaout_femto", "timm/swin_tiny_patch4_window7_224"):
        net = create_model(name, features_only=True, **CHANNELS_LAST[name]).eval()
        image = torch.randn(1, 3, 64, 64)
        with torch.no_grad():
            for a, b in zip(saccade.fold(net)(image), net(image), strict=True):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_video_networks_pool_the_cells_of_channels_last_maps():
    name = "timm/swin_tiny_patch4_window7_224"
    net = create_video_model(name, "mean", num_classes=2, cells=2, options={**SWIN, "img_size": 64})
    assert net.num_features == 4 * 128  # 2 x 2 cells of the last stage's 16 * 8 channels


def test_class_maps_of_channels_last_networks_have_the_maps_size():
    torch.manual_seed(0)
    # 16 * 8 channels over 4 x 8 cells, and a first map that is as high as it has channels.
    net = create_model("timm/swin_tiny_patch4_window7_224", num_classes=3, **SWIN, img_size=(128, 256)).eval()
    assert class_map(net, torch.randn(1, 3, 128, 256)).heat.shape == (4, 8)
