"""Evaluate weights on a data set: open both, match their classes, run, measure, keep the worst mistakes."""

import contextlib
import dataclasses
import heapq
import io
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from torch import Tensor

from saccade.data.preprocess import Preprocess
from saccade.engine.evaluate.held_out import check_place, open_held_out
from saccade.engine.evaluate.result import Evaluation, Mistake, measure
from saccade.engine.predict.networks import open_networks
from saccade.engine.predict.pipeline import run_pipeline
from saccade.errors import ConfigError
from saccade.tasks import get_task
from saccade.tasks.base import Batch
from saccade.tasks.classify.task import ClassifyMetrics

THUMBNAIL = 160


class Gallery:
    """Looks at every batch and its outputs and keeps the worst mistakes with their pictures."""

    def __init__(self, preprocess: Preprocess, keep: int) -> None:
        self.preprocess, self.keep = preprocess, keep
        self.skipped: list[tuple[str, str]] = []
        # (loss, tie-break, what is shown): the smallest loss is on top and goes first.
        self._worst: list[tuple[float, int, tuple[str, int, int, float, float, Tensor]]] = []

    def look(self, batch: Batch, outputs: Tensor) -> None:
        """Take in a batch and its logits (batch, classes)."""
        self.skipped += batch["skipped"]
        if not batch["name"]:
            return
        shares = outputs.double().log_softmax(1)
        answers = shares.argmax(1)
        for i in (answers != batch["label"]).nonzero()[:, 0].tolist():
            truth, answer = int(batch["label"][i]), int(answers[i])
            loss = -float(shares[i, truth])
            if self.keep and (len(self._worst) < self.keep or loss > self._worst[0][0]):
                sure, own = float(shares[i, answer].exp()), float(shares[i, truth].exp())
                shown = (
                    batch["name"][i],
                    truth,
                    answer,
                    sure,
                    own,
                    self.preprocess.denormalise(batch["image"][i]),
                )
                push = heapq.heappush if len(self._worst) < self.keep else heapq.heapreplace
                push(self._worst, (loss, -int(batch["index"][i]), shown))

    def mistakes(self, labels: list[str]) -> list[Mistake]:
        """List the mistakes, the worst first."""
        ordered = sorted(self._worst, key=lambda entry: (-entry[0], -entry[1]))
        return [
            Mistake(name, labels[truth], labels[answer], sure, own, thumbnail(pixels))
            for _, _, (name, truth, answer, sure, own, pixels) in ordered
        ]


def thumbnail(pixels: Tensor) -> bytes:
    """Make a small JPEG, or a PNG when the picture is small already, of (C, height, width) uint8."""
    array = pixels.permute(1, 2, 0).contiguous().numpy()
    picture = Image.fromarray(array if array.shape[2] == 3 else array[..., 0])
    buffer = io.BytesIO()
    if max(picture.size) <= 72:
        picture.save(buffer, "PNG", optimize=True)
        return buffer.getvalue()
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    picture.save(buffer, "JPEG", quality=82)
    return buffer.getvalue()


def evaluate(
    weights: Path | str,
    data: str = "",
    *,
    backend: str = "auto",
    precision: str = "float32",
    size: int = 0,
    batch: int = 0,
    threads: int | None = None,
    device: str = "cpu",
    mistakes: int = 24,
    seed: int = 0,
    like: Path | str = "",
    notify: Callable[[str], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Measure how good weights are on a data set.

    Args:
        weights: Run folder, weights file, bundle or model name.
        data: Folder of class folders, table, shards or built-in name; where it is divided, its validation side;
            empty: what the run folder was validated on. Classes are matched by name.
        backend: A backend of `saccade.engine.sessions`, or auto.
        precision: float32, bf16 or int8, where the backend has it.
        size: Side of the square input in pixels; 0: that of the weights.
        batch: Pictures at a time; 0: the fastest of a few.
        threads: Cores to use; None: all.
        device: cpu, cuda, cuda:N or mps.
        mistakes: How many of the worst mistakes to keep with their pictures.
        seed: Of the bootstrap.
        like: A run folder on whose held-out images to measure; empty: `weights`, when that is a run folder. So two
            networks are measured on the same images.
        notify: Called with sentences about the work.
        progress: Called with (images done, images in all) after each batch.

    Raises:
        DataError: The data cannot be opened, or its classes are not the model's.
        ConfigError: The task of the weights has no labels to measure against.
    """
    say = notify or (lambda _: None)
    judge = like or weights
    data = check_place(data, judge)
    with open_networks(
        weights,
        backend=backend,
        precision=precision,
        threads=threads,
        device=device,
        size=size,
        say=say,
    ) as networks:
        source, labels, notes = open_held_out(data, judge, networks.card)
        card = dataclasses.replace(networks.card, labels=labels)
        metrics = get_task(card.task).metrics(card)
        if not isinstance(metrics, ClassifyMetrics):
            raise ConfigError(f"task {card.task!r} has no class metrics; `saccade eval` measures classifiers")
        gallery = Gallery(networks.preprocess, mistakes)
        total, done = len(source), 0
        chosen = batch or networks.choose_batch(total)
        begin = time.perf_counter()
        stream = run_pipeline(
            source,
            networks.preprocess,
            networks.for_batch(chosen),
            batch=chosen,
            workers=networks.workers,
            weights=networks.source,
        )
        with contextlib.closing(stream):
            for one, outputs in stream:
                if one["name"]:
                    metrics.update(outputs, one)
                gallery.look(one, outputs)
                done += one["count"]
                if progress is not None:
                    progress(done, total)
        seconds = time.perf_counter() - begin
        setting = networks.setting | {"batch": chosen, "workers": networks.workers}
        setting |= {"seconds": round(seconds, 3), "images_per_s": round(total / seconds, 1)}
        fresh = networks.fresh
    measures = measure(metrics, labels, seed=seed)
    if fresh:
        notes.append("These weights are fresh, not trained: the metrics say nothing about the model.")
    return Evaluation(
        card.model,
        str(weights),
        data,
        labels,
        measures,
        gallery.mistakes(labels),
        gallery.skipped,
        notes,
        setting,
    )
