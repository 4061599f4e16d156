"""STViT against token merging (ToMe) at equal multiply-accumulates: accuracy after the same fine-tune, real speed.

    python benchmarks/stvit_peers.py --speed                    # DeiT-S at 224 pixels, no training, minutes
    python benchmarks/stvit_peers.py --base runs/stvit_accuracy/vit-base-0 [--tokens 16] [--epochs 1] [--seeds 0,1]

The base is a run folder of a plain timm ViT, such as benchmarks/stvit_accuracy.py leaves; its settings of
fine-tuning are taken. Contenders:
the base as it is; the base trained on as long as the others; STViT converted by `saccade.sparsify`; ToMe with as many
merged tokens a block as give the same multiply-accumulates. All three are fine-tuned by one recipe, with the
unmodified base as teacher, on the base's own division of the data, and judged by their last weights (not the best of
several looks at the held-out images). Speed: eager PyTorch, one thread, processor time, all in turn in one process.
Appends to benchmarks/results/stvit_peers.csv.
"""

import argparse
import dataclasses
import statistics
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from stvit_accuracy import FAMILIES, tune_settings
from table import append
from tome import ToMe, schedule
from torch import nn

from saccade.data.config import read_split
from saccade.data.opening import is_divided
from saccade.engine.bench.cost import count_macs
from saccade.engine.bench.machine import describe_machine
from saccade.engine.bench.timing import interleave, median_interval, ratio_interval
from saccade.engine.evaluate.evaluate import evaluate
from saccade.engine.train.convert import Base, convert
from saccade.engine.train.loop import train
from saccade.engine.train.recipe import build_recipe
from saccade.nn.fold import fold
from saccade.tasks.open import load_model
from saccade.weights import Card, read_weights
from saccade.zoo import registry
from saccade.zoo.loading import save_weights

RESULTS = Path(__file__).parent / "results" / "stvit_peers.csv"
FIELDS = [
    "date", "commit", "cpu", "torch", "base", "data", "images", "contender", "setting", "size", "macs_g",
    "macs_change", "epochs", "seeds", "top1_untuned", "top1", "top1_low", "top1_high", "batch", "cpu_ms", "times",
    "times_low", "times_high",
]  # fmt: skip


@dataclass(frozen=True)
class PeerConfig:
    """What `create_model("peer_tome")` builds, for this script only."""

    num_classes: int = 1000
    in_chans: int = 3
    base: str = ""
    base_options: dict = field(default_factory=dict)
    merged: tuple = ()


def build_peer(config: PeerConfig, out_indices: Any) -> nn.Module:
    """Build ToMe over a fresh base."""
    assert out_indices is None
    vit = registry.create_model(config.base, num_classes=config.num_classes, **config.base_options)
    model = ToMe(vit, config.merged)
    model.default_size = getattr(vit, "default_size", 224)  # pyright: ignore[reportArgumentType]
    return model


def register_peer(card: Card, merged: list[int]) -> None:
    """Make ToMe over a base known by name in this process, so that the one training loop can build it."""
    config = PeerConfig(card.num_classes, card.in_chans, card.model, card.options, tuple(merged))
    registry._TABLE["peer_tome"] = registry.Entry(config, build_peer, "timm")


def equal_macs(vit: nn.Module, wanted: int, size: int) -> tuple[list[int], int]:
    """Find how many tokens to merge for a cost, to a hundredth of a token a block.

    Returns:
        Merged tokens of each block, and the cost they give.
    """
    depth, low, high = len(vit.blocks), 0.0, 200.0  # pyright: ignore[reportArgumentType]
    while high - low > 0.01:
        middle = (low + high) / 2
        cost = count_macs(ToMe(vit, schedule(middle, depth)), size)
        low, high = (middle, high) if cost > wanted else (low, middle)
    plans = [schedule(mean, depth) for mean in (low, high)]
    costs = [count_macs(ToMe(vit, plan), size) for plan in plans]
    best = min((0, 1), key=lambda i: abs(costs[i] - wanted))
    return plans[best], costs[best]


def time_all(
    models: dict[str, nn.Module], size: int, batches: list[int], seconds: float
) -> dict[str, list[dict]]:
    """Time every network in turn at every batch; ratios refer to the first."""
    torch.set_num_threads(1)
    rows: dict[str, list[dict]] = {name: [] for name in models}
    for batch in batches:
        picture = torch.randn(batch, 3, size, size)

        def call(model: nn.Module, x: torch.Tensor = picture) -> torch.Tensor:
            with torch.inference_mode():
                return model(x)

        taken = interleave({name: lambda m=model: call(m) for name, model in models.items()}, seconds=seconds)
        first = taken[next(iter(models))].cpu
        for name, one in taken.items():
            times, low, high = ratio_interval(first, one.cpu)
            rows[name].append(
                {
                    "batch": batch, "cpu_ms": round(1e3 * median_interval(one.cpu)[0], 3), "times": round(times, 3),
                    "times_low": round(low, 3), "times_high": round(high, 3),
                }
            )  # fmt: skip
    return rows


def speed(size_name: str, tokens: int, batches: list[int], seconds: float) -> list[dict]:
    """Compare the speeds of published networks with fresh weights: DeiT, STViT-DeiT, ToMe on DeiT."""
    name = f"deit_{size_name}_patch16_224"
    vit, _ = load_model(f"timm/{name}")
    sparse = registry.create_model(f"stvit_deit_{size_name}", tokens=tokens).eval()
    costs = {"base": count_macs(vit, 224), "stvit": count_macs(sparse, 224)}
    merged, costs["tome"] = equal_macs(vit, costs["stvit"], 224)
    costs["stvit folded"] = costs["stvit"]
    models = {"base": vit, "stvit": sparse, "stvit folded": fold(sparse), "tome": ToMe(vit, merged)}
    timed = time_all(models, 224, batches, seconds)
    settings = {"base": "", "tome": f"{sum(merged) / len(merged):.2f} merged a block"}
    return [
        {"base": name, "contender": who, "setting": settings.get(who, f"{tokens} tokens"), "size": 224}
        | cost_fields(costs, who)
        | row
        for who, rows in timed.items()
        for row in rows
    ]


