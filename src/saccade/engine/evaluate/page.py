"""The page and the short Markdown of an evaluation of any task."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import saccade
from saccade import files
from saccade.errors import ConfigError, DataError
from saccade.page import charts, document, plain, readable, table
from saccade.page.charts import Series
from saccade.shown import escape, html, markdown
from saccade.tasks import get_task
from saccade.tasks.evaluation import Evaluation
from saccade.weights import Source

LOSS_CURVES = {"train_loss": "training", "loss": "held out", "ema_loss": "held out, averaged weights"}
"""Columns of `metrics.csv` that are drawn, and what the lines are called."""
LARGE = 8
"""Tiles of metrics; the others stand in the table of the short form."""


def page_path(out: Path | None, weights: Path | str) -> Path | None:
    """Return where the page goes: into a run folder unless told otherwise; None: there is none.

    Raises:
        ConfigError: A name that is no page's.
    """
    home = Path(Source(weights).weights)
    page = out or (home / "report.html" if (home / "recipe.yaml").is_file() else None)
    if page is not None and page.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"{page}: the report is a page; give --out a name that ends in .html")
    return page


def write_report(
    path: Path | str,
    evaluation: Evaluation,
    *,
    curves: Path | str | None = None,
    speeds: Sequence[Mapping[str, Any]] = (),
    environment: Mapping[str, Any] | None = None,
    command: str = "",
    opening: str = "",
) -> None:
    """Write the report page, atomically.

    Args:
        path: The HTML file; its folder is made when absent.
        evaluation: What was found.
        curves: A `metrics.csv` of a run folder, for the training curves; None or absent: no such section.
        speeds: Rows of a speed table with `model`, `images_per_s` and optionally `backend`, `precision`,
            `top1`; rows with `top1` make the speed-accuracy plot, otherwise bars are listed as a table.
        environment: Machine and versions, shown at the end.
        command: How to make this report again.
        opening: A section in HTML to put after the headline.
    """
    rows = read_metrics(curves) if curves is not None and Path(curves).is_file() else []
    sections = [
        _headline(evaluation),
        opening,
        _curves(rows, evaluation),
        *(section.html for section in evaluation.sections),
        _speed(speeds, evaluation),
        _skipped(evaluation.skipped),
        _environment(evaluation, environment or {}, command),
    ]
    title = f"{evaluation.model} · evaluation"
    files.write_text(path, document(title, sections, f"Written by Saccade {saccade.__version__}."))


def write_summary(path: Path | str, evaluation: Evaluation, *, command: str = "") -> None:
    """Write the short Markdown form, atomically: metrics, and what the task's sections say in short."""
    of = f" with {markdown(evaluation.head)}" if evaluation.head else ""
    lines = [f"# {markdown(evaluation.model)}{of} on {markdown(evaluation.data)}", ""]
    samples = get_task(evaluation.task).samples
    lines += [f"{evaluation.count} {samples}, {len(evaluation.skipped)} could not be read.", ""]
    lines += ["| metric | value | 95 % interval |", "|---|---|---|"]
    for name, value in evaluation.metrics.items():
        title, unit = _named(name, evaluation)
        low, high = evaluation.intervals.get(name, (math.nan, math.nan))
        span = "" if math.isnan(low) else f"{_value(low, unit)} – {_value(high, unit)}"
        lines.append(f"| {markdown(title)} | {_value(value, unit)} | {span} |")
    for section in evaluation.sections:
        lines += ["", section.text] if section.text else []
    if evaluation.notes:
        lines += ["", *(f"- {markdown(note)}" for note in evaluation.notes)]
    if evaluation.skipped:
        lines += [
            "",
            "Left out:",
            "",
            *(f"- {markdown(n)}: {markdown(why)}" for n, why in evaluation.skipped),
        ]
    if evaluation.setting:
        shown = ", ".join(f"{k} {markdown(plain(v))}" for k, v in evaluation.setting.items())
        lines += ["", f"Run with {shown}."]
    if command:
        lines += ["", f"    {escape(command)}"]
    files.write_text(path, "\n".join(lines) + "\n")


