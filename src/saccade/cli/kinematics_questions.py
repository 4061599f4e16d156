"""`saccade kinematics questions`: what is asked about tracks."""

from collections import Counter
from pathlib import Path

from saccade.cli import show
from saccade.cli.kinematics_label import Tokens, label_settings


def questions(
    labels: Path,
    /,
    *settings: Tokens,
    out: Path,
    size: int = 448,
    frames: int | None = None,
    per_task: int | None = None,
    per_clip: int = 4,
    val_share: float | None = None,
    exclude: Path | None = None,
    held_out: bool = False,
    pictures: Path | None = None,
    seed: int = 0,
    json: bool = False,
) -> None:
    """Ask balanced questions about labelled clips, and draw the frames that go with them.

    Beside the file of questions there will be, for each split, SPLIT.llava.json and SPLIT.chat.jsonl, and the folder
    frames/ with the boxes drawn in at the size at which a model sees them; where there are several splits, also
    SPLIT.jsonl, of which val.jsonl is a benchmark for `saccade kinematics score`.

    Example: saccade kinematics questions labels --out stkit/questions.jsonl --per-task 200 --seed 0

    Args:
        labels: Folder or file of tracks from `saccade kinematics label`.
        settings: Definitions, as for labels.
        out: File of questions to write, .jsonl or .parquet.
        size: Longer side of the frames, pixels; 0 draws none.
        frames: Shown of a clip; one every half second when left out.
        per_task: At most so many questions a task and split; a benchmark has 200.
        per_clip: At most so many of a task about one clip.
        val_share: Put this share of all scenes into the split val, the others into train; as labelled when left out.
        exclude: Questions or tracks of a benchmark, whose scenes are left out.
        held_out: Use the wordings that are kept from training.
        pictures: Folder that the tracks' pictures are relative to.
        seed: Of everything random.
        json: Print one JSON object.
    """
    from saccade.kinematics.asking import write_questions
    from saccade.kinematics.questions import Plan

    chosen = label_settings(settings, questions)
    plan = Plan(seed=seed, per_clip=per_clip, per_task=per_task, num_frames=frames, held_out=held_out)
    with show.progress() as bar:
        task = bar.add_task("drawing frames", total=None, info="")
        found = write_questions(
            labels, out, plan, settings=chosen, size=size, val_share=val_share, exclude=exclude, pictures=pictures,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )  # fmt: skip
    counts = Counter(question.task for question in found.questions)
    sizes = Counter(question.split for question in found.questions)
    show.result(
        {"out": str(out), "questions": len(found.questions),
         "clips": len({question.clip_id for question in found.questions}), "rejected": len(found.rejected),
         **counts, **{f"split {name}": number for name, number in sizes.items()}},
        as_json=json,
    )  # fmt: skip
    for note in found.notes:
        show.note(note)
