"""`saccade eval`: measure how good weights are, and write the report page."""

import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

import cyclopts

from saccade.cli import show
from saccade.cli.flags import NOBODY, Named

Flag = Annotated[bool, cyclopts.Parameter(negative="")]


def evaluate(
    *,
    named: Named = NOBODY,
    data: str = "",
    out: Path | None = None,
    backend: str = "auto",
    precision: str = "float32",
    size: int = 0,
    batch: int = 0,
    device: str = "cpu",
    threads: Annotated[int, cyclopts.Parameter(show=False)] = 0,
    speeds: Annotated[Path | None, cyclopts.Parameter(show=False)] = None,
    seed: Annotated[int, cyclopts.Parameter(show=False)] = 0,
    probe: Literal["", "knn", "linear"] = "",
    frames: Annotated[int, cyclopts.Parameter(show=False)] = 0,
    views: Annotated[str, cyclopts.Parameter(show=False)] = "",
    pictures: Annotated[str, cyclopts.Parameter(show=False)] = "",
    json: Flag = False,
) -> None:
    """Measure how good a trained model of any task is, with intervals, and write a report page.

    Of a detector: COCO's average precision, of a segmenter: mean intersection over union. Of videos: --views 4x3
    averages the answers to four times three views of each clip, --frames sets its frames. Of radar networks: beside
    what needs no network. Of language models: the likelihood of the right answers (`vlm score` scores what they say);
    there --labels are the tracks to draw boxes from. Less common: --speeds TABLE (of `saccade bench`, for the plot),
    --seed (of the intervals), --threads, --raw-weights.

    Example: saccade eval --data photos/val --weights runs/x

    Args:
        named: The weights.
        data: As for training, classes matched by name; left out, what the run folder was validated on.
        out: The page (.html) with a short .md beside it; left out, report.html in a run folder, else none.
        backend: auto takes the fastest that passes its check on this machine.
        precision: float32, bf16 or int8, where the backend has it.
        size: Side of the input in pixels, of dense tasks the shorter side; 0: that of the weights.
        batch: Samples at a time; 0: the fastest of a few.
        device: cpu, cuda, cuda:N or mps.
        threads: Cores to use; 0: all.
        speeds: A table written by `saccade bench`, for the speed-accuracy plot.
        seed: Of the bootstrap behind the intervals.
        probe: Judge a classifier's features instead of its answers, on data of any classes: knn lets the nearest
            training pictures vote, linear fits a logistic regression to them.
        frames: Of a clip; 0: those of the weights.
        views: Of videos: 1x1, 1x3, 4x1, 4x3 or 10x3, temporal times spatial.
        pictures: Folder that the pictures of --labels are relative to.
        json: Print one JSON object.
    """
    from saccade.engine.bench.machine import describe_machine
    from saccade.engine.evaluate.page import page_path, read_speeds, write_report, write_summary
    from saccade.errors import ConfigError

    weights, labels = named.judged()
    page = page_path(out, weights)
    rows = read_speeds(speeds) if speeds else []
    if probe:
        given = {
            "backend": backend != "auto",
            "precision": precision != "float32",
            "frames": frames,
            "views": views,
        }
        given |= {"labels": labels, "pictures": pictures}
        if wrong := [name for name, value in given.items() if value]:
            raise ConfigError(f"--probe runs vectors in PyTorch and has no --{wrong[0]}; leave it out")
    found = measured(
        weights, data, probe=probe, size=size, device=device, batch=batch, threads=threads or None, seed=seed,
    ) if probe else measured(
        weights, data, backend=backend, precision=precision, size=size, device=device, batch=batch,
        threads=threads or None, seed=seed, frames=frames, views=views, labels=labels, pictures=pictures,
    )  # fmt: skip
    values = found.summary()
    if page is not None:
        command = again(data or found.data, weights, probe)
        curves = Path(weights.weights) / "metrics.csv"
        write_report(page, found, curves=curves, speeds=rows, environment=describe_machine(), command=command)
        write_summary(page.with_suffix(".md"), found, command=command)
        values["report"] = str(page)
    if json:
        by_class = {} if found.intervals else {"per_class": found.per_class}
        show.result(values | by_class, as_json=True)
        return
    lines = {}
    for name, value in values.items():
        if name.endswith("_interval"):
            continue
        span = values.get(f"{name}_interval")
        shown = f"{value:.4f}" if name in found.metrics else value
        lines[name] = f"{shown}  (95 % interval {span[0]:.4f} to {span[1]:.4f})" if span else shown
    show.result(lines, as_json=False)
    if found.per_class and not found.intervals:
        show.rows(found.per_class, as_json=False, title="by class")


def measured(weights: str, data: str, *, probe: Literal["", "knn", "linear"] = "", **options: Any) -> Any:
    """Evaluate with a bar, and say what was left out."""
    from saccade.engine.evaluate.evaluate import evaluate as measure

    if probe:
        from saccade.engine.evaluate.probe import probe as judge

        measure, options = judge, options | {"kind": probe}
    bar = show.progress()
    with bar:
        task = bar.add_task("evaluating", total=None, info="")
        found = measure(
            weights,
            data,
            log=show.note,
            progress=lambda count, total: bar.update(task, completed=count, total=total),
            **options,
        )
    for note in found.notes:
        show.note(note)
    for name, reason in found.skipped[:20]:
        show.note(f"left out {name}: {reason}")
    return found


def again(data: str, weights: str, probe: str = "") -> str:
    """Write the command that makes a page again, quoted so that names stay names when it is copied."""
    words = ["saccade", "eval", "--data", data, "--weights", weights]
    return shlex.join([*words, "--probe", probe] if probe else words)
