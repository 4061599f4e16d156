"""What do small networks learn from 20,000 small photos on a CPU? Ours beside timm's of like cost, three seeds.

    python benchmarks/cifar.py PHOTOS                # what is not in the results yet, then the table and the picture
    python benchmarks/cifar.py PHOTOS --seeds 0 --models shvit_s1,timm/mobilenetv4_conv_small
    python benchmarks/cifar.py PHOTOS --speed        # pictures a second of all networks in turn, one thread
    python benchmarks/cifar.py --table               # only print and draw

PHOTOS holds train/CLASS and val/CLASS: 2,000 and 500 photos of each class of CIFAR-10 (Krizhevsky 2009), 32 x 32.
They are enlarged to 64 x 64. Every network starts from fresh weights and gets the same recipe, chosen for none of
them: two passes, batches of 64, AdamW at 1e-3 with cosine decay, random crops and mirroring. What is printed is the
last weights' accuracy on val, which chose nothing. `constant` is what the largest class gives. One row a training is
added to benchmarks/results/cifar.csv; finished ones are skipped, so a stopped benchmark goes on.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

from stvit_accuracy import machine_fields, read_rows, spread
from table import append

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "cifar.csv"
SPEED = HERE / "results" / "cifar_speed.csv"
PICTURE = HERE.parent / "docs" / "images" / "cifar.svg"
SIZE = 64
MODELS = (
    "shvit_s1",
    "efficientvim_m1",
    "timm/mobilenetv4_conv_small",
    "timm/mobilenetv3_large_100",
    "timm/efficientvit_m2",
)


def settings(model: str, seed: int) -> dict[str, Any]:
    """Settings of one training, by dotted name."""
    return {
        "model.name": model, "model.pretrained": "no", "data.size": SIZE, "data.batch": 64, "data.workers": 0,
        "augment.scale": (0.6, 1.0), "optim.lr": 1e-3, "schedule.epochs": 2, "ema.decay": 0.0, "run.seed": seed,
        "run.device": "cpu", "run.threads": 1, "run.patience": 0, "run.eval_every": 2,
    }  # fmt: skip


def measure(photos: Path, models: list[str], seeds: list[int], work: Path) -> None:
    """Do the trainings that are missing, whole sets of networks seed by seed."""
    import saccade
    from saccade.engine.bench.cost import count_macs, count_params

    done = {(row["model"], int(row["seed"])) for row in read_rows(RESULTS)}
    for seed, model in ((seed, model) for seed in seeds for model in models):
        if (model, seed) in done:
            continue
        out, begun = work / f"{model.replace('/', '-')}-{seed}", time.process_time()
        if out.exists():
            result = saccade.train(resume=out)
        else:
            result = saccade.train(photos, out=out, **settings(model, seed))
        net = saccade.create_model(model, num_classes=10).eval()
        row = {
            "model": model, "seed": seed, "top1": round(result.metrics["top1"], 4),
            "loss": round(result.metrics["loss"], 4), "steps": result.steps,
            "params_m": round(count_params(net) / 1e6, 2), "macs_m": round(count_macs(net, SIZE) / 1e6, 1),
            "minutes": round((time.process_time() - begun) / 60, 2),
        }  # fmt: skip
        append(RESULTS, [machine_fields() | row])
        print(f"{model}, seed {seed}: {100 * row['top1']:.1f} %, {row['minutes']} min", flush=True)


def measure_speed(models: list[str], seconds: float) -> None:
    """Time all networks in turn in one process: eager, folded where they fold, batches of 1, one thread."""
    import torch

    import saccade
    from saccade.engine.bench.timing import interleave, median_interval
    from saccade.errors import SaccadeError

    torch.set_num_threads(1)
    picture = torch.randn(1, 3, 224, 224)

    def ready(name: str) -> torch.nn.Module:
        net = saccade.create_model(name, num_classes=10).eval()
        try:
            return saccade.fold(net)
        except SaccadeError:
            return net

    def call(net: torch.nn.Module) -> Any:
        with torch.inference_mode():
            return net(picture)

    nets = {name: ready(name) for name in models}
    timings = interleave({name: lambda net=net: call(net) for name, net in nets.items()}, seconds=seconds)
    for name in models:
        middle, low, high = (1e3 * value for value in median_interval(timings[name].cpu))
        row = {
            "model": name,
            "size": 224,
            "cpu_ms": round(middle, 2),
            "low": round(low, 2),
            "high": round(high, 2),
        }
        append(SPEED, [machine_fields() | row])


def draw(points: dict[str, tuple[list[float], list[float]]]) -> None:
    """Plot the top-1 of every training over its minutes."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
    for name, (minutes, tops) in points.items():
        axes.plot(minutes, tops, marker="o", linestyle="", label=name)
    axes.set_xlabel("minutes of one core, two passes over 20,000 photos")
    axes.set_ylabel("top-1 %, 5,000 held-out photos")
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left")
    figure.savefig(PICTURE, metadata={"Date": None})


def table() -> str:
    """Write the results as a Markdown table and draw them."""
    rows, speeds = read_rows(RESULTS), {row["model"]: row for row in read_rows(SPEED)}
    lines = [
        "| network | top-1 % | seeds | loss | MMACs at 64 px | M weights | minutes each | ms at 224 px |",
        "|---|---|---|---|---|---|---|---|",
    ]
    points = {}
    for model in dict.fromkeys(row["model"] for row in rows):
        mine = [row for row in rows if row["model"] == model]
        tops, minutes = [100 * float(r["top1"]) for r in mine], [float(r["minutes"]) for r in mine]
        speed = speeds.get(model, {})
        cost = f"{speed['cpu_ms']} ({speed['low']}-{speed['high']})" if speed else ""
        lines.append(
            f"| {model} | {spread(tops)} | {len(mine)} | {statistics.mean(float(r['loss']) for r in mine):.3f} | "
            f"{mine[0]['macs_m']} | {mine[0]['params_m']} | {statistics.mean(minutes):.1f} | "
            f"{cost} |"
        )
        points[model] = minutes, tops
    lines.append("| constant | 10.00 | | | | | | |")
    if points:
        draw(points)
    return "\n".join(lines)


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path, nargs="?")
    parser.add_argument("--models", type=lambda text: text.split(","), default=list(MODELS))
    parser.add_argument(
        "--seeds", type=lambda text: [int(part) for part in text.split(",")], default=[0, 1, 2]
    )
    parser.add_argument("--work", type=Path, default=Path("runs/cifar"), help="run folders")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--seconds", type=float, default=60, help="for --speed")
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    if args.speed:
        measure_speed(args.models, args.seconds)
    elif not args.table:
        measure(args.photos, args.models, args.seeds, args.work)
    print(table())


if __name__ == "__main__":
    main()
