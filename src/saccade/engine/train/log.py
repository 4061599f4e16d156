"""What a run writes down (log.jsonl, metrics.csv, TensorBoard) and what it shows meanwhile."""

from __future__ import annotations

import csv
import io
import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from saccade.errors import SaccadeError
from saccade.extras import require
from saccade.files import convert, read_lines, usable_cores, write_text
from saccade.files.regular import open_kept
from saccade.shown import escape

Log = Callable[[str], None]
"""Takes lines for the user."""

PLAIN_SECONDS = 10.0
"""Off a terminal, at most one progress line in so many seconds."""


@dataclass
class _Entry:
    """What resuming needs of a line of the log."""

    kind: str = ""
    step: int = 0
    epoch: int = 0


class RunLog:
    """Appends to `log.jsonl` and keeps `metrics.csv` beside it; `quiet` for all processes but the first."""

    def __init__(self, folder: Path, *, tensorboard: bool = False, quiet: bool = False):
        self.path = folder / "log.jsonl"
        self.table = folder / "metrics.csv"
        self.quiet = quiet
        self.rows: list[dict[str, Any]] = []
        self.board: Any = None
        if tensorboard and not quiet:
            require("tensorboard", "tensorboard", "to write TensorBoard logs")
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(folder / "tensorboard")

    def rewind(self, step: int, epoch: int) -> None:
        """Forget what was logged after a checkpoint: steps beyond `step`, evaluations of epochs from `epoch` on."""
        if self.quiet or not self.path.is_file():
            return
        kept, lost = [], 0
        for _, value in read_lines(self.path, dict[str, Any], keep_broken=True):
            try:
                if isinstance(value, SaccadeError):
                    raise value
                entry = convert(value, _Entry, where=str(self.path))
            except SaccadeError:
                lost += 1
                continue
            if entry.step <= step and (entry.kind != "epoch" or entry.epoch < epoch):
                kept.append(json.dumps(value))
                if entry.kind == "epoch":
                    self.rows.append({k: v for k, v in value.items() if k != "kind"})
        if lost > 1:  # one is the last line of a killed writer
            sys.stderr.write(f"{self.path}: {lost} lines are damaged and are left out\n")
        write_text(self.path, "".join(line + "\n" for line in kept))
        self._write_table()

    def write(self, kind: str, **values: Any) -> None:
        """Add one line, and for kind "epoch" one row of the table."""
        if self.quiet:
            return
        with open_kept(self.path, append=True) as file:
            file.write(f"{json.dumps({'kind': kind, **values})}\n".encode())
        if kind == "epoch":
            self.rows.append(values)
            self._write_table()
        if self.board is not None:
            for name, value in values.items():
                if isinstance(value, int | float) and name not in ("step", "epoch"):
                    self.board.add_scalar(f"{kind}/{name}", value, values.get("step", 0))
            self.board.flush()

    def close(self) -> None:
        """End the TensorBoard file, if any."""
        if self.board is not None:
            self.board.close()

    def _write_table(self) -> None:
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.table, text.getvalue().encode("utf-8", "backslashreplace").decode())


class Ticker:
    """Shows loss, gradient norm, rate and time left: a bar on a terminal, now and then a plain line elsewhere."""

    def __init__(self, total: int, done: int, *, quiet: bool = False):
        self.total, self.first, self.done, self.quiet = total, done, done, quiet
        self.begun = self.spoken = time.monotonic()
        console = Console(stderr=True)
        self.bar: Progress | None = None
        if not quiet and console.is_terminal:
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[info]}", markup=False),
                TimeElapsedColumn(),
            )
            self.bar = Progress(*columns, console=console, transient=True)
            self.item = self.bar.add_task("training", total=total, completed=done, info="")

    def __enter__(self) -> Ticker:
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def step(self, done: int, epoch: str, loss: float, norm: float, rate: float) -> None:
        """Show that `done` steps are done.

        Args:
            done: Steps of the whole run.
            epoch: Such as "epoch 3/20".
            loss: The latest known.
            norm: Global norm of its gradient before clipping.
            rate: Images a second over all processes.
        """
        if self.quiet:
            return
        self.done = done
        now = time.monotonic()
        left = (now - self.begun) / max(1, done - self.first) * (self.total - done)
        info = f"loss {loss:.4f}  gradient norm {norm:.3g}  {rate:.0f} images/s  {_clock(left)} left"
        if self.bar is not None:
            self.bar.update(self.item, completed=done, description=epoch, info=info)
        elif now - self.spoken >= PLAIN_SECONDS:
            self.spoken = now
            self.print(f"{epoch}  step {done}/{self.total}  {info}")

    def print(self, text: str) -> None:
        """Write a line on stderr, above the bar when there is one."""
        if self.quiet:
            return
        if self.bar is not None:
            self.bar.console.print(escape(text), highlight=False, markup=False, soft_wrap=True)
        else:
            sys.stderr.write(escape(text) + "\n")
            sys.stderr.flush()


def _clock(seconds: float) -> str:
    """Write a duration as 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def write_environment(folder: Path, **facts: Any) -> None:
    """Write `env.json`: versions and machine, for whoever wants the same numbers again."""
    import accelerate
    import numpy
    import timm

    import saccade

    cuda = torch.cuda.is_available()
    values = {
        "saccade": saccade.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "timm": timm.__version__,
        "accelerate": accelerate.__version__,
        "numpy": numpy.__version__,
        "system": platform.platform(),
        "machine": platform.machine(),
        "cores": usable_cores(),
        "gpu": torch.cuda.get_device_name() if cuda else "",
        "cuda": torch.version.cuda or "" if cuda else "",
        "command": sys.argv,
        **facts,
    }
    write_text(folder / "env.json", json.dumps(values, indent=2, default=str) + "\n")
