"""Tiny networks of every class, made when asked for."""

import pytest


@pytest.fixture(scope="session")
def networks(tmp_path_factory):
    """Folders of tiny networks by `model_type` and options."""
    from tests.kinematics.tiny_networks import make_network

    home, made = tmp_path_factory.mktemp("networks"), {}

    def network(kind, **options):
        key = "-".join([kind, *(f"{name}-{value}" for name, value in sorted(options.items()))])
        if key not in made:
            made[key] = make_network(kind, home / key, **options)
        return made[key]

    return network


@pytest.fixture
def frames():
    """Five frames, (5, 48, 80, 3): smooth, so that resizing changes little, and all different."""
    import numpy as np

    rows, columns = np.mgrid[:48, :80]
    waves = [
        127.5 + 120 * np.sin(rows[..., None] / 7 + columns[..., None] / (5 + np.arange(3)) + time)
        for time in range(5)
    ]
    return np.stack(waves).astype(np.uint8)
