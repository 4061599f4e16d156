"""The published facts against the networks themselves and against timm's own record of the same weights."""

import re
from pathlib import Path

import pytest
import torch

import saccade
from saccade.errors import ConfigError
from saccade.zoo.facts import FACTS, find_published
from saccade.zoo.registry import input_shape


def test_every_model_of_ours_has_its_facts():
    assert sorted(FACTS) == saccade.list_models()


@pytest.mark.parametrize("name", FACTS)
def test_params_and_size_are_the_networks(name):
    with torch.device("meta"):
        model = saccade.create_model(name)
    assert sum(p.numel() for p in model.parameters()) == FACTS[name].params
    assert model.default_size == FACTS[name].size


@pytest.mark.parametrize("name", FACTS)
def test_macs_are_the_networks(name):
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        model = saccade.create_model(name).eval()
        picture = torch.empty(input_shape(name, model))
    assert picture.shape[-1] == FACTS[name].size
    assert (picture.ndim, picture.shape[1]) == (5, FACTS[name].frames) or not FACTS[name].frames
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(picture)
    assert counter.get_total_flops() == 2 * FACTS[name].macs


@pytest.mark.parametrize("name", FACTS)
def test_hub_ids_are_those_that_timm_knows(name):
    import timm

    for weights in FACTS[name].weights:
        if weights.hub_id.startswith("timm/"):
            known = timm.get_pretrained_cfg(weights.hub_id.removeprefix("timm/"))
            assert known.hf_hub_id == weights.hub_id
            assert known.license.upper() == FACTS[name].licence
            assert known.input_size[-1] == FACTS[name].size
            assert known.paper_ids.removeprefix("arXiv:") == FACTS[name].arxiv


def test_find_published_names_tags_and_ids():
    assert find_published("efficientvim_m1")[0] == "timm/efficientvim_m1.e450_in1k"
    assert find_published("efficientvim_m1.e300_in1k")[0] == "timm/efficientvim_m1.e300_in1k"
    assert find_published("someone/else")[0] == "someone/else"
    with pytest.raises(ConfigError, match="did you mean 'shvit_s1'"):
        find_published("shvit_s11")
    with pytest.raises(ConfigError, match=r"'shvit_s1.distilled'; .*in1k"):
        find_published("shvit_s1.distilled")


def test_the_table_in_the_docs_is_this_one():
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| `(\w+)` \| ([\d.]+) M \| ([\d.]+) M \| (\d+) \| ([\d.]+|-) \|$", page, flags=re.MULTILINE
    )
    assert sorted(row[0] for row in rows) == sorted(FACTS)
    for name, params, macs, size, top1 in rows:
        facts = FACTS[name]
        assert (params, macs) == (f"{facts.params / 1e6:.2f}", f"{facts.macs / 1e6:.1f}")
        assert int(size) == facts.size
        assert top1 == (str(facts.weights[0].top1) if facts.weights else "-")
