"""How much coherence does focusing bring back? On simulated scenes that nothing was tuned on.

    python benchmarks/radar_focus.py [--seeds 5]

A 2 x 4 radar at 77 GHz is moved freehand over 100 x 13 poses, 0.3 m before the target, with 20 dB of noise; its
believed positions are wrong by the given error (each pose and axis by itself, or drifting as a random walk of that
spread). Coherence is the mean over the targets of |image| with the believed positions over |image| with the true,
before and after. Where a solid or a neighbour nearly cancels a target in the true image, such a ratio says little and
can exceed 1: `weighted` is sum |I| |I_true| / sum |I_true|^2 over the targets, which such targets hardly enter, and
`worst_after` the smallest ratio of any target that has at least half of the median true brightness. Likeness is the
correlation of the whole magnitude image with that of the true positions.

An error that grows evenly across the aperture tilts what the radar sees: the image moves and is as sharp as before,
so no echo can tell it. `aligned` is `weighted` after the image was moved back by the shift in x and y at which it is
most like the true one, which takes that part out; `moved_mm` is how far. Appends to
benchmarks/results/radar_focus.csv (rows before a measure leave it empty); seconds are of the processor, one thread.
"""

import argparse
import dataclasses
import statistics
import time
from pathlib import Path

import numpy as np
from table import append

from saccade.engine.bench.machine import describe_machine
from saccade.radar import Array, Grid, Waveform, make_path, reconstruct, simulate
from saccade.radar.backproject import project
from saccade.radar.focusing import focus
from saccade.radar.scan import Scan
from saccade.radar.scene import Scene, random_points, shape

STEP = 1.5e-3
"""Metres of a pixel."""
RESULTS = Path(__file__).parent / "results" / "radar_focus.csv"
CASES = (
    ("8 points", 5e-4, "drifting", 0.0),
    ("8 points", 5e-4, "independent", 0.0),
    ("8 points and a star", 5e-4, "independent", 0.0),
    ("30 points", 5e-4, "independent", 0.0),
    ("8 points", 1e-3, "drifting", 0.0),
    ("8 points", 3e-4, "independent", 0.0),
    ("8 points", 7e-4, "independent", 0.0),
)


def scanned(what: str, error: float, kind: str, seed: int) -> tuple[Scan, Scene]:
    """Scan a random scene with wrong beliefs."""
    random = np.random.default_rng(1000 + seed)
    wave = Waveform.named("fmcw_v2")
    array = Array.named("awr1x42", wave.wavelength)
    path = make_path("freehand", array, wave.wavelength, nx=100, ny=13, swing=0.01, seed=seed)
    scene = random_points(
        int(what.split()[0]), random, low=(-0.04, -0.04, 0.3), high=(0.04, 0.04, 0.3), apart=0.008
    )
    dots = scene
    if "star" in what:
        star = shape("star", size=0.05, pitch=1.2e-3)
        scene = scene + Scene(star.points, 0.2 * star.reflectivity)
    wrong = error * random.standard_normal((len(path.positions), 3))
    if kind == "drifting":
        wrong = np.cumsum(wrong, 0)
        wrong = (wrong - wrong.mean(0)) / wrong.std(0) * error
    real = path.positions + wrong
    scan = simulate(scene.points, scene.reflectivity, wave, array, real, snr_db=20, fast=True, seed=seed)
    shift = wrong[:, None]
    return dataclasses.replace(scan, tx=scan.tx - shift, rx=scan.rx - shift), dots


def shifted_by(picture: np.ndarray, truth: np.ndarray, step: float, most: float = 0.015) -> np.ndarray:
    """Return how far a magnitude picture lies from where it is most like the true one: (x, y, 0), metres."""
    sizes = [2 * n for n in truth.shape]
    spectra = [np.fft.rfft2(part - part.mean(), sizes) for part in (picture, truth)]
    match = np.fft.irfft2(spectra[0] * spectra[1].conj(), sizes)
    places = [np.fft.fftfreq(n, 1 / n) * step for n in sizes]
    match[(np.abs(places[0])[:, None] > most) | (np.abs(places[1])[None] > most)] = -np.inf
    row, column = np.unravel_index(int(match.argmax()), match.shape)
    return np.array([places[0][row], places[1][column], 0.0])


