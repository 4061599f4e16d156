"""`saccade predict`: run weights over a folder at full speed."""

from pathlib import Path
from typing import Annotated

import cyclopts

from saccade.cli import show
from saccade.cli.flags import NOBODY, Named

Flag = Annotated[bool, cyclopts.Parameter(negative="")]


def predict(
    inputs: str,
    /,
    *settings: Annotated[str, cyclopts.Parameter(show=False, allow_leading_hyphen=True)],
    named: Named = NOBODY,
    out: Path | None = None,
    backend: str = "auto",
    precision: str = "float32",
    size: int = 0,
    batch: int = 0,
    device: str = "cpu",
    threads: Annotated[int, cyclopts.Parameter(show=False)] = 0,
    embed: Path | None = None,
    restart: Annotated[Flag, cyclopts.Parameter(show=False)] = False,
    json: Flag = False,
) -> None:
    """Run a model over a folder of images at full speed; the same command goes on where a stopped one was.

    A detector or segmenter draws boxes, masks and class maps; a classifier of videos takes a folder of videos.
    Further flags belong to the task of the weights: --topk (answers in each row, 1 to 5) of classifiers of images and
    videos, --frames and --views (such as 4x3) of videos, --threshold (least score) of detectors, --draw of
    detectors and segmenters, --max-pixels of all of these. --restart begins anew instead of going on, --threads
    sets the cores to use, --raw-weights takes the raw weights of a file that also has averaged ones.

    Example: saccade predict pictures/ --weights runs/x --out predictions.csv

    Args:
        inputs: Folder (searched to the bottom), one image or video, table, shards or built-in name.
        named: The weights.
        settings: Flags of the task.
        out: File for the rows: .csv, .jsonl, .npz or .parquet (these two hold the logits too); predictions.csv when
            left out. Of a detector or segmenter a folder; predictions when left out.
        backend: auto takes the fastest that passes its check on this machine.
        precision: float32, bf16 or int8, where the backend has it.
        size: Side of the square input in pixels (of a detector the shorter side); 0: that of the weights.
        batch: Images at a time; 0: the fastest of a few.
        device: cpu, cuda, cuda:N or mps.
        threads: Cores to use; 0: all.
        embed: File for vectors instead of answers, .npz or .parquet: what a classifier sees in each picture before it
            decides.
        restart: Begin anew instead of going on with a stopped run.
        json: Print one JSON object.
    """
    from saccade.engine.predict import predict as run
    from saccade.engine.source import task_of
    from saccade.errors import ConfigError
    from saccade.settings import read_flags

    weights, asked = named.source(), {}
    if settings:
        task, _ = task_of(weights, "predict")
        known = list(task.predict_settings.__dataclass_fields__)
        try:
            asked = read_flags(settings, known, SHARED)
        except ConfigError as error:
            raise ConfigError(f"{error} ({weights} is for the task {task.name})") from None
    if threads < 0:
        raise ConfigError(f"--threads is {threads}; expected 1 or more, or 0 for all cores")
    if embed is not None and out is not None:
        raise ConfigError("--embed and --out both name a result; give one of them")
    bar = show.progress()
    with bar:
        shown = bar.add_task("predicting", total=None, info="")
        done = run(
            inputs,
            weights,
            embed or out,
            embed=embed is not None,
            backend=backend,
            precision=precision,
            batch=batch,
            threads=threads or None,
            device=device,
            size=size,
            restart=restart,
            log=show.note,
            progress=lambda count, total: bar.update(shown, completed=count, total=total),
            **asked,
        )
    for name, reason in done.skipped[:20]:
        show.note(f"left out {name}: {reason}")
    if len(done.skipped) > 20:
        show.note(f"and {len(done.skipped) - 20} more")
    values = {"out": str(done.out), "rows": done.rows, "skipped": len(done.skipped), "resumed": done.resumed}
    values |= {"seconds": round(done.seconds, 3), "images_per_s": round(done.rate, 1)}
    show.result(values | done.setting, as_json=json)


SHARED = (
    "weights", "model", "labels", "raw_weights", "out", "backend", "precision", "size", "batch", "device", "threads",
    "embed", "restart", "json",
)  # fmt: skip
"""Flags that every task has."""
