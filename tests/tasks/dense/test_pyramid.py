"""The pyramid against the published tables of strides, and against its definition."""

import pytest
import torch
from torch.nn import functional as F

from saccade.errors import ConfigError
from saccade.tasks.dense.nets import build_dense
from saccade.tasks.dense.nets.pyramid import Pyramid

THREE = ([4, 6, 8], [16, 32, 64])
FOUR = ([4, 6, 8, 10], [4, 8, 16, 32])


def maps(channels, strides, height, width):
    return [
        torch.randn(2, c, -(-height // s), -(-width // s)) for c, s in zip(channels, strides, strict=True)
    ]


@pytest.mark.parametrize(
    ("backbone", "head", "strides", "finer", "coarser"),
    [
        ("shvit_s4", "retinanet", [8, 16, 32, 64, 128], 1, 1),
        ("shvit_s4", "mask_rcnn", [4, 8, 16, 32, 64], 2, 0),
        ("efficientvim_m4", "retinanet", [8, 16, 32, 64, 128], 1, 1),
        ("efficientvim_m4", "mask_rcnn", [4, 8, 16, 32, 64], 2, 0),
        ("efficientvim_m4", "semantic_fpn", [16, 32, 64, 128], 0, 0),
        ("stvit_r_swin_small", "cascade_mask_rcnn", [4, 8, 16, 32, 64], 0, 0),
        ("timm/resnet18", "retinanet", [8, 16, 32, 64, 128], 0, 2),
        ("timm/resnet18", "upernet", [4, 8, 16, 32], 0, 0),
        ("timm/vit_tiny_patch16_224", "mask_rcnn", [4, 8, 16, 32, 64], 2, 0),
    ],
)
def test_levels_are_the_published_ones(backbone, head, strides, finer, coarser):
    with torch.device("meta"):
        net = build_dense(backbone, head, 80)
    assert net.strides == net.neck.strides == strides
    assert len(net.neck.finer) == len(net.neck.finer_outputs) == finer
    assert len(net.neck.coarser) == coarser
    assert net.neck.width == (512 if head == "upernet" else 256)
    # Only EfficientViM's detectors normalise the maps first.
    assert bool(net.neck.pre_norms) == (backbone == "efficientvim_m4" and head != "semantic_fpn")
    if head.endswith("rcnn"):
        assert net.stages[0].box_roi_pool.strides == strides[:-1]


@pytest.mark.parametrize(
    ("backbone", "head", "finest", "strides"),
    [
        ("shvit_s1", "semantic_fpn", 4, [4, 8, 16, 32]),
        ("shvit_s1", "upernet", 8, [8, 16, 32, 64]),
        ("timm/resnet18", "semantic_fpn", 8, [8, 16, 32, 64]),
        ("shvit_s1", "mask_rcnn", 8, [8, 16, 32, 64, 128]),
        ("stvit_r_swin_tiny", "retinanet", 16, [16, 32, 64, 128, 256]),
    ],
)
def test_the_finest_level_can_be_chosen(backbone, head, finest, strides):
    net = build_dense(backbone, head, 2, width=8, finest_stride=finest).eval()
    assert net.strides == strides
    # Our backbones do not make maps that no level stands on.
    assert backbone.startswith("timm/") or min(net.base_strides) >= finest
    with torch.no_grad():
        found = net(torch.randn(1, 3, 96, 70))
    assert head not in ("semantic_fpn", "upernet") or found.shape == (1, 2, 96, 70)


@pytest.mark.parametrize("size", [(128, 192), (100, 130), (65, 33)])
@pytest.mark.parametrize(
    ("given", "finest", "count", "coarser"),
    [
        (THREE, 8, 5, "conv"),
        (THREE, 4, 5, "subsample"),
        (FOUR, 8, 5, "conv"),
        (FOUR, 4, 5, "subsample"),
        (THREE, 16, 2, "conv"),
    ],
)  # fmt: skip
def test_sizes_are_rounded_up_from_level_to_level(size, given, finest, count, coarser):
    neck = Pyramid(*given, finest=finest, num_levels=count, width=8, coarser=coarser)
    levels = neck(maps(*given, *size))
    assert [tuple(x.shape) for x in levels] == [(2, 8, h, w) for h, w in neck.level_sizes(*size)]
    assert neck.strides == [finest * 2**i for i in range(count)]
    for (h, w), stride in zip(neck.level_sizes(*size), neck.strides, strict=True):
        assert h * stride >= size[0]
        assert w * stride >= size[1]


def test_levels_are_what_the_definition_says():
    neck = Pyramid(*THREE, finest=8, num_levels=5, width=8, coarser="conv", pre_norm=True).double()
    for norm in neck.pre_norms:
        torch.nn.init.uniform_(norm.weight)
        torch.nn.init.uniform_(norm.bias)
    given = [x.double() for x in maps(*THREE, 128, 192)]
    normed = [
        F.layer_norm(x.movedim(1, 3), x.shape[1:2], n.weight, n.bias).movedim(3, 1)
        for x, n in zip(given, neck.pre_norms, strict=True)
    ]
    a, b, c = (lateral(x) for lateral, x in zip(neck.laterals, normed, strict=True))
    b = b + c.repeat_interleave(2, 2).repeat_interleave(2, 3)
    a = a + b.repeat_interleave(2, 2).repeat_interleave(2, 3)
    wanted = [
        neck.finer_outputs[0](neck.finer[0](a)), neck.outputs[0](a), neck.outputs[1](b), neck.outputs[2](c),
        neck.coarser[0](normed[2]),
    ]  # fmt: skip
    for found, right in zip(neck(given), wanted, strict=True):
        assert torch.allclose(found, right, rtol=1e-12, atol=1e-12)


def test_levels_without_weights_are_every_second_pixel():
    neck = Pyramid(*FOUR, finest=4, num_levels=5, width=8)
    levels = neck(maps(*FOUR, 96, 160))
    assert torch.equal(levels[4], levels[3][:, :, ::2, ::2])


def test_strides_that_make_no_pyramid_are_refused():
    with pytest.raises(ConfigError, match="needs each twice the last"):
        Pyramid([4, 4], [8, 32], finest=8, num_levels=2)
    with pytest.raises(ConfigError, match="finest_stride is 128"):
        Pyramid(*THREE, finest=128, num_levels=2)
