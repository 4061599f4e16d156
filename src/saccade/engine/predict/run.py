"""Predict a folder: open weights and pictures, choose the batch, run the pipeline, keep a resumable journal."""

import contextlib
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from saccade.data.config import DataConfig
from saccade.data.opening import open_source
from saccade.data.shards import ShardStream, need_local
from saccade.data.source import Source
from saccade.engine.predict.journal import Journal, check_out, skipped_path
from saccade.engine.predict.networks import FRESH, Networks, Say, open_networks
from saccade.engine.predict.pipeline import run_pipeline
from saccade.errors import ConfigError, DataError
from saccade.files import sha256
from saccade.tasks import get_task
from saccade.tasks.classify.task import TOP
from saccade.weights import Card, locate


@dataclass
class Prediction:
    """What a run did."""

    out: Path
    rows: int
    """Rows in the result, those of earlier runs included."""
    skipped: list[tuple[str, str]]
    """(name, reason) of every picture without a row."""
    resumed: int
    """Pictures that an earlier run had done."""
    seconds: float
    """Time of this run from first picture to last row."""
    images_per_s: float
    """End to end: reading, decoding, network and writing; 0 when nothing was left to do."""
    setting: dict[str, Any] = field(default_factory=dict)
    """model, backend, precision, size, batch, workers."""


def predict(
    pictures: str,
    weights: Path | str,
    out: Path | str,
    *,
    backend: str = "auto",
    precision: str = "float32",
    threads: int | None = None,
    device: str = "cpu",
    batch: int = 0,
    size: int = 0,
    topk: int = 1,
    restart: bool = False,
    max_pixels: int = DataConfig.max_pixels,
    notify: Callable[[str], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Prediction:
    """Run weights over pictures and write one row a picture, in order.

    Stopped at any moment, the same call goes on where it was; see `Journal`.

    Args:
        pictures: Folder (searched to the bottom), one picture, table, shards or built-in name.
        weights: Run folder, weights file, bundle or model name.
        out: .csv, .jsonl, or .npz (which holds the logits too).
        backend: A backend of `saccade.engine.sessions`; auto: the fastest that passes its check on this machine.
        precision: float32, bf16 or int8, where the backend has it.
        threads: Cores to use; None: all.
        device: cpu, cuda, cuda:N or mps.
        batch: Pictures at a time; 0: the fastest of a few.
        size: Side of the square input in pixels; 0: that of the weights.
        topk: Answers in each row, 1 to 5.
        restart: Forget what an earlier run left.
        max_pixels: Larger pictures count as skipped.
        notify: Called with sentences about the work.
        progress: Called with (pictures done, pictures in all).

    Raises:
        DataError: No pictures.
        ConfigError: A setting out of range, or other settings than the run to be continued.
    """
    if not 1 <= topk <= TOP:
        raise ConfigError(f"topk is {topk}; expected 1 to {TOP}")
    if batch < 0:
        raise ConfigError(f"batch is {batch}; expected 1 or more, or 0 to find the fastest")
    check_out(out)
    say = notify or (lambda _: None)
    need_local(pictures)
    source = open_source(pictures, classes=False)
    if isinstance(source, ShardStream):
        raise DataError(f"{pictures}: shards at an address are read front to back only; copy them here first")
    if not len(source):
        raise DataError(f"{pictures}: no pictures here; expected .jpg, .png and the like")
    for note in source.notes:
        say(note)
    with open_networks(
        weights,
        backend=backend,
        precision=precision,
        threads=threads,
        device=device,
        size=size,
        pictures=len(source),
        say=say,
    ) as networks:
        card = networks.card
        if networks.fresh:
            say(f"{card.model} has fresh, untrained weights: the answers mean nothing")
        settings = {
            "weights": identity(weights, card),
            "precision": networks.predictors[0].precision,
            "preprocess": networks.preprocess.to_dict(),
            "topk": topk,
            "pictures": fingerprint(source),
        }
        width = card.num_classes if Path(out).suffix.lower() == ".npz" else 0
        with Journal(out, settings, width=width, restart=restart) as journal:
            return fill_journal(journal, networks, source, batch, topk, max_pixels, say, progress)


def fill_journal(
    journal: Journal,
    networks: Networks,
    source: Source,
    batch: int,
    topk: int,
    max_pixels: int = DataConfig.max_pixels,
    say: Say = lambda text: None,
    progress: Callable[[int, int], None] | None = None,
) -> Prediction:
    """Run what a journal does not hold yet, and make the result.

    Args:
        journal: Open; begun with these weights and pictures.
        networks: Open.
        source: The pictures.
        batch: As in `predict`.
        topk: As in `predict`.
        max_pixels: As in `predict`.
        say: Called with sentences about the work.
        progress: Called with (pictures done, pictures in all).
    """
    total, left, card = len(source), len(source) - journal.done, networks.card
    if journal.resumed:
        say(f"{journal.path}: {journal.resumed} of {total} pictures are done already, going on")
    size = batch or (networks.choose_batch(left) if left else 1)
    say(
        f"{card.model} at {networks.preprocess.size} px, {networks.workers} "
        f"worker{'s' if networks.workers > 1 else ''}, batches of {size}"
    )
    task = get_task(card.task)
    begin = time.perf_counter()
    stream = run_pipeline(
        source,
        networks.preprocess,
        networks.for_batch(size),
        batch=size,
        workers=networks.workers,
        start=journal.done,
        max_pixels=max_pixels,
        weights=networks.source,
    )
    with contextlib.closing(stream):
        for one, outputs in stream:
            rows = [cut_row(row, topk) for row in task.rows(outputs, one, card, None)] if one["name"] else []
            places = one["index"].tolist()
            missing = sorted(set(range(one["first"], one["first"] + one["count"])) - set(places))
            skipped = [(place, *entry) for place, entry in zip(missing, one["skipped"], strict=True)]
            vectors = outputs.float().numpy() if journal.width and rows else None
            journal.append(list(zip(places, rows, strict=True)), skipped, vectors)
            if progress is not None:
                progress(journal.done, total)
    seconds = time.perf_counter() - begin
    journal.finish()
    if journal.skipped:
        say(
            f"{len(journal.skipped)} pictures have no answer; they are listed with the reasons in "
            f"{skipped_path(journal.out)}"
        )
    setting = {"model": card.model, **networks.setting, "batch": size, "workers": networks.workers}
    rate = left / seconds if left else 0.0
    count = journal.done - len(journal.skipped)
    return Prediction(journal.out, count, journal.skipped, journal.resumed, seconds, rate, setting)


def identity(weights: Path | str, card: Card) -> str:
    """Name weights by their content, so that a retrained run folder is not taken for the old one.

    Returns:
        SHA-256 of the weights file or of the bundle's manifest; the model name for fresh weights.
    """
    path = Path(weights)
    if not path.exists() and card.origin == FRESH:
        return card.model
    manifest = path / "manifest.json"
    return f"sha256:{sha256(manifest if manifest.is_file() else locate(weights))}"


def fingerprint(source: Source) -> str:
    """Number and digest of the pictures' names, in order."""
    digest = hashlib.sha256()
    for name in source.names:
        digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
    return f"{len(source)} pictures, {digest.hexdigest()[:16]}"


def cut_row(row: dict[str, Any], topk: int) -> dict[str, Any]:
    """Keep the first `topk` answers of a row: keys that end in _2, _3, ... are the runners-up."""
    return {
        name: value
        for name, value in row.items()
        if not (tail := name.rpartition("_")[2]).isdigit() or int(tail) <= topk
    }
