"""How close an image comes to the truth: PSNR, SSIM, RMSE, MAE, with the scaling said.

A radar image has no scale of its own, so what is compared is said each time: as it is, scaled to [0, 1] by its own
minimum and maximum, or times the one factor that fits the truth best. Metrics are always given beside those of the
all-zero image, since these truths are mostly dark and a black image already has a PSNR above 20 dB.
"""

from __future__ import annotations

import math

import numpy as np

from saccade.errors import ShapeError

SCALINGS = ("none", "minmax", "best")
WINDOW = 11
"""Side of the Gaussian window of SSIM, and its deviation, as published (Wang et al., 2004)."""
DEVIATION = 1.5


def best_scale(image: np.ndarray, truth: np.ndarray) -> float:
    """Return the factor >= 0 that brings an image nearest to the truth in the mean square; 0 for a black image."""
    power = float(np.vdot(image, image).real)
    return max(0.0, float(np.vdot(image, truth).real) / power) if power > 0 else 0.0


def rescale(image: np.ndarray, truth: np.ndarray, scaling: str) -> np.ndarray:
    """Scale magnitudes by a rule of `SCALINGS`."""
    size = np.abs(image).astype(np.float64)
    if scaling == "minmax":
        spread = np.ptp(size)
        return (size - size.min()) / spread if spread > 0 else np.zeros_like(size)
    return size * best_scale(size, truth) if scaling == "best" else size


def compare(image: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Score an image, clipped to [0, 1], against the truth.

    Args:
        image: (nx, ny) real.
        truth: (nx, ny) in [0, 1].

    Returns:
        psnr (dB, peak 1; 100 for equal images), ssim (range 1), rmse, mae.

    Raises:
        ShapeError: Of different shapes.
    """
    if image.shape != truth.shape or image.ndim != 2:
        raise ShapeError(
            f"images of shapes {image.shape} and {truth.shape}; expected two of one shape (nx, ny)"
        )
    image = np.clip(np.asarray(image, np.float64), 0, 1)
    truth = np.asarray(truth, np.float64)
    gap = image - truth
    square = float(np.mean(gap**2))
    return {
        "psnr": min(100.0, -10 * math.log10(square)) if square > 0 else 100.0,
        "ssim": ssim(image, truth),
        "rmse": math.sqrt(square),
        "mae": float(np.mean(np.abs(gap))),
    }


def ssim(image: np.ndarray, truth: np.ndarray) -> float:
    """Structural similarity, mean over the part where the 11 x 11 window fits (range 1, constants 0.01 and 0.03)."""
    taps = np.exp(-0.5 * ((np.arange(WINDOW) - WINDOW // 2) / DEVIATION) ** 2)
    taps /= taps.sum()
    if min(image.shape) < WINDOW:
        return math.nan
    a, b = image, truth
    means = [_blur(part, taps) for part in (a, b, a * a, b * b, a * b)]
    ma, mb = means[0], means[1]
    va, vb, cov = means[2] - ma * ma, means[3] - mb * mb, means[4] - ma * mb
    c1, c2 = 0.01**2, 0.03**2
    return float(np.mean((2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))))


def _blur(image: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """Filter rows and columns where the window fits."""
    view = np.lib.stride_tricks.sliding_window_view
    return view(view(image, len(taps), 0) @ taps, len(taps), 1) @ taps
