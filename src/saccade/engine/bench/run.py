"""Measure models on backends against each other: latency, throughput, cost, memory, share of the machine's peak."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from saccade.engine.bench.cost import count_macs_of, count_params
from saccade.engine.bench.machine import describe_machine
from saccade.engine.bench.timing import Timing, interleave, median_interval, ratio_interval
from saccade.engine.export import is_bundle, open_file
from saccade.engine.export.session import tensors_of
from saccade.engine.sessions.eager import CompiledSession, EagerSession
from saccade.engine.sessions.made import made_bundle
from saccade.engine.source import open_for
from saccade.errors import CheckFailed, ConfigError, did_you_mean
from saccade.files import replacing, write_text
from saccade.nn.fold import fold
from saccade.tasks.base import Net, Task
from saccade.weights import Card

Log = Callable[[str], None]
IN_PROCESS = ("eager", "torch", "compile")
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
    metric: float | str
    """The main metric from the weights' card, such as top1 or ap; empty when there is none."""


@dataclass
class Contender:
    """A network on a backend, ready to be called."""

    label: str
    model: str
    backend: str
    net: Net
    task: Task
    card: Card
    size: int
    params: int
    macs: int
    memory_mb: float
    difference: float

    def work(self, batch: int) -> Callable[[], object]:
        """Return a call on a batch of examples."""
        inputs = self.task.example(self.card, batch=batch)

        def run() -> object:
            with torch.no_grad():
                return self.net(*inputs)

        return run


def bench(
    models: Sequence[str | tuple[nn.Module, Card]],
    backends: Sequence[str] = ("eager", "torch", "onnx", "openvino"),
    *,
    precision: str = "float32",
    threads: int = 1,
    size: int = 0,
    batch: int = 0,
    seconds: float = 5.0,
    log: Log = lambda text: None,
) -> list[Row]:
    """Measure every model on every backend, all in turn in this process.

    Args:
        models: Model names, run folders, weights files, or networks with their cards; the first on the first backend
            is what ratios refer to.
        backends: `eager` is the network as its library builds it, `torch` its folded form, `compile` that under
            torch.compile, the others exported files.
        precision: float32, or bf16 (torch, compile and openvino).
        threads: Threads of every contender.
        size: Side of the square picture, of detectors and segmenters the shorter side; 0: each network's own.
        batch: Batch of the throughput rows; 0: the best of a few for each contender; 1: latency rows only.
        seconds: Time for each of the two kinds of row, all contenders together.
        log: Called with lines about the work.

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
            log(f"preparing {model[1].model if isinstance(model, tuple) else model} on {backend}")
            contenders.append(_prepare(model, backend, precision, threads, size, log))
    rows = _measure(contenders, dict.fromkeys(_labels(contenders), 1), "latency", precision, threads, seconds)
    if batch != 1:
        chosen = {c.label: batch or _best_batch(c) for c in contenders}
        log("best batches: " + ", ".join(f"{label} {count}" for label, count in chosen.items()))
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
    source: str | tuple[nn.Module, Card], backend: str, precision: str, threads: int, size: int, log: Log
) -> Contender:
    """Build one contender and prove that it computes what PyTorch computes."""
    if backend == "eager" and precision != "float32":
        raise ConfigError(f"the backend eager measures the network as built, in float32, not {precision}")
    if not isinstance(source, tuple) and is_bundle(source):
        raise ConfigError(
            f"{source}: a bundle has no network to compare with; name the weights it was made of"
        )
    task, model, card = open_for(source, "bench")
    called = card.model if isinstance(source, tuple) else source
    card = task.sized(card, size)
    _reset_peak()
    before = _memory_mb("VmRSS")
    inputs = task.example(card, batch=2, seed=1)
    with torch.no_grad():
        if backend in IN_PROCESS:
            net = model if backend == "eager" else _in_process(model, backend, precision, threads)
            want = task.compared(model, inputs)
            got = task.compared(net, inputs) if isinstance(net, nn.Module) else tensors_of(net(*inputs))
        else:
            file = open_file(made_bundle(model, card, backend, precision, log), threads=threads)
            net, form = task.exported(file, card), task.export_form(model, card)
            given = tuple(form.inputs.values())
            want, got = tensors_of(form.module(*given)), tensors_of(file(*given))
    memory = max(0.0, _memory_mb("VmHWM") - before)
    gap = max(
        float((a - b).abs().max() / b.abs().max().clamp(min=1e-12)) for a, b in zip(got, want, strict=True)
    )
    if not gap <= TOLERANCE[precision]:
        raise CheckFailed(
            f"{called} on {backend}: outputs differ from PyTorch by {gap:.2g} of the largest; "
            f"not measured (limit {TOLERANCE[precision]:g} in {precision})"
        )
    name = Path(called).name if Path(called).exists() else called
    macs = count_macs_of(model, *task.example(card))
    side = int(card.preprocess["size"])
    params = count_params(model)
    return Contender(f"{name} {backend}", name, backend, net, task, card, side, params, macs, memory, gap)


def _in_process(model: nn.Module, backend: str, precision: str, threads: int) -> Net:
    """Return the folded network, eager or compiled."""
    if backend == "torch" and precision == "float32":
        return fold(model)
    kind = EagerSession if backend == "torch" else CompiledSession
    return kind(model, precision=precision, threads=threads)


def _best_batch(contender: Contender) -> int:
    """Return the batch with the most pictures a second, by a few calls each."""
    rates = {}
    for count in BATCHES:
        timing = interleave({"": contender.work(count)}, seconds=0, min_rounds=3)[""]
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
        work[contender.label] = contender.work(batches[contender.label])
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
        metric=contender.card.numbers.get(contender.task.main_metric, ""),
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
