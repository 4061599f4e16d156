"""How fast is radar imaging here, and how exact?

    python benchmarks/radar_imaging.py [--threads 1]

Back-projection of 2048 elements x 64 frequencies on 64 x 64 x 8 voxels (random samples): the float64 formula in
NumPy, torch, the compiled kernel, and the kernel on range profiles; rates in 10^9 (voxel x element x frequency) a
second, or 10^9 (voxel x element) for range profiles. Then whole images of the paper's freehand scan, 200 x 25 poses
of a 2 x 4 radar: EMPM at one depth, a volume by range migration, a volume by non-uniform transforms; the echoes of
1000 points; and sharpening at 256 x 256. CPU time for one thread, wall time for more. Errors are relative to the
largest value of the float64 formula. The share is of the multiply-adds a second that this machine does in
registers, measured in the same run (4 of them for each voxel, element and frequency). Appends to
benchmarks/results/radar_imaging.csv.
"""

import argparse
import statistics
import time
from pathlib import Path

import numba
import numpy as np
import torch
from table import append

from saccade.engine.bench.machine import describe_machine
from saccade.engine.predict.sharpen import enhance
from saccade.radar import Array, Grid, RadarImage, Waveform, make_path, reconstruct, simulate
from saccade.radar.arithmetic import widest_vectors
from saccade.radar.backproject import project, reference
from saccade.radar.backproject_torch import project_torch
from saccade.radar.echo_kernel import fast_echo
from saccade.radar.range_compressed import project_profiles

RESULTS = Path(__file__).parent / "results" / "radar_imaging.csv"
LANES = 512


def peak_kernel():
    """Compile rounds * LANES * 64 multiply-adds a row, all operands in registers or first-level cache."""
    widest_vectors(numba)

    @numba.njit(parallel=True, fastmath={"contract"})
    def run(rounds, values):
        for row in numba.prange(values.shape[0]):
            line = values[row]
            for _ in range(rounds):
                for i in range(LANES):
                    a = line[i]
                    b, c, d = a + np.float32(0.5), a + np.float32(0.25), a + np.float32(0.125)
                    for _ in range(16):
                        a = a * np.float32(0.999) + np.float32(0.001)
                        b = b * np.float32(0.998) + np.float32(0.001)
                        c = c * np.float32(0.997) + np.float32(0.001)
                        d = d * np.float32(0.996) + np.float32(0.001)
                    line[i] = a + b + c + d

    return run


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
    threads = options.threads
    clock = time.process_time if threads == 1 else time.perf_counter
    numba.set_num_threads(threads)
    torch.set_num_threads(threads)
    random = np.random.default_rng(0)
    wave = Waveform.from_bandwidth(77e9, 4e9, 64)
    tx = random.uniform(-0.1, 0.1, (2048, 3)) * (1, 1, 0.1)
    rx = tx + np.array([0, 0.01, 0])
    samples = (random.standard_normal((2048, 64)) + 1j * random.standard_normal((2048, 64))).astype(
        np.complex64
    )
    axes = np.linspace(-0.05, 0.05, 64), np.linspace(-0.05, 0.05, 64), np.linspace(0.25, 0.35, 8)
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    few, some = points[:: len(points) // 64], slice(0, 512)
    want = reference(samples, tx, rx, wave.wavenumbers, few)
    f, gap = wave.frequencies, lambda found: float(np.abs(found - want).max() / np.abs(want).max())
    tensors = [torch.from_numpy(a) for a in (samples[some], tx[some], rx[some], f, points[:1024])]
    array = Array.named("awr1x42", wave.wavelength)
    path = make_path("freehand", array, wave.wavelength)
    dots = random.uniform((-0.05, -0.05, 0.3), (0.05, 0.05, 0.3), (1000, 3))
    scan = simulate(dots[:8], np.ones(8), wave, array, path.positions, fast=True, geometry="freehand")
    side = np.arange(-0.1, 0.0995, 0.001)
    plane = Grid.plane(side, side, 0.3)
    volume = Grid(side[::2], side[::2], 0.3 + 0.005 * np.arange(-10, 10))
    wide = 1e-3 * np.arange(256)
    picture = RadarImage(random.random((256, 256)), Grid.plane(wide, wide, 0.3), "x")
    twice = np.tile(tx, (2, 1)), np.tile(rx, (2, 1))
    kernel, buffer = peak_kernel(), np.ones((threads, LANES), np.float32)
    work = samples.size * len(points)
    torch_error = gap(project_torch(*(torch.from_numpy(a) for a in (samples, tx, rx, f, few))).numpy())
    # Name, call, rounds, work, unit, multiply-adds a unit of work, error.
    cases = [
        ("multiply-adds in registers", lambda: kernel(20000, buffer), 9,
         20000 * LANES * 64 * threads, "multiply-add", 1, ""),
        ("float64 formula, NumPy", lambda: reference(samples[some], tx[some], rx[some], wave.wavenumbers, few), 3,
         samples[some].size * len(few), "voxel x element x frequency", 4, 0.0),
        ("torch, complex64", lambda: project_torch(*tensors), 3, samples[some].size * 1024,
         "voxel x element x frequency", 4, torch_error),
        ("backprojection", lambda: project(samples, tx, rx, f, points, threads=threads), 9, work,
         "voxel x element x frequency", 4, gap(project(samples, tx, rx, f, few))),
        ("range-compressed", lambda: project_profiles(samples, tx, rx, f, points, threads=threads), 9,
         len(samples) * len(points), "voxel x element", 0, gap(project_profiles(samples, tx, rx, f, few))),
        ("echo of 1000 points, 4096 elements", lambda: fast_echo(dots, np.ones(1000), f, *twice, threads=threads), 3,
         1000 * 4096 * 64, "point x element x frequency", 0, ""),
        ("empm, 200 x 200 at one depth", lambda: reconstruct(scan, plane, "empm", threads=threads), 7, 0, "", 0, ""),
        ("rma, 100 x 100 x 20", lambda: reconstruct(scan, volume, "rma", threads=threads), 3, 0, "", 0, ""),
        ("nufft, 100 x 100 x 20", lambda: reconstruct(scan, volume, "nufft", threads=threads), 3, 0, "", 0, ""),
        ("enhance, 256 x 256", lambda: enhance(picture, threads=threads), 9, 0, "", 0, ""),
    ]  # fmt: skip
    machine, rows, peak = describe_machine(), [], 0.0
    for method, call, rounds, amount, unit, adds, error in cases:
        times = timed(call, clock, rounds)
        median = statistics.median(times)
        rate = amount / median / 1e9
        peak = peak or rate
        rows.append({
            "date": machine["date"], "commit": machine["commit"], "cpu": machine["cpu"], "threads": threads,
            "method": method, "seconds": f"{median:.4f}", "low": f"{min(times):.4f}", "high": f"{max(times):.4f}",
            "rate": f"{rate:.3f}" if amount else "", "unit": unit,
            "share": f"{adds * rate / peak:.3f}" if adds else "", "error": f"{error:.1e}" if error != "" else "",
        })  # fmt: skip
        print(*list(rows[-1].values())[3:], flush=True)
    append(RESULTS, rows)


if __name__ == "__main__":
    main()
