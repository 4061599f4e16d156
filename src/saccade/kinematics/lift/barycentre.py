"""Where an object is, the simple way: the middle of what is seen of its surface, frame by frame."""

from __future__ import annotations

import numpy as np

from saccade.kinematics.labels import resample
from saccade.kinematics.lift.features import opencv
from saccade.kinematics.lift.settings import DEFAULT_PSEUDO, PseudoSettings
from saccade.kinematics.lift.stages import ClipRejected, MaskTrack, MetricScene, Placed
from saccade.kinematics.settings import DEFAULT, Settings


class Barycentre:
    """Stage `Lift`: the coordinate-wise median of lifted pixels, smoothed on the grid.

    Masks are narrowed and the nearest and farthest depths left out, since at outlines masks and depth maps hold some
    of what is behind. The middle of the visible surface is not the middle of the object: one that turns in front of
    the camera gets up to half its length of motion that it never made.
    """

    def __init__(self, settings: PseudoSettings = DEFAULT_PSEUDO, label_settings: Settings = DEFAULT) -> None:
        self.settings, self.label_settings = settings, label_settings

    def __call__(self, track: MaskTrack, scene: MetricScene) -> Placed:
        """Place; see `stages.Lift`.

        Raises:
            ClipRejected: No frame has enough pixels.
        """
        points = surface_middles(track, scene, self.settings)
        if not np.isfinite(points).any():
            raise ClipRejected("too_few_pixels", f"no mask has {self.settings.min_pixels} pixels with depth")
        if self.settings.smooth:
            points = smooth_on_grid(scene.times_s, points, self.label_settings)
        return Placed(points, "barycentre")


def surface_middles(
    track: MaskTrack, scene: MetricScene, settings: PseudoSettings = DEFAULT_PSEUDO
) -> np.ndarray:
    """Lift each mask: (T, 3) coordinate-wise medians in the world, NaN where too few pixels have depth."""
    inverse = np.linalg.inv(scene.intrinsics)
    found = np.full((len(track.masks), 3), np.nan)
    for frame, mask in enumerate(track.masks):
        if mask is None:
            continue
        inner = narrow(mask, settings.erode_px)
        depth = np.where(inner, scene.depths[frame], np.nan)
        rows, columns = np.nonzero(np.isfinite(depth))
        if len(rows) < settings.min_pixels:
            continue
        deep = depth[rows, columns].astype(np.float64)
        low, high = np.quantile(deep, [settings.trim_share, 1 - settings.trim_share])
        kept = (deep >= low) & (deep <= high)
        pixels = np.stack([columns, rows, np.ones(len(rows))], 1)[kept].astype(np.float64)
        camera = pixels @ inverse.T * deep[kept, None]
        pose = scene.world_from_camera[frame]
        found[frame] = np.median(camera @ pose[:3, :3].T + pose[:3, 3], axis=0)
    return found


def narrow(mask: np.ndarray, pixels: int) -> np.ndarray:
    """Take the outermost pixels off a mask (H, W); the border of the picture is no outline."""
    if pixels <= 0:
        return mask
    kernel = np.ones((2 * pixels + 1, 2 * pixels + 1), np.uint8)
    cv2 = opencv()
    return cv2.erode(mask.astype(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=1) > 0


def smooth_on_grid(times_s: np.ndarray, points: np.ndarray, settings: Settings = DEFAULT) -> np.ndarray:
    """Smooth a path: read it on the grid, running median of 3, mean of 3, and back to its own times.

    The ends of a run keep their values in the median, and the mean of two.

    Args:
        times_s: (T,) rising seconds.
        points: (T, 3) metres; NaN where unknown.
        settings: Grid.
    """
    known = np.asarray(np.isfinite(points).all(1))
    grid, at_grid, valid = resample(times_s[known], points[known], 0.0, settings)
    smoothed = np.full_like(at_grid, np.nan)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], valid.astype(np.int8), [0]])))
    for first, stop in zip(edges[::2], edges[1::2], strict=True):
        run = at_grid[first:stop]
        if len(run) >= 3:
            middle = np.median(np.stack([run[:-2], run[1:-1], run[2:]]), axis=0)
            run = np.concatenate([run[:1], middle, run[-1:]])
            padded = np.concatenate([run[:1], run, run[-1:]])
            weight = np.concatenate([[0.0], np.ones(len(run)), [0.0]])[:, None]
            total = padded * weight
            run = (total[:-2] + total[1:-1] + total[2:]) / (weight[:-2] + weight[1:-1] + weight[2:])
        smoothed[first:stop] = run
    shift = smoothed - at_grid
    have = np.isfinite(shift).all(1)
    if not have.any():
        return points
    moved = np.stack([np.interp(times_s, grid[have], shift[have, axis]) for axis in range(3)], 1)
    return np.where(known[:, None], points + moved, np.nan)
