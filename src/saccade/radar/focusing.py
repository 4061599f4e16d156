"""Focusing: estimate and remove the error of every believed position, from the echoes alone.

An error of half a millimetre turns the phase at 79 GHz by 1.7 radians and costs three quarters of an image's peaks.
The error is found by making the image sharp: since the energy of all voxels together hardly changes, the offsets e_p
of each pose (x, y, z, for a rigid array) are those that bring most of it into the brightest voxels,

    S(e) = sum_v |I(v; e)|^2  -  prior * sum_p |e_p|^2 / 2  -  smoothness * sum_p |e_p+1 - e_p|^2 / 2.

Its gradient comes through back-projection itself, u being unit vectors from voxel to antenna:

    dS / de_p = 2 Re sum_v conj(I(v)) dI_p(v) / de_p,   dI / de = -j k (u_T + u_R) s exp(-j k (R_T + R_R)).

Since |I|^2 is convex, twice the sum Re sum_v conj(I) I_p(v; e_p) lies below S and touches it: climbing it for every
pose by itself, which is a problem in three unknowns with a known curvature, climbs S for all of them together (a
minorise-maximise step). As the image sharpens, the brightest voxels are chosen anew. Errors of a hand or a tracker
drift rather than jump: the first iterations climb along slow functions of the poses' order (cosines, first a
few, then more), for which all poses speak together, before each pose goes its own way. No published near-field
package does this; the method is ours, in the line of sharpness-driven autofocus (Fienup and Miller, 2003, for
far-field apertures).

It is made for scenes of separate scatterers. On a large smooth solid the echo of a pose says little about its x and
y, and an image with a few bright spots is sharper than the truth: there it would do harm. So half of the channels
are left out of the estimate, and the scan stays as it was unless their image is better (`left_out.agrees`). Offsets
common to all poses, or growing evenly across the aperture, move or tilt the image and nothing else; they are left
out, and what the believed positions hold of them goes on displacing the image. Voxels hardly brighter than the
speckle between them say nothing and are left out, too.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from saccade.errors import ConfigError, DataError
from saccade.kernels import prange
from saccade.radar.arithmetic import compiled, cosine_sine, distance, f4, small_turns, turns, using_threads
from saccade.radar.backproject import project
from saccade.radar.grid import Grid
from saccade.radar.imaging import reconstruct
from saccade.radar.left_out import agrees, halves, measure
from saccade.radar.scan import Scan
from saccade.radar.waveform import C

TREND = 1
"""Order of the polynomials in where the poses are that offsets may not hold."""
VOXELS = 512
"""Brightest voxels that the objective looks at."""
BRIGHT = 0.1
"""... of at least this share of the brightest,"""
ABOVE = 3.0
"""... and of at least so many times the median voxel, which keeps speckle out (but for half of the brightest)."""
LONGEST_STEP = 1 / 12
"""Of one iteration and pose, wavelengths."""
RESELECT = 5
"""Iterations after which the brightest voxels are looked for again: the image has become sharper."""
MODES = (4, 16)
"""Slow functions of the poses' order in each of the first stages; a ninth of the iterations goes to each.

