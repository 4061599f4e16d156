"""Write what an evaluation found as `report.html`, one file with nothing outside it, and a short `report.md`."""

import base64
import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import saccade
from saccade import files
from saccade.engine.evaluate import charts
from saccade.engine.evaluate.charts import Series
from saccade.engine.evaluate.result import Evaluation, Mistake
from saccade.engine.evaluate.style import CSS
from saccade.errors import DataError
from saccade.shown import escape, html, markdown

MATRIX_CLASSES = 40
TABLE_ROWS = 60
LOSS_CURVES = {"train_loss": "training", "loss": "held out", "ema_loss": "held out, averaged weights"}
"""Columns of `metrics.csv` that are drawn, and what the lines are called."""
MARK_CURVES = {"top1": "top-1", "ema_top1": "top-1, averaged weights", "top5": "top-5"}
NAMES = {
    "top1": "Top-1 accuracy",
    "top5": "Top-5 accuracy",
    "macro_f1": "Macro F1",
    "class_mean": "Mean recall",
    "ece": "Calibration error",
    "loss": "Log loss",
}


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
        _curves(rows),
        _confusion(evaluation),
        _calibration(evaluation),
        _classes(evaluation),
        _mistakes(evaluation.mistakes),
        _speed(speeds),
        _broken(evaluation.skipped),
        _environment(evaluation, environment or {}, command),
    ]
    title = f"{evaluation.model} · evaluation"
    files.write_text(
        path,
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{CSS}</style></head><body><main>\n"
        + "\n".join(section for section in sections if section)
        + f"\n<footer>Written by Saccade {saccade.__version__}. This page needs no network.</footer>"
        "</main></body></html>\n",
    )


def write_summary(path: Path | str, evaluation: Evaluation, *, command: str = "") -> None:
    """Write the short Markdown form, atomically: metrics, weakest classes, most frequent confusions."""
    lines = [f"# {markdown(evaluation.model)} on {markdown(evaluation.data)}", ""]
    lines += [f"{evaluation.measures.count} images, {len(evaluation.skipped)} could not be read.", ""]
    lines += ["| mark | value | 95 % interval |", "|---|---|---|"]
    for name, value in evaluation.measures.metrics.items():
        low, high = evaluation.measures.intervals.get(name, (math.nan, math.nan))
        span = "" if math.isnan(low) else f"{_value(name, low)} – {_value(name, high)}"
        lines.append(f"| {NAMES.get(name, markdown(name))} | {_value(name, value)} | {span} |")
    weakest = sorted(evaluation.measures.per_class, key=lambda row: row["f1"])[:5]
    shown = ", ".join(f"{markdown(row['label'])} (F1 {row['f1']:.3f})" for row in weakest)
    lines += ["", f"Weakest classes: {shown}."]
    pairs = confused_pairs(evaluation.measures.confusion, evaluation.labels)[:5]
    if pairs:
        shown = ", ".join(f"{markdown(a)} taken for {markdown(b)} ({n}×)" for a, b, n in pairs)
        lines += [f"Most confused: {shown}."]
    if evaluation.setting:
        lines += [
            "",
            "Run with "
            + ", ".join(f"{k} {markdown(_plain(v))}" for k, v in evaluation.setting.items())
            + ".",
        ]
    if command:
        lines += ["", f"    {escape(command)}"]
    files.write_text(path, "\n".join(lines) + "\n")


def confused_pairs(confusion: np.ndarray, labels: Sequence[str]) -> list[tuple[str, str, int]]:
    """List (truth, answer, count) of all mistakes, the most frequent first."""
    wrong = confusion * (1 - np.eye(len(labels), dtype=confusion.dtype))
    cells = np.argwhere(wrong > 0)
    order = sorted(cells, key=lambda c: (-int(wrong[c[0], c[1]]), int(c[0]), int(c[1])))
    return [(labels[int(i)], labels[int(j)], int(wrong[i, j])) for i, j in order]


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
    count = evaluation.measures.count
    classes = len(evaluation.measures.per_class)
    tiles = []
    for i, (name, value) in enumerate(evaluation.measures.metrics.items()):
        # Five guesses at five classes are always right; the mean recall stands in the table below.
        if name == "class_mean" or (name == "top5" and len(evaluation.labels) <= 5):
            continue
        span = ""
        if name in evaluation.measures.intervals:
            low, high = evaluation.measures.intervals[name]
            words = "95 % interval " if i == 0 else ""
            span = f'<div class="range">{words}{_value(name, low).removesuffix(" %")} – {_value(name, high)}</div>'
        text = _value(name, value).replace(" %", "<small>%</small>")
        lead = " lead" if i == 0 else ""
        tiles.append(
            f'<dl class="tile{lead}"><dt>{NAMES.get(name, html(name))}</dt><dd>{text}</dd>{span}</dl>'
        )
    if rate := evaluation.setting.get("images_per_s"):
        tiles.append(
            f'<dl class="tile"><dt>Speed</dt><dd>{_plain(rate)}<small>images/s</small></dd>'
            '<div class="range">decoding and model, this machine</div></dl>'
        )
    tiles.append(
        f'<dl class="tile"><dt>Images</dt><dd>{count:,}</dd><div class="range">{classes} classes, '
        f"{len(evaluation.skipped)} unreadable</div></dl>"
    )
    notes = "".join(f"<p>{html(note)}</p>" for note in evaluation.notes)
    return (
        f'<header><div class="eyebrow">Evaluation</div><h1>{html(evaluation.model)}</h1>'
        f"<p>{count:,} images of {classes} classes from <code>{html(evaluation.data)}</code>, "
        f"with the weights in <code>{html(evaluation.weights)}</code>.</p>{notes}</header>"
        f'<div class="tiles">{"".join(tiles)}</div>'
    )


