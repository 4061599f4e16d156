"""What a conversion gained and cost: accuracy and speed of a base and its converted form, before and after."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from saccade.engine.bench.machine import describe_machine
from saccade.engine.bench.run import Row, bench
from saccade.engine.evaluate.compare import accuracy_change, comparison_section
from saccade.engine.evaluate.evaluate import SHOWN, evaluate
from saccade.engine.evaluate.page import write_report, write_summary
from saccade.engine.train.log import Log
from saccade.files import write_text
from saccade.tasks.evaluation import Evaluation
from saccade.tasks.intervals import Interval

STAGES = ("base", "converted", "fine-tuned")


@dataclass
class Comparison:
    """The numbers of a conversion."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    """One a stage (base, converted, fine-tuned): stage, top1 with top1_low and top1_high (95 %), params_m, macs_g,
    latency_ms (batch 1), images_per_s (best batch), times (as fast as the base, best batch) with times_low and
    times_high. None where there is none: a converted network costs what it costs after fine-tuning."""
    change: float | None = None
    """Accuracy after less before, in [-1, 1]; None without a base that knows the classes."""
    change_interval: Interval | None = None
    """95 %, from the same images under both networks."""
    macs_change: float = 0.0
    """Share of the multiply-accumulates saved (negative) or added."""
    images: int = 0
    """Images that accuracies were measured on; 0: none."""

    def sentence(self) -> str:
        """Sum it up in one line."""
        first, last = self.rows[0], self.rows[-1]
        parts = [
            f"{100 * self.macs_change:+.1f} % multiply-accumulates",
            f"{last['times']:.2f} times as fast",
        ]
        if self.change is not None and self.change_interval is not None:
            low, high = (100 * bound for bound in self.change_interval)
            parts.insert(
                0, f"top-1 {100 * self.change:+.2f} points (95 % interval {low:+.2f} to {high:+.2f})"
            )
        elif last["top1"] is not None and first["top1"] is None:
            parts.insert(0, f"top-1 {100 * last['top1']:.2f} %, nothing to compare with")
        return ", ".join(parts)


def compare_speed(
    base: Path | str, after: Path | str, *, threads: int = 1, backend: str = "torch", seconds: float = 5.0,
    log: Log = lambda text: None,
) -> Comparison:  # fmt: skip
    """Measure two networks in turn in this process, both in the same runtime on the CPU.

    Args:
        base: Run folder or weights file before the conversion.
        after: Likewise after it.
        threads: Of both.
        backend: A backend of `saccade bench`.
        seconds: For each of latency (batch 1) and throughput (the best of a few batches).
        log: Takes lines for the user.

    Returns:
        Rows without accuracies, first the base, last the converted network.
    """
    before = torch.get_num_threads()
    try:
        found = bench([str(base), str(after)], [backend], threads=threads, seconds=seconds, log=log)
    finally:
        torch.set_num_threads(before)
    rows = [_speed_row(stage, found[i], found[2 + i]) for i, stage in enumerate((STAGES[0], STAGES[2]))]
    result = Comparison(rows)
    result.macs_change = found[1].macs_g / found[0].macs_g - 1
    return result


def compare(
    folder: Path | str,
    base: Path | str,
    converted: Path | str,
    *,
    judged: bool = True,
    device: str = "cpu",
    threads: int = 1,
    backend: str = "torch",
    seconds: float = 5.0,
    seed: int = 0,
    command: str = "",
    log: Log = lambda text: None,
) -> Comparison:
    """Measure a finished conversion run and write comparison.json, report.html and report.md into it.

    Args:
        folder: The run folder; all accuracies are of its held-out images.
        base: Run folder or weights file of the base.
        converted: Weights file of the converted network before fine-tuning.
        judged: Whether the base knows the classes, so that it and the unturned conversion have an accuracy.
        device: Of the accuracies; speeds are of the CPU.
        threads: Of the speeds.
        backend: Of the speeds.
        seconds: See `compare_speed`.
        seed: Of the bootstrap.
        command: How to make this again, for the page.
        log: Takes lines for the user.
    """
    folder = Path(folder)
    sources = {STAGES[2]: folder} | ({STAGES[0]: base, STAGES[1]: converted} if judged else {})
    found: dict[str, Evaluation] = {}
    for stage, source in sources.items():
        log(f"measuring the accuracy: {stage}")
        found[stage] = evaluate(
            source,
            like=folder,
            backend="torch",
            device=device,
            seed=seed,
            shown=SHOWN // 2 if source == folder else 0,
        )
    log("measuring the speed, both in turn")
    result = compare_speed(base, folder, threads=threads, backend=backend, seconds=seconds)
    if judged:
        result.rows.insert(1, dict.fromkeys(result.rows[0]) | {"stage": STAGES[1]})
        before, after = (found[stage].gathered.hits() for stage in (STAGES[0], STAGES[2]))
        result.change, result.change_interval = accuracy_change(before, after, seed=seed)
    for row in result.rows:
        if (one := found.get(row["stage"])) is not None:
            row["top1"] = one.metrics["top1"]
            row["top1_low"], row["top1_high"] = one.intervals["top1"]
    after = found[STAGES[2]]
    result.images = after.count
    write_text(folder / "comparison.json", json.dumps(asdict(result), indent=1) + "\n")
    words = [
        result.sentence()[0].upper() + result.sentence()[1:] + ".",
        "The base was not trained again; its converted form was trained further, as the curves below show.",
        "Speeds were taken in turn in one process, so that a busy machine changes the times but not their ratio.",
    ]
    page = folder / "report.html"
    write_report(
        page,
        after,
        curves=folder / "metrics.csv",
        environment=describe_machine(),
        command=command,
        opening=comparison_section(as_table(result), words, "Before and after"),
    )
    write_summary(page.with_suffix(".md"), after, command=command)
    return result


def as_table(result: Comparison) -> list[dict[str, Any]]:
    """Write the rows for people."""
    return [
        {
            "network": row["stage"],
            "top-1 %": _number(row["top1"], 100, 2),
            "95 %": f"{100 * row['top1_low']:.2f}-{100 * row['top1_high']:.2f}"
            if row["top1"] is not None
            else "",
            "params M": _number(row["params_m"], 1, 2),
            "MACs G": _number(row["macs_g"], 1, 4),
            "ms at batch 1": _number(row["latency_ms"], 1, 2),
            "images/s": _number(row["images_per_s"], 1, 1),
            "times": f"{row['times']:.2f} ({row['times_low']:.2f}-{row['times_high']:.2f})"
            if row["times"]
            else "",
        }
        for row in result.rows
    ]


def _speed_row(stage: str, latency: Row, throughput: Row) -> dict[str, Any]:
    return {
        "stage": stage,
        "top1": None,
        "top1_low": None,
        "top1_high": None,
        "params_m": latency.params_m,
        "macs_g": latency.macs_g,
        "latency_ms": latency.latency_ms,
        "images_per_s": throughput.images_per_s,
        "batch": throughput.batch,
        "times": throughput.ratio,
        "times_low": throughput.ratio_low,
        "times_high": throughput.ratio_high,
    }


def _number(value: float | None, factor: float, digits: int) -> float | str:
    return "" if value is None else round(factor * value, digits)
