"""Our own wordings: ten questions a task, of which two are kept from training, and four answers or more.

In questions, {c} is the colour of a box, {c1} and {c2} the colours in the order they are named, {h} an hour, {a} and
{b} seconds, {clock} and {ground} the conventions below. Comparisons have two forms each, for both things that can be
asked. In answers, {v} is a value, {w} the right colour, {o} the other one.
"""

from __future__ import annotations

from dataclasses import dataclass

HELD_OUT = 2
"""The last wordings of each task, kept from training for the test of paraphrases."""
CLOCK = "Take its first heading as 12 o'clock and count hours clockwise, seen from above."
"""The convention, in every question about an hour."""
GROUND = "Judge by where each gets to over the ground, not in the picture."


@dataclass(frozen=True)
class Wordings:
    """The texts of one task."""

    questions: tuple[tuple[str, ...], ...]
    """Each with one form for every polarity."""
    answers: tuple[str, ...]
    polarities: tuple[str | None, ...] = (None,)
    unit: str | None = None


def one_form(*texts: str) -> tuple[tuple[str, ...], ...]:
    """Make the texts of a kind that asks for one thing only."""
    return tuple((text,) for text in texts)


def two_forms(*texts: str, pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[str, ...], ...]:
    """Make both forms of texts in which {0} and the like stand for a pair of words."""
    return tuple(
        tuple(
            text.replace("{x}", pairs[0][side]).replace("{y}", pairs[1][side]).replace("{z}", pairs[2][side])
            for side in (0, 1)
        )
        for text in texts
    )
