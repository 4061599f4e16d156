"""How much faster is our PyTorch path than timm's? Folded, and folded + compiled, against timm on both sides.

    python benchmarks/fast_path.py [--models shvit_s1,shvit_s4,efficientvim_m1,efficientvim_m4] [--batches 1,16]

Contenders, all float32, 1 thread, channels-last where it helps them, in turn in one process per model:
timm eager; timm's own fold + torch.compile with freezing (channels last); saccade.fold; saccade.fold +
torch.compile as `--backend compile` runs it. Weights are timm's with their normalisation run on random pictures,
so that folding has something to fold; outputs must agree to 1e-5 of the largest. Appends to
benchmarks/results/fast_path.csv.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from table import append

RESULTS = Path(__file__).parent / "results" / "fast_path.csv"
FIELDS = [
    "date", "commit", "cpu", "torch", "timm", "threads", "model", "size", "batch", "contender", "cpu_ms", "low_ms",
    "high_ms", "rounds", "over_timm_eager", "over_timm_compiled", "difference",
]  # fmt: skip


def measure(name: str, batches: list[int], seconds: float) -> list[dict]:
    """Time one model's contenders."""
    import timm
    import torch
    from torch import nn

    import saccade
    from saccade.engine.bench.machine import describe_machine
    from saccade.engine.bench.timing import interleave, median_interval, ratio_interval
    from saccade.engine.sessions.eager import CompiledSession

    torch.set_num_threads(1)
    torch.manual_seed(0)
    theirs = timm.create_model(name)
    norms = [m for m in theirs.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.0)
        nn.init.normal_(norm.bias, std=0.1)
        norm.momentum = 1.0
    ours = saccade.create_model(name)
    size = ours.default_size
    with torch.no_grad():
        theirs(torch.randn(4, 3, size, size))
    theirs.eval()
    saccade.load_weights(ours, theirs.state_dict()).eval()
    machine, rows = describe_machine(), []
    for batch in batches:
        torch._dynamo.reset()
        picture = torch.randn(batch, 3, size, size)
        last = picture.contiguous(memory_format=torch.channels_last)
        fused = timm.utils.reparameterize_model(theirs).to(memory_format=torch.channels_last)
        compiled = torch.compile(fused, options={"freezing": True})
        folded, session = saccade.fold(ours), CompiledSession(ours, threads=1)
        contenders = {
            "timm eager": lambda x=picture: theirs(x),
            "timm compiled": lambda x=last, f=compiled: f(x),
            "saccade.fold": lambda x=picture, f=folded: f(x),
            "saccade.fold compiled": lambda x=last, f=session: f(x),
        }
        with torch.no_grad():
            want = theirs(picture)
            gaps = {
                k: float((call() - want).abs().max() / want.abs().max()) for k, call in contenders.items()
            }
            if max(gaps.values()) > 2e-5:
                sys.exit(f"{name}: outputs differ: {gaps}")
            timings = interleave(contenders, seconds=seconds)
        base, rival = timings["timm eager"].cpu, timings["timm compiled"].cpu
        for contender, timing in timings.items():
            median, low, high = median_interval(timing.cpu)
            rows.append({
                "date": machine["date"], "commit": machine["commit"], "cpu": machine["cpu"],
                "torch": machine["versions"]["torch"], "timm": machine["versions"]["timm"], "threads": 1,
                "model": name, "size": size, "batch": batch, "contender": contender, "cpu_ms": f"{1e3 * median:.3f}",
                "low_ms": f"{1e3 * low:.3f}", "high_ms": f"{1e3 * high:.3f}", "rounds": len(timing.cpu),
                "over_timm_eager": f"{ratio_interval(base, timing.cpu)[0]:.3f}",
                "over_timm_compiled": f"{ratio_interval(rival, timing.cpu)[0]:.3f}",
                "difference": f"{gaps[contender]:.1e}",
            })  # fmt: skip
            print({k: rows[-1][k] for k in ("model", "batch", "contender", "cpu_ms", "over_timm_eager",
                                            "over_timm_compiled", "difference")}, flush=True)  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default="shvit_s1,shvit_s4,efficientvim_m1,efficientvim_m4")
    parser.add_argument("--batches", default="1,16")
    parser.add_argument(
        "--seconds", type=float, default=15, help="per model and batch, all contenders together"
    )
    options = parser.parse_args()
    names = options.models.split(",")
    if len(names) > 1:  # one process a model, so that none inherits another's compiler cache or allocator
        for name in names:
            command = [sys.executable, __file__, "--models", name, "--batches", options.batches]
            subprocess.run([*command, "--seconds", str(options.seconds)], check=True)
        return
    rows = measure(names[0], [int(b) for b in options.batches.split(",")], options.seconds)
    append(RESULTS, rows, FIELDS)


if __name__ == "__main__":
    main()
