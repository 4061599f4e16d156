"""Draw a bench table as one picture: bars of images per second with intervals, one group per kind."""

from collections.abc import Sequence

from saccade.engine.bench.run import Row
from saccade.shown import html

WIDTH, BAR, GAP, LEFT, RIGHT = 820, 18, 8, 310, 150
COLOURS = {
    "eager": "#9aa5b1", "torch": "#d9480f", "compile": "#f08c00", "onnx": "#1971c2", "openvino": "#5f3dc4",
    "executorch": "#2b8a3e", "litert": "#0b7285",
}  # fmt: skip


def draw(rows: Sequence[Row]) -> str:
    """Return an SVG file that stands alone."""
    parts, y = [], 16.0
    for kind in dict.fromkeys(row.kind for row in rows):
        group = [row for row in rows if row.kind == kind]
        title = {"latency": "one picture at a time", "throughput": "best batch"}.get(kind, kind)
        parts.append(f'<text x="12" y="{y + 10:.0f}" class="h">{title}, images per second</text>')
        y += 24
        widest = max(row.images_per_s * row.latency_ms / row.latency_ms_low for row in group)
        for row in group:
            scale = (WIDTH - LEFT - RIGHT) / widest
            length = row.images_per_s * scale
            low, high = (length * row.latency_ms / ms for ms in (row.latency_ms_high, row.latency_ms_low))
            middle = y + BAR / 2
            colour = COLOURS.get(row.backend, "#495057")
            batch = f", batch {row.batch}" if row.batch > 1 else ""
            parts.append(
                f'<text x="{LEFT - 10}" y="{middle + 4:.1f}" text-anchor="end">'
                f"{html(row.model)} {html(row.backend)}{batch}</text>"
                f'<rect x="{LEFT}" y="{y:.1f}" width="{length:.1f}" height="{BAR}" fill="{colour}" rx="2"/>'
                f'<line x1="{LEFT + low:.1f}" x2="{LEFT + high:.1f}" y1="{middle}" y2="{middle}" stroke="#212529"/>'
                f'<text x="{LEFT + max(length, high) + 8:.1f}" y="{middle + 4:.1f}">{row.images_per_s:.4g}'
                f'<tspan class="m"> &#215;{row.ratio:.2f}</tspan></text>'
            )
            y += BAR + GAP
        y += 14
    note = ""
    if rows:
        first = rows[0]
        note = (
            f"{first.precision}, {first.threads} thread(s), {first.clock} time, medians with 95 % intervals; "
            f"&#215; against {html(first.model)} {html(first.backend)}"
        )
    parts.append(f'<text x="12" y="{y + 4:.0f}" class="m">{note}</text>')
    style = (
        "text{font:13px system-ui,sans-serif;fill:#212529}.h{font-weight:600}.m{fill:#868e96;font-size:12px}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 18:.0f}" width="{WIDTH}">'
        f'<style>{style}</style><rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )
