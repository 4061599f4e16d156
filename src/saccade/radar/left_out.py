"""Whether corrected positions are better, by echoes that had no part in finding them."""

from __future__ import annotations

import dataclasses

import numpy as np

from saccade.errors import DataError
from saccade.radar.scan import Scan

WORTH = 1.05
"""Least gain of peak, energy and contrast that counts."""
LEFT_IN_VIEW = 0.45
"""Share of the energy that wrong positions had scattered away from the brightest voxel and that may have stayed
within the image. Errors that jump from pose to pose left 0.09 to 0.33 of it there and drifting ones 0.38 on scenes of
separate points; 0.57 to 0.87 where a solid or unresolved points were torn into bright spots."""


def halves(scan: Scan) -> tuple[Scan, Scan]:
    """Split a scan into every other channel, or the lower and upper half of the sweep of a single one.

    Raises:
        DataError: One channel of one sample.
    """
    _, channels, samples = scan.samples.shape
    if channels > 1:
        return _channels(scan, slice(0, None, 2)), _channels(scan, slice(1, None, 2))
    if samples < 2:
        raise DataError(
            "scan: one channel of one sample; focusing leaves half of the channels or of the sweep out, to check "
            "itself"
        )
    half = samples // 2
    wave = scan.waveform
    return (
        dataclasses.replace(
            scan, samples=scan.samples[..., :half], waveform=dataclasses.replace(wave, num_samples=half)
        ),
        dataclasses.replace(
            scan,
            samples=scan.samples[..., half:],
            waveform=dataclasses.replace(
                wave, num_samples=samples - half, start_hz=float(wave.frequencies[half])
            ),
        ),
    )


def _channels(scan: Scan, chosen: slice) -> Scan:
    """Return a scan of some of the channels."""
    parts = {name: getattr(scan, name) for name in ("samples", "tx", "rx", "true_tx", "true_rx")}
    return dataclasses.replace(
        scan, **{name: part if part is None else part[:, chosen] for name, part in parts.items()}
    )


def measure(magnitude: np.ndarray) -> tuple[float, float, float]:
    """Return peak, energy and contrast of an image, all of its squares."""
    power = magnitude.astype(np.float64) ** 2
    total = float(power.sum())
    return float(power.max()), total, float((power / total * (power / total)).sum())


def agrees(peak: float, energy: float, contrast: float) -> bool:
    """Say whether an image of echoes that had no part in an estimate is better with it.

    Wrong positions take energy from the brightest voxel and scatter it, most of it out of the image. Putting them
    right brings it back: the image gains energy and contrast, and the energy E and the peak P of before are, as parts
    of those of after, E = P + (1 - P) w, w being the share of what was scattered that had stayed within the image.
    Offsets that make bright spots of a solid only gather what was in the image already (w near 1), or find so much
    energy everywhere that the image becomes fog (its contrast falls).

    Args:
        peak: Energy of the brightest voxel, after over before.
        energy: Of the image, after over before.
        contrast: Of the image, after over before.
    """
    if min(peak, energy, contrast) < WORTH:
        return False
    stayed = (1 / energy - 1 / peak) / (1 - 1 / peak)
    return stayed <= LEFT_IN_VIEW
