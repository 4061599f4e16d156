"""Costs on paper equal the published tables."""

import pytest
import torch

import saccade
from saccade.engine.bench.cost import count_macs, count_params

MACS = {
    ("shvit_s1", 224): 241_320_768, ("shvit_s2", 224): 365_394_896, ("shvit_s3", 224): 600_570_164,
    ("shvit_s4", 256): 986_216_960, ("shvit_s4", 384): 2_224_377_600, ("shvit_s4", 512): 3_971_952_128,
    ("efficientvim_m1", 224): 236_394_910, ("efficientvim_m2", 224): 352_155_806,
    ("efficientvim_m3", 224): 651_713_822, ("efficientvim_m4", 256): 1_104_995_072,
    ("efficientvim_m4", 224): 889_077_632, ("efficientvim_m4", 512): 4_126_360_832,
}  # fmt: skip


@pytest.mark.parametrize(("name", "size"), MACS)
def test_multiply_accumulates_equal_the_papers(name, size):
    with torch.device("meta"):
        model = saccade.create_model(name).eval()
    assert count_macs(model, size) == MACS[name, size]


def test_second_heads_cost_what_the_tables_say():
    with torch.device("meta"):
        assert count_macs(saccade.create_model("shvit_s1", distilled=True).eval(), 224) == 241_640_768
        plain, both = (saccade.create_model(f"efficientvim_m1{s}").eval() for s in ("", "_dist"))
        assert count_macs(both, 224) - count_macs(plain, 224) == 960_000
        assert count_params(both) - count_params(plain) == 964_004


def test_folding_makes_a_distilled_network_cost_what_a_plain_one_does():
    folded = [saccade.fold(saccade.create_model(f"efficientvim_m1{s}").eval()) for s in ("", "_dist")]
    assert count_macs(folded[0], 64) == count_macs(folded[1], 64)
    assert count_params(folded[0]) == count_params(folded[1])
