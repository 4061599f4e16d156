"""`saccade bench`: measure models on backends against each other, on this machine."""

from pathlib import Path
from typing import Annotated

import cyclopts

from saccade.cli import show
from saccade.cli.flags import NOBODY, Named

Flag = Annotated[bool, cyclopts.Parameter(negative="")]


def bench(
    *,
    models: str = "",
    named: Named = NOBODY,
    backends: str = "eager,torch,onnx,openvino",
    precision: str = "float32",
    threads: int = 1,
    size: int = 0,
    batch: int = 0,
    seconds: float = 5.0,
    out: Path | None = None,
    json: Flag = False,
) -> None:
    """Measure models against each other on this machine, taking turns in one process.

    Example: saccade bench --models shvit_s1,timm/mobilevitv2_100 --backends eager,torch,onnx

    Args:
        models: Names, run folders, weights files or NAME=FILE, with commas between, behind --weights where both are
            given; ratios refer to the first.
        named: The weights.
        backends: Of eager (as built), torch (folded), compile, onnx, openvino, executorch, litert.
        precision: float32 or bf16, where a backend has it.
        threads: Of every contender; with 1, processor time is measured, else the wall clock.
        size: Side of the picture in pixels; 0: each network's own.
        batch: Of the throughput rows; 0: the best for each contender, 1: no such rows.
        seconds: For each kind of row, all contenders together.
        out: Table to write (.csv), with the machine record and a picture (.svg) beside it.
        json: Print one JSON object.
    """
    from dataclasses import asdict

    from saccade.engine.bench.plot import draw
    from saccade.engine.bench.run import as_table, write_table
    from saccade.engine.bench.run import bench as run
    from saccade.errors import ConfigError
    from saccade.files import write_text

    if out is not None and out.suffix != ".csv":
        raise ConfigError(f"{out}: the table is written as CSV; give --out a name that ends in .csv")
    if threads < 1 or seconds <= 0:
        raise ConfigError(f"--threads is {threads} and --seconds {seconds}; both must be positive")
    contenders = [named.source()] if named != NOBODY or not models else []
    rows = run(
        [*contenders, *(name for name in models.split(",") if name)],
        [name for name in backends.split(",") if name],
        precision=precision, threads=threads, size=size, batch=batch, seconds=seconds, log=show.note,
    )  # fmt: skip
    show.rows([asdict(row) for row in rows] if json else as_table(rows), as_json=json, title="Speed")
    if out is not None:
        write_table(rows, out)
        write_text(out.with_suffix(".svg"), draw(rows))
        show.note(f"wrote {out}, {out.with_suffix('.svg').name} and {out.with_suffix('.machine.json').name}")
