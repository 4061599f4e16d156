"""Which pairs of things may be compared: not those that went nearly as far."""

import numpy as np
import pytest

from motion_demo.network import MOVING
from motion_demo.task import _of_pairs


def rows_of(ways, said):
    count = len(ways)
    steps = np.zeros((count, 2, 4, 16))
    steps[..., MOVING] = -1
    return {
        "way": np.array(ways, float),
        "out_way": np.log(np.array(said, float)),
        "out_steps": steps,
        "move": np.zeros((count, 2, 4, 2)),
    }


@pytest.mark.parametrize(
    ("ways", "counts"),
    [
        ((1.0, 1.9), False),  # almost twice, but not a metre more
        ((0.0, 0.99), False),
        ((1.0, 2.0), True),
        ((10.0, 11.5), False),  # more than a metre, but not a fifth
        ((10.0, 12.5), True),
        ((12.5, 10.0), True),
    ],
)
def test_a_pair_counts_where_ratio_and_difference_are_clear(ways, counts):
    found, blind = _of_pairs(rows_of([ways], [(1.0, 2.0)]), np.array([True]))
    assert ("which" in found) == ("which" in blind) == counts
    if counts:
        assert found["which"] == float(ways[1] > ways[0])
