"""From stages to a clip in metres: masks, depth, the camera's path, one scale, the ground.

Depth networks are off by a few per cent that change smoothly across the picture and from frame to frame. Points at
rest know their depth from the whole clip, so the depth map of each frame is drawn to them: by a smooth factor that is
fitted to their ratios, first with the points that were followed, then with the ground as well, which is seen nearly
everywhere. Objects stand between points at rest and gain by the same factor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from saccade.errors import ConfigError
from saccade.kinematics.lift.features import depth_at
from saccade.kinematics.lift.ground import Ground, find_ground
from saccade.kinematics.lift.settings import DEFAULT_PSEUDO, PseudoSettings
from saccade.kinematics.lift.stages import (
    CameraPose,
    ClipRejected,
    MetricDepth,
    MetricScene,
    Reconstruction,
)
from saccade.kinematics.scale import ClipScale, clip_scale
from saccade.kinematics.settings import DEFAULT, Settings

ORDER = 3
"""Of the polynomial in x and y that a frame's factor of depth follows, of the logarithm."""
FIELD_SIGMA = 0.05
"""How large the coefficients of that polynomial are expected to be."""
RATIO_SIGMA = 0.08
"""How far single depths are expected to be off, of the logarithm."""
GROUND_SHARE = 0.4
"""A plane that explains less of what is below the horizon is not trusted with depth and up axis."""
GROUND_STEP_PX = 6
"""Of pixels on the ground every so many, in x and in y, are used."""


@dataclass(frozen=True, eq=False)
class Measured:
    """A clip in metres, and what is known of how that came about."""

    scene: MetricScene
    scale: ClipScale
    reconstruction: Reconstruction


def measure_depths(images: np.ndarray, depth: MetricDepth) -> tuple[np.ndarray, np.ndarray]:
    """Measure every frame.

    Returns:
        (T, H, W) float32 metres, NaN where there is none, and (T,) focal lengths in pixels, NaN where none is given.
    """
    maps = [depth(image) for image in images]
    depths = np.stack([np.asarray(found.depth, np.float32) for found in maps])
    focals = np.array([np.nan if found.focal_px is None else found.focal_px for found in maps])
    return np.where(np.isfinite(depths) & (depths > 0), depths, np.nan), focals


def guess_intrinsics(focals: np.ndarray, height: int, width: int) -> np.ndarray:
    """Intrinsics (3, 3) from the median of the frames' focal lengths, with the principal point in the middle.

    Raises:
        ConfigError: No frame has a focal length.
    """
    known = focals[np.isfinite(focals) & (focals > 0)]
    if not len(known):
        raise ConfigError(
            "intrinsics: none are given and the depth stage tells no focal length; give them in pixels"
        )
    focal = float(np.median(known))
    return np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])


def measure(
    images: np.ndarray,
    times_s: np.ndarray,
    moving: np.ndarray,
    depths: np.ndarray,
    intrinsics: np.ndarray,
    pose: CameraPose,
    settings: PseudoSettings = DEFAULT_PSEUDO,
    label_settings: Settings = DEFAULT,
) -> Measured:
    """Find the camera's path in metres.

    Args:
        images: (T, H, W, 3) uint8 RGB.
        times_s: (T,) seconds.
        moving: (T, H, W) bool: what may move.
        depths: (T, H, W) float32 metres, NaN where there is none.
        intrinsics: (3, 3) pixels.
        pose: The stage.
        settings: Limits of the clip.
        label_settings: max_depth_m and max_scale_spread are used.

    Raises:
        ClipRejected: No path, or one that does not hold: see `stages.REASONS`.
    """
    found = pose(images, moving, depths, intrinsics)
    if not found.reprojection_px <= settings.max_reprojection_px:
        raise ClipRejected(
            "background_moves",
            f"points at rest are {found.reprojection_px:.2f} px from where they should be, "
            f"and {settings.max_reprojection_px:g} px are allowed",
        )
    scale = scale_of(found, depths, label_settings)
    if settings.max_reversal_gap > 0:
        check_reversal(found, scale, images, moving, depths, intrinsics, pose, settings, label_settings)
    assert scale.scale is not None
    return Measured(metric_scene(images, times_s, moving, depths, found, scale.scale), scale, found)


def scale_of(found: Reconstruction, depths: np.ndarray, label_settings: Settings = DEFAULT) -> ClipScale:
    """Find metres per unit of a reconstruction from its points at rest.

    Raises:
        ClipRejected: No points, or frames that do not agree.
    """
    measured = [depth_at(depth, pixels) for depth, pixels in zip(depths, found.pixels, strict=True)]
    scale = clip_scale(found.depths, measured, settings=label_settings)
    if scale.status == "no_pixels":
        raise ClipRejected("no_scale", "no point at rest has a depth in both maps")
    if scale.status != "ok":
        raise ClipRejected(
            "unsteady_scale",
            f"the frames' scales spread by {scale.spread:.3f} of their median, "
            f"and {label_settings.max_scale_spread:g} is allowed",
        )
    return scale


def check_reversal(
    found: Reconstruction,
    scale: ClipScale,
    images: np.ndarray,
    moving: np.ndarray,
    depths: np.ndarray,
    intrinsics: np.ndarray,
    pose: CameraPose,
    settings: PseudoSettings,
    label_settings: Settings,
) -> None:
    """Play the clip backwards: a path that holds is as long that way.

    Raises:
        ClipRejected: It is not, or there is none.
    """
    try:
        back = pose(images[::-1], moving[::-1], depths[::-1], intrinsics)
        back_scale = scale_of(back, depths[::-1], label_settings)
    except ClipRejected as error:
        raise ClipRejected("reversal_differs", f"played backwards: {error}") from error
    ways = [
        (one.scale or 0.0)
        * float(np.linalg.norm(np.diff(path.world_from_camera[:, :3, 3], axis=0), axis=1).sum())
        for one, path in ((scale, found), (back_scale, back))
    ]
    longer = max(ways)
    if longer >= settings.reversal_min_m and longer - min(ways) > settings.max_reversal_gap * longer:
        raise ClipRejected(
            "reversal_differs",
            f"the camera goes {ways[0]:.2f} m forwards and {ways[1]:.2f} m when the clip is played backwards",
        )


