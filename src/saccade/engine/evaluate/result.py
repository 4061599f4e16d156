"""What an evaluation found: metrics with intervals, per-class table, confusion, calibration, worst mistakes."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from saccade.engine.evaluate.intervals import Interval, bootstrap, wilson
from saccade.errors import DataError
from saccade.tasks.classify.task import BINS, ClassifyMetrics


@dataclass
class Bins:
    """A reliability diagram: samples grouped by the confidence of their first answer, equal widths."""

    confidence: np.ndarray
    """(bins,) mean confidence; 0 where a bin is empty."""
    accuracy: np.ndarray
    """(bins,) share of hits; 0 where a bin is empty."""
    counts: np.ndarray
    """(bins,) samples."""

    @property
    def error(self) -> float:
        """Expected calibration error: mean gap of confidence and accuracy, weighted by counts; in [0, 1]."""
        return float(
            (self.counts * np.abs(self.confidence - self.accuracy)).sum() / max(1, self.counts.sum())
        )


@dataclass
class Mistake:
    """One wrong answer, for the gallery."""

    name: str
    truth: str
    answer: str
    confidence: float
    """Probability of the wrong answer, in [0, 1]."""
    truth_probability: float
    """Probability the model gave the right class, in [0, 1]."""
    picture: bytes = b""
    """What the model saw, as a small JPEG or PNG; empty when there is none."""


@dataclass
class Measures:
    """The numbers of an evaluation. Fractions are in [0, 1]."""

    metrics: dict[str, float]
    """top1, top5, macro_f1, class_mean, ece, loss."""
    intervals: dict[str, Interval]
    """95 % intervals: Wilson for top1 and top5, bootstrap over samples for the others."""
    per_class: list[dict[str, Any]]
    """label, count, precision, recall, recall_low, recall_high, f1; precision is None without answers."""
    confusion: np.ndarray
    """(classes, classes) counts, row = truth, column = answer."""
    bins: Bins
    hits: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    """(samples,) whether each answer is right, in the order of the data."""

    @property
    def count(self) -> int:
        """Samples."""
        return int(self.confusion.sum())


@dataclass
class Evaluation:
    """Everything a report shows."""

    model: str
    weights: str
    data: str
    labels: list[str]
    measures: Measures
    mistakes: list[Mistake] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    setting: dict[str, Any] = field(default_factory=dict)
    """How it was run: backend, precision, size, batch, threads, seconds, images_per_s."""

    def summary(self) -> dict[str, Any]:
        """Return the numbers as one flat JSON-ready object, without pictures."""
        values: dict[str, Any] = {"model": self.model, "weights": self.weights, "data": self.data}
        values["count"] = self.measures.count
        for name, value in self.measures.metrics.items():
            values[name] = value
            if name in self.measures.intervals:
                values[f"{name}_interval"] = [round(bound, 6) for bound in self.measures.intervals[name]]
        values["skipped"] = len(self.skipped)
        return values | self.setting


def f1_scores(confusion: np.ndarray) -> np.ndarray:
    """F1 of each class from its confusion matrix (classes, classes); 0 where a class never occurs at all."""
    return 2 * np.diagonal(confusion) / np.maximum(confusion.sum(0) + confusion.sum(1), 1)


def calibration_bins(confidence: np.ndarray, hit: np.ndarray, bins: int = BINS) -> Bins:
    """Group samples by confidence into `bins` equal intervals of (0, 1], closed on the right.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, arXiv 1706.04599, section 2.

    Args:
        confidence: (samples,) probability of the answer, in [0, 1].
        hit: (samples,) whether the answer is right.
        bins: Number of bins, at least 1.
    """
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    filled = np.maximum(counts, 1)
    return Bins(
        np.bincount(place, weights=confidence, minlength=bins) / filled,
        np.bincount(place, weights=hit.astype(np.float64), minlength=bins) / filled,
        counts,
    )


def class_table(confusion: np.ndarray, labels: list[str]) -> list[dict[str, Any]]:
    """Make one row a class that occurs in the data: precision, recall with its Wilson interval, F1."""
    rows, f1 = [], f1_scores(confusion)
    for i, label in enumerate(labels):
        count, answered, hits = int(confusion[i].sum()), int(confusion[:, i].sum()), int(confusion[i, i])
        if count == 0:
            continue
        low, high = wilson(hits, count)
        precision = hits / answered if answered else None
        rows.append(
            {"label": label, "count": count, "precision": precision, "recall": hits / count}
            | {"recall_low": low, "recall_high": high, "f1": float(f1[i])}
        )
    return rows


def measure(metrics: ClassifyMetrics, labels: list[str], *, seed: int = 0, resamples: int = 500) -> Measures:
    """Add intervals, the class table and the reliability diagram to gathered metrics.

    Means over classes take the classes that occur in the data.

    Args:
        metrics: At least one sample.
        labels: Class names, one an output.
        seed: Of the bootstrap: the same seed gives the same intervals.
        resamples: Of the bootstrap.

    Raises:
        DataError: Nothing was gathered.
    """
    values = metrics.compute()
    count = int(values.pop("count"))
    if not count:
        raise DataError(
            "not one image could be read, so there is nothing to measure; see the list of unreadable files"
        )
    columns = {n: metrics.column(n).numpy() for n in ("label", "answer", "confidence", "loss", "in_top5")}
    confusion = metrics.confusion().numpy()
    classes, hit = len(labels), columns["label"] == columns["answer"]

    def resampled(
        truth: np.ndarray, answer: np.ndarray, confidence: np.ndarray, loss: np.ndarray
    ) -> np.ndarray:
        cells = np.bincount(truth * classes + answer, minlength=classes**2).reshape(classes, classes)
        totals = cells.sum(1)
        seen = totals > 0
        recall = np.diagonal(cells)[seen] / totals[seen]
        error = calibration_bins(confidence, truth == answer).error
        return np.array([f1_scores(cells)[seen].mean(), recall.mean(), error, loss.mean()])

    data = [columns[name] for name in ("label", "answer", "confidence", "loss")]
    low, high = bootstrap(resampled, *data, seed=seed, resamples=resamples)
    intervals = {"top1": wilson(int(hit.sum()), count), "top5": wilson(int(columns["in_top5"].sum()), count)}
    for i, name in enumerate(("macro_f1", "class_mean", "ece", "loss")):
        intervals[name] = (float(low[i]), float(high[i]))
    values["macro_f1"] = float(f1_scores(confusion)[confusion.sum(1) > 0].mean())
    order = ("top1", "top5", "macro_f1", "class_mean", "ece", "loss")
    return Measures(
        {name: values[name] for name in order},
        intervals,
        class_table(confusion, labels),
        confusion,
        calibration_bins(columns["confidence"], hit),
        hit,
    )
