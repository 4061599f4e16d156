"""Every head on one backbone of each family: losses, gradients, detections."""

import pytest
import torch

from saccade.dense import HEADS, build_dense
from saccade.errors import ConfigError, ShapeError

BACKBONES = ("shvit_s1", "efficientvim_m1", "stvit_r_swin_tiny", "timm/resnet18")
SMALL = {
    "retinanet": {"width": 16},
    "faster_rcnn": {"width": 16, "fc_width": 32, "samples": 32, "proposals": 50},
    "mask_rcnn": {
        "width": 16, "fc_width": 32, "mask_width": 16, "mask_convs": 1, "samples": 32, "proposals": 50,
    },
}  # fmt: skip


def small(backbone, head, num_classes=3, **more):
    return build_dense(backbone, head, num_classes, **{**SMALL[head], **more})


def objects(height, width, empty=False):
    """Two boxes with masks, or none."""
    boxes = torch.tensor([[10.0, 12.0, 50.0, 44.0], [40.0, 20.0, 62.0, 60.0]])
    masks = torch.zeros(2, height, width, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = 1
    keep = slice(0, 0) if empty else slice(None)
    return {"boxes": boxes[keep], "labels": torch.tensor([0, 2])[keep], "masks": masks[keep]}


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("head", [name for name, row in HEADS.items() if row.kind == "detect"])
def test_detectors_learn_and_detect(backbone, head):
    net = small(backbone, head, score_threshold=0.0)
    images, sizes = torch.randn(2, 3, 64, 80), torch.tensor([[64, 80], [60, 72]])
    losses = net(images, sizes, [objects(64, 80), objects(64, 80, empty=True)])
    assert all(name.startswith("loss_") and loss.ndim == 0 for name, loss in losses.items())
    assert all(loss.isfinite() for loss in losses.values())
    assert ("loss_mask" in losses) == HEADS[head].masks
    sum(losses.values()).backward()
    idle = [name for name, p in net.named_parameters() if p.grad is None and not name.endswith("mixer.A")]
    assert not idle
    assert net.backbone.get_parameter(
        next(n for n, p in net.backbone.named_parameters() if p.ndim > 1)
    ).grad.any()
    net.eval()
    with torch.no_grad():
        found = net(images, sizes)
    assert len(found) == 2
    for each, (height, width) in zip(found, sizes.tolist(), strict=True):
        count = len(each["scores"])
        assert each["boxes"].shape == (count, 4)
        assert (each["labels"] >= 0).all()
        assert (each["labels"] < 3).all()
        assert (each["boxes"] >= 0).all()
        assert (each["boxes"] <= torch.tensor([width, height, width, height])).all()
        assert 0 < count <= 100
        if HEADS[head].masks:
            assert each["masks"].shape == (count, 28, 28)
