"""The metric scale of a reconstruction that is right up to one factor: one factor for the whole clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from saccade.errors import ShapeError
from saccade.kinematics.settings import DEFAULT, Settings


@dataclass(frozen=True)
class ClipScale:
    """Metres per unit of a reconstruction."""

    status: str
    """ok, no_pixels, or unsteady (the frames disagree, so the clip is refused)."""
    scale: float | None
    frame_scales: tuple[float, ...]
    spread: float | None
    """Median absolute deviation of the frames' scales, relative to the clip's."""
    n_used: int
    """Pixels."""


def usable(
    depth_recon: np.ndarray,
    depth_metric: np.ndarray,
    moving: np.ndarray | None = None,
    confidence: np.ndarray | None = None,
    max_depth_m: float = DEFAULT.max_depth_m,
) -> np.ndarray:
    """Choose the pixels that tell the scale: finite, positive, near, at rest, and of more than median confidence.

    Args:
        depth_recon: (...) depth along the axis, in units of the reconstruction.
        depth_metric: (...) metres.
        moving: (...) True on objects that move.
        confidence: (...) of the reconstruction.
        max_depth_m: Metric depths from here on are left out.

    Raises:
        ShapeError: Arrays of different shapes.
    """
    recon, metric = np.asarray(depth_recon, np.float64), np.asarray(depth_metric, np.float64)
    for name, other in (("depth_metric", metric), ("moving", moving), ("confidence", confidence)):
        if other is not None and np.shape(other) != recon.shape:
            raise ShapeError(
                f"{name} has shape {np.shape(other)}; expected that of depth_recon, {recon.shape}"
            )
    good = np.isfinite(recon) & np.isfinite(metric)
    good &= (np.where(good, recon, 0) > 0) & (np.where(good, metric, 0) > 0)
    good &= np.where(good, metric, np.inf) < max_depth_m
    if moving is not None:
        good &= ~np.asarray(moving, bool)
    if confidence is not None:
        sure = np.asarray(confidence, np.float64)
        finite = np.isfinite(sure)
        good &= finite
        if finite.any():
            middle = np.median(sure[finite])
            # Where more than half are equally sure, none is above the median: those at it count.
            above = np.where(finite, sure, -np.inf)
            good &= above > middle if (above > middle).any() else above >= middle
    return good


def clip_scale(
    frames_recon: Sequence[np.ndarray],
    frames_metric: Sequence[np.ndarray],
    moving: Sequence[np.ndarray] | None = None,
    confidence: Sequence[np.ndarray] | None = None,
    *,
    max_depth_m: float | None = None,
    settings: Settings = DEFAULT,
) -> ClipScale:
    """Find the scale of a clip: the median over frames of the median ratio of depths in each frame.

    Medians, since sky, reflections and the borders of objects give ratios that are far off, and least squares follows
    them.

    Args:
        frames_recon: One depth map a frame, in units of the reconstruction.
        frames_metric: The same in metres.
        moving: Masks of what moves.
        confidence: Of the reconstruction.
        max_depth_m: Metric depths from here on are left out; that of the settings by default.
        settings: max_depth_m and max_scale_spread are used.

    Raises:
        ShapeError: Maps or lists that do not fit each other.
    """
    count = len(frames_recon)
    masks: list[np.ndarray | None] = [None] * count if moving is None else list(moving)
    weights: list[np.ndarray | None] = [None] * count if confidence is None else list(confidence)
    if not count == len(frames_metric) == len(masks) == len(weights):
        raise ShapeError(
            f"{count} reconstructed frames, {len(frames_metric)} metric ones, {len(masks)} masks and {len(weights)} "
            "confidences; expected one of each a frame"
        )
    limit = settings.max_depth_m if max_depth_m is None else max_depth_m
    found, used = [], 0
    for recon, metric, mask, weight in zip(frames_recon, frames_metric, masks, weights, strict=True):
        good = usable(recon, metric, mask, weight, limit)
        if good.any():
            found.append(
                float(np.median(np.asarray(metric, np.float64)[good] / np.asarray(recon, np.float64)[good]))
            )
            used += int(good.sum())
    if not found:
        return ClipScale("no_pixels", None, (), None, 0)
    scale = float(np.median(found))
    spread = float(np.median(np.abs(np.array(found) - scale))) / scale
    status = "ok" if spread <= settings.max_scale_spread else "unsteady"
    return ClipScale(status, scale, tuple(found), spread, used)
