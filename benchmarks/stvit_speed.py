"""How much faster are the STViT models than the networks they come from? Both sides in the same runtime.

    python benchmarks/stvit_speed.py [--models stvit_deit_small,...] [--batches 1,8,32] [--runtimes eager,...]

Pairs: stvit_deit_small (16 tokens) with timm's deit_small_patch16_224, stvit_swin_small (16 tokens a window) and
stvit_r_swin_small (9) with timm's swin_small_patch4_window7_224. Runtimes: PyTorch eager (timm with its fused
attention; ours plain and folded), torch.compile with freezing, ONNX Runtime and OpenVINO float32. One thread, CPU
time, in turn in one process per model. The two networks are different functions, so there is no output to compare;
ours is checked against its own eager form instead. Appends to benchmarks/results/stvit_speed.csv.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from table import append

import saccade
from saccade.engine.bench.cost import count_macs
from saccade.engine.bench.machine import describe_machine
from saccade.engine.bench.timing import interleave, median_interval, ratio_interval
from saccade.engine.export.form import portable
from saccade.engine.export.onnx import OnnxSession, write_onnx
from saccade.engine.export.openvino import OpenVinoSession, write_openvino
from saccade.engine.sessions.eager import CompiledSession

RESULTS = Path(__file__).parent / "results" / "stvit_speed.csv"
PAIRS: dict[str, tuple[str, dict[str, Any]]] = {
    "stvit_deit_small": ("deit_small_patch16_224", {}),
    "stvit_swin_small": ("swin_small_patch4_window7_224", {"tokens_per_window": 16}),
    "stvit_r_swin_small": ("swin_small_patch4_window7_224", {}),
}
RUNTIMES = ("eager", "compile", "onnxruntime", "openvino")


def contenders(
    runtime: str, theirs: torch.nn.Module, ours: torch.nn.Module, x: torch.Tensor, folder: Path
) -> dict[str, Callable[[], Any]]:
    """Prepare both sides in one runtime; "timm" is the base of the ratios."""
    if runtime == "eager":
        folded = saccade.fold(ours)
        return {"timm": lambda: theirs(x), "ours": lambda: ours(x), "ours folded": lambda: folded(x)}
    if runtime == "compile":
        torch._dynamo.reset()
        compiled = torch.compile(theirs, options={"freezing": True})
        session = CompiledSession(ours, threads=1)
        return {"timm": lambda: compiled(x), "ours folded": lambda: session(x)}
    calls: dict[str, Callable[[], Any]] = {}
    for side, module in (("timm", theirs), ("ours folded", portable(ours, x[:1].repeat(2, 1, 1, 1)))):
        file = folder / f"{side}.onnx"
        if not file.exists():
            write_onnx(module, x[:1].repeat(2, 1, 1, 1), file)
            write_openvino(file, file.with_suffix(".xml"))
        session = (
            OnnxSession(file, threads=1)
            if runtime == "onnxruntime"
            else OpenVinoSession(file.with_suffix(".xml"), precision="float32", threads=1)
        )
        calls[side] = lambda s=session: s(x)
    return calls


def measure(name: str, batches: list[int], runtimes: list[str], seconds: float) -> list[dict[str, Any]]:
    """Time one pair."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    base, options = PAIRS[name]
    theirs, ours = timm.create_model(base).eval(), saccade.create_model(name, **options).eval()
    macs = count_macs(ours, 224) / count_macs(theirs, 224) - 1
    machine, rows = describe_machine(), []
    with tempfile.TemporaryDirectory() as folder:
        for batch in batches:
            x = torch.randn(batch, 3, 224, 224)
            for runtime in runtimes:
                calls = contenders(runtime, theirs, ours, x, Path(folder))
                with torch.no_grad():
                    want = ours(x)
                    gap = float((calls["ours folded"]() - want).abs().max() / want.abs().max())
                    assert gap < 1e-4, (name, runtime, gap)
                    timings = interleave(calls, seconds=seconds)
                for side, timing in timings.items():
                    median, low, high = median_interval(timing.cpu)
                    ratio = ratio_interval(timings["timm"].cpu, timing.cpu)
                    rows.append({
                        "date": machine["date"], "commit": machine["commit"], "cpu": machine["cpu"],
                        "torch": machine["versions"]["torch"], "timm": machine["versions"]["timm"], "threads": 1,
                        "model": name, "base": base, "macs": f"{100 * macs:+.1f} %", "batch": batch,
                        "runtime": runtime, "side": side,
                        "cpu_ms": f"{1e3 * median:.2f}", "low_ms": f"{1e3 * low:.2f}",
                        "high_ms": f"{1e3 * high:.2f}", "rounds": len(timing.cpu), "over_timm": f"{ratio[0]:.3f}",
                        "over_timm_low": f"{ratio[1]:.3f}", "over_timm_high": f"{ratio[2]:.3f}", "gap": f"{gap:.1e}",
                    })  # fmt: skip
                    print(
                        *(rows[-1][k] for k in ("model", "batch", "runtime", "side", "cpu_ms", "over_timm")),
                        flush=True,
                    )
    return rows


def table(path: Path) -> str:
    """Write the newest row of each cell as Markdown: milliseconds of timm / ours, and the ratio with its interval."""
    with path.open(newline="") as file:
        cells = {(r["model"], r["runtime"], r["side"], int(r["batch"])): r for r in csv.DictReader(file)}
    batches = sorted({key[3] for key in cells})
    lines = [
        "| model | runtime | " + " | ".join(f"batch {b}" for b in batches) + " |",
        "|---" * (2 + len(batches)) + "|",
    ]
    for name in PAIRS:
        for runtime in RUNTIMES:
            row = [f"`{name}`", runtime]
            for batch in batches:
                theirs = cells.get((name, runtime, "timm", batch))
                ours = cells.get((name, runtime, "ours folded", batch))
                row.append("-" if theirs is None or ours is None else cell(theirs, ours))
            lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def cell(theirs: dict[str, str], ours: dict[str, str]) -> str:
    """Write one comparison."""
    low, high = float(ours["over_timm_low"]), float(ours["over_timm_high"])
    times = f"{float(theirs['cpu_ms']):.0f} / {float(ours['cpu_ms']):.0f}"
    return f"{times}: **{float(ours['over_timm']):.2f}** ({low:.2f}-{high:.2f})"


def main() -> None:
    """Measure and append to the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default=",".join(PAIRS))
    parser.add_argument("--batches", default="1,8,32")
    parser.add_argument("--runtimes", default=",".join(RUNTIMES))
    parser.add_argument("--seconds", type=float, default=15, help="per model, batch and runtime")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument(
        "--table", action="store_true", help="print the rows there are as Markdown, measure nothing"
    )
    options = parser.parse_args()
    if options.table:
        print(table(options.out))
        return
    names = options.models.split(",")
    if len(names) > 1:  # one process a pair, so that none inherits another's compiler cache or allocator
        for name in names:
            command = [
                sys.executable,
                __file__,
                "--models",
                name,
                "--batches",
                options.batches,
                "--runtimes",
                options.runtimes,
            ]
            subprocess.run(
                [*command, "--seconds", str(options.seconds), "--out", str(options.out)], check=True
            )
        return
    rows = measure(
        names[0], [int(b) for b in options.batches.split(",")], options.runtimes.split(","), options.seconds
    )
    append(options.out, rows)


if __name__ == "__main__":
    main()
