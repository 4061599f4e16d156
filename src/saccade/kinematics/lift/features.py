"""Corners and where they went: pyramidal Lucas-Kanade there and back, started from where they are expected."""

from __future__ import annotations

from typing import Any

import numpy as np

from saccade.extras import require

BACK_PX = 0.7
"""A corner that does not come back to so near where it started is lost."""
QUALITY = 0.0005
"""Weakest corner that is taken, as a share of the strongest: soft ground counts where there is nothing better."""
PURPOSE = "to follow points through a clip"


def opencv() -> Any:
    """Import OpenCV.

    Raises:
        MissingExtraError: opencv-python-headless (extra `lift`) is not installed.
    """
    return require("cv2", "lift", PURPOSE)


def grey(image: np.ndarray) -> np.ndarray:
    """Brightness (H, W) uint8 of a picture (H, W, 3) uint8."""
    return opencv().cvtColor(np.ascontiguousarray(image), opencv().COLOR_RGB2GRAY)


def corners(
    picture: np.ndarray, where: np.ndarray, taken: np.ndarray, count: int, apart_px: float
) -> np.ndarray:
    """Find corners.

    Args:
        picture: (H, W) uint8.
        where: (H, W) bool: where they may be.
        taken: (m, 2) that are there already and are kept away from.
        count: At most so many new ones.
        apart_px: Least distance between two.

    Returns:
        (n, 2) float32 x, y.
    """
    if count <= 0:
        return np.empty((0, 2), np.float32)
    cv2 = opencv()
    free = where.astype(np.uint8)
    for x, y in taken:
        cv2.circle(free, (round(float(x)), round(float(y))), max(1, round(apart_px)), 0, -1)
    found = cv2.goodFeaturesToTrack(picture, count, QUALITY, apart_px, mask=free, blockSize=5)
    if found is None:
        return np.empty((0, 2), np.float32)
    found = found.reshape(-1, 1, 2).astype(np.float32)
    rule = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_COUNT, 20, 0.01)
    return cv2.cornerSubPix(picture, found, (3, 3), (-1, -1), rule).reshape(-1, 2)


def follow(
    before: np.ndarray,
    after: np.ndarray,
    points: np.ndarray,
    guess: np.ndarray | None,
    window: int,
    levels: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Find points of one picture in another.

    Args:
        before: (H, W) uint8.
        after: (H, W) uint8.
        points: (n, 2) in the first.
        guess: (n, 2) where they should be in the second, or None.
        window: Side of the patch, pixels.
        levels: Halvings of the pyramid.

    Returns:
        (n, 2) float32 in the second and (n,) bool: found, and found again on the way back.
    """
    if not len(points):
        return np.empty((0, 2), np.float32), np.empty(0, bool)
    cv2 = opencv()
    rule = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_COUNT, 30, 0.01)
    start = np.ascontiguousarray(points, np.float32).reshape(-1, 1, 2)
    flags = 0 if guess is None else cv2.OPTFLOW_USE_INITIAL_FLOW
    ends = start.copy() if guess is None else np.ascontiguousarray(guess, np.float32).reshape(-1, 1, 2)
    options: dict[str, Any] = {"winSize": (window, window), "maxLevel": levels, "criteria": rule}
    there, found, _ = cv2.calcOpticalFlowPyrLK(
        before, after, start, ends.copy(), flags=flags, minEigThreshold=1e-4, **options
    )
    back, again, _ = cv2.calcOpticalFlowPyrLK(
        after,
        before,
        there,
        start.copy(),
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
        minEigThreshold=1e-4,
        **options,
    )
    gap = np.linalg.norm(back.reshape(-1, 2) - start.reshape(-1, 2), axis=1)
    height, width = after.shape
    there = there.reshape(-1, 2)
    inside = (
        (there[:, 0] >= 2) & (there[:, 1] >= 2) & (there[:, 0] <= width - 3) & (there[:, 1] <= height - 3)
    )
    return there, (found.ravel() > 0) & (again.ravel() > 0) & (gap < BACK_PX) & inside


def flow(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Dense flow (H, W, 2) x, y from one picture (H, W) uint8 to another: a first guess for `follow`.

    Dense inverse search (Kroeger et al., ECCV 2016) finds its way on soft surfaces where patches alone slip.
    """
    cv2 = opencv()
    return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(before, after, None)


def follow_plane(
    before: np.ndarray, after: np.ndarray, points: np.ndarray, plane: np.ndarray, window: int, levels: int
) -> tuple[np.ndarray, np.ndarray]:
    """Find points of a plane: the second picture is first drawn as seen from where the first one was taken.

    What lies flat before a moving camera changes its shape so much within half a second that patches as they are do
    not find themselves again.

    Args:
        before: (H, W) uint8.
        after: (H, W) uint8.
        points: (n, 2) in the first.
        plane: (3, 3) homography, from pixels of the first to where they should be in the second.
        window: Side of the patch, pixels.
        levels: Halvings of the pyramid.

    Returns:
        (n, 2) float32 in the second and (n,) bool: found, and found again on the way back.
    """
    if not len(points):
        return np.empty((0, 2), np.float32), np.empty(0, bool)
    cv2 = opencv()
    height, width = before.shape
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    drawn = cv2.warpPerspective(after, plane, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    there, found = follow(before, drawn, points, points, window, levels)
    ends = np.concatenate([there, np.ones((len(there), 1))], 1) @ plane.T
    front = ends[:, 2] > 1e-9
    ends = ends[:, :2] / np.where(front, ends[:, 2], 1.0)[:, None]
    inside = (ends >= 2).all(1) & (ends <= np.array([width, height]) - 3).all(1)
    return ends.astype(np.float32), found & front & inside


def depth_at(
    depth: np.ndarray, points: np.ndarray, where: np.ndarray | None = None, reach: int = 2
) -> np.ndarray:
    """Median depth of the patch around points.

    Args:
        depth: (H, W); what is not finite or not positive does not count.
        points: (n, 2) x, y.
        where: (H, W) bool: pixels that count.
        reach: Half side of the patch, pixels.

    Returns:
        (n,) NaN where fewer than three pixels count.
    """
    if not len(points):
        return np.empty(0)
    height, width = depth.shape
    columns, rows = np.rint(points).astype(int).T
    grid = np.arange(-reach, reach + 1)
    y = rows[:, None, None] + grid[None, :, None]
    x = columns[:, None, None] + grid[None, None, :]
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
    values = depth[y, x].astype(np.float64)
    good = inside & np.isfinite(values) & (values > 0)
    if where is not None:
        good &= where[y, x]
    values = np.where(good, values, np.nan).reshape(len(points), -1)
    enough = good.reshape(len(points), -1).sum(1) >= 3
    found = np.full(len(points), np.nan)
    if enough.any():
        found[enough] = np.nanmedian(values[enough], axis=1)
    return found
