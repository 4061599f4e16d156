"""Networks learn one picture by heart."""

import pytest
import torch
from torchvision.ops import box_iou

from saccade.tasks.dense.nets import build_dense
from saccade.tasks.dense.nets.paste import draw_masks

SIZE = 96


def picture():
    """A red and a green rectangle on noise; their boxes, labels and masks."""
    boxes = torch.tensor([[12.0, 16, 60, 48], [40, 56, 84, 88]])
    image, masks = 0.1 * torch.randn(1, 3, SIZE, SIZE), torch.zeros(2, SIZE, SIZE, dtype=torch.bool)
    for i, (x1, y1, x2, y2) in enumerate(boxes.int().tolist()):
        image[0, i, y1:y2, x1:x2] += 2
        masks[i, y1:y2, x1:x2] = True
    return image, {"boxes": boxes, "labels": torch.tensor([0, 1]), "masks": masks}


def learn(net, image, target, steps, lr=2e-3):
    """Train on two copies of a picture; return the network in evaluation mode."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=0)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * min(1, 4 * (1 - step / steps))
        loss = sum(net(image.repeat(2, 1, 1, 1), None, target).values())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
    return net.eval()


def found_of(net, image, target):
    """Return each object's best detection of its class: overlaps, scores and positions."""
    with torch.no_grad():
        found = net(image)[0]
    overlap = box_iou(target["boxes"], found["boxes"])
    overlap[target["labels"][:, None] != found["labels"]] = 0
    best, which = overlap.max(1)
    return best, found["scores"][which], found, which


def test_retinanet_learns_a_picture():
    image, target = picture()
    net = build_dense("timm/resnet18", "retinanet", 2, width=16, norm_eval=True)
    best, scores, found, _ = found_of(learn(net, image, [target] * 2, 25), image, target)
    assert best.min() > 0.55, found
    assert scores.min() > 0.15


def test_semantic_fpn_learns_a_picture():
    image, target = picture()
    truth = torch.zeros(2, SIZE, SIZE, dtype=torch.int64)
    for mask, label in zip(target["masks"], (1, 2), strict=True):
        truth[:, mask] = label
    net = learn(build_dense("shvit_s1", "semantic_fpn", 3, width=32, head_width=32), image, truth, 25)
    with torch.no_grad():
        right = net.train()(image.repeat(2, 1, 1, 1), None, truth)["loss_seg"]
    assert right < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("head", ["mask_rcnn", "cascade_mask_rcnn"])
def test_masks_learn_a_picture(head):
    image, target = picture()
    options = {"fc_width": 64, "mask_width": 32, "mask_convs": 1, "samples": 64, "proposals": 100}
    net = build_dense("shvit_s1", head, 2, width=32, norm_eval=True, **options)
    best, scores, found, which = found_of(learn(net, image, [target] * 2, 250), image, target)
    assert best.min() > 0.75, found["boxes"]
    assert scores.min() > 0.5
    drawn = draw_masks(found["masks"][which], found["boxes"][which], (SIZE, SIZE))
    overlap = (drawn & target["masks"]).sum((1, 2)) / (drawn | target["masks"]).sum((1, 2))
    assert overlap.min() > 0.75
