"""How fast is radar imaging here, and how exact? Rates in 10^9 (voxel x element x frequency) a second.

    python benchmarks/radar_imaging.py [--threads 1]

Back-projection of 512 elements x 64 frequencies on 32 x 32 x 8 voxels (random samples), by the float64 formula and by
the fast kernel; then one plane transform of the paper's planar scan (200 x 200 elements, 64 frequencies). CPU time
for one thread, wall time for more. Errors are relative to the largest value of the float64 formula. Appends to
benchmarks/results/radar_imaging.csv.
"""

import argparse
import csv
import statistics
import time
from pathlib import Path

import numpy as np

from saccade.bench.machine import describe_machine
from saccade.radar import Waveform
from saccade.radar.backproject import project, reference
from saccade.radar.planar import plane_image

RESULTS = Path(__file__).parent / "results" / "radar_imaging.csv"


def timed(call, clock, rounds: int) -> list[float]:
    """Time a call after one that is not counted."""
    call()
    times = []
    for _ in range(rounds):
        start = clock()
        call()
        times.append(clock() - start)
    return times


def main() -> None:
    """Measure and append to the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    clock = time.process_time if options.threads == 1 else time.perf_counter
    random = np.random.default_rng(0)
    wave = Waveform.from_bandwidth(77e9, 4e9, 64)
    tx = random.uniform(-0.1, 0.1, (512, 3)) * (1, 1, 0.1)
    rx = tx + np.array([0, 0.01, 0])
    samples = random.standard_normal((512, 64)) + 1j * random.standard_normal((512, 64))
    axes = np.linspace(-0.05, 0.05, 32), np.linspace(-0.05, 0.05, 32), np.linspace(0.25, 0.35, 8)
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    few = points[:: len(points) // 256]
    want = reference(samples, tx, rx, wave.wavenumbers, few)
    found = project(samples, tx, rx, wave.frequencies, few, threads=options.threads)
    error = float(np.abs(found - want).max() / np.abs(want).max())
    planar = random.standard_normal((200, 200, 64)) + 0j
    work = samples.size * len(points)
    rows = []
    for method, times, amount, gap in (
        ("float64 formula", timed(lambda: reference(samples, tx, rx, wave.wavenumbers, few), clock, 3),
         samples.size * len(few), 0.0),
        ("fast kernel", timed(lambda: project(samples, tx, rx, wave.frequencies, points, threads=options.threads),
                              clock, 15), work, error),
        ("plane transform, 512 x 512",
         timed(lambda: plane_image(planar, wave.wavenumbers, (1e-3, 1e-3), 0.3, size=512), clock, 3), 0, 0.0),
    ):  # fmt: skip
        median = statistics.median(times)
        machine = describe_machine()
        rows.append({
            "date": machine["date"], "commit": machine["commit"], "cpu": machine["cpu"], "threads": options.threads,
            "method": method, "seconds": f"{median:.4f}", "low": f"{min(times):.4f}", "high": f"{max(times):.4f}",
            "rate": f"{amount / median / 1e9:.3f}" if amount else "", "error": f"{gap:.1e}",
        })  # fmt: skip
        print(*list(rows[-1].values())[3:])
    fresh = not RESULTS.exists()
    with RESULTS.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        if fresh:
            writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
