"""Turns are taken, intervals cover, ratios are taken round by round."""

import random

import pytest

from saccade.engine.bench.timing import interleave, median_interval, ratio_interval


def test_contenders_take_turns():
    calls = []
    timings = interleave(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")},
        seconds=0, min_rounds=4, round_seconds=0,
    )  # fmt: skip
    assert calls == ["a"] * 3 + ["b"] * 3 + ["a", "b"] * 4
    assert all(len(t.wall) == len(t.cpu) == 4 for t in timings.values())


def test_fast_contenders_repeat_within_a_round():
    counts = {"n": 0}

    def work():
        counts["n"] += 1

    interleave({"a": work}, seconds=0, min_rounds=5, round_seconds=0.001)
    assert counts["n"] > 3 + 5


def test_median_interval_covers_as_often_as_it_says():
    draw = random.Random(0)
    hits = 0
    for _ in range(2000):
        _, low, high = median_interval([draw.gauss(0, 1) for _ in range(15)])
        hits += low <= 0 <= high
    assert 0.95 <= hits / 2000 <= 0.99


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_rounds_give_their_range(count):
    values = [float(v) for v in range(count)]
    assert median_interval(values) == ((count - 1) / 2, 0.0, count - 1.0)


def test_ratios_are_paired():
    drift = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]
    assert ratio_interval([2 * d for d in drift], drift) == (2.0, 2.0, 2.0)


@pytest.mark.parametrize(
    ("count", "low", "high"),
    [(6, 1, 6), (8, 1, 8), (9, 2, 8), (10, 2, 9), (20, 6, 15), (50, 18, 33), (100, 40, 61)],
)
def test_intervals_are_those_of_the_tables(count, low, high):
    """Ranks of the 95 % interval for a median, as printed in tables of the sign test."""
    values = [float(value) for value in range(1, count + 1)]
    random.Random(count).shuffle(values)
    assert median_interval(values) == ((count + 1) / 2, low, high)
    if count == 100:
        assert median_interval(values, 0.99)[1:] == (37, 64)
