"""What does a dense backbone cost? Ours, folded, against those that the papers compare with, as timm has them.

    python benchmarks/dense_backbones.py [--sizes 512x512,800x1216] [--threads 1] [--seconds 60]

All maps that a pyramid takes, batch 1, float32, eager PyTorch, contenders in turn in one process per size: shvit_s4
and efficientvim_m4 (strides 16, 32, 64), stvit_r_swin_small (4 to 32), each through `saccade.fold`; fastvit_sa12
(timm's own fold) and swin_small_patch4_window7_224 of timm (4 to 32). Channels-last where that is faster.
Fresh weights: the time does not depend on them. MACs are counted by torch on the unfolded network. Appends to
benchmarks/results/dense_backbones.csv.
"""

import argparse
import copy
import subprocess
import sys
from pathlib import Path

from table import append

RESULTS = Path(__file__).parent / "results" / "dense_backbones.csv"
OURS = ("shvit_s4", "efficientvim_m4", "stvit_r_swin_small")
RIVALS = ("fastvit_sa12", "swin_small_patch4_window7_224")


def contenders(height: int, width: int) -> dict:
    """Make the networks as calls, with what they are."""
    import timm
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    import saccade
    from saccade.engine.bench.timing import interleave

    picture = torch.randn(1, 3, height, width)
    last = picture.contiguous(memory_format=torch.channels_last)
    found = {}
    for name in (*OURS, *RIVALS):
        torch.manual_seed(0)
        if name in OURS:
            plain = saccade.create_model(name, features_only=True).eval()
            net = saccade.fold(plain)
        else:
            options = {"img_size": (height, width)} if name.startswith("swin") else {}
            plain = timm.create_model(name, features_only=True, **options).eval()
            net = timm.utils.reparameterize_model(plain)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            maps = plain(picture)
        forms = {"": lambda n=net: n(picture)}
        moved = copy.deepcopy(net).to(memory_format=torch.channels_last)
        forms["last"] = lambda n=moved: n(last)
        with torch.no_grad():
            times = {form: min(t.cpu) for form, t in interleave(forms, seconds=4).items()}
        best = min(times, key=lambda form: times[form])
        found[name] = (forms[best], counter.get_total_flops() / 2e9, len(maps), best or "first")
    return found


def measure(size: str, threads: int, seconds: float) -> list[dict]:
    """Time all networks at one size."""
    import torch

    from saccade.engine.bench.machine import describe_machine
    from saccade.engine.bench.timing import interleave, median_interval, ratio_interval

    torch.set_num_threads(threads)
    height, width = (int(side) for side in size.split("x"))
    nets, machine, rows = contenders(height, width), describe_machine(), []
    with torch.no_grad():
        timings = interleave({name: call for name, (call, *_) in nets.items()}, seconds=seconds)
    for name, timing in timings.items():
        median, low, high = median_interval(timing.cpu)
        _, macs, maps, layout = nets[name]
        rows.append({
            "date": machine["date"], "commit": machine["commit"], "cpu": machine["cpu"],
            "torch": machine["versions"]["torch"], "timm": machine["versions"]["timm"], "threads": threads,
            "model": name, "height": height, "width": width, "maps": maps, "gmacs": f"{macs:.2f}", "layout": layout,
            "cpu_ms": f"{1e3 * median:.1f}", "low_ms": f"{1e3 * low:.1f}", "high_ms": f"{1e3 * high:.1f}",
            "rounds": len(timing.cpu),
            "fastvit_over_this": f"{ratio_interval(timings[RIVALS[0]].cpu, timing.cpu)[0]:.2f}",
            "swin_over_this": f"{ratio_interval(timings[RIVALS[1]].cpu, timing.cpu)[0]:.2f}",
        })  # fmt: skip
        print({k: rows[-1][k] for k in ("model", "gmacs", "cpu_ms", "fastvit_over_this", "swin_over_this")})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="512x512,800x1216")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60, help="per size, all networks together")
    options = parser.parse_args()
    sizes = options.sizes.split(",")
    if len(sizes) > 1:
        for size in sizes:
            command = [sys.executable, __file__, "--sizes", size, "--threads", str(options.threads)]
            subprocess.run([*command, "--seconds", str(options.seconds)], check=True)
        return
    append(RESULTS, measure(sizes[0], options.threads, options.seconds))


if __name__ == "__main__":
    main()
