"""From nothing to a scored video language model: worlds, labels, eyes that learn motion, a text model, and metrics.

Every stage leaves its result in the folder and is passed over when it is there; a stage that was stopped goes on
where it was. Three sets of clips are drawn, each with worlds of its own: `train`, `develop` (whose metrics choose the
weights that are kept) and `report` (which nothing is chosen by). The cameras of the last two lie outside the bands of
height and focal length that the first has (`motion_demo.sets`).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from PIL import Image

from motion_demo.eyes import eyes_of_run
from motion_demo.questions import ask
from motion_demo.sets import Labels, MotionPlan, MotionSet, Rigs, clip_number, draw_set
from saccade.engine.train.loop import TrainResult, train
from saccade.engine.train.recipe import build_recipe
from saccade.errors import ConfigError
from saccade.files import read_json, replacing, within, write_text, writing
from saccade.kinematics.draw import stored_track
from saccade.kinematics.records import read_questions, write_records
from saccade.settings import check
from saccade.tasks.answer.vlm.answering import open_answerer
from saccade.tasks.answer.vlm.assemble import TextPlan, new_base
from saccade.tasks.open import load_model
from saccade.vlm.compare import Comparison, compare_answers

Progress = Callable[[str, int, int], None]
RECIPES = Path(__file__).parent / "recipes"
SETS: dict[str, tuple[Rigs, int]] = {"train": ("train", 0), "develop": ("new", 1), "report": ("new", 2)}
"""Rigs of each set, and what is added to the seed for its worlds."""


@dataclass(frozen=True)
class DemoPlan:
    """How much of everything."""

    clips: Annotated[int, within(1)] = 200
    """To train on."""
    held: Annotated[int, within(1)] = 40
    """To develop with, and as many to report on."""
    size: Annotated[int, within(32, 1024, multiple_of=4)] = 96
    """Width of the clips in pixels."""
    eyes_steps: Annotated[int, within(1)] = 100
    """Steps in which the eyes learn motion, of 96 clips each."""
    text_steps: Annotated[int, within(1)] = 60
    """Steps in which the text model learns to answer, of 36 looks each with up to four questions."""
    labels: Labels = "truth"
    """Of the clips to train on; see `motion_demo.sets.MotionPlan`."""
    eyes: str = "motion_small"
    """Network of the eyes."""
    width: int = 128
    """Channels of the text model."""
    layers: int = 3
    """Layers of the text model."""
    per_task: Annotated[int, within(1)] = 30
    """Questions of a task that are reported on, at most."""
    seed: Annotated[int, within(0, 299_999)] = 0
    device: str = "auto"
    threads: int = 0

    def __post_init__(self) -> None:
        check(self)


def run_demo(
    out: Path | str,
    plan: DemoPlan,
    *,
    workers: int = 0,
    others: dict[str, Path] | None = None,
    log: Callable[[str], None] | None = None,
    progress: Progress = lambda what, done, total: None,
) -> Comparison:
    """Do all of it.

    Args:
        out: Folder; what is there already is not done again.
        plan: How much.
        workers: Processes that draw clips; 0: this one.
        others: Further contenders of the report's questions, see `compare_answers`.
        log: Takes lines for the user; None: stderr.
        progress: Called with what is done, how much of it, and how much there is.

    Returns:
        The table of the report.

    Raises:
        ConfigError: The folder holds a demonstration by another plan, or another process is writing there.
        MissingExtraError: numba (extra `worlds`) or transformers (extra `vlm`) is not installed.
    """
    with writing(out, "demonstration"):
        return _run_held(Path(out), plan, workers, others, log, progress)


def _run_held(
    out: Path,
    plan: DemoPlan,
    workers: int,
    others: dict[str, Path] | None,
    log: Callable[[str], None] | None,
    progress: Progress,
) -> Comparison:
    """As `run_demo`, in a folder whose lock is held."""
    _same_plan(out, plan)
    for name, (rigs, more) in SETS.items():
        clips = plan.clips if name == "train" else plan.held
        labels = plan.labels if name == "train" else "truth"
        wanted = MotionPlan(clips=clips, seed=3 * plan.seed + more, rigs=rigs, size=plan.size, labels=labels)
        motion = draw_set(
            out / name,
            wanted,
            workers=workers,
            progress=lambda done, name=name, clips=clips: progress(f"draw {name}", done, clips),
        )
        questions = out / f"{name}.jsonl"
        if not questions.is_file():
            most = plan.per_task if name == "report" else None
            share = 0.25 if name == "train" else 1.0
            made = ask(motion, seed=plan.seed, per_task=most, multi_share=share)
            write_records(made.questions, questions)
    bench = write_bench(MotionSet(out / "report"), out / "bench")
    eyes = _train(
        out / "eyes", "motion_small", plan, log,
        {"model.name": plan.eyes, "data.source": out / "train", "data.val": out / "develop"}, plan.eyes_steps,
    )  # fmt: skip
    if not (out / "base" / "config.json").is_file():
        network, card = load_model(eyes.weights)
        seeing = eyes_of_run(network, card.model, card.options, plan.size)  # pyright: ignore[reportArgumentType]
        words = [f"{q.question} {q.answer}" for q in read_questions(out / "train.jsonl")]
        text = TextPlan(width=plan.width, layers=plan.layers, vocabulary=800)
        new_base(out / "base", eyes=seeing, words=words, plan=text, seed=plan.seed)
    tuned = _train(
        out / "text", "motion_answer", plan, log,
        {
            "model.name": out / "base", "data.source": out / "train.jsonl", "data.val": out / "develop.jsonl",
            "data.labels": out / "train", "data.pictures": out / "develop",
        },
        plan.text_steps,
    )  # fmt: skip
    model = open_answerer(tuned.folder, device=plan.device)

    def untuned() -> tuple[Any, Any]:
        base = open_answerer(out / "base", device=plan.device)
        return base, base.adapter

    return compare_answers(
        model, model.adapter, out / "report.jsonl", out / "score", train=out / "train.jsonl", untuned=untuned,
        others=others, labels=str(bench), batch=64, seed=plan.seed, progress=progress,
        label_settings=dataclasses.replace(MotionSet(out / "report").plan.settings, min_points=4),
    )  # fmt: skip


def write_bench(motion: MotionSet, folder: Path) -> Path:
    """Write the clips of a set as pictures, with tracks that name them, as a user's own clips would lie.

    Returns:
        The file of tracks.
    """
    file = folder / "tracks.jsonl"
    if file.is_file():
        return file
    tracks, paths = [], []
    last = ""
    for track in motion.tracks():
        if track.clip_id != last:
            last = track.clip_id
            place = folder / "frames" / track.clip_id
            images = motion.images(clip_number(last))
            paths = [str(place / f"{frame:03d}.png") for frame in range(len(images))]
            if not place.is_dir():
                with replacing(place) as temporary:
                    temporary.mkdir()
                    for frame, image in enumerate(images):
                        Image.fromarray(image).save(temporary / f"{frame:03d}.png", compress_level=1)
        whole = dataclasses.replace(track, image_paths=list(paths), image_times_s=list(track.timestamps_s))
        tracks.append(stored_track(whole, folder))
    write_records(tracks, file)
    return file


def _same_plan(out: Path, plan: DemoPlan) -> None:
    """Remember the plan, and refuse another one."""
    file, values = out / "demo.json", dataclasses.asdict(plan)
    free = ("device", "threads")
    if file.is_file():
        there = {"labels": "truth", **read_json(file, dict[str, Any], error=ConfigError)}
        if changed := [name for name in values if name not in free and there.get(name) != values[name]]:
            name = changed[0]
            raise ConfigError(
                f"{out} holds a demonstration with {name} {there.get(name)!r}, not {values[name]!r}; choose another "
                "--out"
            )
        return
    out.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(values, indent=1) + "\n")


def _train(
    folder: Path,
    recipe: str,
    plan: DemoPlan,
    log: Callable[[str], None] | None,
    settings: dict[str, Any],
    steps: int,
) -> TrainResult:
    """Train by a recipe, or go on with it; a finished run only says what came out."""
    flags: dict[str, Any] = {name: str(value) for name, value in settings.items()}
    flags |= {
        "run.seed": plan.seed, "run.device": plan.device, "run.threads": plan.threads or None,
        "schedule.steps": steps,
    }  # fmt: skip
    made, _ = build_recipe(file=RECIPES / f"{recipe}.yaml", flags=flags)
    return train(made, folder, resume=(folder / "recipe.yaml").is_file(), log=log)
