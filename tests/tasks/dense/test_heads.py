"""Every head on one backbone of each family: losses, gradients, detections."""

import pytest
import torch

from saccade.tasks.dense.nets import HEADS, build_dense

BACKBONES = ("shvit_s1", "efficientvim_m1", "stvit_r_swin_tiny", "timm/resnet18")
REGIONS = {"width": 16, "fc_width": 32, "samples": 32, "proposals": 50}
SMALL = {
    "retinanet": {"width": 16},
    "faster_rcnn": REGIONS,
    "mask_rcnn": {**REGIONS, "mask_width": 16, "mask_convs": 1},
    "cascade_rcnn": REGIONS,
    "cascade_mask_rcnn": {**REGIONS, "mask_width": 16, "mask_convs": 1},
    "semantic_fpn": {"width": 16, "head_width": 16},
    "upernet": {"width": 16, "aux_width": 16},
}


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
    assert any(name.startswith("loss_mask") for name in losses) == HEADS[head].masks
    sum(losses.values()).backward()
    idle = [name for name, p in net.named_parameters() if p.requires_grad and p.grad is None]
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


@pytest.mark.parametrize("head", [name for name, row in HEADS.items() if row.kind == "detect"])
def test_a_batch_without_objects_still_reaches_every_parameter(head):
    net = small("shvit_s1", head)
    losses = net(torch.randn(2, 3, 64, 80), None, [objects(64, 80, empty=True)] * 2)
    assert all(loss.isfinite() for loss in losses.values())
    assert all(loss == 0 for name, loss in losses.items() if "box" in name or "mask" in name)
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("head", [name for name, row in HEADS.items() if row.kind == "segment"])
def test_segmenters_learn_and_segment(backbone, head):
    net = small(backbone, head)
    images, targets = torch.randn(2, 3, 72, 136), torch.randint(0, 3, (2, 72, 136))
    targets[0, :20] = 255
    losses = net(images, torch.tensor([[72, 136], [64, 130]]), targets)
    assert set(losses) == ({"loss_seg", "loss_aux"} if head == "upernet" else {"loss_seg"})
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    idle = [name for name, p in net.named_parameters() if p.requires_grad and p.grad is None]
    assert not idle
    net.eval()
    with torch.no_grad():
        logits = net(images)
    assert logits.shape == (2, 3, 72, 136)
    assert logits.dtype == torch.float32


@pytest.mark.parametrize("head", HEADS)
def test_half_precision_trains_and_predicts(head):
    net, images = small("shvit_s1", head), torch.randn(2, 3, 160, 160)
    detect = HEADS[head].kind == "detect"
    targets = [objects(160, 160)] * 2 if detect else torch.randint(0, 3, (2, 160, 160))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = net(images, None, targets)
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())
    net = net.eval().to(torch.bfloat16)
    with torch.no_grad():
        found = net(images.to(torch.bfloat16))
    # Coordinates and scores do not end in half precision, whose steps are 4 pixels at 1000.
    assert all(t.dtype in (torch.float32, torch.int64) for t in (found[0].values() if detect else [found]))


def test_pixels_that_do_not_count_change_nothing():
    net = small("shvit_s1", "semantic_fpn", dropout=0.0)
    images, targets = torch.randn(2, 3, 64, 64), torch.randint(0, 3, (2, 64, 64))
    sizes = torch.tensor([[64, 64], [40, 48]])
    other = targets.clone()
    other[1, 40:], other[1, :, 48:] = 1, 2
    assert torch.equal(net(images, sizes, targets)["loss_seg"], net(images, sizes, other)["loss_seg"])
    assert net(images, None, torch.full_like(targets, 255))["loss_seg"] == 0
