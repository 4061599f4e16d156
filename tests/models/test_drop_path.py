"""Stochastic depth grows from block to block, in every family that has it."""

import pytest
import torch

import saccade
from saccade.nn.transformer import DropPath


@pytest.mark.parametrize(
    "name",
    ["stvit_deit_tiny", "stvit_swin_small", "stvit_r_swin_tiny", "stvit_video_swin_tiny", "video_swin_small"],
)
def test_rates_grow_evenly_from_none_to_the_largest(name):
    with torch.device("meta"):
        net = saccade.create_model(name, drop_path=0.3)
        plain = saccade.create_model(name, drop_path=0.0)
    rates = [module.rate for module in net.modules() if isinstance(module, DropPath)]
    assert len(rates) >= 12
    assert rates == pytest.approx([0.3 * place / (len(rates) - 1) for place in range(len(rates))])
    assert not any(module.rate for module in plain.modules() if isinstance(module, DropPath))


def test_a_dropped_branch_is_made_up_for_by_the_others():
    torch.manual_seed(0)
    drop = DropPath(0.25)
    out = drop(torch.ones(4000, 2, 3))
    assert out.unique().tolist() == pytest.approx([0, 4 / 3])
    assert (out == out[:, :1, :1]).all()  # whole samples
    assert out.mean().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(drop.eval()(torch.ones(5, 2)), torch.ones(5, 2))
