"""Sound inputs for tools/storm.py, each made the way a user makes it: a few seconds each, a minute or two in all."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
TINY = {
    "data.size": 32, "data.batch": 6, "data.workers": 0, "model.name": "timm/test_vit2", "model.pretrained": "no",
    "model.options": {"img_size": 32}, "schedule.epochs": 2, "run.device": "cpu", "run.threads": 1,
    "ema.decay": 0.9, "run.log_every": 1,
}  # fmt: skip
FORMATS = {
    "png": "PNG",
    "jpg": "JPEG",
    "webp": "WEBP",
    "bmp": "BMP",
    "gif": "GIF",
    "tif": "TIFF",
    "ppm": "PPM",
}


def noise(random: np.random.Generator, side: int = 40) -> Image.Image:
    """Make a small coloured picture."""
    return Image.fromarray(random.integers(0, 255, (side, side, 3), dtype=np.uint8))


def make_inputs(home: Path, wanted: set[str]) -> None:
    """Make every input that is wanted and not there yet, each as a folder of `home`."""
    sys.path.insert(0, str(ROOT))  # the tiny language model and questions of the tests
    home.mkdir(parents=True, exist_ok=True)
    for name, make in MAKERS.items():
        if name in wanted and not (home / name / ".done").is_file():
            (home / name).mkdir(exist_ok=True)
            print(f"making {name}", file=sys.stderr, flush=True)
            make(home, home / name)
            (home / name / ".done").touch()


def _command(*tokens: Any) -> None:
    from saccade.cli.main import main

    code = main([str(token) for token in tokens])
    if code != 0:
        raise SystemExit(
            f"the storm's own input could not be made: saccade {' '.join(map(str, tokens))}: exit {code}"
        )


def _photos(_: Path, here: Path) -> None:
    random = np.random.default_rng(0)
    for kind in ("blue", "red"):
        (here / "photos" / kind).mkdir(parents=True)
        for number in range(8):
            noise(random).save(here / "photos" / kind / f"{number}.png")


def _pictures(home: Path, here: Path) -> None:
    random = np.random.default_rng(1)
    (here / "pictures").mkdir()
    for number, (suffix, kind) in enumerate(FORMATS.items()):
        noise(random).save(here / "pictures" / f"{number}.{suffix}", kind)
    _run(home, here, epochs=1)


def _run(home: Path, here: Path, epochs: int = 2) -> None:
    """Train; with two epochs the second stops at its first step, so that there is something to go on with."""
    from saccade.engine.train.loop import Run, train
    from saccade.engine.train.recipe import build_recipe

    photos = home / "photos" / "photos"
    settings = {"data.source": str(photos), "data.val": str(photos), **TINY, "schedule.epochs": epochs}
    step = Run.step

    def stopping(run: Any, *more: Any) -> Any:
        if run.progress.epoch >= 1:
            raise _StoppedError
        return step(run, *more)

    setattr(Run, "step", stopping)  # noqa: B010
    try:
        train(build_recipe("", "", settings)[0], here / "run")
    except _StoppedError:
        pass
    finally:
        Run.step = step


def _bundle(home: Path, here: Path) -> None:
    _run(home, here, epochs=1)
    _command("export", "--weights", here / "run", "--to", "onnx", "--out", here / "made")
    (bundle,) = (here / "made").iterdir()
    bundle.rename(here / "bundle")
    (here / "made").rmdir()
    (here / "pictures").mkdir()
    noise(np.random.default_rng(2)).save(here / "pictures" / "a.png")


def _pth(_: Path, here: Path) -> None:
    from saccade.zoo.registry import create_model

    torch.manual_seed(0)
    state = create_model("shvit_s1", num_classes=3).state_dict()
    torch.save({"model": state, "epoch": 3}, here / "weights.pth")
    torch.save(state, here / "old.pth", _use_new_zipfile_serialization=False)


def _coco(_: Path, here: Path) -> None:
    random = np.random.default_rng(3)
    (here / "coco" / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        (here / "coco" / split).mkdir()
        images, notes = [], []
        for number in range(4):
            noise(random, 64).save(here / "coco" / split / f"{number}.jpg")
            images.append({"id": number, "file_name": f"{number}.jpg", "width": 64, "height": 64})
            box = [4.0, 5.0, 20.0 + number, 18.0]
            outline = [4, 5, 24 + number, 5, 24 + number, 23, 4, 23]
            notes.append({
                "id": number + 1, "image_id": number, "category_id": 1 + number % 2, "bbox": box,
                "area": box[2] * box[3], "iscrowd": 0, "segmentation": [outline],
            })  # fmt: skip
        kinds = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
        whole = {"images": images, "annotations": notes, "categories": kinds}
        (here / "coco" / "annotations" / f"instances_{split}.json").write_text(json.dumps(whole))


def _maps(_: Path, here: Path) -> None:
    random = np.random.default_rng(4)
    for split in ("train", "val"):
        for part in ("images", "masks"):
            (here / "maps" / part / split).mkdir(parents=True)
        for number in range(4):
            noise(random, 48).save(here / "maps" / "images" / split / f"{number}.jpg")
            mask = random.integers(0, 3, (48, 48), dtype=np.uint8)
            Image.fromarray(mask).save(here / "maps" / "masks" / split / f"{number}.png")
    (here / "maps" / "classes.txt").write_text("sky\nroad\ncar\n")


def _shards(home: Path, here: Path) -> None:
    photos = here / "photos"
    shutil.copytree(home / "photos" / "photos", photos)
    _command("data", "convert", photos, "--out", here / "shards", "--form", "shards")
    _command("data", "convert", photos, "--out", here / "table.csv")


def _radar(_: Path, here: Path) -> None:
    _command("radar", "simulate", "--target", "points:3", "--waveform", "empm", "--path.nx", "8", "--path.ny", "4",
             "--out", here / "scan.h5")  # fmt: skip
    sides = ("--x", "-0.02:0.02:0.004", "--y", "-0.02:0.02:0.004")
    _command("radar", "image", here / "scan.h5", "--out", here / "image.h5", *sides)


def _motion(_: Path, here: Path) -> None:
    from tests.tasks.answer.questions import make_stkit

    (here / "set").mkdir()
    make_stkit(here / "set")


def _vlm(home: Path, here: Path) -> None:
    from tests.tasks.answer.questions import make_stkit
    from tests.tasks.answer.tiny import make_base

    from saccade.engine.train.loop import train
    from saccade.engine.train.recipe import build_recipe

    (here / "set").mkdir()
    made = make_stkit(here / "set")
    rows = (made / "questions.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    for name in ("train", "val"):
        part = [row for row in rows if json.loads(row)["split"] == name]
        (made / f"{name}.jsonl").write_text("".join(part), encoding="utf-8")
    base = make_base("llava_onevision", here / "base")
    settings = {
        "task": "answer", "model.name": str(base), "data.source": f"{made}/train.jsonl",
        "data.labels": f"{made}/tracks.jsonl", "data.pictures": str(made), "data.workers": 0, "data.batch": 6,
        "schedule.epochs": 1, "optim.lr": 1e-3, "ema.decay": 0.0, "run.device": "cpu", "run.threads": 1,
    }  # fmt: skip
    train(build_recipe("", "", settings)[0], here / "run", log=lambda line: None)


def _journal(home: Path, here: Path) -> None:
    """A prediction that stopped half-way: the journal holds half of its rows."""
    from saccade.files.journal import Journal

    _pictures(home, here)
    part, finish = here / "rows.csv.part", Journal.finish
    kept: list[str] = []

    def reading(journal: Any, *more: Any, **named: Any) -> Any:
        kept.extend(part.read_text(encoding="utf-8").splitlines(keepends=True))
        return finish(journal, *more, **named)

    setattr(Journal, "finish", reading)  # noqa: B010
    try:
        _command("predict", here / "pictures", "--weights", here / "run", "--backend", "torch", "--batch", "4",
                 "--out", here / "rows.csv")  # fmt: skip
    finally:
        Journal.finish = finish
    (here / "rows.csv").unlink()
    part.write_text("".join(kept[: 1 + len(FORMATS) // 2]), encoding="utf-8")


class _StoppedError(BaseException):
    """Ends a training the way a power cut would."""


MAKERS = {
    "photos": _photos, "pictures": _pictures, "run": _run, "bundle": _bundle, "pth": _pth, "coco": _coco,
    "maps": _maps, "shards": _shards, "radar": _radar, "motion": _motion, "vlm": _vlm, "journal": _journal,
}  # fmt: skip
"""By name; a maker takes the folder of all inputs and its own."""
NEEDS = {name: {"photos"} for name in ("pictures", "run", "bundle", "shards", "journal")}
"""Inputs that are made from others."""


def picture_bytes(width: int, height: int) -> bytes:
    """Encode a picture of one colour as PNG: small in the file, large in memory."""
    buffer = io.BytesIO()
    Image.new("1", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()
