"""Which commands read which files of which inputs, for tools/storm.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Reader:
    """A command, and the files of its input that may be damaged before it runs.

    Tokens name places of the case's copy of the input with {here}.
    """

    name: str
    source: str
    """Input, a key of `storm_inputs.MAKERS`."""
    tokens: tuple[str, ...]
    files: tuple[str, ...]
    """Patterns within the input; one file that matches is damaged."""
    sealed: bool = False
    """Any change of these files must be noticed: their digests are stored."""
    weight: int = 2


def _reader(name: str, source: str, command: str, files: Sequence[str], **more: object) -> Reader:
    # In this process and without a test of speed, which would export first.
    command += " --backend torch --batch 4" if command.startswith("predict") and "/run" in command else ""
    return Reader(name, source, tuple(command.split()), tuple(files), **more)  # pyright: ignore[reportArgumentType]


RUN = ("run/recipe.yaml", "run/env.json", "run/log.jsonl", "run/metrics.csv", "run/best.safetensors")
STATE = ("run/checkpoints/step-*/*", "run/checkpoints/LATEST")
PICTURES = ("pictures/*",)
BUNDLE = ("bundle/*",)
READERS = (
    _reader(
        "predict pictures",
        "pictures",
        "predict {here}/pictures --weights {here}/run --out {here}/out.csv",
        PICTURES,
        weight=6,
    ),
    _reader(
        "predict run",
        "run",
        "predict {photos} --weights {here}/run --out {here}/out.csv",
        ("run/best.safetensors", "run/recipe.yaml"),
    ),
    _reader(
        "predict bundle",
        "bundle",
        "predict {here}/pictures --weights {here}/bundle --out {here}/out.csv",
        BUNDLE,
        weight=3,
    ),
    _reader(
        "predict journal",
        "journal",
        "predict {here}/pictures --weights {here}/run --out {here}/rows.csv",
        ("rows.csv.part",),
        weight=3,
    ),
    _reader("eval run", "run", "eval --weights {here}/run --backend torch --batch 8", RUN, weight=4),
    _reader("eval bundle", "bundle", "eval --weights {here}/bundle --data {photos} --batch 8", BUNDLE),
    _reader("resume", "run", "train --resume {here}/run", STATE, sealed=True, weight=4),
    _reader("resume recipe", "run", "train --resume {here}/run", RUN[:3], weight=2),
    _reader(
        "recipe", "run", "train --config {here}/run/recipe.yaml --dry-run", ("run/recipe.yaml",), weight=3
    ),
    _reader(
        "export run",
        "run",
        "export --weights {here}/run --to torch --out {here}/made",
        ("run/best.safetensors",),
        weight=1,
    ),
    _reader("verify pth", "pth", "weights verify {here}/weights.pth", ("weights.pth",), weight=4),
    _reader("verify old pth", "pth", "weights verify {here}/old.pth", ("old.pth",), weight=3),
    _reader(
        "convert pth",
        "pth",
        "weights convert {here}/weights.pth --to saccade --out {here}/out.safetensors",
        ("weights.pth",),
    ),
    _reader("verify run", "run", "weights verify {here}/run", ("run/best.safetensors",)),
    _reader("check pictures", "pictures", "data check {here}/pictures", PICTURES, weight=3),
    _reader("check photos", "photos", "data check {here}/photos", ("photos/*/*",), weight=2),
    _reader(
        "check coco",
        "coco",
        "data check {here}/coco --task detect",
        ("coco/annotations/*", "coco/train/*"),
        weight=5,
    ),
    _reader(
        "check maps",
        "maps",
        "data check {here}/maps --task segment",
        ("maps/masks/*/*", "maps/classes.txt", "maps/images/*/*"),
        weight=3,
    ),
    _reader("check shards", "shards", "data check {here}/shards", ("shards/*",), weight=3),
    _reader("check table", "shards", "data check {here}/table.csv", ("table.csv",), weight=2),
    _reader(
        "convert photos",
        "photos",
        "data convert {here}/photos --out {here}/out --form shards",
        ("photos/*/*",),
        weight=2,
    ),
    _reader(
        "split photos", "photos", "data split {here}/photos --out {here}/split", ("photos/*/*",), weight=1
    ),
    _reader(
        "radar image",
        "radar",
        "radar image {here}/scan.h5 --out {here}/out.h5 --x -0.02:0.02:0.004 --y -0.02:0.02:0.004",
        ("scan.h5",),
        weight=4,
    ),
    _reader(
        "radar enhance", "radar", "radar enhance {here}/image.h5 --out {here}/out.h5", ("image.h5",), weight=3
    ),
    _reader(
        "radar focus",
        "radar",
        "radar focus {here}/scan.h5 --out {here}/out.h5 --x -0.02:0.02:0.004 "
        "--y -0.02:0.02:0.004 --iterations 2",
        ("scan.h5",),
        weight=1,
    ),
    _reader(
        "label tracks",
        "motion",
        "kinematics label tracks {here}/set/tracks.jsonl --out {here}/out",
        ("set/tracks.jsonl",),
        weight=4,
    ),
    _reader(
        "questions",
        "motion",
        "kinematics questions {here}/set/tracks.jsonl --out {here}/out/q.jsonl --size 64 "
        "--frames 4 --per-task 1",
        ("set/tracks.jsonl", "set/clip0/*"),
        weight=3,
    ),
    _reader(
        "inspect",
        "motion",
        "kinematics inspect {here}/set/tracks.jsonl --out {here}/out.html --clips 2",
        ("set/tracks.jsonl", "set/clip*/*"),
        weight=2,
    ),
    _reader(
        "ask",
        "vlm",
        "vlm ask {here}/set/clip0 how? --model {here}/run --device cpu --tokens 4",
        # Not `base`, since the card names the one that the copy was made from; the rest of the run is not read.
        ("run/best.safetensors", "set/clip0/*"),
        weight=4,
    ),
    _reader(
        "score",
        "vlm",
        "vlm score --bench {here}/set/val.jsonl --model {here}/run --labels "
        "{here}/set/tracks.jsonl --device cpu --out {here}/out",
        ("set/val.jsonl", "set/tracks.jsonl", "run/best.safetensors", "run/recipe.yaml"),
        weight=1,
    ),
    _reader(
        "resume tuning",
        "vlm",
        "vlm tune --resume {here}/run",
        ("run/recipe.yaml", "run/checkpoints/*/*"),
        weight=2,
    ),
)  # fmt: skip