def cost_fields(costs: dict[str, int], who: str) -> dict[str, float]:
    """Cost columns of a row."""
    return {"macs_g": round(costs[who] / 1e9, 4), "macs_change": round(costs[who] / costs["base"] - 1, 4)}


def accuracy(run: Path, tokens: int, epochs: int, seeds: list[int], work: Path, args: Any) -> list[dict]:
    """Fine-tune the contenders alike and compare accuracies and speeds."""
    vit, card = load_model(run)
    found = read_split(run)
    if found is None or not (found[0].val or is_divided(found[0].source)):
        # Seeds divide undivided data too: the contenders would be judged on what they learned.
        raise SystemExit(f"{run} is not a run on data with a validation part of its own")
    size = int(card.preprocess["size"])
    options = FAMILIES["vit"].forms["stvit"] | {"tokens": tokens}
    sparse, sparse_card = convert(Base(vit, card, str(run), True), options)
    costs = {"base": count_macs(vit, size), "stvit": count_macs(sparse, size)}
    costs["base trained on"] = costs["base"]
    merged, costs["tome"] = equal_macs(vit, costs["stvit"], size)
    register_peer(card, merged)
    peer = ToMe(vit, merged)
    cards = {
        "base trained on": card,
        "stvit": sparse_card,
        "tome": dataclasses.replace(card, model="peer_tome", options={}),
    }
    starts = {"base trained on": vit, "stvit": sparse, "tome": peer}
    untuned, tuned = {"base": top1(run, run)}, {}
    for who, model in starts.items():
        file = work / f"{who.replace(' ', '_')}.safetensors"
        save_weights(model, file, cards[who])
        untuned[who] = top1(file, run)
        tuned[who] = [tune(file, cards[who], run, seed, epochs, work, args) for seed in seeds]
        print(who, f"untuned {untuned[who]:.4f}, tuned", [f"{value:.4f}" for value in tuned[who]], flush=True)
    timed = time_all({"base": vit, "stvit": sparse, "tome": peer}, size, args.batches, args.seconds)
    rows = []
    settings = {"stvit": f"{tokens} tokens", "tome": f"{sum(merged) / len(merged):.2f} merged a block"}
    for who in costs:
        values = tuned.get(who, [untuned[who]])
        plain = {
            "base": card.model, "data": found[0].source, "contender": who, "size": size,
            "setting": settings.get(who, ""), "top1_untuned": round(untuned[who], 5),
            "top1": round(statistics.mean(values), 5), "top1_low": min(values), "top1_high": max(values),
            "seeds": len(seeds) if who in tuned else "", "epochs": epochs if who in tuned else "",
            "images": images(run),
        }  # fmt: skip
        plain |= cost_fields(costs, who)
        rows += [plain | row for row in timed.get(who, [{}])]
    return rows


def tune(file: Path, card: Card, run: Path, seed: int, epochs: int, work: Path, args: Any) -> float:
    """Fine-tune one network by the recipe that all share; returns the accuracy of its last weights."""
    found = read_split(run)
    assert found is not None
    changes = {
        "data.source": found[0].source, "data.val": found[0].val, "model.name": card.model,
        "model.options": dict(card.options), "model.weights": str(file), "loss.teacher": str(run),
        "schedule.epochs": epochs, "run.eval_every": epochs, "model.preprocess": {},
    }  # fmt: skip
    recipe, _ = build_recipe("sparsify_small", args.config, tune_settings(FAMILIES["vit"], seed, **changes))
    folder = work / f"{file.stem}-{seed}"
    train(recipe, folder, log=lambda line: None)
    return top1(folder, run)


def top1(source: Path, run: Path) -> float:
    """Measure a network on the images that the base's run kept back."""
    state = source / "last.safetensors" if source.is_dir() and source != run else source
    return evaluate(state, like=run, backend="torch", threads=1, shown=0).metrics["top1"]


def images(run: Path) -> int:
    """Count the held-out images."""
    card = read_weights(run / "best.safetensors")[1]
    return int(card.numbers.get("count", 0)) if card is not None else 0


def main() -> None:
    """Measure and append."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--base", type=Path)
    parser.add_argument("--size", default="small", help="tiny, small or base, for --speed")
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--batches", default="1,8,32")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument(
        "--config",
        default="",
        help="recipe file over sparsify_small, under the settings of benchmarks/stvit_accuracy.py",
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    args.batches = [int(text) for text in args.batches.split(",")]
    if args.speed == bool(args.base):
        parser.error("give --speed, or --base RUN")
    if args.speed:
        rows = speed(args.size, args.tokens, args.batches, args.seconds)
    else:
        with tempfile.TemporaryDirectory() as folder:
            seeds = [int(text) for text in args.seeds.split(",")]
            rows = accuracy(args.base, args.tokens, args.epochs, seeds, Path(folder), args)
    machine = describe_machine()
    common = {
        "date": machine["date"][:10],
        "commit": machine["commit"][:7],
        "cpu": machine["cpu"],
        "torch": torch.__version__,
    }
    append(args.out, [common | row for row in rows], FIELDS)
    for row in rows:
        print({name: row[name] for name in FIELDS if name in row})


if __name__ == "__main__":
    main()
