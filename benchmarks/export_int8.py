"""How much faster are the int8 and bf16 bundles than float32 in ONNX Runtime?

One thread, batches in turn, CPU time, weights as in `export_speed.py`. The ranges come from noise here, so
these files say nothing about accuracy: that is what
`saccade export --precision int8 --data ...` measures, on a trained network.

    python benchmarks/export_int8.py --models shvit_s1,shvit_s4,efficientvim_m1,efficientvim_m4
"""

import argparse
import csv
import statistics
import tempfile
import warnings
from pathlib import Path

import torch
from export_speed import export_both, interleave

from saccade.engine.bench.machine import describe_machine
from saccade.engine.export import int8
from saccade.engine.export.onnx import OnnxSession
from saccade.engine.export.openvino import OpenVinoSession
from saccade.engine.export.session import Session
from saccade.zoo.registry import create_model

RESULTS = Path(__file__).parent / "results" / "export_int8.csv"
BASE = "timm's folded export, onnxruntime float32"


def measure(name: str, batches: list[int], seconds: float) -> list[dict[str, object]]:
    """Time all precisions of one model."""
    size = int(create_model(name).default_size)
    images = [torch.randn(1, 3, size, size) for _ in range(8)]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        files = export_both(name, size, Path(folder))
        ours, quantised = files["ours"], Path(folder) / "int8.onnx"
        int8.quantise_onnx(ours, images, quantised)
        int8.quantise_openvino(ours.with_suffix(".xml"), images, quantised.with_suffix(".xml"))
        sessions: dict[str, Session] = {
            BASE: OnnxSession(files["timm"], threads=1),
            "onnxruntime float32": OnnxSession(ours, threads=1),
            "onnxruntime int8": OnnxSession(quantised, threads=1),
            "openvino bf16": OpenVinoSession(ours.with_suffix(".xml"), precision="bf16", threads=1),
            "openvino int8": OpenVinoSession(quantised.with_suffix(".xml"), precision="int8", threads=1),
        }
        for batch in batches:
            x = torch.randn(batch, 3, size, size)
            times = interleave({key: lambda s=s, x=x: s(x) for key, s in sessions.items()}, seconds)
            base = statistics.median(times[BASE])
            for key, values in times.items():
                median = statistics.median(values)
                rows.append(
                    {"model": name, "size": size, "batch": batch, "threads": 1, "bundle": key,
                     "ms": round(1e3 * median, 3), "times_faster": round(base / median, 3), "rounds": len(values)}
                )  # fmt: skip
                print(*rows[-1].values(), sep="\t", flush=True)
    return rows


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default="shvit_s1,shvit_s4,efficientvim_m1,efficientvim_m4")
    parser.add_argument("--batches", default="1,16")
    parser.add_argument("--seconds", type=float, default=12.0, help="for each model and batch")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    machine = describe_machine()
    rows: list[dict[str, object]] = []
    for name in options.models.split(","):
        rows += measure(name, [int(b) for b in options.batches.split(",")], options.seconds)
    record = {key: machine[key] for key in ("date", "commit", "cpu", "system")}
    record["versions"] = " ".join(f"{k} {v}" for k, v in machine["versions"].items())
    with options.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*rows[0], *record])
        writer.writeheader()
        writer.writerows({**line, **record} for line in rows)


if __name__ == "__main__":
    main()
