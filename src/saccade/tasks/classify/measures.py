"""What an evaluation of a classifier says beyond its metrics: intervals, calibration, the table by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from saccade.tasks.intervals import Interval, bootstrap, wilson

BINS = 15
"""Bins of the calibration error."""


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


def f1_scores(confusion: np.ndarray) -> np.ndarray:
    """F1 of each class from its confusion matrix (classes, classes); 0 where a class never occurs at all."""
    return 2 * np.diagonal(confusion) / np.maximum(confusion.sum(0) + confusion.sum(1), 1)


def macro_f1(confusion: np.ndarray) -> float:
    """Mean F1 of the classes that occur in the data."""
    return float(f1_scores(confusion)[confusion.sum(1) > 0].mean())


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


def class_table(confusion: np.ndarray, labels: Sequence[str]) -> list[dict[str, Any]]:
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


def metric_intervals(
    columns: Mapping[str, np.ndarray], classes: int, *, seed: int = 0, resamples: int = 500
) -> dict[str, Interval]:
    """Return 95 % intervals: Wilson's for top1 and top5, by bootstrap over samples for the others.

    Means over classes take the classes that occur in the data.

    Args:
        columns: label, answer, confidence, loss and in_top5, (samples,) each, at least one sample.
        classes: Outputs of the network.
        seed: Of the bootstrap: the same seed gives the same intervals.
        resamples: Of the bootstrap.
    """

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
    hits, count = int((columns["label"] == columns["answer"]).sum()), len(columns["label"])
    intervals = {"top1": wilson(hits, count), "top5": wilson(int(columns["in_top5"].sum()), count)}
    for i, name in enumerate(("macro_f1", "class_mean", "ece", "loss")):
        intervals[name] = (float(low[i]), float(high[i]))
    return intervals
