"""Metrics of detectors and segmenters on data with boxes, masks or class maps, class by class."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from saccade.data.config import AugmentConfig, DataConfig
from saccade.data.loader import build_loader
from saccade.data.sampler import OrderedSampler
from saccade.engine.evaluate.held_out import same_place, trained_on
from saccade.engine.run import gather_metrics
from saccade.engine.sessions.dense import DensePredictor
from saccade.engine.sessions.finite import REASON
from saccade.errors import ConfigError, DataError
from saccade.files import write_text
from saccade.shown import code, markdown
from saccade.tasks.base import Batch
from saccade.trust import check_place

BATCH = 8


@dataclass
class DenseEvaluation:
    """What an evaluation found."""

    model: str
    head: str
    weights: str
    data: str
    metrics: dict[str, float]
    per_class: list[dict[str, Any]]
    skipped: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    setting: dict[str, Any] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Return the numbers as one flat JSON-ready object."""
        values: dict[str, Any] = {
            "model": self.model,
            "head": self.head,
            "weights": self.weights,
            "data": self.data,
        }
        return {**values, **self.metrics, "skipped": len(self.skipped), **self.setting}

    def write(self, path: Path | str, command: str) -> None:
        """Write a Markdown page: the metrics, the table by class, the command."""
        title = f"{self.model} with {self.head} on {self.data}"
        lines = [f"# {markdown(title)}", "", code(command), ""]
        lines += ["| mark | value |", "|---|---|"]
        lines += [f"| {markdown(name)} | {_show(value)} |" for name, value in self.metrics.items()]
        if self.per_class:
            names = list(self.per_class[0])
            lines += [
                "",
                "| " + " | ".join(markdown(name) for name in names) + " |",
                "|" + "---|" * len(names),
            ]
            lines += ["| " + " | ".join(_show(row[name]) for name in names) + " |" for row in self.per_class]
        lines += ["", *(f"- {markdown(note)}" for note in self.notes)]
        if self.skipped:
            lines += ["", "Left out:", "", *(f"- {markdown(reason)}" for _, reason in self.skipped)]
        write_text(path, "\n".join(lines) + "\n")


def _show(value: Any) -> str:
    """Print a number for people."""
    if value is None:
        return "-"
    return (
        f"{value:.4f}"
        if isinstance(value, float) and not value.is_integer()
        else f"{value:g}"
        if isinstance(value, float)
        else markdown(value)
    )


def mark_dense(
    weights: Path | str,
    data: str = "",
    *,
    size: int = 0,
    batch: int = 0,
    backend: str = "auto",
    device: str = "cpu",
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DenseEvaluation:
    """Measure a detector or segmenter.

    Args:
        weights: Run folder, weights file or bundle.
        data: As for training; where it is divided, its validation side. Empty: what the run was validated on.
        size: Shorter side of the pictures; 0: that of the weights.
        batch: Pictures at a time; 0: 8.
        backend: As of `DensePredictor`.
        device: As of `DensePredictor`.
        threads: Cores to use; None: all.
        progress: Called with (pictures done, pictures in all).

    Raises:
        ConfigError: No data was named and the weights do not say.
        DataError: The data cannot be opened, or not one picture can be read.
    """
    trained = trained_on(weights)
    if not data and trained is None:
        raise ConfigError("no data was given; name annotated pictures with --data")
    predictor = DensePredictor(weights, backend=backend, device=device, threads=threads)
    card, seed = predictor.card, 0
    config = DataConfig(source=data, size=size)
    if trained is not None and (not data or same_place(data, trained[0].source)):
        config, seed = trained[0], trained[1]
        config.source, config.size = data or config.source, size
    for place in (config.source, config.val):
        check_place(place)
    opened = predictor.task.open(config, AugmentConfig(), card, seed=seed, train=False)
    begin, done, skipped = time.perf_counter(), 0, []

    def watch(one: Batch) -> None:
        nonlocal done
        done += len(one["name"]) + len(one["skipped"])
        skipped.extend(one["skipped"])
        skipped.extend(
            (one["name"][place], f"{REASON}; it counts as nothing found") for place in predictor.not_finite
        )
        if progress is not None:
            progress(done, len(opened.val))

    with contextlib.closing(predictor), torch.no_grad():
        sampler = OrderedSampler(len(opened.val), batch=batch or BATCH)
        loader = build_loader(opened.val, sampler, workers=0, collate=predictor.task.collate)
        metrics: Any = gather_metrics(predictor.task, {"net": predictor}, loader, card, watch)["net"]
    values = metrics.compute()
    if not values.get("count"):
        raise DataError(
            f"{config.source}: not one picture could be read: {skipped[0][1] if skipped else 'none there'}"
        )
    seconds = time.perf_counter() - begin
    setting = {"backend": predictor.backend, "device": predictor.device, "size": opened.preprocess["size"]}
    setting |= {"seconds": round(seconds, 2), "images_per_s": round(values["count"] / seconds, 2)}
    return DenseEvaluation(
        card.model,
        card.head,
        str(weights),
        config.source,
        values,
        metrics.per_class(),
        skipped,
        opened.notes,
        setting,
    )
