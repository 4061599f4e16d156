"""Anchors, selection, losses and refinement against independent formulas and by example."""

import math

import pytest
import torch
from torch import nn
from torchvision.ops import box_iou, sigmoid_focal_loss

from saccade.tasks.dense.nets import build_dense
from saccade.tasks.dense.nets.anchors import Anchors
from saccade.tasks.dense.nets.postprocess import select_detections
from saccade.tasks.dense.nets.regions import RegionAlign, Samples, crop_masks

SETTINGS = {"score_threshold": 0.1, "nms_threshold": 0.5, "max_detections": 100}


def test_anchors_stand_at_the_strides_with_unrounded_sides():
    anchors = Anchors([16, 32], 4.0, num_sizes=3)
    fine, coarse = anchors.of_maps([torch.zeros(1, 1, 3, 5), torch.zeros(1, 1, 2, 3)])
    assert fine.shape == (3 * 5 * 9, 4)
    assert coarse.shape == (2 * 3 * 9, 4)
    places = fine.view(3, 5, 9, 4)
    centre = (places[2, 4, :, :2] + places[2, 4, :, 2:]) / 2
    assert torch.allclose(centre, torch.tensor([64.0, 32.0]).expand(9, 2), atol=1e-5)
    wide = places[0, 0, :, 2] - places[0, 0, :, 0]
    high = places[0, 0, :, 3] - places[0, 0, :, 1]
    sides = [64 * 2 ** (k / 3) for k in range(3)]
    assert torch.allclose((wide * high).sqrt(), torch.tensor(sides * 3), rtol=1e-5)
    assert torch.allclose(high / wide, torch.tensor([0.5] * 3 + [1.0] * 3 + [2.0] * 3), rtol=1e-5)
    # Small inputs: 8 pixels at stride 4 with a scale of 2, not rounded to whole pixels.
    small = Anchors([4], 2.0).of_maps([torch.zeros(1, 1, 1, 1)])[0]
    assert small[0].tolist() == pytest.approx([-4 * 2**0.5, -2 * 2**0.5, 4 * 2**0.5, 2 * 2**0.5])


def test_selection_suppresses_within_a_class_only():
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [30, 30, 40, 40], [-5, 50, 5, 90]])
    scores = torch.tensor([[0.9, 0.3], [0.8, 0.7], [0.05, 0.2], [0.5, 0.0]])
    found = select_detections(boxes, scores, (60, 50), **SETTINGS)
    assert found["scores"].tolist() == pytest.approx([0.9, 0.7, 0.5, 0.2])
    assert found["labels"].tolist() == [0, 1, 0, 1]
    assert found["boxes"].tolist() == [[0, 0, 10, 10], [1, 0, 11, 10], [0, 50, 5, 60], [30, 30, 40, 40]]
    best = select_detections(boxes, scores, (60, 50), **{**SETTINGS, "max_detections": 2})
    assert best["scores"].tolist() == pytest.approx([0.9, 0.7])


def test_selection_takes_the_best_of_every_level():
    boxes = torch.arange(6.0)[:, None] * 20 + torch.tensor([0.0, 0, 10, 10])
    scores = torch.tensor([[0.9], [0.8], [0.7], [0.3], [0.2], [0.4]])
    found = select_detections(boxes, scores, (500, 500), levels=(3, 3), max_candidates=1, **SETTINGS)
    assert found["scores"].tolist() == pytest.approx([0.9, 0.4])
    assert found["boxes"].tolist() == [boxes[0].tolist(), boxes[5].tolist()]


def test_selection_with_a_box_for_each_class_and_boxes_outside():
    boxes = torch.tensor([[[0.0, 0, 4, 4], [5, 5, 9, 9]], [[70, 70, 80, 80], [1, 1, 1, 9]]])
    scores = torch.tensor([[0.5, 0.6], [0.9, 0.9]])
    found = select_detections(boxes, scores, (64, 64), **SETTINGS)
    assert found["boxes"].tolist() == [[5, 5, 9, 9], [0, 0, 4, 4]]
    assert found["labels"].tolist() == [1, 0]
    none = select_detections(boxes[:0], scores[:0], (64, 64), **SETTINGS)
    assert none["boxes"].shape == (0, 4)
    assert none["labels"].dtype == torch.int64


