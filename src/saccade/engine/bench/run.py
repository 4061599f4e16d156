"""Measure models on backends against each other: latency, throughput, cost, memory, share of the machine's peak."""

import csv
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saccade.engine.bench.cost import count_macs, count_params
from saccade.engine.bench.machine import describe_machine
from saccade.engine.bench.timing import Timing, interleave, median_interval, ratio_interval
from saccade.engine.sessions import open_predictor
from saccade.errors import CheckFailed, ConfigError, did_you_mean
from saccade.files import replacing, write_text
from saccade.nn.fold import fold
from saccade.tasks import get_task
from saccade.tasks.open import load_model
from saccade.weights import Card

BACKENDS = ("eager", "torch", "compile", "onnx", "openvino", "executorch", "litert")
# Largest difference from PyTorch, relative to the largest output, at which a contender may still be timed.
TOLERANCE = {"float32": 1e-4, "bf16": 0.1, "int8": 0.5}
BATCHES = (4, 16, 32)


@dataclass
class Row:
    """One measurement: a contender at one batch. Times are medians with 95 % intervals."""

    model: str
    backend: str
    precision: str
    size: int
    batch: int
    threads: int
    kind: str
    """latency (batch 1) or throughput (the best of the batches tried)."""
    images_per_s: float
    latency_ms: float
    """Of one call with the whole batch."""
    latency_ms_low: float
    latency_ms_high: float
    ratio: float
    """How many times as fast per picture as the first contender of the same kind, round by round."""
    ratio_low: float
    ratio_high: float
    clock: str
    """cpu (one thread; immune to neighbours) or wall."""
    rounds: int
    params_m: float
    macs_g: float
    share_of_peak: float
    """Of the matrix-multiply rate measured in the same rounds; 2 operations per multiply-accumulate."""
    memory_mb: float
    """Growth of the process at its peak while the contender was built and first run; 0 where unknown."""
    difference: float
    """From PyTorch, of the largest output."""
    top1: float | str
    """Measured accuracy from the weights' card; empty when there is none."""


@dataclass
class Contender:
    """A network on a backend, ready to be called."""

    label: str
    model: str
    backend: str
    call: Callable[[Tensor], Tensor]
    card: Card
    size: int
    params: int
    macs: int
    memory_mb: float
    difference: float


def bench(
    models: Sequence[str],
    backends: Sequence[str],
    *,
    precision: str = "float32",
    threads: int = 1,
    size: int = 0,
    batch: int = 0,
    seconds: float = 5.0,
    say: Callable[[str], None] = lambda text: None,
) -> list[Row]:
    """Measure every model on every backend, all in turn in this process.

    Args:
        models: Model names, run folders, weights files or bundles; the first on the first backend is what ratios
            refer to.
        backends: `eager` is the network as its library builds it, `torch` its folded form, the others as in
            `open_predictor`.
        precision: float32, bf16 (not for `eager` and `compile`), or int8 (bundles only).
        threads: Threads of every contender.
        size: Side of the square picture; 0: each network's own.
        batch: Batch of the throughput rows; 0: the best of a few for each contender; 1: latency rows only.
        seconds: Time for each of the two kinds of row, all contenders together.
        say: Called with lines about the work.

    Returns:
        Rows in the order of models and backends, latency before throughput.

    Raises:
        ConfigError: An unknown model or backend.
        CheckFailed: A contender whose outputs differ from PyTorch's.
    """
    for backend in backends:
        if backend not in BACKENDS:
            raise ConfigError(f"unknown backend {backend!r}{did_you_mean(backend, BACKENDS)}")
    if not models or not backends:
        raise ConfigError("nothing to measure: name at least one model and one backend")
    torch.set_num_threads(threads)
    contenders = []
    for model in models:
        for backend in backends:
            say(f"preparing {model} on {backend}")
            contenders.append(_prepare(model, backend, precision, threads, size, say))
    rows = _measure(contenders, dict.fromkeys(_labels(contenders), 1), "latency", precision, threads, seconds)
    if batch != 1:
        chosen = {c.label: batch or _best_batch(c) for c in contenders}
        say("best batches: " + ", ".join(f"{label} {count}" for label, count in chosen.items()))
        rows += _measure(contenders, chosen, "throughput", precision, threads, seconds)
    return rows


