"""From a scan to an image, by any of the methods."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from saccade.errors import ConfigError, did_you_mean
from saccade.radar import backproject, planar
from saccade.radar.grid import Grid, RadarImage
from saccade.radar.scan import Scan
from saccade.radar.windows import taper

METHODS = ("backprojection", "empm")
SURROUNDING = ("cylindrical", "circular")
"""Geometries whose antennas stand around the target, not in front of it."""


def check_method(name: str) -> str:
    """Return the name of a method.

    Raises:
        ConfigError: There is none of that name.
    """
    if name not in METHODS:
        raise ConfigError(
            f"no imaging method {name!r}{did_you_mean(name, METHODS)}; there are {', '.join(METHODS)}"
        )
    return name


def reconstruct(
    scan: Scan,
    grid: Grid,
    method: str = "backprojection",
    *,
    window: str = "none",
    magnitude: bool = False,
    threads: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> RadarImage:
    """Form an image.

    Args:
        scan: What was recorded, with believed positions.
        grid: Where to form it, metres.
        method: "backprojection" (exact, any geometry) or "empm" (one depth, mid-points on a uniform x-y grid;
            thousands of times faster).
        window: One of `windows.WINDOWS`, over the aperture and the sweep.
        magnitude: Return absolute values instead of complex ones.
        threads: Cores of back-projection; all by default.
        progress: Called now and then with the number of voxels done (methods by Fourier transform: once).

    Returns:
        Image with its axes.

    Raises:
        ConfigError: Unknown method or window, or a grid that does not fit it.
        DataError: A scan that is inconsistent or does not fit the method.
    """
    check_method(method)
    scan.check()
    behind = scan.virtual[..., 2].max()
    if scan.geometry not in SURROUNDING and grid.z.min() <= behind:
        raise ConfigError(
            f"grid: z begins at {grid.z.min():g} m and antennas reach {behind:g} m; it has to lie in front of them"
        )
    scan = taper(scan, window)
    if method == "empm":
        image = planar.empm(scan, grid)
    else:
        image = backproject.exact(scan, grid, threads=threads, progress=progress)
    if progress:
        progress(grid.size)
    image.meta["window"] = window
    return dataclasses.replace(image, values=image.magnitude) if magnitude else image
