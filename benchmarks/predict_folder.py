"""How much faster is `saccade predict` on a folder of photographs than timm with its own transform?

Photo-like 500x375 JPEG files are made from a seed. All contenders run SHViT-S1 at 224 px with the same calibrated
random weights over the whole folder, end to end: read, decode, resize, normalise, network, and for ours also rows and
journal. They take turns within every round (A B C, A B C, ...) in one process; opening the networks is not counted.

With --threads 1 nothing runs beside the process's one thread, so its own CPU time is the measure and a busy machine
matters little. With more threads the wall clock counts, and the machine has to be idle.

    python benchmarks/predict_folder.py [--threads 1] [--pictures 192] [--rounds 5]
"""

import argparse
import contextlib
import csv
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import timm
import timm.data
import torch
from input_pipeline import make_photo
from PIL import Image
from torch import nn

from saccade.data.decode import jpeg_decoder
from saccade.data.preprocess import Preprocess
from saccade.engine.bench.machine import describe_machine
from saccade.engine.export import export
from saccade.engine.predict.predict import fill, settings_of
from saccade.engine.sessions.pool import Pool, open_pool
from saccade.errors import SaccadeError
from saccade.files import write_text
from saccade.files.journal import Journal
from saccade.tasks import get_task
from saccade.weights import Card
from saccade.zoo.loading import load_weights, save_weights
from saccade.zoo.registry import create_model

MODEL, SIZE, BATCH = "shvit_s1", 224, 16
BASELINES = ("timm loop", "timm loader")


def make_weights(path: Path) -> nn.Module:
    """Give timm's network random branches and calibrated statistics, save the same weights as ours."""
    torch.manual_seed(0)
    model = timm.create_model(MODEL)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(torch.randn(16, 3, SIZE, SIZE))
    own = load_weights(create_model(MODEL), model.state_dict())
    save_weights(own, path, Card(MODEL, preprocess=Preprocess(SIZE).to_dict(), origin="benchmark"))
    return model.eval()


class Folder(torch.utils.data.Dataset):
    """What a user of timm would write."""

    def __init__(self, files: list[Path], transform: Callable) -> None:
        self.files, self.transform = files, transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.transform(Image.open(self.files[index]).convert("RGB"))


def run_timm(model: nn.Module, dataset: Folder, workers: int, threads: int) -> torch.Tensor:
    """Predict with a plain loader: `workers` decoding processes and `threads` for the network."""
    torch.set_num_threads(threads)
    loader = torch.utils.data.DataLoader(dataset, BATCH, num_workers=workers)
    with torch.inference_mode():
        return torch.cat([model(images) for images in loader])


def run_ours(networks: Pool, folder: Path, out: Path, batch: int) -> None:
    """Predict with the pipeline, rows and journal included."""
    asked = settings_of(networks.task, {})
    samples = networks.task.open_inputs(str(folder), networks.card, asked)
    with Journal(out, {}, width=1000, restart=True) as journal:
        fill(journal, networks, samples, batch, asked, lambda text: None, lambda done, total: None)


