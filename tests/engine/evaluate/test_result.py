"""Measures against torchmetrics."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_confusion_matrix,
    multiclass_f1_score,
    multiclass_precision,
    multiclass_recall,
)

from saccade.tasks.classify.measures import calibration_bins
from saccade.tasks.classify.task import ClassifyMetrics
from saccade.tasks.evaluation import Evaluation

CLASSES = 7
LABELS = [f"class {i}" for i in range(CLASSES)]


def gather(logits, labels):
    metrics = ClassifyMetrics(logits.shape[1], LABELS[: logits.shape[1]])
    for start in range(0, len(labels), 50):
        part = slice(start, start + 50)
        batch = {"label": labels[part], "index": torch.arange(len(labels))[part]}
        metrics.update(logits[part], batch)
    return metrics


@pytest.fixture(scope="module")
def answers():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, CLASSES, (430,), generator=generator)
    logits = 2 * torch.randn(430, CLASSES, generator=generator, dtype=torch.float64)
    logits[torch.arange(430), labels] += 2
    return logits, labels


def test_marks_equal_torchmetrics(answers):
    logits, labels = answers
    found = gather(logits, labels)
    values, intervals = found.summary(), found.intervals()
    shares = logits.softmax(1)
    keys = {"num_classes": CLASSES}
    want = {
        "top1": multiclass_accuracy(shares, labels, average="micro", **keys),
        "top5": multiclass_accuracy(shares, labels, average="micro", top_k=5, **keys),
        "macro_f1": multiclass_f1_score(shares, labels, average="macro", **keys),
        "class_mean": multiclass_recall(shares, labels, average="macro", **keys),
        "ece": multiclass_calibration_error(shares, labels, n_bins=15, norm="l1", **keys),
        "loss": torch.nn.functional.cross_entropy(logits, labels),
    }
    for name, value in want.items():
        assert values[name] == pytest.approx(value.item(), abs=1e-6), name
        assert intervals[name][0] < values[name] < intervals[name][1], name
    bins = calibration_bins(found.column("confidence").numpy(), found.hits())
    assert bins.error == pytest.approx(values["ece"], abs=1e-12)
    assert np.array_equal(
        found.confusion().numpy(), multiclass_confusion_matrix(shares, labels, **keys).numpy()
    )
    precision = multiclass_precision(shares, labels, average="none", **keys)
    recall = multiclass_recall(shares, labels, average="none", **keys)
    for i, row in enumerate(found.per_class()):
        assert row["precision"] == pytest.approx(precision[i].item(), abs=1e-6)
        assert row["recall"] == pytest.approx(recall[i].item(), abs=1e-6)
        assert row["recall_low"] < row["recall"] < row["recall_high"]


def test_classes_that_do_not_occur_do_not_count():
    labels = torch.tensor([0, 0, 1, 1])
    logits = 9.0 * torch.nn.functional.one_hot(torch.tensor([0, 0, 1, 3]), 5)
    found = gather(logits, labels)
    assert [row["label"] for row in found.per_class()] == ["class 0", "class 1"]
    assert found.summary()["macro_f1"] == pytest.approx((1 + 2 / 3) / 2)
    assert found.summary()["class_mean"] == pytest.approx(0.75)


def test_a_class_never_answered_has_no_precision():
    found = gather(9.0 * torch.eye(3)[[0, 0]], torch.tensor([0, 1]))
    assert found.per_class()[1]["precision"] is None


def test_bins_are_closed_on_the_right():
    bins = calibration_bins(np.array([0.0, 0.2, 0.21, 1.0]), np.array([0, 1, 1, 1]), 5)
    assert bins.counts.tolist() == [2, 1, 0, 0, 1]
    assert bins.accuracy.tolist() == [0.5, 1, 0, 0, 1]


def test_the_same_seed_gives_the_same_intervals(answers):
    metrics = gather(*answers)
    first, second = (metrics.intervals(seed=5, resamples=50) for _ in range(2))
    assert first == second
    assert metrics.intervals(seed=6, resamples=50)["ece"] != first["ece"]


def test_summary_is_flat_and_names_intervals(answers):
    metrics = gather(*answers)
    values = metrics.summary()
    count = int(values.pop("count"))
    found = Evaluation(
        "classify", "m", "", "w", "d", LABELS, values, metrics.intervals(resamples=20), metrics.per_class(), count,
        metrics, skipped=[("a", "b")], setting={"size": 32},
    )  # fmt: skip
    summary = found.summary()
    assert "head" not in summary
    assert summary["count"] == 430
    assert summary["skipped"] == 1
    assert summary["size"] == 32
    assert summary["top1_interval"][0] < summary["top1"] < summary["top1_interval"][1]
