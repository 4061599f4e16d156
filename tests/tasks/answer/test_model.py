"""Every class as it is tuned: it learns, it is saved and comes back, it answers."""

import pytest
import torch
from tests.tasks.answer.test_adapters import asked
from tests.tasks.answer.tiny import FAMILIES
from torch.nn.functional import cross_entropy

from saccade.errors import ConfigError
from saccade.tasks.answer.vlm.adapters import IGNORED, adapter_for
from saccade.tasks.answer.vlm.answering import Answerer
from saccade.tasks.answer.vlm.clips import Exchange
from saccade.tasks.answer.vlm.model import build_vlm, tune_options


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


def batch_of(adapter, *exchanges):
    (_, inputs), *more = adapter.join([adapter.encode(exchange) for exchange in exchanges])
    assert not more
    labels = inputs.pop("labels")
    keep = (labels[:, 1:] != IGNORED).any(0).nonzero()[:, 0]
    return inputs, keep, labels[:, keep + 1]


def loss_of(model, inputs, keep, targets):
    return cross_entropy(model(inputs, keep).flatten(0, 1), targets.flatten(), ignore_index=IGNORED)


@pytest.mark.parametrize("options", [{}, {"lora": 4}, {"vision": True}, {"lora": 4, "dtype": "bf16"}])
def test_steps_lower_the_loss_and_move_what_they_should(bases, family, options):
    adapter, model = adapter_for(bases(family)), build_vlm(bases(family), options).train()
    batch = batch_of(adapter, asked())
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.003)
    losses = []
    for _ in range(4):
        loss = loss_of(model, *batch)
        loss.backward()
        assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.02
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    parts = {model.part(name) for name in moved}
    assert parts == {"language", "projector"} | ({"vision"} if options.get("vision") else set())
    assert moved <= model.kept
    if options.get("lora"):
        assert all(".lora_" in name for name in moved if model.part(name) == "language")


def test_logits_at_some_positions_are_those_of_all(bases, family):
    adapter, model = adapter_for(bases(family)), build_vlm(bases(family), {}).eval()
    inputs, keep, _ = batch_of(adapter, asked(), asked("How far does the red one go, and how fast?"))
    with torch.no_grad():
        whole = model.network(**inputs).logits[:, keep]
        assert torch.allclose(model(inputs, keep), whole, atol=1e-6)


def test_a_sample_gives_the_same_alone_and_in_company(bases, family):
    adapter, model = adapter_for(bases(family)), build_vlm(bases(family), {}).eval()
    short, long = asked("How far?"), asked("How far does the object in the red box go over this clip?")
    with torch.no_grad():
        inputs, keep, targets = batch_of(adapter, short, long)
        together = model(inputs, keep)[0][targets[0] != IGNORED]
        inputs, keep, _ = batch_of(adapter, short)
        alone = model(inputs, keep)[0]
    assert torch.allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("options", [{"lora": 4}, {"vision": True}])
def test_what_is_kept_is_what_was_tuned_and_it_comes_back(bases, family, options):
    adapter, model = adapter_for(bases(family)), build_vlm(bases(family), options).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    assert set(state) == model.kept
    if options.get("lora"):
        assert sum(value.numel() for value in state.values()) < sum(p.numel() for p in model.parameters()) / 2
    other = build_vlm(bases(family), options).eval()
    inputs, keep, _ = batch_of(adapter, asked())
    with torch.no_grad():
        assert not torch.equal(other(inputs, keep), model(inputs, keep))
        other.load_state_dict(state)
        assert torch.equal(other(inputs, keep), model(inputs, keep))
    with pytest.raises(RuntimeError, match="missing or unexpected"):
        other.load_state_dict(dict(list(state.items())[1:]))


def test_an_overfitted_model_answers_in_form(bases, family):
    adapter, model = adapter_for(bases(family)), build_vlm(bases(family), {"vision": True}).train()
    pair = asked(), Exchange([("Which one is quicker?", "The red one.")])
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    batches = [batch_of(adapter, exchange) for exchange in pair]
    for _ in range(60):
        loss = torch.stack([loss_of(model, *batch) for batch in batches]).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if loss.item() < 0.1:
            break
    answerer = Answerer(model, adapter, "tiny", max_new_tokens=24)
    questions = [Exchange([(e.turns[0][0], "")], e.frames, e.times_s) for e in pair]
    # Together: of one padded batch where shapes are alike, and in the order they were asked.
    assert answerer.answer(questions) == ["It covers 12.34 meters.", "The red one."]
    longer = asked("How far does the object in the red box go over this clip, in metres?", "")
    together = answerer.answer([questions[0], longer])
    assert together == [answerer.answer([questions[0]])[0], answerer.answer([longer])[0]]


def test_recomputing_gives_the_same_gradients(bases, family):
    adapter = adapter_for(bases(family))
    batch = batch_of(adapter, asked())
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(0)
        model = build_vlm(bases(family), {"lora": 2}).train()
        if recompute:
            model.set_grad_checkpointing(True)
        loss_of(model, *batch).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.requires_grad})
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][name], atol=1e-7), name


def test_fresh_weights_are_kept_whole(bases):
    model = build_vlm(bases("smolvlm"), {"fresh": True, "vision": True})
    assert model.kept == {name for name, _ in model.named_parameters()}
    with pytest.raises(ConfigError, match="fresh starts from random weights"):
        tune_options({"fresh": True})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lorra": 4}, "did you mean 'lora'"),
        ({"lora": "much"}, "model.options.lora should be a whole number, not 'much'"),
        ({"lora": True}, "model.options.lora should be a whole number, not True"),
        ({"lora": -1}, "model.options.lora is -1 but should be at least 0"),
        ({"dtype": "fp8"}, "model.options.dtype is 'fp8'"),
        ({"language": False, "projector": False}, "nothing would be tuned"),
        ({"vision_rate": 0.0}, "vision_rate is 0"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(ConfigError, match=message):
        tune_options(options)


def test_the_vision_part_may_learn_more_slowly(bases):
    model = build_vlm(bases("qwen2_5_vl"), {"vision": True, "vision_rate": 0.2})
    scales = model.rate_scales()
    assert set(scales.values()) == {0.2}
    assert all(name.startswith("network.model.visual.") and ".merger." not in name for name in scales)
