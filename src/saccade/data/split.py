"""Divide samples into training and validation, class by class, the same way every time."""

import numpy as np

from saccade.data.dataset import sample_seed
from saccade.errors import ConfigError


def stratified_split(targets: np.ndarray, fraction: float, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Divide samples so that every class is represented on both sides in proportion.

    Each class gives round(fraction * count) samples to validation, but at least one, and keeps at least one;
    a class with a single sample keeps it. Which ones depends on the seed and the order of the samples only.

    Args:
        targets: (samples,) class indices.
        fraction: Share for validation, in (0, 1).
        seed: Another seed, another split.

    Returns:
        Indices of the training and of the validation samples, each ascending.

    Raises:
        ConfigError: The fraction is out of range.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"data.val_fraction should be in (0, 1), not {fraction}")
    held = np.zeros(len(targets), dtype=bool)
    for target in np.unique(targets):
        members = np.flatnonzero(targets == target)
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        draws = np.random.PCG64(sample_seed(seed, 0, int(target), 1)).random_raw(len(members))
        held[members[np.argsort(draws, kind="stable")[:count]]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)