def aligned(scan: Scan, dots: Scene, shift: np.ndarray, best: np.ndarray, step: float) -> tuple[float, float]:
    """Return the weighted coherence at targets moved by about `shift`, and how far exactly, metres."""
    samples, tx, rx = scan.flatten()
    fine = np.linspace(-step, step, 7)
    near = shift + np.stack(np.meshgrid(fine, fine, [0.0], indexing="ij"), -1).reshape(-1, 3)
    places = (dots.points + near[:, None]).reshape(-1, 3)
    peaks = np.abs(project(samples, tx, rx, scan.waveform.frequencies, places)).reshape(len(near), -1)
    found = peaks @ best / (best @ best)
    return float(found.max()), float(np.linalg.norm(near[found.argmax()]))


def main() -> None:
    """Measure and append to the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    axis = np.arange(-0.055, 0.0551, STEP)
    grid = Grid.plane(axis, axis, 0.3)
    machine = describe_machine()
    for what, error, kind, smoothness in CASES:
        table = []
        for seed in range(options.seeds):
            scan, dots = scanned(what, error, kind, seed)
            began = time.process_time()
            found, _ = focus(scan, grid, sigma=max(error, 5e-4), smoothness=smoothness, threads=1)
            seconds = time.process_time() - began
            true = dataclasses.replace(scan, tx=scan.true_tx, rx=scan.true_rx)
            peaks, pictures = [], []
            for part in (scan, found, true):
                samples, tx, rx = part.flatten()
                peaks.append(np.abs(project(samples, tx, rx, part.waveform.frequencies, dots.points)))
                pictures.append(reconstruct(part, grid, "range-compressed").magnitude)
            likeness = [
                float((p * pictures[2]).sum() / np.linalg.norm(p) / np.linalg.norm(pictures[2]))
                for p in pictures[:2]
            ]
            back = [
                aligned(part, dots, shifted_by(picture, pictures[2], STEP), peaks[2], STEP)
                for part, picture in zip((scan, found), pictures, strict=False)
            ]
            table.append(
                (
                    float(np.mean(peaks[0] / peaks[2])),
                    float(np.mean(peaks[1] / peaks[2])),
                    *likeness,
                    seconds,
                    *(float(p @ peaks[2] / (peaks[2] @ peaks[2])) for p in peaks[:2]),
                    float((peaks[1] / peaks[2])[peaks[2] >= 0.5 * np.median(peaks[2])].min()),
                    back[0][0],
                    back[1][0],
                    1e3 * back[1][1],
                )
            )
        before, after, like_before, like_after, seconds, weighted_before, weighted_after, worst, *rest = (
            list(column) for column in zip(*table, strict=True)
        )
        row = {
            "date": machine["date"], "commit": machine["commit"], "cpu": machine["cpu"], "scene": what,
            "error_mm": 1e3 * error, "kind": kind, "smoothness": smoothness, "seeds": options.seeds,
            "coherence_before": f"{statistics.fmean(before):.3f}",
            "coherence_after": f"{statistics.fmean(after):.3f}",
            "after_low": f"{min(after):.3f}", "after_high": f"{max(after):.3f}",
            "likeness_before": f"{statistics.fmean(like_before):.3f}",
            "likeness_after": f"{statistics.fmean(like_after):.3f}",
            "seconds": f"{statistics.median(seconds):.1f}",
            "weighted_before": f"{statistics.fmean(weighted_before):.3f}",
            "weighted_after": f"{statistics.fmean(weighted_after):.3f}", "worst_after": f"{min(worst):.3f}",
            "aligned_before": f"{statistics.fmean(rest[0]):.3f}",
            "aligned_after": f"{statistics.fmean(rest[1]):.3f}", "moved_mm": f"{statistics.fmean(rest[2]):.1f}",
        }  # fmt: skip
        append(RESULTS, [row])
        print(*list(row.values())[3:], flush=True)


if __name__ == "__main__":
    main()
