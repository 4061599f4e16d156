"""How much accuracy do STViT forms keep, at a size that anybody can train? A small ViT and a small Swin, three seeds.

    python benchmarks/stvit_accuracy.py                       # what is not in the results yet, then the table
    python benchmarks/stvit_accuracy.py --family vit --seeds 0 --forms base,stvit --starts scratch
    python benchmarks/stvit_accuracy.py --speed               # throughput of all forms in turn
    python benchmarks/stvit_accuracy.py --table               # only print

The data are the built-in `shapes` (12000 + 4000 drawn pictures, 56 x 56, 12 classes). The ViT keeps the paper's token
geometry, 14 x 14 image and 16 semantic tokens, with a third of its blocks before the first semantic token. The Swin
sees the pictures enlarged to 112 x 112; its third stage is one window of 7 x 7, with 9 semantic tokens. Every form is
trained from scratch with the base's budget ("scratch"), and made from the trained base by `saccade.sparsify` and
fine-tuned with the base as teacher for two epochs more (the ViT; the Swin for one; "converted"); the base fine-tuned
likewise ("longer") shows what the further epochs alone give. Accuracies are those of the last weights on the 4000
held-out pictures; spread is the standard deviation over seeds. One row a training is added to
benchmarks/results/stvit_accuracy.csv; finished ones are skipped, so a stopped benchmark goes on.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from table import append

RESULTS = Path(__file__).parent / "results" / "stvit_accuracy.csv"
SPEED = Path(__file__).parent / "results" / "stvit_accuracy_speed.csv"
FIELDS = [
    "date", "commit", "cpu", "torch", "timm", "family", "form", "start", "seed", "top1", "loss", "images", "params_m",
    "macs_m", "macs_change", "epochs", "steps", "batch", "lr", "precision", "seconds",
]  # fmt: skip
SPEED_FIELDS = [
    "date", "commit", "cpu", "torch", "timm", "family", "form", "path", "batch", "threads", "images_per_s", "cpu_ms",
    "low_ms", "high_ms", "times", "times_low", "times_high", "rounds",
]  # fmt: skip


@dataclass(frozen=True)
class Family:
    """A base and what `saccade.sparsify` makes of it."""

    base: str
    size: int
    options: dict[str, Any]
    forms: dict[str, dict[str, Any]]
    """Arguments of `saccade.sparsify` for each form."""
    epochs: int
    tune_epochs: int
    lr: float
    tune_lr: float


FAMILIES = {
    "vit": Family(
        "timm/vit_tiny_patch16_224",
        56,
        {
            "img_size": 56, "patch_size": 4, "embed_dim": 64, "depth": 6, "num_heads": 1, "class_token": False,
            "global_pool": "avg",
        },
        {"stvit": {"tokens": 16, "image_blocks": 2}},
        epochs=4,
        tune_epochs=2,
        lr=2e-3,
        tune_lr=1e-3,
    ),
    "swin": Family(
        "timm/swin_tiny_patch4_window7_224",
        112,
        {
            "img_size": 112, "embed_dim": 24, "depths": [1, 1, 6, 1], "num_heads": [1, 2, 4, 8],
            "always_partition": True,
        },
        {"stvit_swin": {"tokens": 9}, "stvit_r": {"tokens": 9, "recover": True}},
        epochs=3,
        tune_epochs=1,
        lr=1e-3,
        tune_lr=5e-4,
    ),
}  # fmt: skip


def settings(family: Family, seed: int, **changes: Any) -> dict[str, Any]:
    """Settings that all trainings of a family share, by dotted name."""
    return {
        "data.source": "shapes", "data.size": family.size, "data.batch": 32, "data.workers": 0,
        "augment.scale": (1.0, 1.0),
        "augment.hflip": 0.5, "augment.vflip": 0.5, "optim.lr": family.lr, "schedule.epochs": family.epochs,
        "loss.label_smoothing": 0.0, "ema.decay": 0.0, "run.seed": seed, "run.device": "cpu", "run.threads": 1,
        "run.precision": "bf16", "run.patience": 0, "run.eval_every": family.epochs, "run.save_minutes": 60.0,
        "run.log_every": 100, "model.pretrained": "no", "model.preprocess": PREPROCESS,
    } | changes  # fmt: skip


PREPROCESS = {"crop_pct": 1.0, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}


def tune_settings(family: Family, seed: int, **changes: Any) -> dict[str, Any]:
    """Settings of a fine-tuning; the shipped recipe `sparsify_small` underneath."""
    epochs = family.tune_epochs
    return settings(
        family,
        seed,
        **{"schedule.epochs": epochs, "run.eval_every": epochs, "optim.lr": family.tune_lr} | changes,
    )


def train_base(name: str, seed: int, work: Path) -> tuple[Path, dict[str, Any]]:
    """Train a family's base, or find it trained; returns its run folder and what the training took."""
    family, folder = FAMILIES[name], work / f"{name}-base-{seed}"
    flags = settings(family, seed, **{"model.name": family.base, "model.options": family.options})
    return folder, run_training("", flags, folder)


