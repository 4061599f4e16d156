"""From a scan to an image, by any of the methods."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from saccade.errors import ConfigError, did_you_mean
from saccade.radar.arithmetic import check_threads
from saccade.radar.backproject import project
from saccade.radar.grid import Grid, RadarImage
from saccade.radar.migrate import migrate
from saccade.radar.nufft import nufft
from saccade.radar.planar import empm
from saccade.radar.polar import polar
from saccade.radar.range_compressed import project_profiles
from saccade.radar.scan import Scan
from saccade.radar.windows import taper

METHODS = ("backprojection", "range-compressed", "empm", "rma", "polar", "nufft")
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
    device: str = "cpu",
    progress: Callable[[int], None] | None = None,
) -> RadarImage:
    """Form an image.

    Args:
        scan: What was recorded, with believed positions.
        grid: Where to form it, metres.
        method: "backprojection" (exact, any geometry), "range-compressed" (the same to 5e-4, faster), "empm"
            (one depth, mid-points on a uniform x-y grid; thousands of times faster), "rma" (a volume from such a
            scan), "nufft" (such a scan with irregular x-y) or "polar" (a cylinder around the y axis).
        window: One of `windows.WINDOWS`, over the aperture and the sweep.
        magnitude: Return absolute values instead of complex ones.
        threads: Cores; all by default.
        device: Of back-projection: cpu (the compiled kernel), or cuda or mps by torch.
        progress: Called now and then with the number of voxels done (methods by Fourier transform: once).

    Returns:
        Image with its axes.

    Raises:
        ConfigError: Unknown method or window, or a grid that does not fit it.
        DataError: A scan that is inconsistent or does not fit the method.
    """
    check_method(method)
    check_threads(threads)
    scan.check()
    behind = scan.virtual[..., 2].max()
    if scan.geometry not in SURROUNDING and grid.z.min() <= behind:
        raise ConfigError(
            f"grid: z begins at {grid.z.min():g} m and antennas reach {behind:g} m; it has to lie in front of them"
        )
    if method in ("empm", "rma", "nufft") and scan.geometry in SURROUNDING:
        raise ConfigError(
            f"method {method} images planar scans and this one is {scan.geometry}; use polar or backprojection"
        )
    scan = taper(scan, window)
    if device != "cpu":
        if method != "backprojection":
            raise ConfigError(f"method {method} runs on the CPU; only backprojection takes device {device}")
        from saccade.radar.backproject_torch import exact_torch

        image = exact_torch(scan, grid, device)
    elif method in ("backprojection", "range-compressed"):
        kernel = project if method == "backprojection" else project_profiles
        samples, tx, rx = scan.flatten()
        values = kernel(
            samples, tx, rx, scan.waveform.frequencies, grid.points(), path_loss=scan.path_loss, threads=threads,
            progress=progress,
        )  # fmt: skip
        image = RadarImage(values.reshape(grid.image_shape), grid, method, {"elements": len(samples)})
    else:
        image = {"empm": empm, "rma": migrate, "polar": polar, "nufft": nufft}[method](
            scan, grid, threads=threads
        )
    if progress:
        progress(grid.size)
    image.meta["window"] = window
    return dataclasses.replace(image, values=image.magnitude) if magnitude else image
