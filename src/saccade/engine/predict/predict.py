"""Predict: open weights and inputs, choose the batch, run the loop, keep a resumable journal. For every task."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from saccade.data.dataset import TolerantDataset
from saccade.data.fetch import is_picture_address
from saccade.data.inputs import InputList, is_plain, open_list
from saccade.data.shards import need_local
from saccade.engine.sessions.finite import leave_out, pick
from saccade.engine.sessions.pool import FRESH, Pool, open_pool
from saccade.engine.source import task_of
from saccade.errors import ConfigError, DataError, NotEnoughMemory, did_you_mean, memory_enough
from saccade.files import sha256
from saccade.files.journal import WITH_VECTORS, Journal, check_out, skipped_path
from saccade.settings import make
from saccade.tasks import Task
from saccade.tasks.base import Batch, PredictSettings, Samples
from saccade.weights import Card, Source, locate

Log = Callable[[str], None]


@dataclass
class Prediction:
    """What a run did."""

    out: Path
    rows: int
    """Rows in the result, those of earlier runs included."""
    skipped: list[tuple[str, str]]
    """(name, reason) of every input without a row."""
    resumed: int
    """Inputs that an earlier run had done."""
    seconds: float
    """Time of this run from first input to last row."""
    rate: float
    """Inputs per second, end to end: reading, decoding, network and writing; 0 when nothing was left to do."""
    setting: dict[str, Any] = field(default_factory=dict)
    """model, backend, precision, size, batch, workers, and what the task was asked."""


def predict(
    inputs: str | Path | Sequence[str | Path],
    weights: Path | str,
    out: Path | str | None = None,
    *,
    backend: str = "auto",
    precision: str = "float32",
    threads: int | None = None,
    device: str = "cpu",
    batch: int = 0,
    size: int = 0,
    embed: bool = False,
    restart: bool = False,
    log: Log = lambda text: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    **settings: Any,
) -> Prediction:
    """Run weights over inputs and write one row each, in order.

    Stopped at any moment, the same call goes on where it was; see `saccade.files.journal.Journal`.

    Args:
        inputs: A place of the task's data: a folder of pictures or videos (searched to the bottom), one file, a
            table, shards, a .zip, or a built-in name; a pattern, a list of names (@FILE, FILE.txt, - for the standard
            input), an http(s) address of a picture; or several of these.
        weights: Run folder, weights file, bundle or model name.
        out: A file, .csv, .jsonl, .npz or .parquet (which hold raw outputs too); of tasks that write pictures a
            folder, in which the rows are predictions.jsonl. predictions.csv, or predictions, when left out.
        backend: torch, compile, onnx, openvino, executorch, litert; auto: the fastest that passes its check here.
        precision: float32, bf16 or int8, where the backend has it.
        threads: Cores to use; None: all.
        device: cpu, cuda, cuda:N or mps.
        batch: Inputs at a time; 0: the task's own, or the fastest of a few.
        size: Side of the input in pixels, of detectors and segmenters the shorter one; 0: that of the weights.
        embed: Write each input's vector, its features before the classifier, in place of an answer (`out` is .npz or
            .parquet, with a column `vector`; vectors.npz when left out).
        restart: Forget what an earlier run left.
        log: Called with sentences about the work.
        progress: Called with (inputs done, inputs in all).
        **settings: What this task can be asked besides, such as topk=3 of a classifier: the fields of its
            `predict_settings`.

    Raises:
        DataError: No inputs.
        ConfigError: A setting out of range or that this task does not have, or other settings than the run to be
            continued.
        WeightsError: Weights that cannot be read, or whose outputs are not finite.
    """
    for name, value in (("batch", batch), ("size", size)):
        if value < 0:
            raise ConfigError(f"{name} is {value}; expected 1 or more, or 0 to have it chosen")
    given = [inputs] if isinstance(inputs, Path | str) else inputs
    places = [str(place) if isinstance(place, Path) else place for place in given]
    for place in places:
        if not is_picture_address(place):
            need_local(place)
    task, card = task_of(weights, "predict")
    if size and not task.resizes:
        raise ConfigError(f"the task {task.name} takes its inputs at their own size; leave the size out")
    if embed and (extra := [name for name in settings if name != "max_pixels"]):
        raise ConfigError(f"vectors have no setting {extra[0]}; leave it out")
    asked = settings_of(task, settings)
    card = task.sized(card, size)
    target = vectors_path(out) if embed else result_path(out, task)
    if len(places) == 1 and is_plain(places[0], text_lists=task.text_lists):
        samples = task.open_inputs(places[0], card, asked)
    else:
        samples = open_list(
            places, lambda place: task.open_inputs(place, card, asked), text_lists=task.text_lists
        )
    for note in samples.notes if isinstance(samples, TolerantDataset | InputList) else ():
        log(note)
    with open_pool(
        weights,
        task,
        verb="predict",
        backend=backend,
        precision=precision,
        threads=threads,
        device=device,
        size=size,
        samples=len(samples),
        embed=embed,
        log=log,
    ) as pool:
        if pool.fresh:
            log(f"{card.model} has fresh, untrained weights: the answers mean nothing")
        facts = {"embed": True} if embed else {}
        facts |= {"weights": identity(weights, pool.card), "precision": pool.precision}
        facts |= {"preprocess": pool.card.preprocess, **({} if embed else _deciding(asked))}
        facts |= {"pictures": fingerprint(samples.names)}
        width = task.vector_width(pool.card) if target.suffix.lower() in WITH_VECTORS else 0
        if embed:
            width = pool.probe().shape[1]
        column = "vector" if embed else "logits"
        with Journal(target, facts, width=width, column=column, restart=restart) as journal:
            return fill(journal, pool, samples, batch, asked, log, progress, embed=embed)


def settings_of(task: Task, values: Mapping[str, Any]) -> PredictSettings:
    """Make what a task is asked.

    Raises:
        ConfigError: A setting that it does not have, or out of range.
    """
    known = [each.name for each in dataclasses.fields(task.predict_settings)]
    for name in values:
        if name not in known:
            raise ConfigError(f"the task {task.name} has no setting {name}{did_you_mean(name, known)}")
    return make(task.predict_settings, values, "")


def fill(
    journal: Journal,
    pool: Pool,
    samples: Samples,
    batch: int,
    settings: PredictSettings,
    log: Log,
    progress: Callable[[int, int], None],
    *,
    embed: bool = False,
) -> Prediction:
    """Run what a journal does not hold yet, and make the result."""
    task, card = pool.task, pool.card
    total, left = len(samples), len(samples) - journal.done
    if journal.resumed:
        log(f"{journal.path}: {journal.resumed} of {total} are done already, going on")
    size = batch or (pool.choose_batch(left) if left else 1)
    side = f" at {card.preprocess['size']} px" if task.resizes and "size" in card.preprocess else ""
    workers = f"{pool.workers} worker{'s' if pool.workers > 1 else ''}"
    log(f"{card.model}{side}, {workers}, batches of {size}")
    names = plain_names(samples.names)
    begin = time.perf_counter()
    with contextlib.closing(pool.run(samples, batch=size, start=journal.done)) as stream:
        for one, outputs in stream:
            one["file"] = [names[place] for place in one["index"].tolist()]
            rows: list[dict[str, Any]] = []
            vectors = None
            if outputs is not None and embed:
                rows, vectors = [{"name": name} for name in one["name"]], outputs
            elif outputs is not None:
                one, outputs, rows = _answers(task, outputs, one, card, settings, journal.out.parent)
                vectors = task.vectors(outputs) if journal.width and rows else None
            places = one["index"].tolist()
            missing = sorted(set(range(one["first"], one["first"] + one["count"])) - set(places))
            skipped = [(place, *entry) for place, entry in zip(missing, one["skipped"], strict=True)]
            journal.append(
                list(zip(places, rows, strict=True)), skipped, None if vectors is None else vectors.numpy()
            )
            progress(journal.done, total)
    seconds = time.perf_counter() - begin
    journal.finish()
    if journal.skipped:
        log(
            f"{len(journal.skipped)} have no answer; they are listed with the reasons in "
            f"{skipped_path(journal.out)}"
        )
    setting = {"model": card.model, **pool.setting, "batch": size, "workers": pool.workers}
    rate = left / seconds if left else 0.0
    count = journal.done - len(journal.skipped)
    return Prediction(
        journal.out,
        count,
        journal.skipped,
        journal.resumed,
        seconds,
        rate,
        {**setting, **({} if embed else _deciding(settings))},
    )


def _answers(
    task: Task, outputs: Any, batch: Batch, card: Card, settings: PredictSettings, folder: Path
) -> tuple[Batch, Any, list[dict[str, Any]]]:
    """Make the rows of a batch and write what belongs to them; samples for which that cannot be done are left out."""
    reasons: dict[int, str] = {}
    rows: list[dict[str, Any]] = []
    for number in range(len(batch["index"])) if task.into_folder else ():
        one, found = pick(batch, outputs, [number])
        try:
            with memory_enough("use a smaller copy"):
                row = task.rows(found, one, card, settings)
                task.write(found, one, card, settings, folder)
        except (DataError, NotEnoughMemory) as error:
            reasons[number] = str(error)
        else:
            rows += row
    if reasons:
        batch, outputs = leave_out(batch, outputs, reasons)
    return batch, outputs, rows if task.into_folder else task.rows(outputs, batch, card, settings)


def result_path(out: Path | str | None, task: Task) -> Path:
    """Return the file that the rows go to.

    Raises:
        ConfigError: A folder where a file is due, or the other way round, or another kind of file.
    """
    if not task.into_folder:
        return check_out(out or "predictions.csv")
    folder = Path(out or "predictions")
    if folder.suffix or folder.is_file():
        raise ConfigError(
            f"{out}: the task {task.name} writes into a folder; give --out a name without a suffix"
        )
    return folder / "predictions.jsonl"


def vectors_path(out: Path | str | None) -> Path:
    """Return the file that vectors go to.

    Raises:
        ConfigError: A kind of file that holds none.
    """
    path = check_out(out or "vectors.npz")
    if path.suffix.lower() not in WITH_VECTORS:
        raise ConfigError(
            f"{out}: vectors are written as {' or '.join(WITH_VECTORS)}; change the end of its name"
        )
    return path


def identity(weights: Path | str, card: Card) -> str:
    """Name weights by their content, so that a retrained run folder is not taken for the old one.

    Returns:
        SHA-256 of the weights file or of the bundle's manifest, the model name for fresh weights; and what else was
        said about them.
    """
    source = Source(weights)
    path = Path(source.weights)
    more = f", {card.model}{', raw' * source.raw}" if source.model or source.raw else ""
    more += f", {fingerprint(card.labels)}" if source.labels else ""
    if not path.exists() and card.origin == FRESH:
        return card.model + more
    manifest = path / "manifest.json"
    return f"sha256:{sha256(manifest if manifest.is_file() else locate(weights))}{more}"


def fingerprint(names: Sequence[str]) -> str:
    """Number and digest of the inputs' names, in order."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
    return f"{len(names)} pictures, {digest.hexdigest()[:16]}"


def plain_names(names: Sequence[str]) -> list[str]:
    """Give every input a name of its own, free of folders and without ending, for the files written about it."""
    taken: dict[str, int] = {}
    plain = []
    for name in names:
        stem = "_".join(part for part in Path(name).with_suffix("").parts if part not in ("/", "..", "."))
        count = taken.get(stem, 0)
        taken[stem] = count + 1
        plain.append(stem if not count else f"{stem}-{count + 1}")
    return plain


def _deciding(settings: PredictSettings) -> Mapping[str, Any]:
    """Return the settings that decide what the rows are: not what is refused beforehand."""
    return {name: value for name, value in dataclasses.asdict(settings).items() if name != "max_pixels"}
