"""Evaluate weights of any task: open them and what they were not trained on, run the loop, add the metrics up."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saccade.data.config import DataConfig, read_split, same_place
from saccade.engine.sessions.pool import Pool, open_pool
from saccade.engine.source import task_of
from saccade.errors import ConfigError, DataError, did_you_mean
from saccade.tasks.base import Metrics, Samples, Task
from saccade.tasks.evaluation import Evaluation
from saccade.trust import check_place
from saccade.weights.card import Card
from saccade.weights.source import Source

Log = Callable[[str], None]
SHOWN = 24
"""Samples that a page shows."""


@dataclass
class HeldOut:
    """What to judge weights by."""

    config: DataConfig
    seed: int
    """Of the split that training made."""
    kept_back: bool
    """Training kept a part of `config.source` back."""
    notes: list[str]


def evaluate(
    weights: Path | str,
    data: Path | str = "",
    *,
    backend: str = "auto",
    precision: str = "float32",
    batch: int = 0,
    threads: int | None = None,
    device: str = "cpu",
    shown: int = SHOWN,
    seed: int = 0,
    like: Path | str = "",
    log: Log = lambda text: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    **settings: Any,
) -> Evaluation:
    """Measure how good weights are on data.

    Args:
        weights: Run folder, weights file, bundle or model name.
        data: A place of the task's data; where it is divided, its validation side, where training kept a part of it
            back, that part. Empty: what the run folder was validated on. Classes are matched by name.
        backend: auto, or one of `saccade doctor`.
        precision: float32, bf16 or int8, where the backend has it.
        batch: Samples at a time; 0: the fastest of a few.
        threads: Cores to use; None: all.
        device: cpu, cuda, cuda:N or mps.
        shown: How many samples to keep for the page, such as the worst mistakes.
        seed: Of the bootstrap.
        like: A run folder on whose held-out data to measure; empty: `weights`, when that is a run folder. So two
            networks are measured on the same samples.
        log: Called with sentences about the work.
        progress: Called with (samples done, samples in all) after each batch.
        **settings: Of the data, where the task has them: size, and of videos frames and views.

    Raises:
        ConfigError: No data was named and the weights do not say, or a setting that this task does not have.
        DataError: The data cannot be opened, its classes are not the model's, or not one sample can be used.
        WeightsError: Outputs that are not finite, and not of a few samples only.
    """
    if batch < 0:
        raise ConfigError(f"batch is {batch}; expected 1 or more, or 0 to find the fastest")
    held = find_held_out(data if isinstance(data, str) else str(data), like or Source(weights).weights)
    check_place(held.config.source)
    # Opening weights may export and measure them first; data that cannot be used are refused before that.
    task, card = task_of(weights, "evaluate")
    config = dataclasses.replace(held.config, **_asked(task, settings))
    part = task.open_held_out(config, card, seed=held.seed, kept_back=held.kept_back)
    with open_pool(
        weights,
        task,
        verb="evaluate",
        backend=backend,
        precision=precision,
        threads=threads,
        device=device,
        size=config.size or 0,
        samples=len(part.val),
        log=log,
    ) as pool:
        card = dataclasses.replace(pool.card, labels=part.labels, preprocess=part.preprocess)
        chosen = batch or pool.choose_batch(len(part.val))
        gallery = task.gallery(card, shown)
        begin = time.perf_counter()
        metrics, skipped = _run(pool, card, part.val, gallery, chosen, progress)
        seconds = time.perf_counter() - begin
        setting = {**pool.setting, **_data_setting(part.preprocess), "batch": chosen}
        setting |= {"workers": pool.workers} if pool.workers else {}
    values = metrics.summary()
    count = int(values.pop("count"))
    if not count:
        raise DataError(
            f"{held.config.source}: not one of the {task.samples} could be used, so there is nothing to measure; the "
            f"first: {skipped[0][1] if skipped else 'none there'}"
        )
    notes = [*held.notes, *part.notes]
    if pool.fresh:
        notes.append("These weights are fresh, not trained: the metrics say nothing about the model.")
    setting |= {"seconds": round(seconds, 3), "images_per_s": round(len(part.val) / seconds, 1)}
    found = Evaluation(
        task.name, card.model, card.head, str(weights), held.config.source, part.labels, values,
        metrics.intervals(seed=seed), metrics.per_class(), count, metrics, gallery, skipped, notes, setting,
    )  # fmt: skip
    found.sections = task.report(found)
    return found


def find_held_out(data: str, judge: Path | str) -> HeldOut:
    """Say what to measure weights on, without opening weights, which may export them first.

    Args:
        data: As of `evaluate`.
        judge: A run folder says what it was trained on; anything else says nothing.

    Raises:
        ConfigError: No data was named and the weights do not say.
        DataError: A damaged recipe.
    """
    trained = read_split(judge)
    if trained is None or not trained[0].source:
        if not data:
            raise ConfigError("no data was given; name labelled data with --data")
        return HeldOut(DataConfig(source=data), 0, False, [])
    config, seed = trained
    if data and not same_place(data, config.source):
        return HeldOut(DataConfig(source=data), 0, False, [])
    notes = []
    if data and config.val:
        notes.append(f"Measured on {config.val}, which the run was validated on: it learned all of {data}.")
    place = config.val or data or config.source
    return HeldOut(dataclasses.replace(config, source=place, val=""), seed, not config.val, notes)


def _asked(task: Task, settings: dict[str, Any]) -> dict[str, Any]:
    """Check settings of the data, and leave out those that were not set."""
    asked = {name: value for name, value in settings.items() if value}
    for name in asked:
        if name not in task.held_out_settings:
            near = did_you_mean(name, task.held_out_settings) or (
                f"; it has {', '.join(task.held_out_settings) or 'none'}"
            )
            raise ConfigError(f"an evaluation for the task {task.name} has no setting {name!r}{near}")
    return asked


def _run(
    pool: Pool, card: Card, samples: Samples, gallery: Any, batch: int, progress: Callable[[int, int], None]
) -> tuple[Metrics, list[tuple[str, str]]]:
    """Run the networks over the data; what cannot be read or gives no finite numbers is left out."""
    metrics, skipped, done = pool.task.metrics(card), [], 0
    with contextlib.closing(pool.run(samples, batch=batch)) as stream:
        for one, outputs in stream:
            if outputs is not None:
                metrics.update(outputs, one)
                if gallery is not None:
                    gallery.look(one, outputs)
            skipped += one["skipped"]
            done += one["count"]
            progress(done, len(samples))
    return metrics, skipped


def _data_setting(preprocess: dict[str, Any]) -> dict[str, Any]:
    """Say how samples were brought to the network."""
    names = ("size", "frames", "sampling", "views")
    return {name: preprocess[name] for name in names if name in preprocess}
