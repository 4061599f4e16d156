"""Our networks compute what the published code computed, to 1e-9 in float64."""

import pytest
import torch
from tests import golden

import saccade

CASES = {
    "shvit_s1": ("shvit_s1", {}),
    "shvit_s1_scaled": ("shvit_s1", {}),
    "shvit_s4_scaled": ("shvit_s4", {}),
    "efficientvim_m1_scaled": ("efficientvim_m1", {}),
    "efficientvim_m4_scaled": ("efficientvim_m4", {}),
    "efficientvim_m1_dist_scaled": ("efficientvim_m1_dist", {}),
}


@pytest.mark.parametrize("case", CASES)
def test_logits_and_features(case):
    name, options = CASES[case]
    figures = golden.load(case)
    model = saccade.create_model(name, **options).double().eval()
    assert sum(p.numel() for p in model.parameters()) == figures["params"]
    saccade.load_weights(model, golden.make_state(figures))
    x = golden.make_input(figures)
    with torch.no_grad():
        golden.assert_logits(model(x), figures)
        golden.assert_summary(model.stem(x), figures["features"]["stem"])
        for stage, tensor in enumerate(model.forward_intermediates(x), 1):
            golden.assert_summary(tensor, figures["features"][f"stage{stage}"])


@pytest.mark.parametrize("case", ["shvit_s1_scaled", "efficientvim_m1_dist_scaled"])
def test_folded_equals_golden_in_float64(case):
    name, options = CASES[case]
    figures = golden.load(case)
    model = saccade.create_model(name, **options).double().eval()
    saccade.load_weights(model, golden.make_state(figures))
    x = golden.make_input(figures)
    with torch.no_grad():
        expected, folded = model(x), saccade.fold(model)(x)
    golden.assert_logits(folded, figures)
    assert ((folded - expected).norm() / expected.norm()).item() < 1e-12


def test_rectangle_features_and_hidden_states():
    figures = golden.load("efficientvim_m1_features_192x256_scaled")
    model = saccade.create_model("efficientvim_m1", features_only=True).double().eval()
    saccade.load_weights(model, golden.make_state(figures))
    x = golden.make_input(figures)
    with torch.no_grad():
        maps, states = model.forward_states(x)
        outputs, folded = model(x), saccade.fold(model)(x)
    for stage in range(3):
        golden.assert_summary(maps[stage], figures["features"][f"stage{stage + 1}"])
        golden.assert_summary(states[stage].transpose(1, 2), figures["hidden_states"][f"stage{stage + 1}"])
        assert torch.equal(outputs[stage], maps[stage])
        assert ((folded[stage] - maps[stage]).norm() / maps[stage].norm()).item() < 1e-12
