"""Charts as inline SVG, drawn by hand so that a report needs no plotting package and no network.

Colours are CSS variables of the page (`--ink`, `--mute`, `--line`, `--a`, `--b`, ...), so one drawing serves
light and dark. Lengths are user units of the view box; the page scales it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from saccade.shown import html

GREY = "#8d95a3"
"""Of what stands in the background, on light and dark."""
SERIES_COLOURS = ("var(--a)", "var(--b)", "var(--c)", "var(--d)", "var(--e)", "var(--f)")


@dataclass
class Series:
    """One line or one group of points."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    notes: Sequence[str] = ()
    """Label of each point; empty: none."""
    colour: str = ""
    """Of CSS; empty: the next of `SERIES_COLOURS`."""


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Choose about `count` round numbers (1, 2, 2.5 or 5 times a power of ten) that lie within [low, high]."""
    if not math.isfinite(low) or not math.isfinite(high) or high <= low:
        return [low] if math.isfinite(low) else []
    rough = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((m * power for m in (1, 2, 2.5, 5, 10)), key=lambda s: abs(math.log(s / rough)))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def number(value: float) -> str:
    """Write a tick: four significant digits, no trailing zeros, thousands as k and M."""
    if value == 0:
        return "0"
    for limit, unit in ((1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1e6 if unit == 'M' else 1e3):.4g}{unit}"
    return f"{value:.4g}"


@dataclass
class _Frame:
    """Maps data to the view box and draws the axes."""

    x_range: tuple[float, float]
    y_range: tuple[float, float]
    width: float = 520
    height: float = 300
    left: float = 52
    right: float = 16
    top: float = 14
    bottom: float = 44
    log_x: bool = False

    def x(self, value: float) -> float:
        low, high = self.x_range
        if self.log_x:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return self.left + (value - low) / ((high - low) or 1) * (self.width - self.left - self.right)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return (
            self.height
            - self.bottom
            - (value - low) / ((high - low) or 1) * (self.height - self.top - self.bottom)
        )

    def axes(self, x_label: str, y_label: str, *, percent_x: bool = False, percent_y: bool = False) -> str:
        parts = []
        right, base = self.width - self.right, self.height - self.bottom
        for tick in nice_ticks(*self.y_range, 5):
            y = self.y(tick)
            text = f"{100 * tick:.4g}%" if percent_y else number(tick)
            parts.append(f'<line class="grid" x1="{self.left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text x="{self.left - 8}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
        for tick in self._x_ticks():
            x = self.x(tick)
            text = f"{100 * tick:.4g}%" if percent_x else number(tick)
            parts.append(f'<line class="tick" x1="{x:.1f}" x2="{x:.1f}" y1="{base}" y2="{base + 4}"/>')
            parts.append(f'<text x="{x:.1f}" y="{base + 18}" text-anchor="middle">{text}</text>')
        parts.append(f'<line class="axis" x1="{self.left}" x2="{right}" y1="{base}" y2="{base}"/>')
        middle = (self.left + right) / 2
        parts.append(
            f'<text class="name" x="{middle:.1f}" y="{self.height - 6}" text-anchor="middle">{html(x_label)}</text>'
        )
        if y_label:
            y = (self.top + base) / 2
            parts.append(
                f'<text class="name" transform="translate(12 {y:.1f}) rotate(-90)" text-anchor="middle">'
                f"{html(y_label)}</text>"
            )
        return "".join(parts)

    def _x_ticks(self) -> list[float]:
        if not self.log_x:
            return nice_ticks(*self.x_range, 6)
        low, high = (math.floor(math.log10(v)) for v in self.x_range)
        ticks = [m * 10.0**p for p in range(low, high + 1) for m in (1, 2, 5)]
        return [t for t in ticks if self.x_range[0] <= t <= self.x_range[1]]


def svg(width: float, height: float, body: str, label: str, attributes: str = "") -> str:
    """Wrap a drawing: it scales with the page and has a name for screen readers.

    Args:
        width: Of the view box.
        height: Of the view box.
        body: Elements.
        label: What it shows.
        attributes: More of them, as they are.
    """
    more = f" {attributes}" if attributes else ""
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{html(label)}"{more} '
        f'style="max-width:{width:g}px">{body}</svg>'
    )


def padded(values: Sequence[float], share: float = 0.06) -> tuple[float, float]:
    """Range of finite values with a margin on both sides; (0, 1) when there are none."""
    finite = [v for v in values if math.isfinite(v)]
    if not finite:
        return 0.0, 1.0
    low, high = min(finite), max(finite)
    margin = (high - low) * share or abs(high) * share or 0.5
    return low - margin, high + margin


def line_chart(
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    *,
    percent: bool = False,
    from_zero: bool = False,
    legend: bool = True,
    label: str = "",
) -> str:
    """Draw lines with a dot at the last point; each says its name when pointed at.

    Args:
        series: At least one; points that are not finite break the line.
        x_label: What x is, with its unit.
        y_label: What y is, with its unit.
        percent: Write y, a fraction, in per cent.
        from_zero: y begins at 0 and reaches at least 1.
        legend: Name the lines above.
        label: For screen readers; the axis names when empty.
    """
    xs = [float(v) for one in series for v in one.x]
    ys = [float(v) for one in series for v in one.y]
    x_range = (min(xs), max(xs)) if xs and min(xs) < max(xs) else padded(xs)
    y_range = (0.0, max([1.0, *(1.08 * y for y in ys if math.isfinite(y))])) if from_zero else padded(ys)
    frame = _Frame(x_range, y_range, top=34 if legend else 14)
    parts, key = [frame.axes(x_label, y_label, percent_y=percent)], frame.left
    for number, one in enumerate(series):
        colour = one.colour or SERIES_COLOURS[number % len(SERIES_COLOURS)]
        path, pen, last = [], "M", None
        for x, y in zip(one.x, one.y, strict=True):
            if not math.isfinite(y):
                pen = "M"
                continue
            last = (frame.x(x), frame.y(y))
            path.append(f"{pen}{last[0]:.1f} {last[1]:.1f}")
            pen = "L"
        parts.append(
            f'<g><title>{html(one.name)}</title><path class="line" style="stroke:{colour}" d="{"".join(path)}"/></g>'
        )
        if last:
            parts.append(f'<circle cx="{last[0]:.1f}" cy="{last[1]:.1f}" r="3.5" style="fill:{colour}"/>')
        if legend:
            parts.append(f'<rect x="{key:.0f}" y="9" width="14" height="3" rx="1.5" style="fill:{colour}"/>')
            parts.append(f'<text class="key" x="{key + 20:.0f}" y="14">{html(one.name)}</text>')
            key += 36 + 6.6 * len(one.name)
    return svg(frame.width, frame.height, "".join(parts), label or f"{y_label} over {x_label}")


def confusion_chart(matrix: np.ndarray, labels: Sequence[str]) -> str:
    """Draw a confusion matrix: rows are true classes, shaded by share of the row, counts written in.

    Args:
        matrix: (classes, classes) counts, row = truth, column = prediction.
        labels: Class names.
    """
    classes = len(labels)
    cell = max(14.0, min(46.0, 560 / classes))
    longest = max(len(_short(name)) for name in labels)
    slanted = 6.6 * longest > cell
    left, top = 14 + 6.4 * longest + 16, 14 + (5.6 * longest if slanted else 14) + 18
    size = cell * classes
    totals = np.maximum(matrix.sum(1, keepdims=True), 1)
    share = matrix / totals
    font = max(8.0, min(13.0, cell * 0.34))
    parts = [
        f'<text class="name" transform="translate(11 {top + size / 2:.1f}) rotate(-90)" text-anchor="middle">'
    ]
    parts.append(
        f'true</text><text class="name" x="{left + size / 2:.1f}" y="12" text-anchor="middle">predicted</text>'
    )
    for i, name in enumerate(labels):
        middle = i * cell + cell / 2
        parts.append(
            f'<text x="{left - 8:.1f}" y="{top + middle + 4:.1f}" text-anchor="end">{html(_short(name))}</text>'
        )
        if slanted:
            place = f'transform="translate({left + middle + 4:.1f} {top - 6:.1f}) rotate(-55)"'
            parts.append(f"<text {place}>{html(_short(name))}</text>")
        else:
            parts.append(
                f'<text x="{left + middle:.1f}" y="{top - 8:.1f}" text-anchor="middle">{html(_short(name))}</text>'
            )
    for i in range(classes):
        for j in range(classes):
            colour = "var(--a)" if i == j else "var(--b)"
            # A square root lifts the few mistakes out of the background; the counts say the exact numbers.
            strength = (
                0 if matrix[i, j] == 0 else 0.12 + 0.88 * float(share[i, j]) ** (1.0 if i == j else 0.5)
            )
            x, y = left + j * cell, top + i * cell
            title = f"true {labels[i]}, predicted {labels[j]}: {int(matrix[i, j])}"
            parts.append(
                f'<g><title>{html(title)}</title><rect class="cell" x="{x:.1f}" y="{y:.1f}" '
                f'width="{cell - 1.5:.1f}" height="{cell - 1.5:.1f}" rx="2"/>'
            )
            if matrix[i, j]:
                parts.append(
                    f'<rect x="{x:.1f}" y="{y:.1f}" width="{cell - 1.5:.1f}" height="{cell - 1.5:.1f}" rx="2" '
                    f'style="fill:{colour};opacity:{strength:.3f}"/>'
                )
                if cell >= 18:
                    tone = "on" if strength > 0.55 else "off"
                    parts.append(
                        f'<text class="count {tone}" style="font-size:{font:.1f}px" x="{x + cell / 2 - 0.75:.1f}" '
                        f'y="{y + cell / 2 + font * 0.34:.1f}" text-anchor="middle">{int(matrix[i, j])}</text>'
                    )
            parts.append("</g>")
    room = 5.6 * 0.6 * longest if slanted else 10
    return svg(left + size + room, top + size + 4, "".join(parts), "confusion matrix")


def reliability_chart(confidence: np.ndarray, accuracy: np.ndarray, counts: np.ndarray) -> str:
    """Draw accuracy over confidence by bin, with the gap to the diagonal and how many samples a bin holds.

    Args:
        confidence: (bins,) mean confidence of each bin, in [0, 1].
        accuracy: (bins,) share of hits of each bin, in [0, 1].
        counts: (bins,) samples in each bin; empty bins are not drawn.
    """
    bins, total = len(counts), max(1, int(counts.sum()))
    frame = _Frame((0.0, 1.0), (0.0, 1.0), width=520, height=390, bottom=112)
    parts = [frame.axes("", "share correct", percent_x=True, percent_y=True)]
    step = frame.x(1 / bins) - frame.x(0)
    base = frame.height - 28
    for i in range(bins):
        if counts[i] == 0:
            continue
        x, hit, sure = frame.x(i / bins) + 1, float(accuracy[i]), float(confidence[i])
        title = f"confidence {100 * sure:.1f} %: {100 * hit:.1f} % correct, {int(counts[i])} images"
        low, high = sorted((frame.y(hit), frame.y(sure)))
        tall = 40 * math.sqrt(float(counts[i]) / total)
        wide = f'x="{x:.1f}" width="{step - 2:.1f}"'
        parts.append(
            f"<g><title>{html(title)}</title>"
            f'<rect {wide} y="{high:.1f}" height="{frame.y(0) - high:.1f}" style="fill:var(--a);opacity:.8"/>'
            f'<rect {wide} y="{low:.1f}" height="{high - low:.1f}" style="fill:var(--b);opacity:.32"/>'
            f'<rect {wide} y="{frame.y(hit) - 1.2:.1f}" height="2.4" style="fill:var(--a)"/>'
            f'<rect {wide} y="{base - tall:.1f}" height="{tall:.1f}" style="fill:var(--mute);opacity:.6"/></g>'
        )
    parts.append(
        f'<line class="ideal" x1="{frame.x(0)}" y1="{frame.y(0):.1f}" x2="{frame.x(1)}" y2="{frame.y(1):.1f}"/>'
        f'<line class="axis" x1="{frame.left}" x2="{frame.width - frame.right}" y1="{base}" y2="{base}"/>'
        f'<text class="name" x="{frame.left}" y="{frame.height - 10}">confidence of the answer; '
        "below, images in each bin (square-root scale)</text>"
    )
    return svg(frame.width, frame.height, "".join(parts), "reliability diagram")


def scatter_chart(groups: Sequence[Series], x_label: str, y_label: str, *, percent: bool = True) -> str:
    """Draw named points over a logarithmic x, such as accuracy over images per second.

    Args:
        groups: Points of one colour each; `notes` label the points. All x > 0.
        x_label: What x is, with its unit.
        y_label: What y is.
        percent: Write y, a fraction, in per cent.
    """
    xs = [float(v) for g in groups for v in g.x]
    low, high = min(xs), max(xs)
    frame = _Frame(
        (low / 1.5, high * 1.9), padded([float(v) for g in groups for v in g.y], 0.18), width=640, log_x=True
    )
    frame.height, frame.top = 340, 34
    parts, legend = [frame.axes(x_label, y_label, percent_y=percent)], frame.left
    taken = [
        (frame.x(x) - 6, frame.y(y) - 6, frame.x(x) + 6, frame.y(y) + 6)
        for g in groups
        for x, y in zip(g.x, g.y, strict=True)
    ]
    for colour, group in zip(SERIES_COLOURS, groups, strict=False):
        for i, (x, y) in enumerate(zip(group.x, group.y, strict=True)):
            px, py = frame.x(x), frame.y(y)
            parts.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="5" style="fill:{colour}"/>')
            if i < len(group.notes):
                tx, ty, anchor = _place(px, py, 6.2 * len(group.notes[i]), taken)
                parts.append(
                    f'<text x="{tx:.1f}" y="{ty:.1f}" text-anchor="{anchor}">{html(group.notes[i])}</text>'
                )
        parts.append(f'<circle cx="{legend + 6:.0f}" cy="11" r="5" style="fill:{colour}"/>')
        parts.append(f'<text class="key" x="{legend + 17:.0f}" y="15">{html(group.name)}</text>')
        legend += 36 + 6.6 * len(group.name)
    return svg(frame.width, frame.height, "".join(parts), f"{y_label} over {x_label}")


def _place(
    x: float, y: float, width: float, taken: list[tuple[float, float, float, float]]
) -> tuple[float, float, str]:
    """Find room for a point's name: right, left, above or below it; remembers the box it takes."""
    spots = [(x + 9, y + 4, "start"), (x - 9, y + 4, "end")]
    spots += [(x, y + sign * gap + 4, "middle") for gap in (15, 28, 41) for sign in (-1, 1)]
    starts = {"start": 0.0, "end": -width, "middle": -width / 2}
    boxes = [(tx + starts[anchor], ty - 10, tx + starts[anchor] + width, ty + 2) for tx, ty, anchor in spots]

    def overlap(box: tuple[float, float, float, float]) -> float:
        return sum(
            max(0.0, min(box[2], t[2]) - max(box[0], t[0])) * max(0.0, min(box[3], t[3]) - max(box[1], t[1]))
            for t in taken
        )

    best = min(range(len(spots)), key=lambda i: (overlap(boxes[i]), i))
    taken.append(boxes[best])
    return spots[best]


def _short(name: str, limit: int = 16) -> str:
    """Cut a long class name for an axis."""
    return name if len(name) <= limit else f"{name[: limit - 1]}…"
