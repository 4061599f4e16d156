"""The picture of a table: which bars there are, how long, and what is written beside them."""

import dataclasses

from saccade.engine.bench import plot
from saccade.engine.bench.run import Row

ROW = Row(
    model="small", backend="eager", precision="float32", size=32, batch=1, threads=1, kind="latency",
    images_per_s=100.0, latency_ms=10.0, latency_ms_low=8.0, latency_ms_high=20.0, ratio=1.0, ratio_low=1.0,
    ratio_high=1.0, clock="cpu", rounds=5, params_m=1.0, macs_g=0.1, share_of_peak=0.5, memory_mb=1.0,
    difference=0.0, metric="",
)  # fmt: skip


def test_bars_of_both_kinds_with_intervals_of_rates(monkeypatch):
    drawn = []
    monkeypatch.setattr(plot, "interval_bars", lambda groups, note: drawn.extend([groups, note]) or "")
    plot.draw(
        [ROW, dataclasses.replace(ROW, kind="throughput", batch=4, images_per_s=200.0, latency_ms=20.0)]
    )
    groups, note = drawn
    assert [len(group.bars) for group in groups] == [1, 1]
    one, four = (group.bars[0] for group in groups)
    assert (one.name, four.name) == ("small eager", "small eager, batch 4")
    # A longer time is a lower rate: 10 ms are 100 a second, 20 ms 50, 8 ms 125.
    assert (one.low, one.high) == (50.0, 125.0)
    assert "float32, 1 thread(s), cpu time" in note


def test_the_file_stands_alone():
    svg = plot.draw([ROW])
    assert svg.startswith("<svg")
    assert "small eager" in svg
    assert "batch 1" not in svg
