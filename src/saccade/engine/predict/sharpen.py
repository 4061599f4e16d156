"""Sharpen a radar image in memory with a trained network; one that ships with the package unless told otherwise."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import torch

from saccade.engine.predict.predictor import open_predictor
from saccade.engine.sessions.finite import finite_rows, not_finite
from saccade.errors import ConfigError, WeightsError
from saccade.radar.arithmetic import check_threads
from saccade.radar.grid import RadarImage
from saccade.radar.sharpening import sharpened

SHIPPED = "srvit_swift.safetensors"


def shipped_weights() -> Path:
    """Return the file of the weights that ship with the package."""
    return Path(str(resources.files("saccade.weights") / "shipped" / SHIPPED))


def enhance(
    image: RadarImage, weights: Path | str | None = None, *, threads: int | None = None, device: str = "cpu"
) -> RadarImage:
    """Sharpen an image, or each depth of a volume by itself; `saccade.predict` does so with files.

    Args:
        image: Complex or magnitude, at any scale: only magnitudes relative to the largest one matter. Depths of a
            volume are sharpened each at its own scale and then take their place beside the brightest one.
        weights: A weights file, run folder or bundle of an srvit network; what ships with the package when left out.
        threads: Threads of torch; as they are when left out.
        device: Where to run.

    Returns:
        Magnitudes in [0, 1] on the same grid (a published network's may lie a little outside).

    Raises:
        ConfigError: Weights of a network that does not sharpen.
        DataError: An image that holds NaN or infinite values.
        WeightsError: Weights that cannot be read, or whose outputs are not finite.
    """
    check_threads(threads)
    source = weights or shipped_weights()
    with open_predictor(source, threads=threads or torch.get_num_threads(), device=device) as net:
        if not net.takes(image):
            raise ConfigError(
                f"{source}: holds {net.card.model}, which does not sharpen images; expected an srvit network"
            )
        found = net.outputs(image)
        if not finite_rows(found).all():
            raise WeightsError(not_finite(str(source)))
    return sharpened(image, found[0].numpy(), net.card.model)
