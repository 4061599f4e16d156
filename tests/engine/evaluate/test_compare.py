"""The change of accuracy against cases worked out by hand, and the section against what it must show."""

import numpy as np
import pytest

from saccade.engine.evaluate.compare import accuracy_change, comparison_section
from saccade.errors import DataError


def test_change_is_the_difference_of_accuracies():
    before = np.array([1, 1, 1, 0, 0, 0, 1, 1], bool)
    after = np.array([1, 0, 0, 1, 0, 0, 1, 1], bool)
    change, (low, high) = accuracy_change(before, after)
    assert change == pytest.approx(-1 / 8)
    assert low < change < high
    assert accuracy_change(before, after) == (change, (low, high))


def test_equal_answers_leave_no_doubt():
    hits = np.random.default_rng(0).random(200) < 0.7
    assert accuracy_change(hits, hits) == (0.0, (0.0, 0.0))


def test_pairs_say_more_than_two_accuracies():
    """With 2 % of 1000 answers changed the interval is a tenth of the one of independent samples."""
    before = np.random.default_rng(0).random(1000) < 0.5
    after = before.copy()
    after[:20] = ~after[:20]
    _, (low, high) = accuracy_change(before, after)
    assert high - low < 0.25 * 2 * 1.96 * (2 * 0.25 / 1000) ** 0.5


def test_other_images_are_refused():
    with pytest.raises(DataError, match="3 answers cannot be compared with 4"):
        accuracy_change(np.ones(3, bool), np.ones(4, bool))


def test_section_escapes():
    text = comparison_section([{"network": "<a>", "top-1 %": 1.0}], ["a < b"], "Before")
    assert "&lt;a&gt;" in text
    assert "a &lt; b" in text
    assert "<h2>Before</h2>" in text
