"""From labelled tracks to files of questions and their frames: what `saccade kinematics questions` does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saccade.errors import ConfigError, DataError
from saccade.files import writing
from saccade.kinematics.draw import frames_key, pictures_root, write_frames
from saccade.kinematics.forms import to_chat, to_llava, write_json, write_mixture
from saccade.kinematics.questions import Made, Plan, make_questions
from saccade.kinematics.records import (
    Question,
    Rejected,
    Track,
    read_questions,
    read_tracks,
    write_records,
    write_rejected,
)
from saccade.kinematics.settings import DEFAULT, Settings
from saccade.kinematics.splits import assign_splits, decontaminate


@dataclass
class Asked:
    """What was written."""

    questions: list[Question]
    rejected: list[Rejected]
    """Parts of the labels, and questions whose frames could not be drawn."""
    notes: list[str]
    """What a user should know: what was left out, and why."""


def write_questions(
    labels: Path,
    out: Path,
    plan: Plan,
    *,
    settings: Settings = DEFAULT,
    size: int = 448,
    val_share: float | None = None,
    exclude: Path | None = None,
    pictures: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Asked:
    """Ask balanced questions about labelled clips, draw their frames, and write them in every form.

    Args:
        labels: Folder or file of tracks.
        out: File of questions to write, .jsonl or .parquet; the other forms and frames/ go beside it.
        plan: How many, and of which kinds.
        settings: Definitions, as for labels.
        size: Longer side of the frames, pixels; 0 draws none.
        val_share: Put this share of all scenes into the split val; None: as labelled.
        exclude: Questions or tracks of a benchmark, whose scenes are left out.
        pictures: Folder that the tracks' pictures are relative to.
        progress: Called with the number of drawn questions and of all.

    Raises:
        ConfigError: Arguments that cannot be right, or a folder that holds other questions.
        DataError: No question can be asked, or no frame drawn.
    """
    _check(out, size, val_share)
    folder, rejected, notes = out.parent, list[Rejected](), list[str]()
    # Poses and the like are the better part of a track and no question needs them.
    spare: dict[str, Any] = {"T_world_cam": None, "yaw": None, "scale_info": None, "image_times_s": None}
    tracks = [dataclasses.replace(track, **spare) for track in read_tracks(labels, rejected)]
    if exclude is not None:
        tracks, dropped = decontaminate(tracks, _read_either(exclude))
        notes.append(f"left out {len(dropped)} tracks of scenes that are in {exclude}")
    if val_share is not None:
        tracks = assign_splits(tracks, {"train": 1 - val_share, "val": val_share}, plan.seed)
    made = make_questions(tracks, plan, settings)
    asked = made.questions
    if not asked:
        reasons = ", ".join(f"{name} {count}" for name, count in made.objects.most_common()) or "no tracks"
        raise DataError(
            f"{labels}: no question can be asked ({reasons}); expected tracks that move and are seen"
        )
    splits = _split_names(asked)
    if len(splits) > 1 and out.stem in splits:
        raise ConfigError(f"--out is {out}; that is the name of a split's own file, so choose another")
    with writing(folder, "asking questions"):
        if size:
            asked = _draw(
                asked, tracks, folder / "frames", labels, pictures, size, rejected, settings, progress
            )
            if not asked:
                raise DataError(
                    f"{labels}: no frame could be drawn, the first because: {rejected[-1].reason}"
                )
        write_records(asked, out)
        write_forms(asked, folder, bool(size))
        for split in splits if len(splits) > 1 else ():
            part = [question for question in asked if question.split == split]
            write_records(part, folder / f"{split}{out.suffix}")
        write_rejected(rejected, folder / "rejected.jsonl")
    return Asked(asked, rejected, notes + _notes(made, rejected, splits, val_share, folder))


def _check(out: Path, size: int, val_share: float | None) -> None:
    """Refuse arguments that cannot be right."""
    if out.suffix not in (".jsonl", ".parquet"):
        raise ConfigError(f"--out is {out}; expected a name that ends in .jsonl or .parquet")
    if val_share is not None and not 0 <= val_share <= 1:
        raise ConfigError(f"--val-share is {val_share}; expected a share from 0 to 1")
    if size < 0 or 0 < size < 8:
        raise ConfigError(f"--size is {size}; expected at least 8 pixels, or 0 for no frames")
    folder = out.parent
    if not out.exists() and any((folder / name).exists() for name in ("mixture.yaml", "rejected.jsonl")):
        raise ConfigError(
            f"{folder.absolute()}: holds the forms and rejections of other questions or labels, which would be "
            f"replaced; give --out a folder of its own, such as {out.with_suffix('') / out.name}"
        )


def _notes(
    made: Made, rejected: list[Rejected], splits: list[str], val_share: float | None, folder: Path
) -> list[str]:
    """Say what became of the objects, and what was left out."""
    notes = [f"objects {name}: {number}" for name, number in sorted(made.objects.items())]
    notes += [f"left out, {name}: {number}" for name, number in sorted(made.left_out.items()) if number]
    if val_share and val_share < 1 and len(splits) == 1:
        notes.append(
            f"all scenes fell into the split {splits[0]}: each is drawn by its name, and there are few"
        )
    if rejected:
        notes.append(f"rejected: {rejected[0].reason}; all {len(rejected)} in {folder / 'rejected.jsonl'}")
    return notes


def _read_either(path: Path) -> list[Any]:
    """Read questions or tracks, whichever a file holds."""
    try:
        return list(read_questions(path))
    except DataError as error:
        try:
            return list(read_tracks(path))
        except DataError:
            raise error from None


def _draw(
    asked: list[Question],
    tracks: list[Track],
    folder: Path,
    labels: Path,
    pictures: Path | None,
    size: int,
    rejected: list[Rejected],
    settings: Settings,
    progress: Callable[[int, int], None] | None,
) -> list[Question]:
    """Draw the frames of every question; those whose frames cannot be drawn go to the dead letters."""
    of: dict[str, list[Track]] = {}
    for track in tracks:
        of.setdefault(track.clip_id, []).append(track)
    kept = []
    roots = {name: pictures_root(part, labels, pictures) for name, part in of.items()}
    for done, question in enumerate(asked, 1):
        try:
            root = roots[question.clip_id]
            write_frames(question, of[question.clip_id], folder, root=root, size=size, settings=settings)
            kept.append(question)
        except DataError as error:
            rejected.append(Rejected(question.clip_id, question.id, str(error)))
        if progress:
            progress(done, len(asked))
    return kept


def _split_names(asked: list[Question]) -> list[str]:
    """Names of the splits, after which files are called.

    Raises:
        DataError: One that would be a file elsewhere.
    """
    splits = sorted({question.split for question in asked})
    for split in splits:
        if Path(split).name != split or split == "..":
            raise DataError(f"split {split!r}: is no name of a file; expected one such as train or val")
    return splits


def write_forms(asked: list[Question], folder: Path, drawn: bool) -> None:
    """Write LLaVA conversations and chat messages, a file for each split, and the list that mixes them."""

    def frames_of(question: Question) -> list[str]:
        count = len(question.frame_times_s or ()) if drawn else 0
        return [f"frames/{frames_key(question)}/{index:03d}.jpg" for index in range(count)]

    splits = _split_names(asked)
    for split in splits:
        part = [question for question in asked if question.split == split]
        write_json(
            (
                to_llava(question, f"frames/{frames_key(question)}" if drawn else question.clip_id)
                for question in part
            ),
            folder / f"{split}.llava.json",
        )
        write_json(
            (
                to_chat(question, None if drawn else question.clip_id, frames_of(question))
                for question in part
            ),
            folder / f"{split}.chat.jsonl",
        )
    write_mixture(
        [(f"{split}.llava.json", "all") for split in splits if split == "train"], folder / "mixture.yaml"
    )
