"""Draw a bench table as one picture: bars of images per second with intervals, one group per kind."""

from collections.abc import Sequence

from saccade.engine.bench.run import Row
from saccade.page.bars import Bar, BarGroup, interval_bars

COLOURS = {
    "eager": "#9aa5b1", "torch": "#d9480f", "compile": "#f08c00", "onnx": "#1971c2", "openvino": "#5f3dc4",
    "executorch": "#2b8a3e", "litert": "#0b7285",
}  # fmt: skip


def draw(rows: Sequence[Row]) -> str:
    """Return an SVG file that stands alone."""
    groups: dict[str, BarGroup] = {}
    for row in rows:
        title = {"latency": "one picture at a time", "throughput": "best batch"}.get(row.kind, row.kind)
        group = groups.setdefault(row.kind, BarGroup(f"{title}, images per second"))
        batch = f", batch {row.batch}" if row.batch > 1 else ""
        low, high = (
            row.images_per_s * row.latency_ms / ms for ms in (row.latency_ms_high, row.latency_ms_low)
        )
        colour = COLOURS.get(row.backend, "#495057")
        name = f"{row.model} {row.backend}{batch}"
        group.bars.append(Bar(name, row.images_per_s, low, high, colour, f"×{row.ratio:.2f}"))
    note = ""
    if rows:
        first = rows[0]
        note = (
            f"{first.precision}, {first.threads} thread(s), {first.clock} time, medians with 95 % intervals; "
            f"× against {first.model} {first.backend}"
        )
    return interval_bars(list(groups.values()), note)
