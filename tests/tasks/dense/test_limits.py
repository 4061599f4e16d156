"""What only pictures that are not square show: whose padding is left out, and whose height is which."""

import pytest
import torch

from saccade.tasks.dense.nets import build_dense

LOW_WIDE, HIGH_NARROW = (32, 64), (64, 32)


@pytest.mark.parametrize("size", [LOW_WIDE, HIGH_NARROW])
def test_anchors_in_the_padding_learn_nothing(size, monkeypatch):
    net = build_dense("shvit_s1", "retinanet", 2, width=8, anchor_scale=2)
    levels = [torch.randn(1, 8, 8 // 2**i or 1, 8 // 2**i or 1) for i in range(5)]
    logits, deltas = (found.detach().requires_grad_() for found in net.outputs(levels))
    monkeypatch.setattr(net, "outputs", lambda _: (logits, deltas))
    targets = [{"boxes": torch.empty(0, 4), "labels": torch.empty(0, dtype=torch.int64)}]
    net.losses(levels, [size], targets)["loss_class"].backward()
    anchors = torch.cat(net.anchors.of_maps(levels))
    x, y = (anchors[:, :2] + anchors[:, 2:]).T / 2
    inside = (y < size[0]) & (x < size[1])
    assert 0 < inside.sum() < len(inside)
    assert torch.equal(logits.grad[0].abs().sum(1) > 0, inside)


@pytest.mark.parametrize("size", [LOW_WIDE, HIGH_NARROW])
@pytest.mark.parametrize("head", ["retinanet", "faster_rcnn"])
def test_boxes_end_at_the_picture_and_not_at_the_batch(head, size):
    torch.manual_seed(0)
    net = build_dense("shvit_s1", head, 2, width=8, score_threshold=0.0).eval()
    with torch.no_grad():
        found = net(torch.randn(1, 3, 64, 64), torch.tensor([size]))[0]["boxes"]
    assert len(found)
    assert found[:, 0::2].max() <= size[1]
    assert found[:, 1::2].max() <= size[0]
    # The long side is used, too: nothing is cut at the short one.
    assert found.max() > 32
