"""Dense networks on a CUDA device."""

import pytest
import torch

from saccade.tasks.dense.nets import HEADS, build_dense

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]


@pytest.mark.parametrize("head", HEADS)
def test_training_and_answers_on_the_device(head):
    small = {"fc_width": 32, "proposals": 50} if HEADS[head].kind == "detect" and "rcnn" in head else {}
    net = build_dense("shvit_s1", head, 3, width=16, **small)
    images, sizes = torch.randn(2, 3, 160, 192), torch.tensor([[160, 192], [128, 150]])
    masks = torch.zeros(1, 160, 192, dtype=torch.bool)
    masks[0, 10:60, 10:90] = True
    target = {"boxes": torch.tensor([[10.0, 10, 90, 60]]), "labels": torch.tensor([1]), "masks": masks}
    detect = HEADS[head].kind == "detect"
    net.cuda()
    if detect:
        targets = [{name: value.cuda() for name, value in target.items()}] * 2
    else:
        targets = torch.randint(0, 3, (2, 160, 192)).cuda()
    with torch.autocast("cuda", dtype=torch.float16):
        losses = net(images.cuda(), sizes, targets)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    net.eval()
    with torch.no_grad():
        found = net(images.cuda(), sizes)
        wanted = net.cpu()(images, sizes)
    if not detect:
        assert torch.allclose(found.cpu(), wanted, rtol=1e-2, atol=1e-2)
        return
    for one, other in zip(found, wanted, strict=True):
        assert one.keys() == other.keys()
        assert all(tensor.is_cuda for tensor in one.values())
        count = min(len(one["scores"]), len(other["scores"]), 5)
        assert torch.allclose(one["scores"][:count].cpu(), other["scores"][:count], atol=1e-2)