def write_table(rows: Sequence[Row], path: Path | str) -> None:
    """Write rows as CSV, and the machine record beside it as NAME.machine.json."""
    path = Path(path)
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(Row.__dataclass_fields__), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in asdict(row).items()})
    write_text(path.with_suffix(".machine.json"), json.dumps(describe_machine(), indent=1) + "\n")


def _labels(contenders: Sequence[Contender]) -> list[str]:
    """Return the contenders' names."""
    return [contender.label for contender in contenders]


def _prepare(
    source: str, backend: str, precision: str, threads: int, size: int, say: Callable[[str], None]
) -> Contender:
    """Build one contender and prove that it computes what PyTorch computes."""
    model, card = load_model(source)
    if card.task not in ("classify", "restore", "detect", "segment"):
        raise ConfigError(
            f"bench measures networks of single pictures, and {source} is for the task {card.task}"
        )
    side = size or int(card.preprocess.get("size", 0)) or int(getattr(model, "default_size", 224))
    card.preprocess = {**card.preprocess, "size": side}
    picture = get_task(card.task).example(card, batch=2, seed=1)[0]
    with torch.no_grad():
        want = model(picture)
    _reset_peak()
    before = _memory_mb("VmRSS")
    if card.head:
        return _prepare_dense(source, backend, precision, model, card, side, picture, before)
    if backend == "eager":
        if precision != "float32":
            raise ConfigError(f"the backend eager measures the network as built, in float32, not {precision}")
        call = _eager(model)
    else:
        call = open_predictor(
            source, backend=backend, precision=precision, threads=threads, size=size, say=say
        )
    found = call(picture)
    memory = max(0.0, _memory_mb("VmHWM") - before)
    gap = float((found - want).abs().max() / want.abs().max().clamp(min=1e-12))
    if not gap <= TOLERANCE[precision]:
        raise CheckFailed(
            f"{source} on {backend}: outputs differ from PyTorch by {gap:.2g} of the largest; "
            f"not measured (limit {TOLERANCE[precision]:g} in {precision})"
        )
    macs = count_macs(model, side, in_chans=card.in_chans)
    name = Path(source).name if Path(source).exists() else source
    return Contender(
        f"{name} {backend}", name, backend, call, card, side, count_params(model), macs, memory, gap
    )


def _prepare_dense(
    source: str,
    backend: str,
    precision: str,
    model: Any,
    card: Card,
    side: int,
    picture: Tensor,
    before: float,
) -> Contender:
    """Build a detector or segmenter whole; what is compared with PyTorch are the maps that its head stands on."""
    if backend not in ("eager", "torch") or precision != "float32":
        raise ConfigError(
            f"{source}: detectors and segmenters are measured with eager and torch in float32, "
            f"not with {backend} in {precision}"
        )
    net: Any = model if backend == "eager" else fold(model)
    with torch.no_grad():
        net(picture)
        pairs = zip(net.levels(picture), model.levels(picture), strict=True)
        gap = max(float((a - b).abs().max() / b.abs().max().clamp(min=1e-12)) for a, b in pairs)
    if not gap <= TOLERANCE[precision]:
        raise CheckFailed(
            f"{source}: its folded form differs by {gap:.2g} of the largest value; not measured"
        )
    memory = max(0.0, _memory_mb("VmHWM") - before)
    name = Path(source).name if Path(source).exists() else source
    macs, params = count_macs(model, side, in_chans=card.in_chans), count_params(model)
    return Contender(f"{name} {backend}", name, backend, _eager(net), card, side, params, macs, memory, gap)