With 64 more, errors that jump from pose to pose are fitted by them, too, and badly (points beside a star)."""
WORTH = 1.05
"""Where the brightest voxels gain less energy than this, the positions stay as they were believed."""
GROUP = 64
"""Voxels of one tile."""


@dataclass
class FocusReport:
    """What focusing found."""

    offsets: np.ndarray
    """(P, 3) metres that were added to the believed positions; all 0 where the scan was left as it is."""
    sharpness: list[float]
    """S without its priors, before each iteration and at the end; comparable within one choice of voxels."""
    gain: float
    """Brightest voxel after over before, in the image of the channels that were left out of the estimate."""
    energy: float
    """Energy of that image, after over before."""
    contrast: float
    """Its mean |I|^4 over the square of its mean |I|^2, after over before."""
    focused: bool
    """Whether the left-out channels agree (`agrees`), and so whether the positions were corrected."""
    seconds: float


def focus(
    scan: Scan,
    grid: Grid | None = None,
    *,
    iterations: int = 45,
    sigma: float = 5e-4,
    prior: float = 0.1,
    smoothness: float = 0.0,
    voxels: int = VOXELS,
    threads: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> tuple[Scan, FocusReport]:
    """Estimate one offset for each pose and return the scan with corrected positions, if they are better.

    Every other channel is left out of the estimate (of a scan with one channel, the upper half of the sweep). Unless
    what was left out agrees that the image is better, the scan comes back with its positions as they were.

    Args:
        scan: Whose array is rigid: all channels of a pose move together.
        grid: Where the target is; one plane at the scan's own depth, 0.2 m wide, when left out.
        iterations: At most.
        sigma: Expected standard deviation of the error of each pose and axis, metres.
        prior: Weight of that expectation against what the echoes say, in units of how sharply they fix the direction
            that they fix best; 0 trusts the echoes alone.
        smoothness: Weight of the difference of offsets of neighbouring poses, for errors that drift; 0: none.
        voxels: Brightest voxels to look at.
        threads: Cores; all by default.
        progress: Called with the number of iterations done.

    Returns:
        The scan with new `tx` and `rx`, and the report.

    Raises:
        ConfigError: Settings out of range, or no grid and no known depth.
        DataError: An inconsistent scan, fewer than three poses, one channel of one sample, or nothing but zeros.
        MissingExtraError: numba or scipy (extra `radar`) is not installed.
    """
    fine = np.isfinite([sigma, prior, smoothness]).all() and sigma > 0 and min(prior, smoothness) >= 0
    if iterations < 1 or voxels < 1 or not fine:
        raise ConfigError(
            f"focusing: iterations {iterations}, sigma {sigma}, prior {prior}, smoothness {smoothness}, voxels "
            f"{voxels}; expected finite positive numbers (prior and smoothness may be 0)"
        )
    scan.check()
    if len(scan.samples) < 3:
        raise DataError(f"scan: {len(scan.samples)} poses; focusing compares poses and needs at least three")
    if not np.abs(scan.samples).max() > 0:
        raise DataError("scan: all samples are zero; there is nothing to focus on")
    grid = _default_grid(scan) if grid is None else grid
    used, left_out = halves(scan)
    began = time.perf_counter()
    with using_threads(threads):
        offsets, sharpness = _climb(used, grid, iterations, sigma, prior, smoothness, voxels, progress)
    peak, energy, contrast = 1.0, 1.0, 1.0
    if offsets.any():
        before, after = (
            measure(reconstruct(part, grid, "range-compressed", threads=threads).magnitude)
            for part in (left_out, moved(left_out, offsets))
        )
        peak, energy, contrast = (float(after[i] / before[i]) for i in range(3))
    focused = agrees(peak, energy, contrast)
    if not focused:
        offsets = np.zeros_like(offsets)
    report = FocusReport(
        offsets, sharpness, peak**0.5, energy, contrast, focused, time.perf_counter() - began
    )
    return moved(scan, offsets) if focused else scan, report


def moved(scan: Scan, offsets: np.ndarray) -> Scan:
    """Return the scan with offsets (P, 3) in metres added to what is believed."""
    shift = offsets[:, None]
    return dataclasses.replace(scan, tx=scan.tx + shift, rx=scan.rx + shift)


def brightest(scan: Scan, grid: Grid, count: int) -> np.ndarray:
    """Return the brightest voxels of a grid, (V, 3) metres, V <= count: local maxima first, then the rest."""
    values = reconstruct(scan, grid, "range-compressed").magnitude.reshape(grid.shape)
    peak = np.ones(values.shape, bool)
    for axis, size in enumerate(values.shape):
        if size > 1:
            around = np.moveaxis(values, axis, 0)
            inside = np.moveaxis(peak, axis, 0)
            inside[1:] &= around[1:] >= around[:-1]
            inside[:-1] &= around[:-1] >= around[1:]
    order = np.argsort(-(values + values.max() * peak).reshape(-1), kind="stable")[:count]
    floor = max(BRIGHT * float(values.max()), ABOVE * float(np.median(values)))
    kept = order[values.reshape(-1)[order] >= min(floor, 0.5 * float(values.max()))]
    return grid.points()[kept]


def derivatives(
    scan: Scan, offsets: np.ndarray, points: np.ndarray, target: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Evaluate f_p = Re sum_v conj(target(v)) I_p(v) and its derivatives with respect to pose p's offset.

    The derivatives take the sweep's middle wavenumber for all of it (off by at most half its relative bandwidth,
    2.5 % at 77 to 81 GHz), which leaves the maximum where it is.

    Args:
        scan: Echoes and believed positions.
        offsets: (P, 3) metres.
        points: (V, 3) metres.
        target: (V,) complex.

    Returns:
        f (P,), gradient (P, 3) and Hessian (P, 3, 3), in float64.
    """
    shift = offsets[:, None]
    frequencies = scan.waveform.frequencies
    count = -(-len(points) // GROUP) * GROUP
    voxels = np.zeros((3, count))
    goal: Any = np.zeros(count, np.complex64)
    voxels[:, : len(points)], voxels[:, len(points) :] = points.T, points[-1][:, None]
    goal[: len(points)] = target
    flipped: Any = scan.samples[..., ::-1]
    step = frequencies[1] - frequencies[0] if len(frequencies) > 1 else 0.0
    out = np.zeros((len(offsets), 10))
    _kernel()(
        np.ascontiguousarray(flipped.real, np.float32), np.ascontiguousarray(flipped.imag, np.float32),
        np.ascontiguousarray(scan.tx + shift), np.ascontiguousarray(scan.rx + shift), voxels,
        np.ascontiguousarray(goal.real), np.ascontiguousarray(goal.imag), frequencies[0] / C, step / C,
        scan.path_loss, 2 * np.pi * float(frequencies.mean()) / C, out,
    )  # fmt: skip
    hessian = out[:, [4, 5, 6, 5, 7, 8, 6, 8, 9]].reshape(-1, 3, 3)
    return out[:, 0], out[:, 1:4], hessian


def trends(positions: np.ndarray, order: int) -> np.ndarray:
    """Return orthonormal polynomials, up to an order, in where the poses are: (P, K), K <= P / 4."""
    places = positions - positions.mean(0)
    _, spread, axes = np.linalg.svd(places, full_matrices=False)
    flat = places @ axes.T[:, spread > 0.05 * spread[0]]
    flat = flat / np.abs(flat).max(0)
    columns = [np.ones(len(flat))]
    for powers in itertools.product(range(order + 1), repeat=flat.shape[1]):
        if 0 < sum(powers) <= order:
            columns.append(np.prod(flat ** np.array(powers), axis=1))
    return np.linalg.qr(np.stack(columns[: max(1, len(flat) // 4)], 1))[0]


def _default_grid(scan: Scan) -> Grid:
    """Return a plane at the depth that a simulated scan knows."""
    depth = scan.meta.get("depth")
    if not isinstance(depth, (int, float)):
        raise ConfigError(
            "focusing: the scan does not say how far its target is; say where it is with a grid"
        )
    middle = scan.virtual.mean((0, 1))
    axis = np.arange(-0.1, 0.1001, 0.002)
    return Grid.plane(axis + middle[0], axis + middle[1], float(depth))


def _climb(
    scan: Scan,
    grid: Grid,
    iterations: int,
    sigma: float,
    prior: float,
    smoothness: float,
    voxels: int,
    progress: Callable[[int], None] | None,
) -> tuple[np.ndarray, list[float]]:
    """Climb S, slow functions first; returns offsets without their trend, and the sharpness on the way."""
    count, each = len(scan.samples), iterations // 9
    offsets = np.zeros((count, 3))
    longest = LONGEST_STEP * C / float(scan.waveform.frequencies.mean())
    points, sharpness = np.zeros((0, 3)), []
    basis = trends(scan.virtual.mean(1), TREND)
    stages = [slow(count, number, basis) for number in MODES if each and number <= count // 4]
    start = 0.0
    for iteration in range(iterations):
        stage = stages[iteration // each] if each and iteration < each * len(stages) else None
        if iteration % (each if stage is not None else RESELECT) == 0 or iteration == each * len(stages):
            points = brightest(moved(scan, offsets), grid, voxels)
        image = _values(scan, offsets, points)
        sharpness.append(_sharpness(image))
        start = start or sharpness[0]
        _, gradient, hessian = derivatives(scan, offsets, points, image / np.abs(image).max())
        if stage is not None:
            step = _slow_step(stage, offsets, gradient, hessian, sigma, prior)
            step *= min(1, 2 * longest / max(float(np.linalg.norm(step, axis=1).max()), 1e-12))
        else:
            step = _step(offsets, gradient, hessian, sigma, prior, smoothness)
            length = np.linalg.norm(step, axis=1, keepdims=True)
            step *= np.minimum(1, longest / np.maximum(length, 1e-12))
        offsets = offsets + step
        offsets -= basis @ (basis.T @ offsets)
        if progress:
            progress(iteration + 1)
        if stage is None and np.sqrt(np.mean(step**2)) < 2e-6:
            break
    sharpness.append(_sharpness(_values(scan, offsets, points)))
    if progress:
        progress(iterations)
    if sharpness[-1] < WORTH * start:
        offsets[:] = 0
    return offsets, sharpness


def slow(count: int, number: int, taken: np.ndarray) -> np.ndarray:
    """Return orthonormal slow functions of the poses' order, (P, number), without what `taken` (P, K) spans."""
    place = (np.arange(count) + 0.5) / count
    waves = np.cos(np.pi * place[:, None] * np.arange(1, number + 1))
    return np.linalg.qr(waves - taken @ (taken.T @ waves))[0]


def _slow_step(
    waves: np.ndarray,
    offsets: np.ndarray,
    gradient: np.ndarray,
    hessian: np.ndarray,
    sigma: float,
    prior: float,
) -> np.ndarray:
    """Take Newton's step on the sum of all poses' bounds, along slow functions (P, K) of their order."""
    values, vectors = np.linalg.eigh(-hessian)
    unit = float(np.median(values[:, -1].clip(0))) or 1.0
    weak = prior * unit * (5e-4 / sigma) ** 2
    curve = np.einsum("pij,pj,pkj->pik", vectors, np.maximum(np.abs(values), 0.1 * unit), vectors)
    pull = (waves.T @ (gradient - weak * offsets)).reshape(-1)
    size = 3 * waves.shape[1]
    whole = np.einsum("pk,pij,pl->kilj", waves, curve, waves, optimize=True).reshape(size, size)
    return waves @ np.linalg.solve(whole + weak * np.eye(size), pull).reshape(-1, 3)


def _step(
    offsets: np.ndarray,
    gradient: np.ndarray,
    hessian: np.ndarray,
    sigma: float,
    prior: float,
    smoothness: float,
) -> np.ndarray:
    """Take Newton's step on each pose's bound and its priors, with the curvature made negative.

    Priors are in units of the typical curvature of the bound, so that their weights do not depend on the scale of the
    echoes.
    """
    values, vectors = np.linalg.eigh(-hessian)
    unit = float(np.median(values[:, -1].clip(0))) or 1.0
    weak = prior * unit
    gradient = gradient - weak * offsets * (scale := (5e-4 / sigma) ** 2)
    gradient = gradient + smoothness * unit * _second_difference(offsets)
    # Where the bound curves upwards, its size still says how far to go; a tenth of the typical keeps steps finite.
    curve = np.maximum(np.abs(values), 0.1 * unit) + weak * scale + 4 * smoothness * unit
    inside = np.einsum("pij,pi->pj", vectors, gradient) / curve
    return np.einsum("pij,pj->pi", vectors, inside)


def _second_difference(offsets: np.ndarray) -> np.ndarray:
    """Return the pull of each pose's neighbours in time."""
    pull = np.zeros_like(offsets)
    pull[1:] += offsets[:-1] - offsets[1:]
    pull[:-1] += offsets[1:] - offsets[:-1]
    return pull


def _values(scan: Scan, offsets: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Back-project exactly at voxels."""
    part = moved(scan, offsets)
    samples, tx, rx = part.flatten()
    return project(samples, tx, rx, part.waveform.frequencies, points, path_loss=part.path_loss)


def _sharpness(image: np.ndarray) -> float:
    """Return sum |I|^2."""
    return float((np.abs(image).astype(np.float64) ** 2).sum())


@functools.cache
def _kernel() -> Callable[..., None]:
    """Compile the kernel: a few seconds once, then it is read from numba's cache."""
    return compiled(_run, fastmath={"contract", "nsz", "nnan", "ninf", "reassoc"})


def _run(re, im, tx, rx, voxels, goal_re, goal_im, start, step, path_loss, wavenumber, out):
    """Sum the bound's value, gradient and curvature for each pose."""
    poses, channels, length = re.shape
    for pose in prange(poses):
        sums = np.zeros(10)
        wave_re, wave_im = np.empty(GROUP, np.float32), np.empty(GROUP, np.float32)
        turn_re, turn_im = np.empty(GROUP, np.float32), np.empty(GROUP, np.float32)
        sum_re, sum_im = np.empty(GROUP, np.float32), np.empty(GROUP, np.float32)
        ux, uy, uz = np.empty(GROUP, np.float32), np.empty(GROUP, np.float32), np.empty(GROUP, np.float32)
        for channel in range(channels):
            t0, t1, t2 = tx[pose, channel, 0], tx[pose, channel, 1], tx[pose, channel, 2]
            r0, r1, r2 = rx[pose, channel, 0], rx[pose, channel, 1], rx[pose, channel, 2]
            row_re, row_im = re[pose, channel], im[pose, channel]
            for first in range(0, voxels.shape[1], GROUP):
                px, py = voxels[0, first : first + GROUP], voxels[1, first : first + GROUP]
                pz = voxels[2, first : first + GROUP]
                g_re, g_im = goal_re[first : first + GROUP], goal_im[first : first + GROUP]
                for i in range(GROUP):
                    ax, ay, az = t0 - px[i], t1 - py[i], t2 - pz[i]
                    bx, by, bz = r0 - px[i], r1 - py[i], r2 - pz[i]
                    there, back = distance(ax, ay, az), distance(bx, by, bz)
                    path = there + back
                    ia, ib = f4(1.0) / f4(there), f4(1.0) / f4(back)
                    ux[i] = f4(ax) * ia + f4(bx) * ib
                    uy[i] = f4(ay) * ia + f4(by) * ib
                    uz[i] = f4(az) * ia + f4(bz) * ib
                    weight = f4(1.0)
                    if path_loss:
                        weight = f4(there * back)
                    c, s = cosine_sine(turns(path, start))
                    # exp(-j k_0 R) times the conjugate of the goal.
                    wave_re[i] = weight * (c * g_re[i] + s * g_im[i])
                    wave_im[i] = weight * (s * g_re[i] - c * g_im[i])
                    turn_re[i], turn_im[i] = cosine_sine(small_turns(f4(path), f4(step)))
                    sum_re[i], sum_im[i] = f4(0.0), f4(0.0)
                for n in range(length):
                    a, b = row_re[n], row_im[n]
                    for i in range(GROUP):
                        p, q, e, f = turn_re[i], turn_im[i], sum_re[i], sum_im[i]
                        sum_re[i] = e * p - f * q + a
                        sum_im[i] = e * q + f * p + b
                for i in range(GROUP):
                    c = sum_re[i] * wave_re[i] - sum_im[i] * wave_im[i]
                    s = sum_re[i] * wave_im[i] + sum_im[i] * wave_re[i]
                    x, y, z = ux[i], uy[i], uz[i]
                    sums[0] += c
                    sums[1] += s * x
                    sums[2] += s * y
                    sums[3] += s * z
                    sums[4] -= c * x * x
                    sums[5] -= c * x * y
                    sums[6] -= c * x * z
                    sums[7] -= c * y * y
                    sums[8] -= c * y * z
                    sums[9] -= c * z * z
        out[pose, 0] = sums[0]
        for k in range(1, 4):
            out[pose, k] = sums[k] * wavenumber
        for k in range(4, 10):
            out[pose, k] = sums[k] * wavenumber * wavenumber
