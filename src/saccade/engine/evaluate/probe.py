"""How good are a network's features? Classes are told from its vectors by neighbours or by a linear model.

The vectors are what `saccade predict --embed` writes; the network is not tuned. The rule learns from the training
side and is judged on the validation side, with the same metrics and page as a classifier.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from saccade.data.config import AugmentConfig, DataConfig
from saccade.engine.sessions.pool import Pool, open_pool
from saccade.engine.source import task_of
from saccade.errors import ConfigError, DataError
from saccade.extras import require
from saccade.tasks.base import Samples
from saccade.tasks.evaluation import Evaluation
from saccade.trust import check_place

PROBES = ("knn", "linear")
NEIGHBOURS = 20
"""k of `knn`, fewer where the training side has fewer."""
TEMPERATURE = 0.07
"""A neighbour's vote is exp(cosine / temperature), as in Wu et al., arXiv 1805.01978, section 3.4."""
STRENGTHS = tuple(10.0**power for power in range(-3, 4))
"""C of `linear`: the best of these by cross-validation on the training side."""
FOLDS = 3
LEAST = 1e-12
"""Share of a class that no neighbour has; so the log loss is finite."""


def probe(
    weights: Path | str,
    data: str,
    kind: Literal["knn", "linear"] = "knn",
    *,
    val: str = "",
    batch: int = 0,
    threads: int | None = None,
    device: str = "cpu",
    size: int = 0,
    seed: int = 0,
    log: Callable[[str], None] = lambda text: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Judge a classifier's features on labelled data of any classes.

    Args:
        weights: Run folder, weights file or model name.
        data: As for training; where it is not divided, a part of it is held out by `seed`.
        kind: knn: the votes of the 20 nearest training samples by cosine, weighted; linear: logistic regression on
            standardised features, its strength chosen by cross-validation on the training side.
        val: Where to judge; empty: the validation side of `data`.
        batch: Samples at a time; 0: the fastest of a few.
        threads: Cores to use; None: all.
        device: cpu, cuda, cuda:N or mps.
        size: Side of the input in pixels; 0: that of the weights.
        seed: Of the split and the bootstrap.
        log: Called with sentences about the work.
        progress: Called with (samples done, samples in all) after each batch.

    Returns:
        An evaluation; its notes say the rule, and what the most frequent class alone would reach.

    Raises:
        ConfigError: Another kind, or weights that give no vectors.
        DataError: Data that cannot be opened, or a side of which not one sample can be used.
        MissingExtraError: linear without scikit-learn.
    """
    if kind not in PROBES:
        raise ConfigError(f"probe is {kind!r}; expected {' or '.join(PROBES)}")
    if not data:
        raise ConfigError("a probe learns from labelled data; name it with --data")
    for place in (data, val):
        check_place(place)
    task, card = task_of(weights, "evaluate")
    blank = dataclasses.replace(card, labels=[])
    part = task.open(
        DataConfig(source=data, val=val, size=size, workers=0), AugmentConfig(), blank, seed=seed
    )
    train: Samples | None = part.plain
    if train is None:
        raise ConfigError(
            f"{weights} is for the task {task.name}, whose training samples come augmented only; a probe judges "
            "classifiers of images"
        )
    total, begin = len(train) + len(part.val), time.perf_counter()
    with open_pool(
        weights,
        task,
        verb="evaluate",
        threads=threads,
        device=device,
        size=size,
        samples=total,
        embed=True,
        log=log,
    ) as pool:
        chosen = batch or pool.choose_batch(total)
        known, learned, lost = _vectors(pool, train, chosen, lambda done: progress(done, total))
        asked, judged, skipped = _vectors(
            pool, part.val, chosen, lambda done: progress(len(train) + done, total)
        )
        setting = {**pool.setting, "batch": chosen, "workers": pool.workers, "probe": kind}
    for side, found in ((data, learned), (val or data, judged)):
        if not len(found["label"]):
            raise DataError(
                f"{side}: not one of the {task.samples} could be used, so there is nothing to measure"
            )
    rule = _neighbours if kind == "knn" else _regression
    shares, note = rule(known, learned["label"], asked, len(part.labels))
    card = dataclasses.replace(
        pool.card, labels=part.labels, num_classes=len(part.labels), preprocess=part.preprocess
    )
    metrics, gallery = task.metrics(card), task.gallery(card, 0)
    metrics.update(torch.from_numpy(np.log(np.maximum(shares, LEAST))), judged)
    values = metrics.summary()
    count = int(values.pop("count"))
    counts = np.bincount(learned["label"].numpy(), minlength=len(part.labels))
    constant = float((judged["label"] == int(counts.argmax())).float().mean())
    notes = [
        *part.notes,
        note,
        f"The most frequent class of the training side alone, {part.labels[int(counts.argmax())]}, reaches "
        f"{100 * constant:.2f} %.",
    ]
    if pool.fresh:
        notes.append("These weights are fresh, not trained: the metrics say what random features are worth.")
    setting |= {"seconds": round(time.perf_counter() - begin, 3), "constant": round(constant, 6)}
    found = Evaluation(
        task.name, card.model, card.head, str(weights), val or data, part.labels, values,
        metrics.intervals(seed=seed), metrics.per_class(), count, metrics, gallery, [*lost, *skipped], notes, setting,
    )  # fmt: skip
    found.sections = task.report(found)
    return found


def _vectors(
    pool: Pool, samples: Samples, batch: int, progress: Callable[[int], None]
) -> tuple[np.ndarray, dict[str, Any], list[tuple[str, str]]]:
    """Run over samples: their vectors, (n, features) float32, all batches as one, and what was left out."""
    vectors, skipped, done = [], [], 0
    whole: dict[str, Any] = {"label": [], "index": [], "name": []}
    with contextlib.closing(pool.run(samples, batch=batch)) as stream:
        for one, outputs in stream:
            if outputs is not None:
                vectors.append(outputs.numpy())
                for name, values in whole.items():
                    values += list(one[name])
            skipped += one["skipped"]
            done += one["count"]
            progress(done)
    joined = np.concatenate(vectors) if vectors else np.empty((0, 1), np.float32)
    whole |= {name: torch.tensor([int(value) for value in whole[name]]) for name in ("label", "index")}
    return joined, whole, skipped


def _neighbours(
    known: np.ndarray, labels: torch.Tensor, asked: np.ndarray, classes: int
) -> tuple[np.ndarray, str]:
    """Let the nearest training vectors vote: (n, classes) shares that sum to 1, and the rule in words."""
    count = min(NEIGHBOURS, len(known))
    of_class = np.eye(classes)[labels.numpy()]
    unit = [
        vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), LEAST)
        for vectors in (known, asked)
    ]
    shares = np.empty((len(asked), classes))
    for first in range(0, len(asked), 256):
        cosine = unit[1][first : first + 256] @ unit[0].T
        near = np.argpartition(-cosine, count - 1, axis=1)[:, :count]
        votes = np.exp((np.take_along_axis(cosine, near, 1) - 1) / TEMPERATURE)
        shares[first : first + 256] = np.einsum("nk,nkc->nc", votes, of_class[near])
    shares /= shares.sum(1, keepdims=True)
    return shares, (
        f"Nearest neighbours: the {count} nearest of {len(known)} training samples by cosine vote, weighted by "
        f"exp(cosine / {TEMPERATURE})."
    )


def _regression(
    known: np.ndarray, labels: torch.Tensor, asked: np.ndarray, classes: int
) -> tuple[np.ndarray, str]:
    """Fit logistic regression: (n, classes) probabilities, and the rule in words."""
    linear = require("sklearn.linear_model", "digits", "for --probe linear")
    selection = require("sklearn.model_selection", "digits", "for --probe linear")
    pipeline = require("sklearn.pipeline", "digits", "for --probe linear")
    scaler = require("sklearn.preprocessing", "digits", "for --probe linear").StandardScaler()
    model = pipeline.make_pipeline(scaler, linear.LogisticRegression(max_iter=1000))
    seen, counts = np.unique(labels.numpy(), return_counts=True)
    if len(seen) < 2:
        raise DataError("the training side has samples of one class only; a linear probe needs two")
    if counts.min() >= FOLDS:
        folds = selection.StratifiedKFold(FOLDS, shuffle=True, random_state=0)
        search = selection.GridSearchCV(model, {"logisticregression__C": STRENGTHS}, cv=folds)
        search.fit(known, labels.numpy())
        best, how = search.best_estimator_, f"the best of {len(STRENGTHS)} by {FOLDS}-fold cross-validation"
        strength = search.best_params_["logisticregression__C"]
    else:
        best, strength, how = model.fit(known, labels.numpy()), 1.0, "too few samples of a class to choose it"
    shares = np.zeros((len(asked), classes))
    shares[:, seen] = best.predict_proba(asked)
    return shares, (
        f"Linear probe: logistic regression on standardised features of {len(known)} training samples, C = "
        f"{strength:g} ({how})."
    )