def _eager(model: torch.nn.Module) -> Callable[[Tensor], Tensor]:
    """Call the network as its library built it."""

    def call(x: Tensor) -> Tensor:
        with torch.no_grad():
            return model(x)

    return call


def _best_batch(contender: Contender) -> int:
    """Return the batch with the most pictures a second, by a few calls each."""
    rates = {}
    for count in BATCHES:
        picture = get_task(contender.card.task).example(contender.card, batch=count)[0]
        timing = interleave({"": lambda p=picture: contender.call(p)}, seconds=0, min_rounds=3)[""]
        rates[count] = count / min(timing.wall)
    return max(rates, key=lambda count: rates[count])


def _measure(
    contenders: Sequence[Contender],
    batches: dict[str, int],
    kind: str,
    precision: str,
    threads: int,
    seconds: float,
) -> list[Row]:
    """Time all contenders in turn, a matrix product among them as the measure of the machine."""
    work: dict[str, Callable[[], object]] = {}
    for contender in contenders:
        picture = get_task(contender.card.task).example(contender.card, batch=batches[contender.label])[0]
        work[contender.label] = lambda c=contender, p=picture: c.call(p)
    matrix = torch.randn(1024, 1024)
    work["(peak)"] = lambda: torch.mm(matrix, matrix)
    timings = interleave(work, seconds=seconds)
    clock = "cpu" if threads == 1 else "wall"
    peak = 2 * 1024**3 / median_interval(timings["(peak)"].seconds(clock))[0]
    first = contenders[0]
    base = [s / batches[first.label] for s in timings[first.label].seconds(clock)]
    return [
        _row(c, timings[c.label], batches[c.label], kind, precision, threads, clock, base, peak)
        for c in contenders
    ]


def _row(
    contender: Contender, timing: Timing, batch: int, kind: str, precision: str, threads: int, clock: str,
    base: Sequence[float], peak: float,
) -> Row:  # fmt: skip
    """Summarise one contender's rounds."""
    spent = timing.seconds(clock)
    median, low, high = median_interval(spent)
    ratio, ratio_low, ratio_high = ratio_interval(base, [s / batch for s in spent])
    return Row(
        model=contender.model, backend=contender.backend, precision=precision, size=contender.size, batch=batch,
        threads=threads, kind=kind, images_per_s=batch / median, latency_ms=1e3 * median,
        latency_ms_low=1e3 * low, latency_ms_high=1e3 * high, ratio=ratio, ratio_low=ratio_low,
        ratio_high=ratio_high, clock=clock, rounds=len(spent), params_m=contender.params / 1e6,
        macs_g=contender.macs / 1e9, share_of_peak=2 * contender.macs * batch / median / peak,
        memory_mb=contender.memory_mb, difference=contender.difference,
        top1=contender.card.numbers.get("top1", ""),
    )  # fmt: skip


def _reset_peak() -> None:
    """Start a new peak of resident memory, where Linux lets us."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _memory_mb(field: str) -> float:
    """Read resident memory (VmRSS) or its peak (VmHWM) of this process in MB; 0 where there is no /proc."""
    try:
        lines = Path(f"/proc/{os.getpid()}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(field)), 0.0)


def as_table(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Shorten rows for a terminal."""
    return [
        {
            "model": row.model, "backend": row.backend, "kind": row.kind, "batch": row.batch,
            "ms": round(row.latency_ms, 2), "images/s": round(row.images_per_s, 1),
            "times": f"{row.ratio:.2f} ({row.ratio_low:.2f}-{row.ratio_high:.2f})",
            "params M": round(row.params_m, 1), "MACs G": round(row.macs_g, 3),
            "peak %": round(100 * row.share_of_peak), "memory MB": round(row.memory_mb),
            "difference": f"{row.difference:.1e}",
        }
        for row in rows
    ]  # fmt: skip
