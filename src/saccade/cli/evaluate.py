"""`saccade eval`: measure how good weights are, and write the report page."""

import functools
import shlex
from pathlib import Path
from typing import Annotated, Any

import cyclopts

from saccade.cli import show

Flag = Annotated[bool, cyclopts.Parameter(negative="")]


def evaluate(
    *,
    weights: str,
    data: str = "",
    out: Path | None = None,
    backend: str = "auto",
    precision: str = "float32",
    size: int = 0,
    batch: int = 0,
    device: str = "cpu",
    threads: int = 0,
    speeds: Path | None = None,
    seed: int = 0,
    frames: Annotated[int, cyclopts.Parameter(show=False)] = 0,
    views: Annotated[str, cyclopts.Parameter(show=False)] = "1x1",
    json: Flag = False,
) -> None:
    """Measure a trained model's accuracy, with intervals, and write a report page.

    Of a detector: COCO's average precision, of a segmenter: mean intersection over union, with a page by class (.md).
    Of videos: --views 4x3 averages the answers to four times three views of each clip, --frames sets its frames.

    Example: saccade eval --data photos/val --weights runs/x

    Args:
        weights: Run folder, weights file, bundle or model name.
        data: Folder of class folders, table, shards or built-in name, classes matched by name; left out,
            what the run folder was validated on.
        out: The page (.html) with a short .md beside it; left out, report.html in a run folder, else none.
        backend: auto takes the fastest that passes its check on this machine.
        precision: float32, bf16 or int8, where the backend has it.
        size: Side of the square input in pixels; 0: that of the weights.
        batch: Images at a time; 0: the fastest of a few.
        device: cpu, cuda, cuda:N or mps.
        threads: Cores to use; 0: all.
        speeds: A table written by `saccade bench`, for the speed-accuracy plot.
        seed: Of the bootstrap behind the intervals.
        frames: Of a clip; 0: those of the weights.
        views: Of videos: 1x1, 1x3, 4x1, 4x3 or 10x3, temporal times spatial.
        json: Print one JSON object.
    """
    from saccade.engine.bench.machine import describe_machine
    from saccade.engine.evaluate.report import read_speeds, write_report, write_summary
    from saccade.engine.evaluate.run import evaluate as measure
    from saccade.engine.evaluate.video import evaluate_video
    from saccade.engine.sessions.dense import is_dense
    from saccade.engine.sessions.video import is_video
    from saccade.errors import ConfigError

    if is_dense(weights):
        evaluate_dense(weights, data, out, backend, size, batch, device, threads, json)
        return
    run_folder = Path(weights) if (Path(weights) / "recipe.yaml").is_file() else None
    page = out or (run_folder / "report.html" if run_folder else None)
    if page is not None and page.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"{page}: the report is a page; give --out a name that ends in .html")
    rows = read_speeds(speeds) if speeds else []
    run: Any = measure
    if is_video(weights):
        run = functools.partial(evaluate_video, frames=frames, views=views)
    bar = show.progress()
    with bar:
        task = bar.add_task("evaluating", total=None, info="")
        found = run(
            weights,
            data,
            backend=backend,
            precision=precision,
            size=size,
            device=device,
            batch=batch,
            threads=threads or None,
            seed=seed,
            notify=show.note,
            progress=lambda count, total: bar.update(task, completed=count, total=total),
        )
    for note in found.notes:
        show.note(note)
    for name, reason in found.skipped[:20]:
        show.note(f"left out {name}: {reason}")
    values = found.summary()
    if page is not None:
        command = again(found.data, weights)
        curves = run_folder / "metrics.csv" if run_folder else None
        environment = describe_machine()
        write_report(page, found, curves=curves, speeds=rows, environment=environment, command=command)
        write_summary(page.with_suffix(".md"), found, command=command)
        values["report"] = str(page)
    if json:
        show.result(values, as_json=True)
        return
    lines = {}
    for name, value in values.items():
        if name.endswith("_interval"):
            continue
        span = values.get(f"{name}_interval")
        lines[name] = f"{value:.4f}  (95 % interval {span[0]:.4f} to {span[1]:.4f})" if span else value
    show.result(lines, as_json=False)


def again(data: str, weights: str) -> str:
    """Write the command that makes a page again, quoted so that names stay names when it is copied."""
    return shlex.join(["saccade", "eval", "--data", data, "--weights", weights])


def evaluate_dense(
    weights: str,
    data: str,
    out: Path | None,
    backend: str,
    size: int,
    batch: int,
    device: str,
    threads: int,
    as_json: bool,
) -> None:
    """Measure a detector or segmenter; see `evaluate`."""
    from saccade.engine.evaluate.dense import mark_dense
    from saccade.errors import ConfigError

    page = out or (Path(weights) / "report.md" if (Path(weights) / "recipe.yaml").is_file() else None)
    if page is not None and page.suffix.lower() != ".md":
        raise ConfigError(
            f"{page}: the page of a detector or segmenter is a .md file; give --out such a name"
        )
    bar = show.progress()
    with bar:
        task = bar.add_task("evaluating", total=None, info="")
        found = mark_dense(
            weights,
            data,
            size=size,
            batch=batch,
            backend=backend,
            device=device,
            threads=threads or None,
            progress=lambda count, total: bar.update(task, completed=count, total=total),
        )
    for note in found.notes:
        show.note(note)
    for _, reason in found.skipped[:20]:
        show.note(f"left out: {reason}")
    values = found.summary()
    if page is not None:
        found.write(page, again(found.data, weights))
        values["report"] = str(page)
    if as_json:
        show.result({**values, "per_class": found.per_class}, as_json=True)
        return
    shown = {name: f"{value:.4f}" if isinstance(value, float) else value for name, value in values.items()}
    show.result(shown, as_json=False)
    show.rows(found.per_class, as_json=False, title="by class")