def test_retinanet_losses_are_those_of_the_paper():
    net = build_dense("shvit_s1", "retinanet", 2, width=8, anchor_scale=2)
    nn.init.normal_(net.head.classification_head.cls_logits.bias)
    levels = [torch.randn(2, 8, 16 // 2**i, 16 // 2**i) for i in range(5)]
    boxes = torch.tensor([[10.0, 10, 40, 30], [60, 60, 100, 120]])
    targets = [
        {"boxes": boxes, "labels": torch.tensor([1, 0])},
        {"boxes": boxes[:0], "labels": torch.tensor([1])[:0]},
    ]
    losses = net.losses(levels, [(128, 128), (64, 128)], targets)
    logits, deltas = net.outputs(levels)
    anchors = torch.cat(net.anchors.of_maps(levels))
    overlap = box_iou(boxes, anchors)
    best, which = overlap.max(0)
    # An object's best anchors stand for it whatever the overlap.
    forced = (overlap == overlap.max(1, keepdim=True).values) & (overlap > 0)
    objects = (best >= 0.5) | forced.any(0)
    ignored = (best >= 0.4) & ~objects
    labels = torch.tensor([1, 0])[which]
    focal, distance = 0.0, 0.0
    for i in range(len(anchors)):
        if ignored[i]:
            continue
        wanted = torch.zeros(2)
        if objects[i]:
            wanted[labels[i]] = 1
            a, b = anchors[i], boxes[which[i]]
            side = a[2:] - a[:2]
            shift = ((b[:2] + b[2:]) / 2 - (a[:2] + a[2:]) / 2) / side
            goal = torch.cat([shift, ((b[2:] - b[:2]) / side).log()])
            distance += (deltas[0, i] - goal).abs().sum()
        p = logits[0, i].sigmoid()
        right = torch.where(wanted == 1, p, 1 - p)
        alpha = torch.where(wanted == 1, 0.25, 0.75)
        focal += (-alpha * (1 - right) ** 2 * right.log()).sum()
    # The second picture, without objects, ends above half of the batch's height.
    above = (anchors[:, 1] + anchors[:, 3]) / 2 < 64
    focal += sigmoid_focal_loss(logits[1, above], torch.zeros_like(logits[1, above]), reduction="sum")
    count = objects.sum() + 1
    assert 2 <= objects.sum() < 200
    assert losses["loss_class"].item() == pytest.approx((focal / count).item(), rel=1e-3)
    assert losses["loss_box"].item() == pytest.approx((distance / count).item(), rel=1e-3)


def test_regions_are_read_from_the_level_of_their_size():
    """On maps whose values are coordinates, samples are the centres of the region's cells."""
    align = RegionAlign([4, 8, 16], 4)
    levels = []
    for i, stride in enumerate((4, 8, 16)):
        x = (torch.arange(512 // stride) + 0.5) * stride
        levels.append(
            torch.stack([x.expand(512 // stride, -1), torch.full((512 // stride,) * 2, float(i))])[None]
        )
    boxes = torch.tensor([[20.0, 20, 60, 60], [100, 100, 230, 230], [40, 40, 440, 440]])
    found = align(levels, [boxes])
    assert found[:, 1].mean((1, 2)).tolist() == pytest.approx([0, 1, 2])
    for region, box in zip(found[:, 0], boxes, strict=True):
        cells = box[0] + (torch.arange(4) + 0.5) / 4 * (box[2] - box[0])
        assert torch.allclose(region, cells.expand(4, 4), atol=1e-3)


def cascade(head="cascade_rcnn"):
    return build_dense(
        "shvit_s1", head, 3, width=8, fc_width=16, mask_width=8, mask_convs=1, samples=16, proposals=20
    )


def test_box_losses_of_a_stage():
    stage = cascade().stages[1]
    regions = torch.tensor([[10.0, 10, 30, 30], [5, 5, 45, 25], [0, 0, 20, 20]])
    goals = torch.tensor([[12.0, 8, 34, 30]])
    samples = Samples([regions], [torch.tensor([0, 0, 0])], [torch.tensor([2, 0, 0])])
    logits, deltas = torch.randn(3, 4), torch.randn(3, 4, 4)
    loss_class, loss_box = stage.box_losses(logits, deltas, samples, [{"boxes": goals}])
    assert loss_class.item() == pytest.approx(
        -logits.log_softmax(1)[[0, 1, 2], [2, 0, 0]].mean().item(), rel=1e-5
    )
    dx, dy, dw, dh = (deltas[0, 2] * torch.tensor([0.05, 0.05, 0.1, 0.1])).tolist()
    x, y, w, h = 20 + dx * 20, 20 + dy * 20, 20 * math.exp(dw), 20 * math.exp(dh)
    box = torch.tensor([[x - w / 2, y - h / 2, x + w / 2, y + h / 2]])
    overlap = box_iou(box, goals)[0, 0]
    (a, b), (c, d) = torch.min(box[0, :2], goals[0, :2]), torch.max(box[0, 2:], goals[0, 2:])
    union = (w * h + 22 * 22) / (1 + overlap)
    hull = (c - a) * (d - b)
    assert loss_box.item() == pytest.approx((10 * (1 - overlap + (hull - union) / hull) / 3).item(), rel=1e-4)


def test_refinement_follows_the_class_and_leaves_objects_out():
    stage = cascade().stages[0]
    regions = torch.tensor([[10.0, 10, 30, 30], [40, 40, 60, 60], [20, 20, 44, 44]])
    objects = torch.tensor([[20.0, 20, 44, 44]])
    deltas = torch.zeros(3, 4, 4)
    deltas[0, 3, 0], deltas[1, 1, 0], deltas[1, 2, 0] = 1.0, 2.0, -50.0
    logits = torch.tensor([[9.0, 0, 0, 1], [9, 1, 0, 0], [9, 0, 1, 0]])
    moved = stage.refine(logits, deltas, [regions], [(50, 50)])[0]
    # By 0.1 of its width times the delta; the second by its likeliest class, then cut at the border.
    assert torch.allclose(moved[0], torch.tensor([12.0, 10, 32, 30]))
    assert torch.allclose(moved[1], torch.tensor([44.0, 40, 50, 50]))
    samples = Samples([regions], [torch.tensor([0, 0, 0])], [torch.tensor([0, 2, 2])])
    moved = stage.refine(logits, deltas, samples, [(50, 50)], [{"boxes": objects}])[0]
    assert len(moved) == 2
    assert moved[1, 0] == 0  # the true class of the second moved it far to the left


def test_stages_of_a_cascade_ask_for_more_overlap():
    net = cascade("cascade_mask_rcnn")
    assert [stage.proposal_matcher.high_threshold for stage in net.stages] == [0.5, 0.6, 0.7]
    assert [stage.settings.weight for stage in net.stages] == [1.0, 0.5, 0.25]
    regions = torch.tensor([[10.0, 10, 30, 30], [10, 10, 30, 33], [10, 10, 30, 44]])
    target = {
        "boxes": torch.tensor([[10.0, 10, 30, 46]]),
        "labels": torch.tensor([3]),
        "masks": torch.zeros(1, 64, 64),
    }
    counts = [int((stage.sample([regions], [target]).labels[0] > 0).sum()) for stage in net.stages]
    assert counts == [4, 3, 2]  # overlaps 0.56, 0.64, 0.94, and the object itself


def test_a_region_without_a_picture_of_its_own_leaves_others_alone():
    net = cascade("cascade_mask_rcnn").eval()
    levels = [torch.randn(2, 8, 16 // 2**i, 16 // 2**i) for i in range(5)]
    stage = net.stages[0]
    boxes = [torch.zeros(0, 4), torch.tensor([[5.0, 5, 40, 40]])]
    logits, deltas = stage.look(levels, boxes)
    assert logits.shape == (1, 4)
    assert deltas.shape == (1, 4, 4)
    assert stage.mask_logits(levels, [boxes[0], boxes[0]]).shape == (0, 4, 28, 28)


def test_masks_are_cut_to_their_boxes():
    masks = torch.zeros(2, 64, 64, dtype=torch.uint8)
    masks[1, 16:32, 8:40] = 1
    cut = crop_masks(masks, torch.tensor([1, 0]), torch.tensor([[8.0, 16, 40, 48], [0, 0, 64, 64]]), 4)
    assert cut.tolist() == [[[1.0] * 4] * 2 + [[0.0] * 4] * 2, [[0.0] * 4] * 4]