def train_form(name: str, form: str, start: str, seed: int, work: Path) -> dict[str, Any]:
    """Train one form from scratch, or convert the base and fine-tune it."""
    from saccade.engine.train.convert import ConvertPlan, sparsify_and_tune
    from saccade.engine.train.recipe import build_recipe

    family, folder = FAMILIES[name], work / f"{name}-{form}-{start}-{seed}"
    if start == "scratch":
        model = "stvit/" + family.base.removeprefix("timm/")
        options = family.options | family.forms[form]
        flags = settings(family, seed, **{"model.name": model, "model.options": options})
        return run_training("", flags, folder)
    base, _ = train_base(name, seed, work)
    if form == "base":
        weights = {"model.name": family.base, "model.options": family.options, "model.weights": str(base)}
        teacher = {"loss.distill": "soft", "loss.teacher": str(base)}
        return run_training("sparsify_small", tune_settings(family, seed, **weights, **teacher), folder)
    if not finished(folder):
        plan = ConvertPlan(
            str(base),
            options=family.forms[form],
            recipe=build_recipe("sparsify_small", flags=tune_settings(family, seed))[0],
        )
        begun = time.process_time()
        sparsify_and_tune(plan, folder, resume=(folder / "sparsify.yaml").exists())
        note(folder, begun)
    return outcome(folder)


