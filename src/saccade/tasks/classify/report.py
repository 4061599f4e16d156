"""What the evaluation page of a classifier shows: confusion, calibration, the classes, and the worst mistakes."""

from __future__ import annotations

import base64
import heapq
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from torch import Tensor

from saccade.page import charts, table
from saccade.page.bars import share_bar
from saccade.shown import html, markdown
from saccade.tasks.base import Batch, Section
from saccade.tasks.classify.measures import calibration_bins
from saccade.tasks.evaluation import Evaluation

if TYPE_CHECKING:
    from saccade.tasks.classify.task import ClassifyMetrics

THUMBNAIL = 160
MATRIX_CLASSES = 40
TABLE_ROWS = 60


@dataclass
class Mistake:
    """One wrong answer, for the gallery."""

    name: str
    truth: str
    answer: str
    confidence: float
    """Probability of the wrong answer, in [0, 1]."""
    truth_probability: float
    """Probability the model gave the right class, in [0, 1]."""
    picture: bytes = b""
    """What the model saw, as a small JPEG or PNG; empty when there is none."""


class Mistakes:
    """Looks at every batch and its outputs and keeps the worst mistakes with what the network saw."""

    def __init__(self, denormalise: Callable[[Tensor], Tensor], keep: int) -> None:
        self.denormalise, self.keep = denormalise, keep
        # (loss, tie-break, what is shown): the smallest loss is on top and goes first.
        self._worst: list[tuple[float, int, tuple[str, int, int, float, float, Tensor]]] = []

    def look(self, batch: Batch, outputs: Tensor) -> None:
        """Take in a batch and its logits (batch, classes)."""
        shares = outputs.double().log_softmax(1)
        answers = shares.argmax(1)
        for i in (answers != batch["label"]).nonzero()[:, 0].tolist():
            truth, answer = int(batch["label"][i]), int(answers[i])
            loss = -float(shares[i, truth])
            if self.keep and (len(self._worst) < self.keep or loss > self._worst[0][0]):
                sure, own = float(shares[i, answer].exp()), float(shares[i, truth].exp())
                shown = (batch["name"][i], truth, answer, sure, own, self.denormalise(_picture(batch, i)))
                push = heapq.heappush if len(self._worst) < self.keep else heapq.heapreplace
                push(self._worst, (loss, -int(batch["index"][i]), shown))

    def mistakes(self, labels: list[str]) -> list[Mistake]:
        """List the mistakes, the worst first."""
        ordered = sorted(self._worst, key=lambda entry: (-entry[0], -entry[1]))
        return [
            Mistake(name, labels[truth], labels[answer], sure, own, thumbnail(pixels))
            for _, _, (name, truth, answer, sure, own, pixels) in ordered
        ]


def _picture(batch: Batch, number: int) -> Tensor:
    """Return what was seen of a sample, (C, height, width): of a clip the middle frame of its first view."""
    views = len(batch["image"]) // len(batch["name"])
    seen = batch["image"][number * views]
    return seen[len(seen) // 2] if seen.ndim == 4 else seen


def thumbnail(pixels: Tensor) -> bytes:
    """Make a small JPEG, or a PNG when the picture is small already, of (C, height, width) uint8."""
    array = pixels.permute(1, 2, 0).contiguous().numpy()
    picture = Image.fromarray(array if array.shape[2] == 3 else array[..., 0])
    buffer = io.BytesIO()
    if max(picture.size) <= 72:
        picture.save(buffer, "PNG", optimize=True)
        return buffer.getvalue()
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    picture.save(buffer, "JPEG", quality=82)
    return buffer.getvalue()


def sections_of(found: Evaluation, gathered: ClassifyMetrics) -> list[Section]:
    """Make the sections of a page."""
    matrix, labels = gathered.confusion().numpy(), found.labels
    return [
        Section("confusion", _confusion(matrix, labels), _words(found, matrix)),
        Section("calibration", _calibration(gathered)),
        Section("classes", _classes(found)),
        *([Section("mistakes", _mistakes(shown))] if (shown := found.gallery.mistakes(labels)) else []),
    ]


def _words(found: Evaluation, matrix: np.ndarray) -> str:
    """Weakest classes and most frequent confusions, in Markdown."""
    weakest = sorted(found.per_class, key=lambda row: row["f1"])[:5]
    lines = [
        "Weakest classes: " + ", ".join(f"{markdown(r['label'])} (F1 {r['f1']:.3f})" for r in weakest) + "."
    ]
    if pairs := confused_pairs(matrix, found.labels)[:5]:
        shown = ", ".join(f"{markdown(a)} taken for {markdown(b)} ({n}×)" for a, b, n in pairs)
        lines.append(f"Most confused: {shown}.")
    return "\n".join(lines)


def _confusion(matrix: np.ndarray, labels: Sequence[str]) -> str:
    """The matrix when it can be read, and the most frequent confusions in words."""
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
        chart = charts.confusion_chart(matrix[np.ix_(used, used)], [labels[int(i)] for i in used])
        body = f"<figure><figcaption>Counts; shade is the share of the row</figcaption>{chart}</figure>"
    elif pairs:
        rows = [{"true": a, "taken for": b, "times": n} for a, b, n in pairs[:25]]
        body = table(rows)
    return f"<section><h2>What is confused with what</h2><p>{words}</p>{body}</section>"


def _calibration(gathered: ClassifyMetrics) -> str:
    """The reliability diagram with a sentence on its direction."""
    bins = calibration_bins(gathered.column("confidence").numpy(), gathered.hits())
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


def _classes(found: Evaluation) -> str:
    """The per-class table, the weakest first when there are many."""
    rows = sorted(found.per_class, key=lambda row: row["f1"])
    many = len(rows) > TABLE_ROWS
    shown = rows if many else found.per_class
    names = ("class", "images", "precision", "recall", "F1", "recall, 95 % interval")
    head = f"<tr>{''.join(f'<th>{name}</th>' for name in names)}</tr>"
    lines = [
        f"<tr><td>{html(row['label'])}</td><td>{row['count']:,}</td><td>{_share(row['precision'])}</td>"
        f"<td>{_share(row['recall'])}</td><td>{row['f1']:.3f}</td>"
        f'<td class="wide">{share_bar(row["recall_low"], row["recall"], row["recall_high"])}</td></tr>'
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


def confused_pairs(confusion: np.ndarray, labels: Sequence[str]) -> list[tuple[str, str, int]]:
    """List (truth, answer, count) of all mistakes, the most frequent first."""
    wrong = confusion * (1 - np.eye(len(labels), dtype=confusion.dtype))
    cells = np.argwhere(wrong > 0)
    order = sorted(cells, key=lambda c: (-int(wrong[c[0], c[1]]), int(c[0]), int(c[1])))
    return [(labels[int(i)], labels[int(j)], int(wrong[i, j])) for i, j in order]


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"
