"""Losses against formulas written out, metrics against torchmetrics and against parts merged."""

import pytest
import torch
import torch.nn.functional as F
import torchmetrics.functional.classification as oracle
from torch import nn

from saccade.data.config import AugmentConfig
from saccade.errors import ConfigError, ShapeError
from saccade.tasks import get_task
from saccade.tasks.base import LossContext
from saccade.tasks.classify.task import Classify, ClassifyMetrics, ClassifySettings, preprocess_of
from saccade.weights import Card

TASK = Classify()


class Fixed(nn.Module):
    """Returns the same outputs whatever it sees."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = outputs

    def forward(self, x):
        return self.outputs


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return {"image": torch.randn(6, 3, 8, 8), "label": torch.randint(0, 4, (6,)), "index": torch.arange(6)}


@pytest.fixture
def logits():
    torch.manual_seed(1)
    return torch.randn(6, 4) * 2


def test_smoothed_cross_entropy_by_hand(batch, logits):
    loss = TASK.loss(Fixed(logits), batch, LossContext(0.0, label_smoothing=0.1))["loss"]
    share = 0.9 * F.one_hot(batch["label"], 4) + 0.1 / 4
    assert torch.allclose(loss, -(share * logits.log_softmax(1)).sum(1).mean())


def test_mixed_targets_are_smoothed_as_timm_does(batch, logits):
    from timm.data.mixup import mixup_target
    from timm.loss import SoftTargetCrossEntropy

    mixed = {**batch, "target": mixup_target(batch["label"], 4, lam=0.3, smoothing=0.0)}
    ours = TASK.loss(Fixed(logits), mixed, LossContext(0.0, label_smoothing=0.1))["loss"]
    theirs = SoftTargetCrossEntropy()(logits, mixup_target(batch["label"], 4, lam=0.3, smoothing=0.1))
    assert torch.allclose(ours, theirs)


@pytest.mark.parametrize("threshold", [0.0, 0.2])
@pytest.mark.parametrize("mixed", [False, True])
def test_bce_is_timms(batch, logits, threshold, mixed):
    from timm.data.mixup import mixup_target
    from timm.loss import BinaryCrossEntropy

    context = LossContext(0.0, kind="bce", label_smoothing=0.1, target_threshold=threshold)
    theirs = BinaryCrossEntropy(smoothing=0.1, target_threshold=threshold or None)
    taught = mixup_target(batch["label"], 4, lam=0.3, smoothing=0.1) if mixed else batch["label"]
    plain = {"target": mixup_target(batch["label"], 4, lam=0.3, smoothing=0.0)} if mixed else {}
    assert torch.allclose(
        TASK.loss(Fixed(logits), {**batch, **plain}, context)["loss"], theirs(logits, taught)
    )


def test_hard_distillation_teaches_the_second_head(batch, logits):
    other, teacher = torch.randn(6, 4), torch.randn(6, 4)
    context = LossContext(0.0, teacher=Fixed(teacher), distill="hard", distill_alpha=0.3)
    parts = TASK.loss(Fixed((logits, other)), batch, context)
    expected = 0.7 * F.cross_entropy(logits, batch["label"]) + 0.3 * F.cross_entropy(other, teacher.argmax(1))
    assert torch.allclose(parts["loss"], expected)
    assert set(parts) == {"loss", "loss_label", "loss_teacher"}


def test_soft_distillation_by_hand(batch, logits):
    teacher, tau = torch.randn(6, 4), 3.0
    context = LossContext(0.0, teacher=Fixed(teacher), distill="soft", distill_alpha=1.0, distill_tau=tau)
    p, q = (teacher / tau).softmax(1), (logits / tau).softmax(1)
    expected = (p * (p / q).log()).sum() * tau**2 / 6
    assert torch.allclose(TASK.loss(Fixed(logits), batch, context)["loss"], expected)


def test_two_heads_without_a_teacher_learn_alike(batch, logits):
    loss = TASK.loss(Fixed((logits, logits.flip(1))), batch, LossContext(0.0))["loss"]
    label = batch["label"]
    assert torch.allclose(loss, (F.cross_entropy(logits, label) + F.cross_entropy(logits.flip(1), label)) / 2)


def test_mesa_begins_when_it_is_due(batch, logits):
    average = torch.randn(6, 4)
    context = LossContext(0.24, ema=Fixed(average), mesa=0.5, mesa_start=0.25)
    plain = F.cross_entropy(logits, batch["label"])
    assert torch.allclose(TASK.loss(Fixed(logits), batch, context)["loss"], plain)
    context.progress = 0.25
    extra = -(average.softmax(1) * logits.log_softmax(1)).sum(1).mean()
    assert torch.allclose(TASK.loss(Fixed(logits), batch, context)["loss"], plain + 0.5 * extra)


def test_what_is_missing_is_named(batch, logits):
    with pytest.raises(ConfigError, match="there is no teacher"):
        TASK.loss(Fixed(logits), batch, LossContext(0.0, distill="hard"))
    with pytest.raises(ConfigError, match="the teacher has 7 classes and the model 4"):
        TASK.loss(Fixed(logits), batch, LossContext(0.0, teacher=Fixed(torch.randn(6, 7)), distill="hard"))
    with pytest.raises(ConfigError, match="needs the average"):
        TASK.loss(Fixed(logits), batch, LossContext(1.0, mesa=1.0))
    with pytest.raises(ConfigError, match="did you mean 'classify'"):
        get_task("clasify")


def filled(logits, labels, pieces):
    """Accumulators of consecutive pieces of a data set."""
    parts = []
    for some in torch.arange(len(labels)).chunk(pieces):
        metrics = ClassifyMetrics(logits.shape[1])
        metrics.update(logits[some], {"label": labels[some], "index": some})
        parts.append(metrics)
    return parts


def test_marks_equal_an_independent_implementation():
    torch.manual_seed(0)
    logits, labels = torch.randn(500, 8) * 2, torch.randint(0, 8, (500,))
    logits[torch.arange(500), labels] += 1.5
    found = filled(logits, labels, 1)[0].compute()
    assert found["top1"] == pytest.approx(
        oracle.multiclass_accuracy(logits, labels, 8, average="micro").item()
    )
    assert found["class_mean"] == pytest.approx(
        oracle.multiclass_accuracy(logits, labels, 8).item(), rel=1e-6
    )
    top5 = oracle.multiclass_accuracy(logits, labels, 8, average="micro", top_k=5)
    assert found["top5"] == pytest.approx(top5.item())
    ece = oracle.multiclass_calibration_error(logits.softmax(1), labels, 8, n_bins=15, norm="l1")
    assert found["ece"] == pytest.approx(ece.item(), rel=1e-5)
    assert found["loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-6)
    assert found["count"] == 500


def test_parts_merged_in_any_order_are_the_whole():
    torch.manual_seed(0)
    logits, labels = torch.randn(101, 5), torch.randint(0, 5, (101,))
    whole = filled(logits, labels, 1)[0]
    first, *others = reversed(filled(logits, labels, 7))
    first.merge(others)
    assert first.compute() == whole.compute()
    assert torch.equal(first.column("answer"), logits.argmax(1))
    assert first.confusion().sum() == 101
    assert torch.equal(first.confusion().sum(1), torch.bincount(labels, minlength=5))


def test_empty_and_misshapen():
    metrics = ClassifyMetrics(5)
    assert metrics.compute() == {"count": 0.0}
    with pytest.raises(ShapeError, match=r"outputs of shape \(2, 4\) for 2 samples of 5 classes"):
        metrics.update(
            torch.zeros(2, 4), {"label": torch.zeros(2, dtype=torch.long), "index": torch.arange(2)}
        )


def test_rows_name_the_answers_in_order():
    card = Card(model="shvit_s1", num_classes=3, labels=["cat", "dog", "owl"])
    rows = TASK.rows(torch.tensor([[0.0, 2.0, 1.0]]), {"name": ["x.jpg"]}, card, ClassifySettings(topk=3))
    assert [rows[0][k] for k in ("name", "label", "label_2", "label_3")] == ["x.jpg", "dog", "owl", "cat"]
    assert rows[0]["confidence"] == pytest.approx(torch.tensor([0.0, 2.0, 1.0]).softmax(0)[1].item())


def test_mixing_depends_on_the_seed_only(batch):
    card, augment = Card(model="shvit_s1", num_classes=4), AugmentConfig(mixup=0.8, cutmix=1.0)
    a, b = (TASK.mix(dict(batch), augment, card, seed=3) for _ in range(2))
    assert torch.equal(a["image"], b["image"])
    assert torch.allclose(a["target"].sum(1), torch.ones(6))
    assert not torch.equal(a["image"], TASK.mix(dict(batch), augment, card, seed=4)["image"])
    assert TASK.mix(batch, AugmentConfig(), card, seed=3) is batch


def test_the_transform_follows_card_then_model():
    assert preprocess_of(Card(model="shvit_s4")).size == 256
    assert preprocess_of(Card(model="shvit_s4"), 96).size == 96
    assert preprocess_of(Card(model="timm/test_vit2")).size == 160
    card = Card(model="shvit_s4", preprocess={"size": 64, "crop_pct": 1.0})
    assert preprocess_of(card).crop_pct == 1.0
    assert TASK.example(card, batch=2)[0].shape == (2, 3, 64, 64)


def test_inputs_are_made_and_models_built():
    card = Card(model="shvit_s1", num_classes=7, options={"distilled": True})
    model = TASK.build(card)
    assert [o.shape for o in model(torch.randn(2, 3, 32, 32))] == [(2, 7), (2, 7)]
