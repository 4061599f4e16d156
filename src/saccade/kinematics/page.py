"""Pieces of the page about labels: its style, tables, and small charts as SVG, without anything from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from saccade.kinematics.birdseye import GREY
from saccade.shown import html

CSS = """
:root{color-scheme:light dark;--paper:#fbfaf7;--card:#fff;--ink:#1d2129;--soft:#4a515e;--mute:#7d8593;--line:#e6e3dc;
--cell:#f4f2ec;--a:#2563c9}
@media (prefers-color-scheme:dark){:root{--paper:#14161a;--card:#1b1e24;--ink:#eceef2;--soft:#b9c0cb;--mute:#8991a0;
--line:#2c313a;--cell:#22262d;--a:#6ea2ff}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 ui-sans-serif,system-ui,-apple-system,
"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;font-variant-numeric:tabular-nums}
main{max-width:1080px;margin:0 auto;padding:56px 28px 96px}
.eyebrow{font-size:12.5px;font-weight:600;letter-spacing:.1em;text-transform:uppercase;color:var(--mute)}
h1{font-size:clamp(28px,4.6vw,44px);line-height:1.12;letter-spacing:-.022em;margin:6px 0 10px;overflow-wrap:anywhere}
h2{font-size:22px;letter-spacing:-.012em;margin:0 0 4px} h3{font-size:16px;margin:0 0 2px;overflow-wrap:anywhere}
section{margin-top:52px} p{margin:0 0 14px;color:var(--soft);max-width:70ch} p b{color:var(--ink)}
code{font:.9em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin-top:24px}
.tile,.card,figure{background:var(--card);border:1px solid var(--line);border-radius:14px}
.tile{padding:16px 18px 14px;margin:0} .tile dt{font-size:13px;color:var(--mute)}
.tile dd{margin:2px 0 0;font-size:30px;line-height:1.2;font-weight:660;letter-spacing:-.02em}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,300px),1fr));gap:16px;margin-top:16px}
figure{margin:0;padding:16px 16px 10px} figcaption{font-size:13.5px;color:var(--mute);margin-bottom:6px}
svg{display:block;width:100%;height:auto;margin:0 auto} svg text{fill:var(--mute);font-size:11px}
svg .grid{stroke:var(--line)}
.card{margin-top:18px;padding:18px} .card .sub{font-size:13px;color:var(--mute);margin:0 0 12px;max-width:none}
.strip{display:flex;gap:8px;overflow-x:auto;padding-bottom:6px}
.strip div{flex:0 0 auto;width:min(300px,78vw)} .strip img{display:block;width:100%;border-radius:8px}
.strip small{font-size:11.5px;color:var(--mute)}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,330px),1fr));gap:22px;margin-top:14px;
align-items:center}
.scroll{overflow-x:auto;margin-top:14px;background:var(--card);border:1px solid var(--line);border-radius:14px}
.card .scroll{border:0;border-top:1px solid var(--line);border-radius:0}
table{border-collapse:collapse;width:100%;font-size:14.5px}
th{font-size:12.5px;font-weight:600;color:var(--mute);text-align:right;padding:10px 14px;white-space:nowrap}
td{padding:7px 14px;text-align:right;border-top:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child{text-align:left}
td.text{white-space:normal;text-align:left;min-width:260px;overflow-wrap:anywhere} th.text{text-align:left}
.dot{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:8px}
details{margin-top:14px} summary{cursor:pointer;color:var(--soft);font-weight:560}
footer{margin-top:64px;padding-top:18px;border-top:1px solid var(--line);font-size:13px;color:var(--mute)}
@media (max-width:560px){main{padding:32px 16px 64px}section{margin-top:40px}td,th{padding:7px 9px}}
"""


class Markup(str):
    """Text that is HTML already."""


def table(rows: Sequence[Mapping[str, Any]], text: Sequence[str] = ()) -> str:
    """Write rows as an HTML table over the union of their columns; those in `text` wrap."""
    names = list(dict.fromkeys(name for row in rows for name in row))

    def cell(tag: str, name: str, value: Any) -> str:
        kind = ' class="text"' if name in text else ""
        return f"<{tag}{kind}>{plain(value)}</{tag}>"

    head = "".join(cell("th", name, name) for name in names)
    body = "".join(
        "<tr>" + "".join(cell("td", name, row.get(name, "")) for name in names) + "</tr>" for row in rows
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def tiles(values: Mapping[str, Any]) -> str:
    """Write a few large numbers."""
    found = (
        f'<dl class="tile"><dt>{html(name)}</dt><dd>{plain(value)}</dd></dl>'
        for name, value in values.items()
    )
    return f'<div class="tiles">{"".join(found)}</div>'


def plain(value: Any) -> str:
    """A value as people read it, safe in HTML."""
    if isinstance(value, Markup):
        return value
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"
    if isinstance(value, int):
        return f"{value:,}"
    return "" if value is None else html(str(value))


def bars(names: Sequence[str], counts: Sequence[int], label: str, unit: str = "") -> str:
    """Draw counts as bars; every bar says its number when pointed at."""
    width, height, left, base = 340.0, 170.0, 8.0, 142.0
    step = (width - 2 * left) / max(1, len(counts))
    most = max([1, *counts])
    skip = max(1, -(-len(names) * 30 // int(width)))
    parts = [f'<line x1="{left}" x2="{width - left}" y1="{base}" y2="{base}" stroke="{GREY}"/>']
    for index, (name, count) in enumerate(zip(names, counts, strict=True)):
        tall, x = (base - 20) * count / most, left + index * step
        parts.append(
            f'<g><title>{html(name)}{html(unit)}: {count:,}</title><rect x="{x + 1:.1f}" y="{base - tall:.1f}" '
            f'width="{max(1, step - 2):.1f}" height="{tall:.1f}" rx="2" fill="var(--a)" opacity=".85"/></g>'
        )
        if index % skip == 0:
            parts.append(
                f'<text x="{x + step / 2:.1f}" y="{base + 15}" text-anchor="middle">{html(name)}</text>'
            )
    parts.append(f'<text x="{left}" y="12">most: {most:,}</text>')
    if unit:
        parts.append(
            f'<text x="{width - left}" y="{base + 27}" text-anchor="end">{html(unit.strip())}</text>'
        )
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{html(label)}">{"".join(parts)}</svg>'


def curves(lines: Sequence[tuple[str, str, np.ndarray, np.ndarray]], x_label: str, y_label: str) -> str:
    """Draw lines over time, from zero.

    Args:
        lines: Name, colour, and (n,) x and y of each.
        x_label: With its unit.
        y_label: With its unit.
    """
    width, height, left, right, top, base = 460.0, 250.0, 44.0, 12.0, 22.0, 212.0
    xs = np.concatenate([x for _, _, x, _ in lines]) if lines else np.zeros(1)
    ys = np.concatenate([y for _, _, _, y in lines]) if lines else np.zeros(1)
    x0, x1, y1 = (
        float(xs.min()),
        max(float(xs.max()), float(xs.min()) + 1e-6),
        max(1.0, 1.08 * float(ys.max())),
    )

    def place(x: float, y: float) -> tuple[float, float]:
        return left + (x - x0) / (x1 - x0) * (width - left - right), base - y / y1 * (base - top)

    parts = [f'<text x="{left}" y="12">{html(y_label)}</text>']
    for tick in _ticks(0, y1):
        y = place(x0, tick)[1]
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{left - 7}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in _ticks(x0, x1):
        parts.append(
            f'<text x="{place(tick, 0)[0]:.1f}" y="{base + 16}" text-anchor="middle">{tick:g}</text>'
        )
    parts.append(f'<text x="{width - right}" y="{base + 32}" text-anchor="end">{html(x_label)}</text>')
    for name, colour, x, y in lines:
        dots = " ".join(
            f"{a:.1f},{b:.1f}" for a, b in (place(float(p), float(q)) for p, q in zip(x, y, strict=True))
        )
        parts.append(
            f'<g><title>{html(name)}</title><polyline points="{dots}" fill="none" stroke="{colour}" '
            'stroke-width="2.2" stroke-linejoin="round" stroke-linecap="round"/></g>'
        )
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{html(y_label)} over {html(x_label)}" '
        f'style="max-width:{width:g}px">{"".join(parts)}</svg>'
    )


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers in a range, about five."""
    step = next(m * 10.0**p for p in range(-3, 7) for m in (1, 2, 5) if m * 10.0**p >= (high - low) / 5.5)
    return [round(k * step, 9) for k in range(int(np.ceil(low / step - 1e-9)), int(high / step + 1e-9) + 1)]