def read_metrics(path: Path | str) -> list[dict[str, float]]:
    """Read a table of numbers, one row an epoch or interval; fields that are no number become NaN.

    Raises:
        DataError: The file has no header.
    """
    rows, names = _read_rows(path)
    if not names:
        raise DataError(f"{path}: the file is empty; expected a CSV table with a header")
    return [{name: _float(text) for name, text in row.items() if name} for row in rows]


def read_speeds(path: Path | str) -> list[dict[str, Any]]:
    """Read a speed table for `write_report`.

    Raises:
        DataError: Not there, or no columns `model` and `images_per_s`.
    """
    if not Path(path).is_file():
        raise DataError(f"{path}: no such file; expected a table written by `saccade bench`")
    rows, names = _read_rows(path)
    missing = {"model", "images_per_s"} - set(names)
    if missing:
        raise DataError(
            f"{path}: no column {' and '.join(sorted(missing))}; expected a table of `saccade bench`"
        )
    return rows


def _read_rows(path: Path | str) -> tuple[list[dict[str, Any]], Sequence[str]]:
    """Read a CSV table and its header."""
    reader = csv.DictReader(io.StringIO(files.read_text(path, what="a CSV table"), newline=""))
    try:
        return list(reader), reader.fieldnames or ()
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}: {error}; expected a CSV table") from None


def _headline(evaluation: Evaluation) -> str:
    """Title and tiles."""
    count, classes = evaluation.count, len(evaluation.per_class)
    samples = get_task(evaluation.task).samples
    tiles = []
    for i, (name, value) in enumerate(list(evaluation.metrics.items())[:LARGE]):
        # Five guesses at five classes are always right; the mean recall stands in the table below.
        if name == "class_mean" or (name == "top5" and len(evaluation.labels) <= 5):
            continue
        title, unit = _named(name, evaluation)
        span = ""
        if name in evaluation.intervals:
            low, high = evaluation.intervals[name]
            words = "95 % interval " if i == 0 else ""
            span = f'<div class="range">{words}{_value(low, unit).removesuffix(" %")} – {_value(high, unit)}</div>'
        text = _value(value, unit).replace(" %", "<small>%</small>")
        lead = " lead" if i == 0 else ""
        tiles.append(f'<dl class="tile{lead}"><dt>{html(title)}</dt><dd>{text}</dd>{span}</dl>')
    if rate := evaluation.setting.get("images_per_s"):
        tiles.append(
            f'<dl class="tile"><dt>Speed</dt><dd>{plain(rate)}<small>{samples}/s</small></dd>'
            '<div class="range">decoding and model, this machine</div></dl>'
        )
    of = f"{classes} classes, " if classes else ""
    tiles.append(
        f'<dl class="tile"><dt>{samples.capitalize()}</dt><dd>{count:,}</dd><div class="range">{of}'
        f"{len(evaluation.skipped)} unreadable</div></dl>"
    )
    notes = "".join(f"<p>{html(note)}</p>" for note in evaluation.notes)
    name = f"{evaluation.model} with {evaluation.head}" if evaluation.head else evaluation.model
    of = f" of {classes} classes" if classes else ""
    return (
        f'<header><div class="eyebrow">Evaluation</div><h1>{html(name)}</h1>'
        f"<p>{count:,} {samples}{of} from <code>{html(evaluation.data)}</code>, "
        f"with the weights in <code>{html(evaluation.weights)}</code>.</p>{notes}</header>"
        f'<div class="tiles">{"".join(tiles)}</div>'
    )


def _curves(rows: Sequence[Mapping[str, float]], evaluation: Evaluation) -> str:
    """Loss and the main metrics over the run, each where the table has it."""
    if len(rows) < 2:
        return ""
    names = list(rows[0])
    axis = next((n for n in ("epoch", "step") if n in names), None)
    x = [row[axis] for row in rows] if axis else [float(i + 1) for i in range(len(rows))]
    figures = []
    task = get_task(evaluation.task)
    called, unit = _named(task.main_metric, evaluation)
    second = {"top5": "top-5"} if "top5" in task.metric_names else {}
    metric_curves = {
        task.main_metric: readable(task.main_metric),
        f"ema_{task.main_metric}": f"{readable(task.main_metric)}, averaged weights",
    } | second
    for title, wanted, percent in (
        ("Loss", LOSS_CURVES, False),
        ("Held-out accuracy" if second else f"Held-out {_inside(called)}", metric_curves, unit == "%"),
    ):
        chosen = [n for n in wanted if n in names and any(math.isfinite(row[n]) for row in rows)]
        lines = [Series(wanted[n], x, [row[n] for row in rows]) for n in chosen]
        if lines:
            chart = charts.line_chart(lines, axis or "row", "", percent=percent, label=title)
            figures.append(f"<figure><figcaption>{title}</figcaption>{chart}</figure>")
    if not figures:
        return ""
    return f'<section><h2>Training</h2><div class="grid2">{"".join(figures)}</div></section>'


