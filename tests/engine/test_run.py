"""The evaluation loop: modes, empty batches, several models at once, stopping."""

import pytest
import torch
from torch import nn

from saccade.engine.run import gather_metrics
from saccade.tasks.classify.task import Classify
from saccade.weights import Card

CARD = Card(model="shvit_s1", num_classes=3)


def loader():
    """Three batches, one of which lost all its pictures."""
    torch.manual_seed(0)
    for first, count in ((0, 4), (4, 0), (4, 5)):
        index = torch.arange(first, first + count)
        yield {"image": torch.randn(count, 3, 4, 4), "label": index % 3, "index": index, "skipped": []}


def network():
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(48), nn.Linear(48, 3))


def test_a_module_is_evaluated_and_put_back_as_it_was():
    model = network()
    model[1].eval()  # as a frozen layer in training
    before = model[1].running_mean.clone()
    metrics = gather_metrics(Classify(), {"net": model}, loader(), CARD)["net"]
    assert metrics.compute()["count"] == 9
    assert model.training
    assert not model[1].training
    assert torch.equal(model[1].running_mean, before)


def test_several_models_see_the_data_once_and_any_callable_will_do():
    model, seen = network().eval(), []
    found = gather_metrics(
        Classify(), {"module": model, "function": lambda x: model(x)}, loader(), CARD, seen.append
    )
    assert found["module"].compute() == found["function"].compute()
    assert len(seen) == 3


def test_the_mode_comes_back_after_an_interruption():
    model = network()

    def stop(batch):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gather_metrics(Classify(), {"net": model}, loader(), CARD, stop)
    assert model.training