def _curves(rows: Sequence[Mapping[str, float]]) -> str:
    """Loss and accuracy over the run, each where the table has it."""
    if len(rows) < 2:
        return ""
    names = list(rows[0])
    axis = next((n for n in ("epoch", "step") if n in names), None)
    x = [row[axis] for row in rows] if axis else [float(i + 1) for i in range(len(rows))]
    figures = []
    for title, wanted, percent in (("Loss", LOSS_CURVES, False), ("Held-out accuracy", MARK_CURVES, True)):
        chosen = [n for n in wanted if n in names and any(math.isfinite(row[n]) for row in rows)]
        lines = [Series(wanted[n], x, [row[n] for row in rows]) for n in chosen]
        if lines:
            chart = charts.line_chart(lines, axis or "row", "", percent=percent, label=title)
            figures.append(f"<figure><figcaption>{title}</figcaption>{chart}</figure>")
    if not figures:
        return ""
    return f'<section><h2>Training</h2><div class="grid2">{"".join(figures)}</div></section>'


def _confusion(evaluation: Evaluation) -> str:
    """The matrix when it can be read, and the most frequent confusions in words."""
    matrix, labels = evaluation.measures.confusion, evaluation.labels
    used = np.flatnonzero((matrix.sum(0) + matrix.sum(1)) > 0)
    pairs = confused_pairs(matrix, labels)
    wrong = sum(n for _, _, n in pairs)
    words = (
        "No mistakes."
        if not pairs
        else (
            f"<b>{wrong:,}</b> of {int(matrix.sum()):,} answers are wrong. Most often "
            + ", ".join(f"<b>{html(a)}</b> was taken for <b>{html(b)}</b> ({n}×)" for a, b, n in pairs[:3])
            + "."
        )
    )
    body = ""
    if len(used) <= MATRIX_CLASSES:
        chart = charts.confusion_chart(matrix[np.ix_(used, used)], [labels[i] for i in used])
        body = f"<figure><figcaption>Counts; shade is the share of the row</figcaption>{chart}</figure>"
    elif pairs:
        rows = [{"true": a, "taken for": b, "times": n} for a, b, n in pairs[:25]]
        body = table(rows)
    return f"<section><h2>What is confused with what</h2><p>{words}</p>{body}</section>"


def _calibration(evaluation: Evaluation) -> str:
    """The reliability diagram with a sentence on its direction."""
    bins = evaluation.measures.bins
    total = max(1, int(bins.counts.sum()))
    lean = float((bins.counts * (bins.confidence - bins.accuracy)).sum() / total)
    if abs(lean) < 0.005:
        words = "Confidence and accuracy agree to within half a point."
    else:
        words = f"On average it is <b>{abs(100 * lean):.1f} points {'over' if lean > 0 else 'under'}confident</b>."
    chart = charts.reliability_chart(bins.confidence, bins.accuracy, bins.counts)
    return (
        "<section><h2>Can its confidence be believed?</h2><p>Of the answers given with 80 % confidence, "
        f"80 % should be right: the bars should end on the dashed line. {words}</p>"
        f"<figure><figcaption>Share correct by confidence; the shaded part is the gap</figcaption>{chart}</figure>"
        "</section>"
    )


def _classes(evaluation: Evaluation) -> str:
    """The per-class table, the weakest first when there are many."""
    rows = sorted(evaluation.measures.per_class, key=lambda row: row["f1"])
    many = len(rows) > TABLE_ROWS
    shown = rows if many else evaluation.measures.per_class
    names = ("class", "images", "precision", "recall", "F1", "recall, 95 % interval")
    head = f"<tr>{''.join(f'<th>{name}</th>' for name in names)}</tr>"
    lines = [
        f"<tr><td>{html(row['label'])}</td><td>{row['count']:,}</td><td>{_share(row['precision'])}</td>"
        f"<td>{_share(row['recall'])}</td><td>{row['f1']:.3f}</td>"
        f'<td class="wide">{charts.bar(row["recall_low"], row["recall"], row["recall_high"])}</td></tr>'
        for row in shown
    ]
    first = f'<div class="scroll"><table>{head}{"".join(lines[:TABLE_ROWS])}</table></div>'
    rest = ""
    if many:
        rest = f"<details><summary>The other {len(rows) - TABLE_ROWS} classes</summary>"
        rest += f'<div class="scroll"><table>{head}{"".join(lines[TABLE_ROWS:])}</table></div></details>'
    order = "<p>The weakest come first.</p>" if many else ""
    return f"<section><h2>Class by class</h2>{order}{first}{rest}</section>"