def _speed(speeds: Sequence[Mapping[str, Any]], evaluation: Evaluation) -> str:
    """The main metric over speed where both are known, and the rows."""
    rows = [row for row in speeds if _float(row.get("images_per_s")) > 0]
    if not rows:
        return ""
    main = get_task(evaluation.task).main_metric
    title, unit = _named(main, evaluation)
    groups: dict[str, list[tuple[float, float, str]]] = {}
    for row in rows:
        score = _float(row.get("metric"))
        if not math.isfinite(score):
            continue
        name = " ".join(str(row[k]) for k in ("backend", "precision") if row.get(k)) or "measured"
        groups.setdefault(name, []).append((_float(row["images_per_s"]), score, str(row["model"])))
    chart = ""
    if groups:
        drawn = charts.scatter_chart(
            [Series(name, *_columns(points)) for name, points in groups.items()],
            "images per second (logarithmic)",
            _inside(title),
            percent=unit == "%",
        )
        chart = f"<figure><figcaption>Up and to the right is better</figcaption>{drawn}</figure>"
    columns = ("model", "backend", "precision", "batch", "threads", "images_per_s", "latency_ms", "metric")
    kept = [{c: row[c] for c in columns if row.get(c) not in (None, "")} for row in rows]
    return f"<section><h2>Speed and accuracy</h2>{chart}{table(kept)}</section>"


def _columns(points: Sequence[tuple[float, float, str]]) -> tuple[list[float], list[float], list[str]]:
    """Turn points into their columns."""
    return [x for x, _, _ in points], [y for _, y, _ in points], [note for _, _, note in points]


def _skipped(skipped: Sequence[tuple[str, str]]) -> str:
    """Every file that could not be read, with the reason."""
    if not skipped:
        return ""
    rows = [{"file": name, "reason": reason} for name, reason in skipped]
    listing = table(rows, kind="plain")
    if len(rows) > 20:
        listing = f"<details><summary>Show all {len(rows)}</summary>{listing}</details>"
    verb = "file was" if len(rows) == 1 else "files were"
    words = f"<p><b>{len(rows)}</b> {verb} not readable and not counted.</p>"
    return f"<section><h2>Left out</h2>{words}{listing}</section>"


def _environment(evaluation: Evaluation, environment: Mapping[str, Any], command: str) -> str:
    """How it was run, on what, and how to do it again."""
    values = {**{readable(k): v for k, v in evaluation.setting.items()}, **environment}
    again = f"<p>Make this page again: <code>{html(command)}</code></p>" if command else ""
    if not values and not again:
        return ""
    lines = "".join(
        f"<tr><th>{html(str(k))}</th><td>{html(plain(v))}</td></tr>" for k, v in values.items() if v != ""
    )
    listing = f'<div class="scroll"><table class="plain">{lines}</table></div>' if lines else ""
    return f"<section><h2>How it was measured</h2>{again}{listing}</section>"


def _named(name: str, evaluation: Evaluation) -> tuple[str, str]:
    """Return what a metric is called, and its unit: % or nothing."""
    title = get_task(evaluation.task).metric_names.get(name, readable(name))
    return (title.removesuffix(" %"), "%") if title.endswith(" %") else (title, "")


def _inside(title: str) -> str:
    """Write a title inside a sentence."""
    return title if title[1:2].isupper() else title[0].lower() + title[1:]


def _value(value: float, unit: str) -> str:
    """A metric as people read it: shares in per cent, the rest with three digits."""
    return f"{100 * value:.2f} %" if unit else f"{value:.3f}"


def _float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
