"""From a scan to an image, by any of the methods."""

from __future__ import annotations

from saccade.errors import ConfigError, did_you_mean
from saccade.radar import backproject, planar
from saccade.radar.grid import Grid, RadarImage
from saccade.radar.scan import Scan

METHODS = ("backprojection", "empm")


def reconstruct(
    scan: Scan, grid: Grid, method: str = "backprojection", *, threads: int | None = None
) -> RadarImage:
    """Form an image.

    Args:
        scan: What was recorded, with believed positions.
        grid: Where to form it, metres.
        method: "backprojection" (exact, any geometry) or "empm" (one depth, mid-points on a uniform x-y grid;
            thousands of times faster).
        threads: Cores of back-projection; all by default.

    Returns:
        Complex image with its axes.

    Raises:
        ConfigError: Unknown method, or a grid that does not fit it.
        DataError: A scan that is inconsistent or does not fit the method.
    """
    if method not in METHODS:
        raise ConfigError(f"no imaging method {method!r}{did_you_mean(method, METHODS)}")
    behind = scan.virtual[..., 2].max()
    if grid.z.min() <= behind:
        raise ConfigError(
            f"grid: z begins at {grid.z.min():g} m and antennas reach {behind:g} m; it has to lie in front of them"
        )
    if method == "empm":
        return planar.empm(scan, grid)
    return backproject.exact(scan, grid, threads=threads)
