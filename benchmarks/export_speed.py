"""Is our exported file faster than timm's own folded export in the same runtime and precision?

Both networks get the same weights (timm's model with calibrated random batch normalisation, so that folding is really
exercised), both are exported by torch's ONNX exporter with a free batch, and both run in ONNX Runtime and OpenVINO
with one thread, in turn (A B A B ...). The figure is the median CPU time of a call, which does not count what other
processes take; outputs are compared before anything is timed.

    python benchmarks/export_speed.py --models shvit_s1,shvit_s4,efficientvim_m1,efficientvim_m4
"""

import argparse
import copy
import csv
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import timm
import torch
from torch import nn

from saccade.engine.bench.machine import describe_machine
from saccade.engine.export.form import portable
from saccade.engine.export.onnx import OnnxSession, write_onnx
from saccade.engine.export.openvino import OpenVinoSession, write_openvino
from saccade.zoo.loading import load_weights
from saccade.zoo.registry import create_model

RESULTS = Path(__file__).parent / "results" / "export_speed.csv"


def calibrated(name: str, size: int) -> nn.Module:
    """Build timm's model with random norm weights and statistics that fit them."""
    torch.manual_seed(0)
    model = timm.create_model(name)
    norms = [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.0)
        nn.init.normal_(norm.bias, 0, 0.1)
        norm.momentum = 1.0
    model.train()
    with torch.no_grad():
        model(torch.randn(4, 3, size, size))
    return model.eval()


def interleave(calls: dict[str, Callable[[], object]], seconds: float) -> dict[str, list[float]]:
    """Time calls in turn for about `seconds` in all; return the CPU seconds of each."""
    repeats = {}
    for name, call in calls.items():
        call()
        start = time.process_time()
        call()
        repeats[name] = max(1, int(0.02 / max(time.process_time() - start, 1e-5)))
    times: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or min(len(t) for t in times.values()) < 7:
        for name, call in calls.items():
            start = time.process_time()
            for _ in range(repeats[name]):
                call()
            times[name].append((time.process_time() - start) / repeats[name])
    return times


def export_both(name: str, size: int, folder: Path) -> dict[str, Path]:
    """Write timm's folded export and ours, of the same weights."""
    theirs = calibrated(name, size)
    ours = load_weights(create_model(name), theirs.state_dict()).eval()
    image = torch.randn(2, 3, size, size)
    folded = timm.utils.reparameterize_model(copy.deepcopy(theirs)).eval()
    files = {}
    for side, module in (("timm", folded), ("ours", portable(ours, image))):
        files[side] = folder / f"{name}-{side}.onnx"
        write_onnx(module, image, files[side])
        write_openvino(files[side], files[side].with_suffix(".xml"))
    return files


def measure(name: str, batches: list[int], seconds: float, precisions: list[str]) -> list[dict[str, object]]:
    """Measure one model in both runtimes."""
    size = int(create_model(name).default_size)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        files = export_both(name, size, Path(folder))
        sessions: dict[str, dict[str, object]] = {"onnxruntime float32": {}}
        for side, file in files.items():
            sessions["onnxruntime float32"][side] = OnnxSession(file, threads=1)
            for precision in precisions:
                key = f"openvino {precision}"
                session = OpenVinoSession(file.with_suffix(".xml"), precision=precision, threads=1)
                sessions.setdefault(key, {})[side] = session
        for batch in batches:
            image = torch.randn(batch, 3, size, size)
            calls, gap = {}, 0.0
            for runtime, pair in sessions.items():
                outputs = {side: session(image) for side, session in pair.items()}
                gap = ((outputs["ours"] - outputs["timm"]).abs().max() / outputs["timm"].abs().max()).item()
                assert gap < (0.3 if "bf16" in runtime else 1e-4), (name, runtime, gap)
                for side, session in pair.items():
                    calls[f"{runtime}|{side}"] = lambda s=session, x=image: s(x)
            times = interleave(calls, seconds)
            for runtime in sessions:
                rows.append(row(name, size, batch, runtime, times))
                print(" ".join(str(v) for v in rows[-1].values()), flush=True)
    return rows


def row(name: str, size: int, batch: int, runtime: str, times: dict[str, list[float]]) -> dict[str, object]:
    """Summarise one pair: medians in milliseconds, and the ratio with its quartiles over the rounds."""
    theirs, ours = times[f"{runtime}|timm"], times[f"{runtime}|ours"]
    ratios = sorted(a / b for a, b in zip(theirs, ours, strict=False))
    return {
        "model": name,
        "size": size,
        "batch": batch,
        "runtime": runtime,
        "threads": 1,
        "timm_ms": round(1e3 * statistics.median(theirs), 3),
        "ours_ms": round(1e3 * statistics.median(ours), 3),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_q25": round(ratios[len(ratios) // 4], 3),
        "ratio_q75": round(ratios[3 * len(ratios) // 4], 3),
        "rounds": len(ratios),
    }


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default="shvit_s1,shvit_s4,efficientvim_m1,efficientvim_m4")
    parser.add_argument("--batches", default="1,16")
    parser.add_argument("--precisions", default="float32,bf16", help="of OpenVINO")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each model and batch")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    machine = describe_machine()
    rows: list[dict[str, object]] = []
    for name in options.models.split(","):
        batches = [int(b) for b in options.batches.split(",")]
        rows += measure(name, batches, options.seconds, options.precisions.split(","))
    record = {key: machine[key] for key in ("date", "commit", "cpu", "system")}
    record["versions"] = " ".join(f"{k} {v}" for k, v in machine["versions"].items())
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*rows[0], *record])
        writer.writeheader()
        writer.writerows({**line, **record} for line in rows)


if __name__ == "__main__":
    main()
