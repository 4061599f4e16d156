"""The echo of point scatterers: what a scan of a scene records.

Sample n of element l: sum_p a_p exp(+j k_n (R_T + R_R)), with a factor 1 / (R_T R_R) when path loss is asked for.
Left out, as in the published simulators: residual video phase, phase noise, movement within a chirp.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from saccade.errors import ConfigError, DataError
from saccade.radar.array import Array
from saccade.radar.echo_kernel import fast_echo
from saccade.radar.scan import Scan, place
from saccade.radar.waveform import Waveform

MAX_VALUES = 2**30
"""Samples of a scan: 8 GiB."""
_PIECE = 2_000_000
"""Complex numbers of one temporary, about 32 MB."""


def echo(
    points: np.ndarray,
    reflectivity: np.ndarray,
    waveform: Waveform,
    tx: np.ndarray,
    rx: np.ndarray,
    *,
    path_loss: bool = False,
    phase_centre: bool = False,
) -> np.ndarray:
    """Compute the samples that antenna pairs record, in float64 and without approximation.

    Args:
        points: (M, 3) metres.
        reflectivity: (M,).
        waveform: Its frequencies.
        tx: (..., 3) transmitter of each element.
        rx: (..., 3) receiver of each element.
        path_loss: Divide each contribution by R_T R_R.
        phase_centre: Replace each pair by one antenna at its mid-point.

    Returns:
        (..., N) complex128.

    Raises:
        DataError: Points and reflectivities do not match, or a point sits on an antenna.
    """
    points, reflectivity = check_points(points, reflectivity)
    shape = tx.shape[:-1]
    tx, rx = tx.reshape(-1, 3), rx.reshape(-1, 3)
    if phase_centre:
        tx = rx = (tx + rx) / 2
    k = waveform.wavenumbers
    step = k[1] - k[0] if len(k) > 1 else 0.0
    out = np.zeros((len(tx), len(k)), np.complex128)
    rows = max(1, _PIECE // max(1, len(points)))
    for start in range(0, len(tx), rows):
        part = slice(start, start + rows)
        there = np.linalg.norm(tx[part, None] - points, axis=2)
        back = np.linalg.norm(rx[part, None] - points, axis=2)
        weight = reflectivity
        if path_loss:
            if min(there.min(), back.min()) < 1e-6:
                raise DataError(
                    "scene: a point sits on an antenna, where the path loss is infinite; move it away"
                )
            weight = reflectivity / (there * back)
        path = there + back
        # One exponential for the first frequency and one for the step; a product leads from each to the next.
        wave = weight * np.exp(1j * k[0] * path)
        turn = np.exp(1j * step * path)
        for n in range(len(k)):
            if n and n % 32 == 0:
                wave = weight * np.exp(1j * k[n] * path)  # afresh, so that rounding does not add up
            out[part, n] = wave.sum(1)
            wave = wave * turn
    return out.reshape(*shape, len(k))


def check_points(points: np.ndarray, reflectivity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return points (M, 3) and reflectivity (M,) in float64.

    Raises:
        DataError: They do not match.
    """
    points, reflectivity = np.asarray(points, np.float64), np.asarray(reflectivity, np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or reflectivity.shape != (len(points),):
        raise DataError(
            f"scene: points have shape {points.shape} and reflectivity {reflectivity.shape}; expected (M, 3) and (M,)"
        )
    return points, reflectivity


def simulate(
    points: np.ndarray,
    reflectivity: np.ndarray,
    waveform: Waveform,
    array: Array,
    positions: np.ndarray,
    rotations: np.ndarray | None = None,
    *,
    path_loss: bool = False,
    phase_centre: bool = False,
    snr_db: float | None = None,
    position_error: float = 0.0,
    channel_shift: np.ndarray | None = None,
    fast: bool = False,
    threads: int | None = None,
    geometry: str = "free",
    progress: Callable[[int], None] | None = None,
    seed: int = 0,
) -> Scan:
    """Scan point scatterers with a rigid array along given poses.

    Args:
        points: (M, 3) metres.
        reflectivity: (M,).
        waveform: Its frequencies.
        array: In the radar's frame.
        positions: (P, 3) metres, where imaging will believe that the radar was.
        rotations: (P, 3, 3) or None.
        path_loss: Whether amplitudes fall with distance.
        phase_centre: Whether pairs are replaced by their mid-points.
        snr_db: White complex Gaussian noise of power mean |s|^2 / 10^(snr / 10); None: none.
        position_error: Standard deviation, per pose and axis, of where the radar really was around that, metres.
        channel_shift: (P, C, 3) metres added to both antennas of each channel, for an array that is not rigid.
        fast: Compute in float32 by the compiled kernel (about 1e-5 of the largest sample, a hundred times faster).
        threads: Cores of the fast kernel; all by default.
        geometry: What to call the path.
        progress: Of the fast kernel: called with the number of elements done.
        seed: Of noise and position error.

    Returns:
        The scan; `tx` and `rx` hold the believed positions, `true_tx` and `true_rx` the real ones.

    Raises:
        ConfigError: A noise level that is no number, or more samples than `MAX_VALUES`.
        DataError: With path loss, a point on an antenna.
    """
    if snr_db is not None and not np.isfinite(snr_db):
        raise ConfigError(f"the signal-to-noise ratio is {snr_db}; expected dB, or nothing for no noise")
    values = len(positions) * array.num_channels * waveform.num_samples
    if values > MAX_VALUES:
        raise ConfigError(
            f"scan: {len(positions)} poses x {array.num_channels} channels x {waveform.num_samples} samples are "
            f"{values} values; at most {MAX_VALUES}, so take fewer poses"
        )
    random = np.random.default_rng(seed)
    tx, rx = place(array, np.asarray(positions, np.float64), rotations)
    if channel_shift is not None:
        tx, rx = tx + channel_shift, rx + channel_shift
    if phase_centre:
        tx = rx = (tx + rx) / 2
    believed = tx, rx
    if position_error:
        error = position_error * random.standard_normal((len(tx), 1, 3))
        tx, rx = tx + error, rx + error
    if fast:
        samples = fast_echo(
            points, reflectivity, waveform.frequencies, tx, rx, path_loss=path_loss, threads=threads,
            progress=progress,
        )  # fmt: skip
    else:
        samples = echo(points, reflectivity, waveform, tx, rx, path_loss=path_loss)
    if snr_db is not None:
        power = np.mean(np.abs(samples) ** 2) * 10 ** (-snr_db / 10)
        noise = random.standard_normal((*samples.shape, 2)) * np.sqrt(power / 2)
        samples = samples + noise.view(np.complex128)[..., 0].astype(samples.dtype)
    return Scan(samples, *believed, waveform, path_loss, geometry, true_tx=tx, true_rx=rx).check()
