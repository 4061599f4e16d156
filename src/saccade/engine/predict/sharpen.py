"""Sharpen radar images with a trained network; one that ships with the package unless told otherwise."""

from __future__ import annotations

import dataclasses
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from saccade.engine.sessions.finite import not_finite
from saccade.errors import ConfigError, DataError, WeightsError
from saccade.radar.arithmetic import check_threads
from saccade.radar.grid import RadarImage
from saccade.tasks.open import load_model
from saccade.tasks.restore.report import PEAK
from saccade.weights import Card
from saccade.zoo.registry import task_of

SHIPPED = "srvit_swift.safetensors"
PIXEL = 1e-3
"""Metres of a pixel in the training pairs; what a network has learned about blur belongs to this size."""


def shipped_weights() -> Path:
    """Return the file of the weights that ship with the package."""
    return Path(str(resources.files("saccade.weights") / "shipped" / SHIPPED))


def enhance(
    image: RadarImage, weights: Path | str | None = None, *, threads: int | None = None, device: str = "cpu"
) -> RadarImage:
    """Sharpen an image, or each depth of a volume by itself.

    Args:
        image: Complex or magnitude, at any scale: only magnitudes relative to the largest one matter. Depths of a
            volume are sharpened each at its own scale and then take their place beside the brightest one.
        weights: A weights file or run folder of an srvit network; what ships with the package when left out.
        threads: Threads of torch; as they are when left out.
        device: Where to run.

    Returns:
        Magnitudes in [0, 1] on the same grid (a published network's may lie a little outside).

    Raises:
        ConfigError: Weights of a network that does not sharpen.
        DataError: An image that holds NaN or infinite values.
        WeightsError: Weights that cannot be read.
    """
    check_threads(threads)
    network, card = load_sharpener(weights)
    if threads:
        torch.set_num_threads(threads)
    size = np.abs(image.values).astype(np.float32)
    if not np.isfinite(size).all():
        raise DataError("image: holds NaN or infinite values; form it again")
    stack = size[None] if size.ndim == 2 else np.moveaxis(size, 2, 0)
    sharp = np.stack([sharpen(network, card, part, device) for part in stack])
    # A network brings every image to full brightness; depths keep what they had relative to the brightest one.
    tops = stack.max((1, 2))
    sharp *= (tops / max(float(tops.max()), 1e-30))[:, None, None]
    values = sharp[0] if size.ndim == 2 else np.moveaxis(sharp, 0, 2)
    meta = {**image.meta, "sharpened_by": card.model, "from": image.method}
    return dataclasses.replace(image, values=values, method=f"{image.method}, {card.model}", meta=meta)


def load_sharpener(weights: Path | str | None = None) -> tuple[nn.Module, Card]:
    """Load a network that sharpens, in evaluation mode, and its card.

    Raises:
        ConfigError: A network of another task.
    """
    network, card = load_model(weights or shipped_weights())
    if task_of(card.model) != "restore":
        raise ConfigError(
            f"{weights}: holds {card.model}, which does not sharpen images; expected an srvit network"
        )
    return network, card


@torch.inference_mode()
def sharpen(network: nn.Module, card: Card, magnitude: np.ndarray, device: str = "cpu") -> np.ndarray:
    """Run a network over one magnitude image (nx, ny); returns the same shape in float32.

    Raises:
        WeightsError: The network's outputs are not finite.
    """
    top = float(magnitude.max())
    if top <= 0:
        return np.zeros_like(magnitude, np.float32)
    x = torch.from_numpy(np.ascontiguousarray(magnitude, np.float32) / top)
    if card.model != "srvit_swift":  # which divides by its maximum itself
        x = x * PEAK
    network = network.to(device)
    values = network(x[None, None].to(device))[0, 0].float().cpu().numpy()
    if not np.isfinite(values).all():
        raise WeightsError(not_finite(card.origin or card.model))
    return values


def pixel_notes(image: RadarImage) -> list[str]:
    """Say so when pixels are of another size than the networks were trained on."""
    steps: dict[str, Any] = {
        name: float(np.diff(axis).mean()) for name in "xy" if len(axis := getattr(image.grid, name)) > 1
    }
    return [
        f"pixels are {1e3 * step:.2f} mm along {name} and the network was trained at {1e3 * PIXEL:g} mm; form the "
        "image at that step for what it was made for"
        for name, step in steps.items()
        if not 0.7 < step / PIXEL < 1.4
    ]