def run_training(recipe: str, flags: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train by settings into a folder, or go on, or find it done."""
    from saccade.engine.train.loop import train
    from saccade.engine.train.recipe import build_recipe, load_recipe

    if not finished(folder):
        resume = (folder / "recipe.yaml").exists()
        plan = load_recipe(folder / "recipe.yaml") if resume else build_recipe(recipe, flags=flags)[0]
        begun = time.process_time()
        train(plan, folder, resume=resume)
        note(folder, begun)
    return outcome(folder)


def finished(folder: Path) -> bool:
    """Whether a run folder holds a finished training."""
    return (folder / "seconds.json").exists()


def note(folder: Path, begun: float) -> None:
    """Mark a run folder as finished, with the processor seconds that it took."""
    (folder / "seconds.json").write_text(json.dumps(time.process_time() - begun))


def outcome(folder: Path) -> dict[str, Any]:
    """Read accuracy, cost and settings of a finished run: the only look at the held-out pictures is the last."""
    from saccade.engine.bench.cost import count_macs, count_params
    from saccade.engine.train.recipe import load_recipe
    from saccade.tasks.open import load_model

    model, card = load_model(folder)
    recipe = load_recipe(folder / "recipe.yaml")
    epochs = recipe.schedule.epochs
    return {
        "top1": round(card.numbers["top1"], 5), "loss": round(card.numbers["loss"], 5),
        "images": int(card.numbers["count"]), "params_m": round(count_params(model) / 1e6, 4),
        "macs_m": round(count_macs(model, int(card.preprocess["size"])) / 1e6, 3), "epochs": epochs,
        "steps": epochs * (12_000 // recipe.data.batch), "batch": recipe.data.batch, "lr": recipe.optim.lr,
        "precision": recipe.run.precision, "seconds": round(json.loads((folder / "seconds.json").read_text()), 1),
    }  # fmt: skip


def machine_fields() -> dict[str, Any]:
    """Columns that say where a row was measured."""
    from saccade.engine.bench.machine import describe_machine

    machine = describe_machine()
    return {
        "date": machine["date"][:10],
        "commit": machine["commit"],
        "cpu": machine["cpu"],
        "torch": machine["versions"]["torch"],
        "timm": machine["versions"]["timm"],
    }


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read a results file; empty when there is none."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def jobs(families: list[str], seeds: list[int]) -> list[tuple[str, str, str, int]]:
    """List all trainings, whole sets of contenders seed by seed: a stopped benchmark is still a comparison."""
    return [
        (name, form, start, seed)
        for seed in seeds
        for name in families
        for start in ("scratch", "converted")
        for form in ("base", *FAMILIES[name].forms)
    ]


def measure(args: argparse.Namespace) -> None:
    """Do the trainings that are missing."""
    done = {(row["family"], row["form"], row["start"], int(row["seed"])) for row in read_rows(RESULTS)}
    for name, form, start, seed in jobs(args.family, args.seeds):
        shown = label(form, start)
        wanted = (not args.forms or form in args.forms) and (not args.starts or start in args.starts)
        if not wanted or (name, form, start, seed) in done:
            continue
        print(f"--- {name} {form} {shown}, seed {seed}", flush=True)
        if form == "base" and start == "scratch":
            found = train_base(name, seed, args.work)[1]
        else:
            found = train_form(name, form, start, seed, args.work)
        base = train_base(name, seed, args.work)[1]["macs_m"]
        found["macs_change"] = round(found["macs_m"] / base - 1, 4)
        key = {"family": name, "form": form, "start": start, "seed": seed}
        append(RESULTS, [machine_fields() | key | found], FIELDS)
        print(f"    top-1 {100 * found['top1']:.2f} %, {found['seconds']:.0f} s", flush=True)


def label(form: str, start: str) -> str:
    """Say how weights came about."""
    return "longer" if form == "base" and start == "converted" else start


def measure_speed(args: argparse.Namespace) -> None:
    """Time all forms of a family in turn in one process, eager and folded, one thread, processor time."""
    import torch

    import saccade
    from saccade.engine.bench.timing import interleave, median_interval, ratio_interval
    from saccade.errors import SaccadeError

    torch.set_num_threads(1)
    for name in args.family:
        family = FAMILIES[name]
        torch.manual_seed(0)
        models = {"base": saccade.create_model(family.base, num_classes=12, **family.options).eval()}
        for form, options in family.forms.items():
            plain = "stvit/" + family.base.removeprefix("timm/")
            models[form] = saccade.create_model(plain, num_classes=12, **family.options, **options).eval()
        networks = {(form, "eager"): model for form, model in models.items()}
        for form, model in list(models.items())[1:]:
            try:
                networks[form, "folded"] = saccade.fold(model)
            except SaccadeError as error:
                print(f"{form}: not folded, {error}")
        for batch in args.batches:
            picture = torch.randn(batch, 3, family.size, family.size)

            def call(model: Any, x: torch.Tensor = picture) -> Any:
                with torch.inference_mode():
                    return model(x)

            work = {"/".join(key): lambda m=model: call(m) for key, model in networks.items()}
            timings = interleave(work, seconds=args.seconds)
            first = timings["base/eager"].cpu
            for form, path in networks:
                taken = timings[f"{form}/{path}"].cpu
                (middle, low, high), (times, least, most) = (
                    median_interval(taken),
                    ratio_interval(first, taken),
                )
                row = {
                    "family": name, "form": form, "path": path, "batch": batch, "threads": 1,
                    "images_per_s": round(batch / middle, 1), "cpu_ms": round(1e3 * middle, 3),
                    "low_ms": round(1e3 * low, 3), "high_ms": round(1e3 * high, 3), "times": round(times, 3),
                    "times_low": round(least, 3), "times_high": round(most, 3), "rounds": len(taken),
                }  # fmt: skip
                append(SPEED, [machine_fields() | row], SPEED_FIELDS)
                print(
                    name,
                    form,
                    path,
                    batch,
                    f"{row['images_per_s']} images/s, {row['times']} times",
                    flush=True,
                )


def table() -> str:
    """Write the results as a Markdown table."""
    rows, speeds = read_rows(RESULTS), read_rows(SPEED)
    lines = [
        "| network | weights | top-1 % | against the base | MMACs | images/s | seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, form, start, _ in jobs(list(FAMILIES), [0]):
        mine = pick(rows, name, form, start)
        if not mine:
            continue
        base, tops = pick(rows, name, "base", "scratch"), {r["seed"]: 100 * float(r["top1"]) for r in mine}
        gaps = [top - 100 * float(row["top1"]) for row in base for s, top in tops.items() if s == row["seed"]]
        rates = [s for s in speeds if s["family"] == name and s["form"] == form]
        most = max((int(s["batch"]) for s in rates), default=0)
        shown = [f"{float(s['images_per_s']):.0f} ({s['times']}x)" for s in rates if int(s["batch"]) == most]
        change = 100 * float(mine[0]["macs_change"])
        lines.append(
            f"| {name} {form} | {label(form, start)} | {spread(list(tops.values()))} | "
            f"{'' if (form, start) == ('base', 'scratch') else spread(gaps, sign=True)} | "
            f"{float(mine[0]['macs_m']):.1f}{f' ({change:+.1f} %)' if form != 'base' else ''} | "
            f"{', folded '.join(shown)} | {len(tops)} |"
        )
    return "\n".join(lines)


def pick(rows: list[dict[str, str]], name: str, form: str, start: str) -> list[dict[str, str]]:
    """Choose the rows of one contender."""
    return [r for r in rows if (r["family"], r["form"], r["start"]) == (name, form, start)]


def spread(values: list[float], *, sign: bool = False) -> str:
    """Write mean and standard deviation."""
    if not values:
        return ""
    mean = f"{statistics.mean(values):{'+' if sign else ''}.2f}"
    deviation = statistics.stdev(values) if len(values) > 1 else math.nan
    return mean if math.isnan(deviation) else f"{mean} ± {deviation:.2f}"


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )

    def names(text: str) -> list[str]:
        return text.split(",")

    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(",")]

    parser.add_argument("--family", type=names, default=list(FAMILIES))
    parser.add_argument("--seeds", type=numbers, default=[0, 1, 2])
    parser.add_argument("--forms", type=names, default=[], help="base and names of forms; default all")
    parser.add_argument("--starts", type=names, default=[], help="scratch, converted; default both")
    parser.add_argument("--batches", type=numbers, default=[1, 32], help="for --speed")
    parser.add_argument("--seconds", type=float, default=20, help="for --speed, each family and batch")
    parser.add_argument("--work", type=Path, default=Path("runs/stvit_accuracy"), help="run folders")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    if args.speed:
        measure_speed(args)
    elif not args.table:
        measure(args)
    print(table())


if __name__ == "__main__":
    main()
