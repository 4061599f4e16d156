"""The networks on a CUDA device (`make test-gpu`)."""

import pytest
import torch

import saccade

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]


@pytest.mark.parametrize("name", ["shvit_s1", "efficientvim_m1"])
def test_the_device_computes_what_the_cpu_computes(name):
    torch.manual_seed(0)
    model = saccade.create_model(name).double().eval()
    x = torch.randn(4, 3, 96, 128, dtype=torch.float64)
    with torch.no_grad():
        expected = model(x)
        folded = saccade.fold(model)
        for network in (model.cuda(), folded.cuda()):
            found = network(x.cuda()).cpu()
            assert ((found - expected).norm() / expected.norm()).item() < 1e-10


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["shvit_s1", "efficientvim_m1"])
def test_half_precision_stays_close_and_finite(name, dtype):
    torch.manual_seed(0)
    model = saccade.create_model(name).cuda().eval()
    x = torch.randn(4, 3, 224, 224, device="cuda")
    with torch.no_grad():
        expected = model(x)
        half = saccade.fold(model).to(dtype)(x.to(dtype)).float()
    assert half.isfinite().all()
    assert ((half - expected).norm() / expected.norm()).item() < 0.1


def test_one_step_of_training_lowers_the_loss():
    torch.manual_seed(0)
    model = saccade.create_model("shvit_s1", num_classes=4).cuda()
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3)
    x, label = torch.randn(16, 3, 64, 64, device="cuda"), torch.arange(16, device="cuda") % 4
    losses = []
    for _ in range(12):
        with torch.autocast("cuda", torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(model(x), label)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