def _mistakes(mistakes: Sequence[Mistake]) -> str:
    """The gallery."""
    if not mistakes:
        return ""
    shots = []
    for m in mistakes:
        picture = '<span class="none"></span>'
        if m.picture:
            kind = "png" if m.picture[:4] == b"\x89PNG" else "jpeg"
            small = ' class="tiny"' if kind == "png" else ""
            data = base64.b64encode(m.picture).decode()
            picture = (
                f'<img{small} loading="lazy" alt="{html(m.name)}" src="data:image/{kind};base64,{data}">'
            )
        shots.append(
            f'<div class="shot">{picture}<div><span class="answer">{html(m.answer)}</span> '
            f'{100 * m.confidence:.0f} %<br>is <span class="truth">{html(m.truth)}</span> '
            f"{100 * m.truth_probability:.1f} %<small>{html(m.name)}</small></div></div>"
        )
    return (
        "<section><h2>Worst mistakes</h2><p>Where the right class got the least probability; each picture is "
        "what the network saw. Look here for wrong labels first.</p>"
        f'<div class="shots">{"".join(shots)}</div></section>'
    )


def _speed(speeds: Sequence[Mapping[str, Any]]) -> str:
    """Accuracy over speed where both are known, and the rows."""
    rows = [row for row in speeds if _float(row.get("images_per_s")) > 0]
    if not rows:
        return ""
    groups: dict[str, Series] = {}
    for row in rows:
        top1 = _float(row.get("top1"))
        if not math.isfinite(top1):
            continue
        name = " ".join(str(row[k]) for k in ("backend", "precision") if row.get(k)) or "measured"
        group = groups.setdefault(name, Series(name, [], [], []))
        for values, value in (
            (group.x, _float(row["images_per_s"])),
            (group.y, top1),
            (group.notes, row["model"]),
        ):
            values.append(value)  # pyright: ignore[reportAttributeAccessIssue]
    chart = ""
    if groups:
        drawn = charts.scatter_chart(
            list(groups.values()), "images per second (logarithmic)", "top-1 accuracy"
        )
        chart = f"<figure><figcaption>Up and to the right is better</figcaption>{drawn}</figure>"
    columns = ("model", "backend", "precision", "batch", "threads", "images_per_s", "latency_ms", "top1")
    kept = [{c: row[c] for c in columns if row.get(c) not in (None, "")} for row in rows]
    return f"<section><h2>Speed and accuracy</h2>{chart}{table(kept)}</section>"


def _broken(skipped: Sequence[tuple[str, str]]) -> str:
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
    values = {**{_readable(k): v for k, v in evaluation.setting.items()}, **environment}
    again = f"<p>Make this page again: <code>{html(command)}</code></p>" if command else ""
    if not values and not again:
        return ""
    lines = "".join(
        f"<tr><th>{html(str(k))}</th><td>{html(_plain(v))}</td></tr>" for k, v in values.items() if v != ""
    )
    listing = f'<div class="scroll"><table class="plain">{lines}</table></div>' if lines else ""
    return f"<section><h2>How it was measured</h2>{again}{listing}</section>"


def table(rows: Sequence[Mapping[str, Any]], kind: str = "") -> str:
    """Write rows as an HTML table over the union of their columns; `kind` is a class of the style sheet."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f"<th>{html(_readable(name))}</th>" for name in names)
    body = "".join(
        "<tr>" + "".join(f"<td>{html(_plain(row.get(name, '')))}</td>" for name in names) + "</tr>"
        for row in rows
    )
    css = f' class="{kind}"' if kind else ""
    return f'<div class="scroll"><table{css}><tr>{head}</tr>{body}</table></div>'


def _value(name: str, value: float) -> str:
    """A mark as people read it: accuracies in per cent, the rest with three digits."""
    return f"{100 * value:.2f} %" if name.startswith("top") or name == "ece" else f"{value:.3f}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _readable(name: str) -> str:
    return {
        "images_per_s": "images/s",
        "images/s": "images/s",
        "latency_ms": "latency (ms)",
        "top1": "top-1",
        "top5": "top-5",
    }.get(name, name.replace("_", " ").replace("/", " "))


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_plain(item) for item in value)
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"
    return "" if value is None else str(value)


def _float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
