"""Intervals against independent formulas and their own coverage."""

import numpy as np
import pytest

from saccade.errors import ConfigError
from saccade.tasks.intervals import bootstrap, wilson


@pytest.mark.parametrize(("hits", "count"), [(0, 10), (3, 10), (10, 10), (950, 1000), (1, 3)])
def test_wilson_bounds_solve_the_score_equation(hits, count):
    # By definition the bounds p are where |share - p| = z * sqrt(p (1 - p) / n).
    z = 1.959963984540054
    for bound in wilson(hits, count):
        assert (hits / count - bound) ** 2 == pytest.approx(z * z * bound * (1 - bound) / count, abs=1e-12)


def test_wilson_without_samples_knows_nothing():
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("hits", "count", "level"), [(-1, 5, 0.95), (6, 5, 0.95), (1, 5, 1.0)])
def test_wilson_refuses(hits, count, level):
    with pytest.raises(ConfigError, match="expected 0 <= hits"):
        wilson(hits, count, level=level)


def test_wilson_covers_what_it_says():
    rng = np.random.default_rng(0)
    drawn = rng.binomial(60, 0.9, 4000)
    inside = [low <= 0.9 <= high for low, high in (wilson(int(hits), 60) for hits in drawn)]
    assert 0.93 < np.mean(inside) < 0.975


def test_bootstrap_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(1).normal(5, 2, 400)
    low, high = bootstrap(lambda v: v.mean(), values, resamples=2000)
    error = values.std() / 20
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.03)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.03)


def test_bootstrap_repeats_by_seed_and_keeps_columns_together():
    first, second = np.arange(50.0), 2 * np.arange(50.0)
    gaps = bootstrap(lambda a, b: np.array([(b - 2 * a).max(), a.mean()]), first, second, seed=3)
    assert gaps[:, 0].tolist() == [0, 0]
    again = bootstrap(lambda a, b: np.array([0, a.mean()]), first, second, seed=3)
    assert np.array_equal(gaps[:, 1], again[:, 1])
    assert not np.array_equal(
        gaps[:, 1], bootstrap(lambda a, b: np.array([0, a.mean()]), first, second, seed=4)[:, 1]
    )
