"""Small photographs and a recipe that takes about a second."""

import numpy as np
import pytest
from PIL import Image

TINY = {
    "data.size": 32,
    "data.batch": 6,
    "data.workers": 0,
    "model.name": "timm/test_vit2",
    "model.pretrained": "no",
    "model.options": {"img_size": 32, "drop_rate": 0.1, "drop_path_rate": 0.1},
    "augment.scale": [0.5, 1.0],
    "augment.mixup": 0.2,
    "schedule.epochs": 4,
    "run.device": "cpu",
    "run.threads": 1,
    "ema.decay": 0.9,
    "run.log_every": 1,
}


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Two classes, 12 pictures each: reddish and bluish noise."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for kind, channel in (("blue", 2), ("red", 0)):
        (folder / kind).mkdir()
        for i in range(12):
            pixels = rng.integers(0, 120, (40, 40, 3), dtype=np.uint8)
            pixels[..., channel] += 120
            Image.fromarray(pixels).save(folder / kind / f"{i}.png")
    return folder


@pytest.fixture(scope="session")
def settings_for(photos):
    """Make the dotted settings of a tiny run, with changes given as group__name."""

    def make(**changes):
        named = {name.replace("__", "."): value for name, value in changes.items()}
        return {"data.source": str(photos), **TINY, **named}

    return make
