"""Two networks on the same images: how much accuracy changed, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from saccade.errors import DataError
from saccade.page import table
from saccade.shown import html
from saccade.tasks.intervals import Interval, bootstrap


def accuracy_change(
    before: np.ndarray, after: np.ndarray, *, seed: int = 0, resamples: int = 2000
) -> tuple[float, Interval]:
    """Compare hits image by image, which is surer than comparing two accuracies.

    Args:
        before: (images,) whether the first network's answer is right.
        after: (images,) likewise for the second, in the same order.
        seed: Of the bootstrap.
        resamples: Of the bootstrap.

    Returns:
        after's accuracy less before's, in [-1, 1], and its 95 % interval.

    Raises:
        DataError: Not the same images.
    """
    if len(before) != len(after) or not len(before):
        raise DataError(
            f"{len(before)} answers cannot be compared with {len(after)}; both networks have to see the same images"
        )
    gain = after.astype(np.float64) - before.astype(np.float64)
    low, high = bootstrap(lambda column: column.mean(), gain, seed=seed, resamples=resamples)
    return float(gain.mean()), (float(low), float(high))


def comparison_section(rows: Sequence[Mapping[str, Any]], words: Sequence[str], title: str) -> str:
    """Write a comparison as a section of the report page.

    Args:
        rows: One a network, the same columns.
        words: Paragraphs, plain text.
        title: Heading.
    """
    text = "".join(f"<p>{html(line)}</p>" for line in words)
    return f"<section><h2>{html(title)}</h2>{text}{table(rows)}</section>"
