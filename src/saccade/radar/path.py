"""The ways a radar is moved past its target.

Poses are positions of the array's centre and rotations of its frame; the array looks along +z and, unrotated, its
line of antennas runs along y. Geometries after Smith et al. (arXiv 2305.02064 and their public code); `uav` and
`automotive` are ours, since those publications name them only as a motivation.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from saccade.errors import ConfigError, did_you_mean
from saccade.radar.array import Array
from saccade.radar.scan import euler

SMOOTHNESS = 3.0
"""Width, in cycles over the scan, of the spectrum of a smooth disturbance (F in the published code)."""

MAX_POSES = 2_000_000


@dataclass(frozen=True, eq=False)
class Path:
    """Poses in the order they were visited."""

    positions: np.ndarray
    """(P, 3) metres."""
    rotations: np.ndarray | None
    """(P, 3, 3), or None where the radar never turns."""
    geometry: str
    times: np.ndarray
    """(P,) seconds."""
    channel_shift: np.ndarray | None = None
    """(P, C, 3) metres added to both antennas of each channel: a radar that is not rigid, as published."""


def make_path(geometry: str, array: Array, wavelength: float, *, seed: int = 0, **settings: Any) -> Path:
    """Make a path by the name of its geometry; steps left out suit the array.

    Args:
        geometry: One of `GEOMETRIES`.
        array: Decides the steps that make the virtual grid uniform.
        wavelength: Metres, at the waveform's centre.
        seed: Of everything random.
        settings: Arguments of the geometry's function.

    Raises:
        ConfigError: No such geometry, or a setting that it does not have.
    """
    if geometry not in GEOMETRIES:
        raise ConfigError(f"no geometry {geometry!r}{did_you_mean(geometry, GEOMETRIES)}")
    function = GEOMETRIES[geometry]
    known = function.__kwdefaults__ or {}
    for name in settings:
        if name not in known:
            raise ConfigError(f"geometry {geometry} has no setting {name!r}{did_you_mean(name, known)}")
    if "seed" in known:
        settings["seed"] = seed
    for name, value in settings.items():
        if isinstance(value, (int, float)) and (value < 0 or not np.isfinite(value)):
            raise ConfigError(
                f"geometry {geometry}: {name} is {value}; expected a finite number, not negative"
            )
        if name in ("nx", "ny", "poses") and value is not None and value < 1:
            raise ConfigError(f"geometry {geometry}: {name} is {value}; expected at least 1")
    counts = [{**known, **settings}.get(name) or 1 for name in ("nx", "ny", "poses")]
    if np.prod(np.array(counts, float)) > MAX_POSES:
        raise ConfigError(
            f"geometry {geometry}: {' x '.join(str(n) for n in counts if n > 1)} poses; at most {MAX_POSES}"
        )
    return function(array, wavelength, **settings)


def path_settings(geometry: str) -> dict[str, Any]:
    """Types of the settings of a geometry, but for the seed; none of an unknown one."""
    function = GEOMETRIES.get(geometry)
    if function is None:
        return {}
    hints = typing.get_type_hints(function)
    return {name: hints[name] for name in function.__kwdefaults__ or {} if name != "seed"}


def linear(array: Array, wavelength: float, *, ny: int = 25, y_step: float | None = None) -> Path:
    """Move straight along y.

    Args:
        array: Decides the step.
        wavelength: Metres.
        ny: Poses.
        y_step: Metres; by default such that virtual elements are spaced evenly, a quarter wavelength.
    """
    return _raster(array, wavelength, "linear", 1, ny, None, y_step)


def rectilinear(
    array: Array,
    wavelength: float,
    *,
    nx: int = 200,
    ny: int = 25,
    x_step: float | None = None,
    y_step: float | None = None,
) -> Path:
    """Move over a plane, row by row. Steps as in `linear`; x_step is a quarter wavelength by default."""
    return _raster(array, wavelength, "rectilinear", nx, ny, x_step, y_step)


def freehand(
    array: Array,
    wavelength: float,
    *,
    nx: int = 200,
    ny: int = 25,
    x_step: float | None = None,
    y_step: float | None = None,
    swing: float = 0.03,
    rough: float = 0.0,
    per_channel: bool = False,
    seed: int = 0,
) -> Path:
    """Hold the radar by hand: the x-y grid of `rectilinear`, with a depth that wanders.

    Args:
        array: In its own frame.
        wavelength: Metres.
        nx: Poses along x.
        ny: Poses along y.
        x_step: Metres.
        y_step: Metres.
        swing: Metres from the nearest to the farthest point of a smooth wander (published: 3 cm).
        rough: Standard deviation of a further, independent depth per pose, metres (published alternative: 1 cm).
        per_channel: Disturb every channel of a pose by itself, as the published code does; a real radar is rigid.
        seed: Of the wander.
    """
    path = _raster(array, wavelength, "freehand", nx, ny, x_step, y_step)
    random = np.random.default_rng(seed)
    count = array.num_channels
    # The field lives on the grid of virtual elements, of which a rigid radar takes the middle of each pose.
    depth = swing * (smooth_field((nx, ny * count), random) - 0.5)
    depth = depth.reshape(nx * ny, count)
    if per_channel:
        depth = depth + rough * random.standard_normal(depth.shape)
        shift = np.zeros((nx * ny, count, 3))
        shift[..., 2] = depth
        return dataclasses.replace(path, channel_shift=shift)
    positions = path.positions.copy()
    positions[:, 2] += depth[:, count // 2] + rough * random.standard_normal(nx * ny)
    return dataclasses.replace(path, positions=positions)


def cylindrical(
    array: Array,
    wavelength: float,
    *,
    radius: float = 0.3,
    poses: int = 512,
    ny: int = 8,
    y_step: float | None = None,
    max_angle: float = 360.0,
) -> Path:
    """Move around the origin, looking at the axis, at ny heights.

    Args:
        array: In its own frame.
        wavelength: Metres.
        radius: Metres.
        poses: Around the axis, at angles 0 .. max_angle without the last.
        ny: Heights.
        y_step: Metres between heights.
        max_angle: Degrees.
    """
    angles = np.deg2rad(np.arange(poses) * (max_angle / poses))
    heights = _raster(array, wavelength, "", 1, ny, None, y_step).positions[:, 1]
    angle, height = (part.reshape(-1) for part in np.meshgrid(angles, heights, indexing="ij"))
    positions = np.stack([radius * np.cos(angle), height, radius * np.sin(angle)], 1)
    # Turned about y until +z points to the axis.
    turns = euler(np.stack([0 * angle, np.arctan2(-np.cos(angle), -np.sin(angle)), 0 * angle], 1))
    return Path(positions, turns, "cylindrical", 0.01 * np.arange(len(angle)))


def circular(
    array: Array, wavelength: float, *, radius: float = 0.3, poses: int = 512, max_angle: float = 360.0
) -> Path:
    """Move around the origin at one height. Settings as in `cylindrical`."""
    path = cylindrical(array, wavelength, radius=radius, poses=poses, ny=1, max_angle=max_angle)
    return dataclasses.replace(path, geometry="circular")


def uav(
    array: Array,
    wavelength: float,
    *,
    nx: int = 100,
    ny: int = 25,
    x_step: float | None = None,
    y_step: float | None = None,
    jitter: float = 5e-3,
    tilt: float = 2.0,
    seed: int = 0,
) -> Path:
    """Fly a raster to and fro with slow deviations of position and attitude; the array stays rigid.

    Args:
        array: In its own frame.
        wavelength: Metres.
        nx: Poses along x, the direction of flight.
        ny: Rows.
        x_step: Metres; half a wavelength by default.
        y_step: Metres between rows.
        jitter: Standard deviation of each coordinate, metres.
        tilt: Standard deviation of each angle, degrees.
        seed: Of the deviations.
    """
    path = _raster(array, wavelength, "uav", nx, ny, x_step or wavelength / 2, y_step)
    order = np.arange(nx * ny).reshape(nx, ny).T.copy()
    order[1::2] = order[1::2, ::-1]
    positions = path.positions[order.reshape(-1)]
    random = np.random.default_rng(seed)
    positions = positions + jitter * slow_noise(len(positions), 3, random, length=nx / 4)
    angles = np.deg2rad(tilt) * slow_noise(len(positions), 3, random, length=nx / 4)
    return Path(positions, euler(angles), "uav", path.times)


def automotive(
    array: Array,
    wavelength: float,
    *,
    poses: int = 400,
    speed: float = 0.5,
    period: float | None = None,
    walk: float = 1e-4,
    sway: float = 1e-3,
    seed: int = 0,
) -> Path:
    """Drive past, looking sideways: x advances by speed times period, with a random walk and a slow sway.

    Args:
        array: In its own frame.
        wavelength: Metres.
        poses: Chirp frames.
        speed: Metres per second.
        period: Seconds between frames; by default a quarter wavelength of way.
        walk: Standard deviation of the walk's step along x, metres.
        sway: Standard deviation of the slow deviation along y and z, metres.
        seed: Of both.
    """
    period = period or wavelength / 4 / max(speed, 1e-9)
    random = np.random.default_rng(seed)
    positions = np.zeros((poses, 3))
    positions[:, 0] = (np.arange(poses) - (poses - 1) / 2) * speed * period
    positions[:, 0] += np.cumsum(walk * random.standard_normal(poses))
    positions[:, 1:] = sway * slow_noise(poses, 2, random, length=poses / 8)
    return Path(positions, None, "automotive", np.arange(poses) * period)


def smooth_field(shape: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    """Draw a smooth random field scaled to [0, 1]: white noise under a Gaussian spectrum, as published."""
    i, j = (np.minimum(np.arange(n), n - np.arange(n)) for n in shape)
    spectrum = np.exp(-(i[:, None] ** 2 + j[None] ** 2) / (2 * SMOOTHNESS**2))
    field = np.fft.ifft2(random.standard_normal(shape) * spectrum).real
    spread = np.ptp(field)
    return (field - field.min()) / spread if spread > 0 else np.full(shape, 0.5)


def slow_noise(count: int, columns: int, random: np.random.Generator, length: float) -> np.ndarray:
    """Draw (count, columns) of unit deviation whose neighbours within about `length` samples are alike."""
    pad = int(4 * length) + 1
    taps = np.exp(-0.5 * (np.arange(-pad, pad + 1) / max(length / 2, 0.5)) ** 2)
    white = random.standard_normal((count + 2 * pad, columns))
    smooth = np.stack([np.convolve(column, taps / np.linalg.norm(taps), "valid") for column in white.T], 1)
    return smooth[:count]


def _raster(
    array: Array, wavelength: float, name: str, nx: int, ny: int, x_step: float | None, y_step: float | None
) -> Path:
    """Return a uniform x-y grid of poses around the origin, y fastest."""
    x_step = x_step or wavelength / 4
    y_step = y_step or wavelength / 4 * len(np.unique(np.round(array.virtual[:, 1], 6)))
    x, y = ((np.arange(n) - (n - 1) / 2) * step for n, step in ((nx, x_step), (ny, y_step)))
    grid = np.stack(np.meshgrid(x, y, [0.0], indexing="ij"), -1).reshape(-1, 3)
    return Path(grid, None, name, 0.01 * np.arange(len(grid)))


GEOMETRIES: dict[str, Callable[..., Path]] = {
    "linear": linear,
    "rectilinear": rectilinear,
    "freehand": freehand,
    "cylindrical": cylindrical,
    "circular": circular,
    "uav": uav,
    "automotive": automotive,
}
"""Geometries by name."""
