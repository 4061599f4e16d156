"""Bars: counts, rates with intervals, and a share on a line; as inline SVG, or as a file of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from saccade.page.charts import GREY, svg
from saccade.page.style import SVG_CSS
from saccade.shown import html

WIDTH, BAR, GAP, LEFT, RIGHT = 820, 18, 8, 310, 150


@dataclass
class Bar:
    """A length with its interval."""

    name: str
    value: float
    """Above 0."""
    low: float
    high: float
    colour: str
    note: str = ""
    """Behind the value."""


@dataclass
class BarGroup:
    """Bars of one scale."""

    title: str
    bars: list[Bar] = field(default_factory=list)


def count_bars(names: Sequence[str], counts: Sequence[int], label: str, unit: str = "") -> str:
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
    return svg(width, height, "".join(parts), label)


def interval_bars(groups: Sequence[BarGroup], note: str = "") -> str:
    """Draw groups of bars with intervals as an SVG file that stands alone.

    Args:
        groups: Each has its own scale.
        note: A line below.
    """
    parts, y = [], 16.0
    for group in groups:
        parts.append(f'<text x="12" y="{y + 10:.0f}" class="h">{html(group.title)}</text>')
        y += 24
        scale = (WIDTH - LEFT - RIGHT) / max(bar.high for bar in group.bars)
        for bar in group.bars:
            length, low, high = (value * scale for value in (bar.value, bar.low, bar.high))
            middle = y + BAR / 2
            parts.append(
                f'<text x="{LEFT - 10}" y="{middle + 4:.1f}" text-anchor="end">{html(bar.name)}</text>'
                f'<rect x="{LEFT}" y="{y:.1f}" width="{length:.1f}" height="{BAR}" fill="{bar.colour}" rx="2"/>'
                f'<line x1="{LEFT + low:.1f}" x2="{LEFT + high:.1f}" y1="{middle}" y2="{middle}" stroke="#212529"/>'
                f'<text x="{LEFT + max(length, high) + 8:.1f}" y="{middle + 4:.1f}">{bar.value:.4g}'
                f'<tspan class="m"> {html(bar.note)}</tspan></text>'
            )
            y += BAR + GAP
        y += 14
    parts.append(f'<text x="12" y="{y + 4:.0f}" class="m">{html(note)}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 18:.0f}" width="{WIDTH}">'
        f'<style>{SVG_CSS}</style><rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def share_bar(low: float, value: float, high: float) -> str:
    """Draw a fraction with its interval on a line from 0 to 1."""
    return (
        f'<span class="bar"><i style="width:{100 * value:.2f}%"></i>'
        f'<b style="left:{100 * low:.2f}%;width:{max(0.3, 100 * (high - low)):.2f}%"></b></span>'
    )
