"""The drawn pictures: always the same, balanced, and not solvable by their average."""

import numpy as np
import pytest

from saccade.data.opening import open_pair, open_source
from saccade.data.shapes import BLOCK, COUNTS, LABELS, SIDE, draw_shapes, targets_of


def test_parts_are_apart_and_balanced():
    train, val = open_source("shapes", part="train"), open_source("shapes", part="val")
    assert (len(train), len(val)) == (COUNTS["train"], COUNTS["val"])
    assert set(train.counts().values()) == {COUNTS["train"] // len(LABELS)}
    assert max(val.counts().values()) - min(val.counts().values()) <= 1
    assert not set(train.names) & set(val.names)
    assert np.abs(np.asarray(train.read(0), int) - np.asarray(val.read(0), int)).mean() > 10


def test_a_picture_does_not_depend_on_what_was_read_before():
    source = open_source("shapes", part="val")
    late = np.asarray(source.read(BLOCK + 3))
    assert late.shape == (SIDE, SIDE, 3)
    assert late.dtype == np.uint8
    rng = np.random.default_rng([20_260, True, 2])
    assert np.array_equal(late, draw_shapes(targets_of("val")[BLOCK : 2 * BLOCK], rng)[3])
    whole = open_source("shapes")
    assert np.array_equal(whole.read(COUNTS["train"] + BLOCK + 3), late)
    assert whole.names[COUNTS["train"] + BLOCK + 3] == source.names[BLOCK + 3]
    with pytest.raises(IndexError):
        source.read(len(source))


def test_the_pair_keeps_the_labels():
    from saccade.data.config import DataConfig

    pair = open_pair(DataConfig(source="shapes"))
    assert pair.labels == LABELS
    assert len(set(LABELS)) == 12
    index = int(np.flatnonzero(pair.train.targets == LABELS.index("blue around red"))[0])
    assert "blue-around-red" in pair.train.names[index]


def test_the_outer_colour_lies_around_the_inner_one():
    """On many pictures of one class, the two named colours are what is more frequent than in the others."""
    rng = np.random.default_rng(1)
    red_blue = draw_shapes(np.full(60, LABELS.index("red around blue")), rng).astype(float)
    green_yellow = draw_shapes(np.full(60, LABELS.index("green around yellow")), rng).astype(float)

    def share(pictures, r, g, b):
        return (np.abs(pictures - np.array([r, g, b]) * 255).max(-1) < 60).mean()

    for colour in ((0.85, 0.2, 0.2), (0.2, 0.3, 0.9)):
        assert share(red_blue, *colour) > 2 * share(green_yellow, *colour)


def test_the_average_of_a_picture_does_not_tell_the_class():
    """Nearest class mean of the average colour: far above chance would make the data pointless."""
    rng = np.random.default_rng(2)
    targets = np.arange(480) % len(LABELS)
    means = draw_shapes(targets, rng).astype(float).mean((1, 2))
    centres = np.stack([means[:240][targets[:240] == k].mean(0) for k in range(len(LABELS))])
    answers = np.linalg.norm(means[240:, None] - centres[None], axis=2).argmin(1)
    assert (answers == targets[240:]).mean() < 0.45
