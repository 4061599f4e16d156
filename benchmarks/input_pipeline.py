"""How much faster is our input pipeline than timm's transform, on one core, and how far from it are the numbers?

Photo-like JPEG pictures are made from a seed (smooth colours at three scales, fine noise, sharp-edged boxes; quality
85, 4:2:0). Each contender turns the same file contents into a normalised float tensor. Contenders take turns within
every round (A B C, A B C, ...), one thread, and the time counted is the process's own CPU time, so that other
processes on the machine matter little. Differences are against timm, in normalised units; one level of 255 is 0.0175.

    python benchmarks/input_pipeline.py [--rounds 15] [--out benchmarks/results/input_pipeline.csv]
"""

import argparse
import csv
import io
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from PIL import Image, ImageDraw
from timm.data.transforms_factory import create_transform

from saccade.data.decode import jpeg_decoder
from saccade.data.preprocess import Preprocess
from saccade.engine.bench.machine import describe_machine
from saccade.files import write_text

BASELINE = "timm"
# (picture width, height, input size, pictures per round)
SETTINGS = [
    (500, 375, 224, 16),
    (375, 500, 224, 16),
    (500, 375, 256, 16),
    (1024, 768, 224, 6),
    (4000, 3000, 224, 2),
]


def make_photo(width: int, height: int, seed: int) -> bytes:
    """Make a JPEG file that is about as hard to decode as a photograph."""
    draws = np.random.default_rng(seed)
    array = np.full((height, width, 3), 120, dtype=np.float32)
    for cells, strength in ((6, 70), (24, 35), (90, 18)):
        coarse = (
            draws.standard_normal((cells * height // width + 2, cells + 2, 3)).astype(np.float32) * strength
        )
        for channel in range(3):
            plane = Image.fromarray(coarse[..., channel]).resize((width, height), Image.Resampling.BICUBIC)
            array[..., channel] += np.asarray(plane)
    array += draws.standard_normal(array.shape, dtype=np.float32) * 4
    picture = Image.fromarray(array.clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    for _ in range(6):
        x, y = int(draws.integers(width)), int(draws.integers(height))
        colour = tuple(int(value) for value in draws.integers(0, 255, 3))
        pen.rectangle((x, y, x + width // 8, y + height // 8), fill=colour)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def contenders(size: int) -> dict[str, Callable[[bytes], torch.Tensor]]:
    """What is compared, each from file contents to a tensor."""
    transform = create_transform(size, is_training=False, interpolation="bicubic", crop_pct=0.875)
    preprocess = Preprocess(size)

    def timm(data: bytes) -> torch.Tensor:
        return transform(Image.open(io.BytesIO(data)).convert("RGB"))

    return {
        BASELINE: timm,
        "saccade reference": lambda data: preprocess.reference(Image.open(io.BytesIO(data))),
        "saccade fast": preprocess.fast,
        "saccade uint8": preprocess.pixels,
        "saccade fast, scaled decoding": lambda data: preprocess.fast(data, scaled=True),
    }


def measure(files: list[bytes], size: int, rounds: int) -> list[dict]:
    """Time all contenders in turn and compare their outputs with the baseline's."""
    functions = contenders(size)
    times: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(rounds + 1):
        for name, function in functions.items():
            start = time.process_time()
            for data in files:
                function(data)
            if number:  # the first round warms up
                times[name].append((time.process_time() - start) / len(files))
    rows = []
    for name, function in functions.items():
        ratios = [base / own for base, own in zip(times[BASELINE], times[name], strict=True)]
        row = {
            "contender": name,
            "images_per_s": round(1 / statistics.median(times[name]), 1),
            "ms_median": round(statistics.median(times[name]) * 1e3, 3),
            "ms_p10": round(float(np.quantile(times[name], 0.1)) * 1e3, 3),
            "ms_p90": round(float(np.quantile(times[name], 0.9)) * 1e3, 3),
            "times_timm": round(statistics.median(ratios), 2),
            "times_timm_p10": round(float(np.quantile(ratios, 0.1)), 2),
            "times_timm_p90": round(float(np.quantile(ratios, 0.9)), 2),
            "max_difference": "",
            "mean_difference": "",
            "share_above_one_level": "",
        }
        outputs = [function(data) for data in files]
        if outputs[0].is_floating_point():
            difference = torch.stack(
                [(own - functions[BASELINE](data)).abs() for own, data in zip(outputs, files, strict=True)]
            )
            above = (difference > 1.01 / (255 * 0.224)).double().mean().item()
            row |= {
                "max_difference": round(difference.max().item(), 4),
                "mean_difference": float(f"{difference.mean().item():.3g}"),
                "share_above_one_level": float(f"{above:.3g}"),
            }
        rows.append(row)
    return rows


def main() -> None:
    """Measure every setting and write one row for each contender."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "input_pipeline.csv")
    options = parser.parse_args()
    torch.set_num_threads(1)
    machine = describe_machine()
    versions = {name: machine["versions"].get(name, "") for name in ("torch", "torchvision", "timm", "numpy")}
    about = {
        "date": machine["date"],
        "commit": machine["commit"],
        "cpu": machine["cpu"],
        "threads": 1,
        "clock": "process CPU time",
        "decoder": jpeg_decoder(),
        "pillow": Image.__version__,
        **versions,
    }
    rows = []
    for width, height, size, count in SETTINGS:
        files = [make_photo(width, height, seed) for seed in range(count)]
        kilobytes = round(sum(map(len, files)) / count / 1000, 1)
        for row in measure(files, size, options.rounds):
            setting = {
                "picture": f"{width}x{height}",
                "kilobytes": kilobytes,
                "input": size,
                "rounds": options.rounds,
            }
            rows.append(setting | row | about)
            print(
                f"{width}x{height} -> {size}  {row['contender']:30} {row['images_per_s']:8.1f} images/s "
                f"{row['times_timm']:5.2f}x ({row['times_timm_p10']}-{row['times_timm_p90']})  "
                f"max difference {row['max_difference']}"
            )
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(options.out, text.getvalue())
    print(f"written: {options.out}")


if __name__ == "__main__":
    main()
