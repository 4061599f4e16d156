"""How much cheaper and faster are the video networks with semantic tokens than plain Video Swin?

    python benchmarks/video_speed.py [--models tiny,small] [--frames 32] [--size 224] [--seconds 60]

Both networks of a pair see the same clip, in turn in one process, A B A B, on one thread, in PyTorch eager float32.
Multiply-accumulates are those of the published input; times those of the input asked for. The ratio is taken round by
round, with the interval of its median. Appends to benchmarks/results/video_speed.csv.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import torch
from table import append
from torch.utils.flop_counter import FlopCounterMode

import saccade
from saccade.engine.bench.machine import describe_machine
from saccade.engine.bench.timing import interleave, median_interval, ratio_interval
from saccade.zoo.registry import input_shape

RESULTS = Path(__file__).parent / "results" / "video_speed.csv"


def macs_of(name: str) -> int:
    """Count the multiply-accumulates of a network at its published input, without any numbers."""
    with torch.device("meta"):
        model = saccade.create_model(name).eval()
        clip = torch.empty(input_shape(name, model))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(clip)
    return counter.get_total_flops() // 2


def measure(size: str, frames: int, side: int, batch: int, seconds: float) -> list[dict[str, Any]]:
    """Time one pair."""
    names = {"plain": f"video_swin_{size}", "stvit": f"stvit_video_swin_{size}"}
    models = {kind: saccade.create_model(name, num_classes=400).eval() for kind, name in names.items()}
    clip, machine = torch.randn(batch, frames, 3, side, side), describe_machine()
    macs = {kind: macs_of(name) for kind, name in names.items()}
    before = os.getloadavg()[0]
    with torch.no_grad():
        timings = interleave(
            {kind: (lambda model=model: model(clip)) for kind, model in models.items()},
            seconds=seconds,
            min_rounds=6,
        )
    rows = []
    for kind, timing in timings.items():
        median, low, high = median_interval(timing.cpu)
        ratio = ratio_interval(timings["plain"].cpu, timing.cpu)
        rows.append({
            "date": machine["date"], "commit": machine["commit"], "cpu": machine["cpu"],
            "torch": machine["versions"]["torch"], "threads": torch.get_num_threads(),
            "load": f"{before:.1f}", "model": names[kind], "frames": frames, "size": side, "batch": batch,
            "gmacs_published_input": f"{macs[kind] / 1e9:.2f}",
            "macs": f"{100 * (macs[kind] / macs['plain'] - 1):+.1f} %",
            "cpu_s": f"{median:.3f}", "low_s": f"{low:.3f}", "high_s": f"{high:.3f}",
            "frames_per_s": f"{batch * frames / median:.2f}", "rounds": len(timing.cpu),
            "over_plain": f"{ratio[0]:.3f}", "over_plain_low": f"{ratio[1]:.3f}",
            "over_plain_high": f"{ratio[2]:.3f}",
        })  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Measure and append to the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default="tiny,small")
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60, help="per pair; six rounds at least")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for size in options.models.split(","):
        append(
            options.out,
            measure(size, options.frames, options.size, options.batch, options.seconds),
        )


if __name__ == "__main__":
    main()
