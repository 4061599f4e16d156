"""Learning curves and table of a demonstration from nothing.

    python -m motion_demo.curves FOLDER [--score FOLDER/score]

FOLDER is that of `python -m motion_demo`: `eyes` and `text` are its runs, `score` its scores. Curves go to
results/vlm_demo_curves.csv beside this file and docs/images/vlm_demo.svg, the table to results/vlm_demo.csv.
"""

import argparse
import csv
import json
from pathlib import Path

HERE = Path(__file__).parent
PARTS = ("mean", "hour", "way", "which", "heading", "span", "blind")
"""Metrics of the eyes that are drawn; way is the distance within 25 %, which the comparison of two distances."""


def read_curves(folder: Path) -> tuple[list[dict], list[dict]]:
    """Read the metrics of the eyes by epoch (the better of weights and their average) and the text model's loss."""
    with (folder / "eyes" / "metrics.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    eyes = []
    for row in rows:
        prefix = "ema_" if float(row.get("ema_mean") or 0) > float(row["mean"]) else ""
        marks = {name: round(float(row[prefix + name]), 4) for name in PARTS}
        eyes.append({"stage": "eyes", "step": int(row["step"]), **marks})
    lines = (folder / "text" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    text = [
        {"stage": "text", "step": row["step"], "loss": round(row["loss"], 4)}
        for row in found
        if row.get("kind") == "step"
    ]
    return eyes, text


def draw(eyes: list[dict], text: list[dict], path: Path) -> None:
    """Draw both curves."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "saccade"
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
    for name in PARTS:
        style = {"mean": {"linewidth": 2.5, "color": "black"}, "blind": {"linestyle": ":", "color": "grey"}}
        left.plot(
            [row["step"] for row in eyes],
            [100 * row[name] for row in eyes],
            label=name,
            **style.get(name, {}),
        )
    left.set(
        xlabel="steps", ylabel="per cent right", title="eyes, on rigs never seen (develop)", ylim=(20, 100)
    )
    left.legend(fontsize=8, ncol=2)
    right.plot([row["step"] for row in text], [row["loss"] for row in text])
    right.set(xlabel="steps", ylabel="loss of an answer's tokens", title="text model, training", yscale="log")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Write everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--score", type=Path)
    options = parser.parse_args()
    eyes, text = read_curves(options.folder)
    names = ["stage", "step", "loss", *PARTS]
    with (HERE / "results" / "vlm_demo_curves.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows([*eyes, *text])
    draw(eyes, text, HERE.parents[1] / "docs" / "images" / "vlm_demo.svg")
    score = options.score or options.folder / "score"
    rows = json.loads((score / "score.json").read_text(encoding="utf-8"))["rows"]
    with (HERE / "results" / "vlm_demo.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["who", "task", "accuracy", "low", "high"])
        for who, tasks in rows.items():
            for task, found in tasks.items():
                writer.writerow([who, task, *(round(found[name], 4) for name in ("value", "low", "high"))])


if __name__ == "__main__":
    main()