def measure(options: argparse.Namespace, room: Path, stack: contextlib.ExitStack) -> list[dict]:
    """Time all contenders in turn."""
    pictures = room / "pictures"
    pictures.mkdir()
    files = [pictures / f"{i:04d}.jpg" for i in range(options.pictures)]
    for i, file in enumerate(files):
        file.write_bytes(make_photo(500, 375, i))
    model = make_weights(room / "w.safetensors")
    transform = timm.data.create_transform(SIZE, is_training=False, interpolation="bicubic", crop_pct=0.875)
    dataset = Folder(files, transform)
    functions: dict[str, Callable[[], object]] = {
        "timm loop": lambda: run_timm(model, dataset, 0, options.threads)
    }
    if options.threads > 1:
        # One network thread, and the other cores decode: the better of the ways to share few cores.
        functions["timm loader"] = lambda: run_timm(model, dataset, options.threads - 1, 1)
    int8 = None
    if "openvino int8" in options.contenders:
        calibration = room / "calibration.csv"
        calibration.write_text("path,label\n" + "".join(f"{f},class {i % 4}\n" for i, f in enumerate(files)))
        try:
            shipped = export(
                str(room / "w.safetensors"), "openvino", precision="int8", data=str(calibration), out=room
            )
            int8 = shipped.path
        except SaccadeError as error:
            print(f"openvino int8 is left out: {error}")
    batches = {}
    for name in options.contenders:
        backend, precision = name.split()
        weights = int8 if precision == "int8" else room / "w.safetensors"
        if weights is None:
            continue
        networks = stack.enter_context(
            open_pool(
                weights,
                get_task("classify"),
                verb="predict",
                backend="auto" if precision == "int8" else backend,
                precision="float32" if precision == "int8" else precision,
                threads=options.threads,
            )
        )
        batches[name] = options.batch or networks.choose_batch(len(files))
        functions[f"saccade {name}"] = (
            lambda n=networks, b=batches[name], out=room / f"{backend}-{precision}.npz": run_ours(
                n, pictures, out, b
            )
        )
    walls: dict[str, list[float]] = {name: [] for name in functions}
    clocks: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(options.rounds + 1):
        for name, function in functions.items():
            wall, clock = time.perf_counter(), time.process_time()
            function()
            if number:  # the first round warms up
                walls[name].append(time.perf_counter() - wall)
                clocks[name].append(time.process_time() - clock)
    want = run_timm(model, dataset, 0, options.threads)
    times = clocks if options.threads == 1 else walls
    rows = []
    for name in functions:
        backend, _, precision = name.removeprefix("saccade ").partition(" ")
        row = {
            "contender": name,
            "pictures": len(files),
            "batch": batches.get(name.removeprefix("saccade "), BATCH),
            "threads": options.threads,
            "clock": "process CPU time" if options.threads == 1 else "wall",
            "images_per_s": round(len(files) / statistics.median(times[name]), 1),
            "ms_per_image": round(1e3 * statistics.median(times[name]) / len(files), 3),
            "wall_ms_per_image": round(1e3 * statistics.median(walls[name]) / len(files), 3),
        }
        for base in BASELINES:
            if base in times:
                ratios = [b / own for b, own in zip(times[base], times[name], strict=True)]
                word = base.replace(" ", "_")
                row[f"times_{word}"] = round(statistics.median(ratios), 2)
                row[f"times_{word}_p10"] = round(float(np.quantile(ratios, 0.1)), 2)
                row[f"times_{word}_p90"] = round(float(np.quantile(ratios, 0.9)), 2)
        row |= {"relative_difference": "", "same_answer": ""}
        if name.startswith("saccade"):
            with np.load(room / f"{backend}-{precision}.npz") as found:
                got = torch.from_numpy(found["logits"])
            row["relative_difference"] = float(f"{((got - want).abs().max() / want.abs().max()).item():.3g}")
            row["same_answer"] = round((got.argmax(1) == want.argmax(1)).float().mean().item(), 4)
        rows.append(row)
    return rows


def main() -> None:
    """Measure and write one row for each contender."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pictures", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=0, help="ours; 0: as `saccade predict` chooses")
    parser.add_argument(
        "--contenders",
        type=lambda text: text.split(","),
        default=["torch float32", "onnx float32", "openvino float32", "openvino bf16"],
    )
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    out = options.out or Path(__file__).parent / "results" / f"predict_folder_{options.threads}.csv"
    torch.set_num_threads(options.threads)
    machine = describe_machine()
    packages = ("torch", "torchvision", "timm", "onnxruntime", "openvino", "numpy")
    about = {"model": MODEL, "input": SIZE, "picture": "500x375", "rounds": options.rounds}
    about |= {name: machine[name] for name in ("date", "commit", "cpu", "cores")}
    # Above the number of cores, other programs were waiting too: wall times are then worth little.
    about["load_before"] = round(os.getloadavg()[0], 1)
    about |= {"decoder": jpeg_decoder(), "pillow": Image.__version__}
    about |= {name: machine["versions"].get(name, "") for name in packages}
    with tempfile.TemporaryDirectory() as room, contextlib.ExitStack() as stack:
        rows = [row | about for row in measure(options, Path(room), stack)]
    for row in rows:
        loader = f"  {row['times_timm_loader']:5.2f}x timm loader" if "times_timm_loader" in row else ""
        print(
            f"{row['contender']:26} {row['images_per_s']:7.1f} images/s  {row['ms_per_image']:7.3f} ms "
            f"({row['clock']})  {row['times_timm_loop']:5.2f}x timm loop{loader}  batch {row['batch']:2d}  "
            f"difference {row['relative_difference']}  same answer {row['same_answer']}"
        )
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(out, text.getvalue())
    print(f"written: {out}")


if __name__ == "__main__":
    main()
