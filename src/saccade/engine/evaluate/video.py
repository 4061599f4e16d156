"""Measure a classifier of videos: metrics, tables and page of `saccade eval`, the views of each clip averaged."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from saccade.data.clips import ClipSource, is_divided, open_clip_pair, open_clips
from saccade.data.video_clips import ClipDataset
from saccade.engine.evaluate.held_out import same_place, trained_on
from saccade.engine.evaluate.result import Evaluation, measure
from saccade.engine.evaluate.run import Gallery
from saccade.engine.sessions.video import BATCH, VideoPredictor
from saccade.errors import ConfigError, DataError
from saccade.tasks.classify.task import ClassifyMetrics
from saccade.trust import check_place
from saccade.weights import Card


def evaluate_video(
    weights: Path | str,
    data: str = "",
    *,
    batch: int = 0,
    mistakes: int = 24,
    seed: int = 0,
    notify: Callable[[str], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Evaluation:
    """Measure how good a classifier of videos is.

    Args:
        weights: Run folder or weights file.
        data: As for training; where it is divided, its validation side; empty: what the run was validated on.
        batch: Clips at a time; 0: a few.
        mistakes: How many of the worst mistakes to keep, with the middle frame of each.
        seed: Of the bootstrap.
        notify: Called with sentences about the work.
        progress: Called with (clips done, clips in all).
        **options: As of `VideoPredictor`: size, frames, views, backend, precision, device, threads.

    Raises:
        ConfigError: No data was named and the weights do not say.
        DataError: The data cannot be opened, its classes are not the model's, or not one clip can be used.
    """
    predictor = VideoPredictor(weights, **options)
    card, preprocess = predictor.card, predictor.preprocess
    source, place, notes = open_held_out_clips(data, weights, card)
    labels = list(source.labels)
    if len(labels) != card.num_classes:
        raise DataError(f"{place}: {len(labels)} classes, but the model has {card.num_classes}")
    if notify is not None:
        notify(f"{card.model} at {preprocess.size} px, {preprocess.frames} frames, views {preprocess.views}")
    card = dataclasses.replace(card, labels=labels)
    metrics, gallery = ClassifyMetrics(card.num_classes), Gallery(preprocess, mistakes)  # pyright: ignore
    begin, done = time.perf_counter(), 0
    for one, outputs in predictor.run(ClipDataset(source, preprocess), batch=batch):
        if one["name"]:
            metrics.update(outputs, one)
            one["image"] = one["image"][:: preprocess.num_views, preprocess.frames // 2]
        gallery.look(one, outputs)
        done += len(one["name"]) + len(one["skipped"])
        if progress is not None:
            progress(done, len(source))
    if not metrics.columns["index"]:
        raise DataError(f"{place}: not one video can be used; the first: {gallery.skipped[0][1]}")
    seconds = time.perf_counter() - begin
    setting = {
        "backend": "torch",
        "device": predictor.device,
        "size": preprocess.size,
        "frames": preprocess.frames,
        "sampling": preprocess.sampling,
        "views": preprocess.views,
        "batch": batch or BATCH,
        "seconds": round(seconds, 3),
        "clips_per_s": round(done / seconds, 2),
    }
    return Evaluation(
        card.model,
        str(weights),
        place,
        labels,
        measure(metrics, labels, seed=seed),
        gallery.mistakes(labels),
        gallery.skipped,
        notes,
        setting,
    )


def open_held_out_clips(data: str, weights: Path | str, card: Card) -> tuple[ClipSource, str, list[str]]:
    """Open the videos to measure weights on: those that training kept back, where it kept some back.

    Args:
        data: As of `evaluate_video`.
        weights: What is measured; a run folder says what it was trained on.
        card: Of the weights.

    Returns:
        (videos, what to call their place, notes for the user).

    Raises:
        ConfigError: No data was named and the weights do not say.
        DataError: As `open_clips`.
    """
    trained = trained_on(weights)
    if not data and trained is None:
        raise ConfigError("no data was given; name a folder of videos with --data")
    labels = card.labels or None
    if trained is not None and (not data or same_place(data, trained[0].source)):
        config, seed = trained
        if not config.val and not is_divided(config.source):
            check_place(data or config.source)
            val = open_clip_pair(config, seed=seed, labels=labels).val
            assert isinstance(val, ClipSource)
            note = f"Measured on the {len(val)} videos that training kept back, not on those it learned."
            return val, config.source, [note]
        data = data or config.val or config.source
        if config.val:
            data = config.val
    check_place(data)
    source = open_clips(data, part="val" if is_divided(data) else "all", labels=labels)
    return source, data, list(source.notes)
