"""`saccade kinematics variants` and `saccade kinematics lmms-eval`: a benchmark shown differently, and elsewhere."""

from collections import Counter
from pathlib import Path

from saccade.cli import show


def variants(
    bench: Path,
    /,
    *,
    labels: Path,
    out: Path,
    only: str | None = None,
    size: int = 448,
    crop: float = 0.7,
    pictures: Path | None = None,
    json: bool = False,
) -> None:
    """Show the questions of a benchmark differently: what an honest answerer must follow or ignore.

    half-rate and double-rate space the frames otherwise, crop lengthens the focal length: answers stay. mirror flips
    the video: hours turn the other way round. swap exchanges the colours of the boxes: choices exchange. Each gets a
    folder with questions.jsonl, chat and LLaVA forms and frames; score each with `saccade kinematics score`. The test
    of paraphrases is `saccade kinematics questions --held-out`.

    Example: saccade kinematics variants bench.jsonl --labels labels --out robustness

    Args:
        bench: Questions from `saccade kinematics questions`.
        labels: Tracks they were made from.
        out: Folder to write.
        only: Names joined by commas; all five when left out.
        size: Longer side of the frames, pixels; 0 draws none.
        crop: Share of width and height that the crop keeps.
        pictures: Folder that the tracks' pictures are relative to.
        json: Print one JSON object.
    """
    from saccade.errors import DataError
    from saccade.kinematics.asking import write_forms
    from saccade.kinematics.draw import pictures_root, write_frames
    from saccade.kinematics.records import (
        Rejected,
        read_questions,
        read_tracks,
        write_records,
        write_rejected,
    )
    from saccade.kinematics.variants import VARIANTS, make_variant

    questions = list(read_questions(bench))
    asked = {question.clip_id for question in questions}
    tracks: dict[str, list] = {}
    for track in read_tracks(labels):
        if track.clip_id in asked:
            tracks.setdefault(track.clip_id, []).append(track)
    kinds = [name.strip() for name in only.split(",")] if only else list(VARIANTS)
    counts: Counter[str] = Counter()
    with show.progress() as bar:
        task = bar.add_task("variants", total=len(kinds) * len(questions), info="")
        for kind in kinds:
            made, rejected = [], []
            for question in questions:
                bar.advance(task)
                try:
                    if question.clip_id not in tracks:
                        raise DataError(
                            f"{labels}: no track of clip {question.clip_id}; expected the labels of {bench}"
                        )
                    variant = make_variant(kind, question, tracks[question.clip_id], share=crop)
                    if variant is None:
                        why = (
                            "the crop cuts its object away"
                            if kind == "crop"
                            else "there are no pictures in between"
                        )
                        raise DataError(f"question {question.id}: {why}")
                    if size:
                        write_frames(
                            variant.question,
                            variant.tracks,
                            out / kind / "frames",
                            root=pictures_root(tracks[question.clip_id], labels, pictures),
                            size=size,
                            region=variant.region,
                            mirror=variant.mirror,
                        )
                    made.append(variant.question)
                except DataError as error:
                    rejected.append(Rejected(question.clip_id, question.id, str(error)))
            write_rejected(rejected, out / kind / "rejected.jsonl")
            counts[kind] = len(made)
            if made:
                write_records(made, out / kind / "questions.jsonl")
                write_forms(made, out / kind, bool(size))
            if rejected:
                show.note(f"{kind}: left out {len(rejected)}, such as: {rejected[0].reason}")
    show.result({"out": str(out), **{kind: counts[kind] for kind in kinds}}, as_json=json)


def lmms_eval(
    bench: Path, /, *, out: Path, frames: Path | None = None, name: str = "stkit_bench", json: bool = False
) -> None:
    """Write a benchmark as a task of lmms-eval, so that every model it runs can be scored.

    Example: saccade kinematics lmms-eval bench.jsonl --out tasks

    Args:
        bench: Questions from `saccade kinematics questions`.
        out: Folder for --include_path of lmms-eval.
        frames: Folder of drawn frames; the one beside the questions when left out.
        name: Of the task.
        json: Print one JSON object.
    """
    from saccade.errors import ConfigError
    from saccade.kinematics.lmms import write_task
    from saccade.kinematics.records import read_questions

    if not name.isidentifier():
        raise ConfigError(f"--name is {name!r}; expected letters, digits and underscores")
    questions = list(read_questions(bench))
    folder = write_task(questions, frames or bench.parent / "frames", out, name)
    show.result({"out": str(folder), "questions": len(questions)}, as_json=json)
    show.note(f"run it with: lmms-eval --include_path {out} --tasks {name} --model NAME")
