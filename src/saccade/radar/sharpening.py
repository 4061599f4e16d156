"""What becomes of a radar image that a network sharpens, without the network."""

from __future__ import annotations

import dataclasses

import numpy as np

from saccade.radar.grid import RadarImage

PIXEL = 1e-3
"""Metres of a pixel in the training pairs; what a network has learned about blur belongs to this size."""


def sharpened(image: RadarImage, values: np.ndarray, model: str) -> RadarImage:
    """Put sharpened magnitudes (depths, nx, ny) in the place of an image's values.

    Args:
        image: As formed.
        values: What the network gave, float32.
        model: Its name, which the new image says in `method` and `meta`.
    """
    whole = values[0] if image.values.ndim == 2 else np.moveaxis(values, 0, 2)
    meta = {**image.meta, "sharpened_by": model, "from": image.method}
    return dataclasses.replace(image, values=whole, method=f"{image.method}, {model}", meta=meta)


def pixel_notes(image: RadarImage) -> list[str]:
    """Say so when pixels are of another size than the networks were trained on."""
    axes = {name: axis for name, axis in (("x", image.grid.x), ("y", image.grid.y)) if len(axis) > 1}
    steps = {name: float(np.diff(axis).mean()) for name, axis in axes.items()}
    return [
        f"pixels are {1e3 * step:.2f} mm along {name} and the network was trained at {1e3 * PIXEL:g} mm; form the "
        "image at that step for what it was made for"
        for name, step in steps.items()
        if not 0.7 < step / PIXEL < 1.4
    ]
