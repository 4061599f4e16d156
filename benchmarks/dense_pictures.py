"""Pictures for docs/dense.md: what a detector and a segmenter find in held-out scenes, and how they learned.

    python benchmarks/dense_pictures.py --detect RUN --segment RUN [--out docs/images] [--real]

RUN are folders of `saccade train --task detect|segment --data scenes`. Writes dense_scenes.png (truth of the world,
detections, class maps, side by side) and dense_curve.svg (metrics on the held-out scenes by epoch). With `--real` the
runs are those of BCCD and CamVid in docs/dense.md, and only their curves are drawn, as dense_real.svg.
"""

import argparse
import csv
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

SHOWN = (0, 1, 3, 4, 6)
SIDE = 256


def metrics(run: Path, name: str) -> list[tuple[float, float]]:
    """Read (epoch, metric in per cent) of the better of network and average from a run's table."""
    with (run / "metrics.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [
        (float(row["epoch"]) + 1, 100 * max(float(row[key]) for key in (name, f"ema_{name}") if row.get(key)))
        for row in rows
        if row.get(name)
    ]


def draw_scenes(detect: Path, segment: Path, path: Path) -> None:
    """Put pictures, detections and class maps of a few scenes into rows."""
    from saccade.data.scenes import scenes_folder
    from saccade.engine.predict import predict

    names = [f"{number:05d}.png" for number in SHOWN]
    source = scenes_folder() / "images" / "val"
    sheet = Image.new("RGB", (len(SHOWN) * (SIDE + 6) - 6, 3 * (SIDE + 6) - 6), "white")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "in").mkdir()
        for name in names:
            (home / "in" / name).write_bytes((source / name).read_bytes())
        for row, weights in enumerate((None, detect, segment)):
            if weights is not None:
                predict(str(home / "in"), weights, home / str(row), threshold=0.5)
            for column, name in enumerate(names):
                file = home / "in" / name if weights is None else home / str(row) / "drawn" / name
                way = Image.Resampling.NEAREST if weights is None else Image.Resampling.LANCZOS
                sheet.paste(
                    Image.open(file).resize((SIDE, SIDE), way), (column * (SIDE + 6), row * (SIDE + 6))
                )
    sheet.save(path, optimize=True)


def draw_curve(lines: Sequence[tuple[Path, str, str]], held_out: str, path: Path) -> None:
    """Plot metrics by epoch: run, name of the metric and label of each line."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
    for run, name, label in lines:
        points = metrics(run, name)
        axes.plot(*zip(*points, strict=True), marker="o", label=f"{label} (last {points[-1][1]:.1f} %)")
    axes.set_xlabel("epochs")
    axes.set_ylabel(f"per cent, {held_out}")
    axes.set_ylim(0, 100)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--detect", type=Path, required=True)
    parser.add_argument("--segment", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--real", action="store_true")
    options = parser.parse_args()
    detect, segment = options.detect, options.segment
    if options.real:
        lines = ((detect, "ap50", "BCCD, AP50"), (segment, "miou", "CamVid, mIoU"))
        draw_curve(lines, "validation pictures", options.out / "dense_real.svg")
        return
    lines = (
        (detect, "ap50", "boxes, AP50"),
        (detect, "mask_ap50", "masks, AP50"),
        (segment, "miou", "class maps, mIoU"),
    )
    draw_scenes(detect, segment, options.out / "dense_scenes.png")
    draw_curve(lines, "400 held-out scenes", options.out / "dense_curve.svg")


if __name__ == "__main__":
    main()