def metric_scene(
    images: np.ndarray,
    times_s: np.ndarray,
    moving: np.ndarray,
    depths: np.ndarray,
    found: Reconstruction,
    scale: float,
) -> MetricScene:
    """Put a clip into metres: scale the path, find the ground, draw each frame's depth to what is at rest."""
    poses = found.world_from_camera.copy()
    poses[:, :3, 3] *= scale
    inverse = np.linalg.inv(found.intrinsics)
    at_rest = [(pixels, scale * deep) for pixels, deep in zip(found.pixels, found.depths, strict=True)]
    drawn = np.stack([draw_to(depth, *rest) for depth, rest in zip(depths, at_rest, strict=True)])
    grid = _grid(depths.shape[1:])
    rays = np.concatenate([grid, np.ones((len(grid), 1))], 1) @ inverse.T
    columns, rows = grid.astype(int).T
    turned = rays @ poses[:, :3, :3].transpose(0, 2, 1)
    free = ~moving[:, rows, columns]
    seen = np.where(free, drawn[:, rows, columns], np.nan)
    eyes = np.broadcast_to(poses[:, None, :3, 3], turned.shape)
    own_up = -poses[:, :3, 1].mean(0) if found.up is None else found.up
    ground = find_ground(eyes.reshape(-1, 3), turned.reshape(-1, 3), seen.ravel(), own_up)
    if ground is None or ground.share < GROUND_SHARE:
        return MetricScene(images, times_s, drawn, poses, found.intrinsics, np.asarray(own_up), None)
    for place, (depth, (pixels, deep)) in enumerate(zip(depths, at_rest, strict=True)):
        expected = ground_depth(ground, poses[place], turned[place])
        near = np.abs(np.log(seen[place] / expected)) < 0.3
        drawn[place] = draw_to(
            depth, np.concatenate([pixels, grid[near]]), np.concatenate([deep, expected[near]])
        )
    return MetricScene(images, times_s, drawn, poses, found.intrinsics, ground.up, ground.height)


def ground_depth(ground: Ground, pose: np.ndarray, turned: np.ndarray) -> np.ndarray:
    """Depth (n,) of the ground along rays (n, 3) in the world of length 1 along the axis; NaN above the horizon."""
    fall = -(turned @ ground.up)
    above = float(pose[:3, 3] @ ground.up) + ground.height
    return np.where((fall > 1e-6) & (above > 0), above / np.where(fall > 1e-6, fall, 1.0), np.nan)


def draw_to(depth: np.ndarray, pixels: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Multiply a depth map by a smooth factor that brings it to known depths.

    Args:
        depth: (H, W) metres.
        pixels: (m, 2) x, y where the depth is known.
        true: (m,) metres.

    Returns:
        (H, W) float32.
    """
    ratio = np.log(true) - np.log(depth_at(depth, pixels))
    good = np.isfinite(ratio)
    if good.sum() < 3:
        return depth
    height, width = depth.shape
    size = np.array([width, height])
    terms = _terms((pixels[good] + 0.5) / size * 2 - 1)
    ratio = ratio[good]
    level = float(np.median(ratio))
    weight, found = np.ones(len(ratio)), np.zeros(terms.shape[1])
    # The constant is free, the rest is expected to be small.
    ridge = np.diag([1e-6] + [(RATIO_SIGMA / FIELD_SIGMA) ** 2] * (terms.shape[1] - 1))
    for _ in range(8):
        normal = (terms * weight[:, None]).T @ terms + ridge
        found = np.linalg.solve(normal, (terms * weight[:, None]).T @ (ratio - level))
        rest = (ratio - level - terms @ found) / RATIO_SIGMA
        weight = 1 / (1 + rest**2 / 4)
    columns = _powers((np.arange(width) + 0.5) / width * 2 - 1)
    rows = _powers((np.arange(height) + 0.5) / height * 2 - 1)
    field = sum(
        value * rows[:, None, j] * columns[None, :, i] for value, (i, j) in zip(found, _orders(), strict=True)
    )
    return (depth * np.exp(level + field)).astype(np.float32)


def _orders() -> list[tuple[int, int]]:
    """Powers of x and y, the constant first."""
    return [(i, total - i) for total in range(ORDER + 1) for i in range(total + 1)]


def _powers(values: np.ndarray) -> np.ndarray:
    """Legendre polynomials (n, ORDER + 1) of values in [-1, 1]."""
    return np.polynomial.legendre.legvander(values, ORDER)


def _terms(places: np.ndarray) -> np.ndarray:
    """Products of polynomials at places (n, 2) in [-1, 1]."""
    x, y = _powers(places[:, 0]), _powers(places[:, 1])
    return np.stack([x[:, i] * y[:, j] for i, j in _orders()], 1)


def _grid(shape: tuple[int, ...]) -> np.ndarray:
    """Pixels (n, 2) x, y on a regular grid."""
    height, width = shape
    y, x = np.mgrid[
        GROUND_STEP_PX // 2 : height : GROUND_STEP_PX, GROUND_STEP_PX // 2 : width : GROUND_STEP_PX
    ]
    return np.stack([x.ravel(), y.ravel()], 1).astype(np.float64)
