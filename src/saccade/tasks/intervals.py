"""How sure a mark is: Wilson intervals for proportions, bootstrap intervals for everything else."""

from collections.abc import Callable
from statistics import NormalDist

import numpy as np

from saccade.errors import ConfigError

Interval = tuple[float, float]


def wilson(successes: int, count: int, *, level: float = 0.95) -> Interval:
    """Interval of a proportion after Wilson (1927), without continuity correction.

    Stays inside [0, 1] and is not empty at 0 or 1, where the textbook interval collapses.

    Args:
        successes: Hits, 0 to `count`.
        count: Trials; 0 gives (0, 1), which says that nothing is known.
        level: Coverage, in (0, 1).

    Returns:
        (low, high), both in [0, 1].

    Raises:
        ConfigError: `successes` outside 0 to `count`, or `level` outside (0, 1).
    """
    if not 0 <= successes <= count or not 0 < level < 1:
        raise ConfigError(
            f"cannot make an interval for {successes} hits of {count} at level {level}; "
            "expected 0 <= hits <= count and 0 < level < 1"
        )
    if count == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share = successes / count
    middle = share + z * z / (2 * count)
    half = z * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5
    scale = 1 + z * z / count
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def bootstrap(
    statistic: Callable[..., np.ndarray],
    *columns: np.ndarray,
    seed: int = 0,
    resamples: int = 500,
    level: float = 0.95,
) -> np.ndarray:
    """Percentile bootstrap over samples (Efron, 1979); the same seed gives the same numbers.

    Args:
        statistic: Called with the resampled columns; returns one value or a vector of values.
        columns: Arrays of equal length, one entry a sample, at least one entry.
        seed: Of the resampling.
        resamples: How many data sets are drawn.
        level: Coverage, in (0, 1).

    Returns:
        (2, ...) array: lower and upper bounds, in the shape of the statistic.

    Cost: `resamples` evaluations of `statistic`.
    """
    count = len(columns[0])
    generator = np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples):
        rows = generator.integers(0, count, count)
        drawn.append(statistic(*(column[rows] for column in columns)))
    return np.quantile(np.stack([np.asarray(d) for d in drawn]), [0.5 - level / 2, 0.5 + level / 2], axis=0)
