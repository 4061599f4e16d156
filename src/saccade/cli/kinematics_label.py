"""`saccade kinematics label` and `saccade kinematics questions`: tracks, and what is asked about them."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from saccade.cli import show

if TYPE_CHECKING:
    from saccade.kinematics.records import Question, Rejected, Track
    from saccade.kinematics.settings import Settings

Tokens = Annotated[str, Parameter(show=False, allow_leading_hyphen=True)]
"""Settings as flags."""


def label(
    source: str,
    root: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    /,
    *settings: Tokens,
    out: Path,
    clips: int | None = None,
    seconds: float | None = None,
    size: int | None = None,
    seed: int | None = None,
    cameras: str | None = None,
    version: Annotated[str | None, Parameter(show=False)] = None,
    form: str = "jsonl",
    no_images: bool = False,
    strict: bool = False,
    json: bool = False,
) -> None:
    """Turn a data set's annotations into tracks and kinematic labels.

    Writes tracks (the interchange format), labels.jsonl (distance, speed, hours of each track and whether it may be
    asked about) and rejected.jsonl (what could not be used, and why). Definitions are settings, such as
    --label.min-step-m 0.25 or --label.static-radius-m 1.0; an unknown one says which there are. Where nuScenes has
    several folders of tables, --version names one.

    Example: saccade kinematics label nuscenes data/nuscenes --out labels --label.min-step-m 0.25

    Args:
        source: nuscenes, argoverse2, nuplan, egoexo4d, tracks (files in the interchange format), or world (the
            built-in synthetic world, with exact truth and frames).
        root: The data set's folder; the world has none.
        settings: Definitions.
        out: Folder to write.
        clips: World: how many clips, 20 when left out.
        seconds: World: length of a clip, 10 when left out.
        size: World: width of a frame in pixels, 320 when left out.
        seed: World: of all clips, 0 when left out.
        cameras: Names joined by commas; the front camera when left out, of the world all that a camera may do.
        version: Folder of nuScenes' tables, where there are several.
        form: jsonl or parquet.
        no_images: Label although the pictures are not there; such tracks have no boxes.
        strict: Stop at the first thing that cannot be used, instead of listing it in rejected.jsonl.
        json: Print one JSON object.
    """
    from saccade.errors import ConfigError, DataError
    from saccade.files import writing
    from saccade.kinematics.draw import stored_track
    from saccade.kinematics.forms import write_json
    from saccade.kinematics.records import write_records, write_rejected
    from saccade.kinematics.selection import label_row
    from saccade.kinematics.sources import read_source

    if form not in ("jsonl", "parquet"):
        raise ConfigError(f"--form is {form!r}; expected jsonl or parquet")
    if version is not None and source != "nuscenes":
        raise ConfigError(f"--version belongs to nuscenes; {source} has none")
    if root is not None and root.startswith("--"):  # the world has no folder, so the first setting came here
        settings, root = (root, *settings), None
    drawn = {"clips": clips, "seconds": seconds, "size": size, "seed": seed}
    drawn = {name: value for name, value in drawn.items() if value is not None}
    if source == "world":
        if root is not None:
            raise ConfigError(
                f"{root}: the world has no folder to read; leave it out and name the one to write with --out"
            )
        root = str(out)
    elif root is None:
        raise ConfigError(f"{source} needs its folder: saccade kinematics label {source} FOLDER --out {out}")
    elif drawn:
        raise ConfigError(f"--{next(iter(drawn))} belongs to the world; {source} has none")
    chosen = _settings(settings)
    rejected: list[Rejected] | None = None if strict else []
    options: dict[str, Any] = {"rejected": rejected, **drawn}
    if source != "tracks":
        options |= {"need_images": not no_images, "settings": chosen}
        options |= {"cameras": [name.strip() for name in cameras.split(",")]} if cameras else {}
        options |= {"version": version} if version else {}
    rows: list[dict[str, Any]] = []
    clip_ids: set[str] = set()
    statuses: Counter[str] = Counter()

    def labelled(bar: Any, task: Any) -> Iterator[Track]:
        for track in read_source(source, root, **options):
            rows.append(label_row(track, chosen))
            clip_ids.add(track.clip_id)
            statuses[rows[-1]["selection"]] += 1
            bar.update(task, completed=len(rows), total=None, info=f"{len(clip_ids)} clips")
            yield stored_track(track, out, root if source == "tracks" else None)

    with writing(out, "labelling"):
        with show.progress() as bar:
            task = bar.add_task("labelling", total=None, info="")
            # What is wrong from the start leaves no folder behind, and what an earlier run wrote stays.
            tracks = labelled(bar, task)
            first = next(tracks, None)
            if first is None:
                why = f", the first because: {rejected[0].reason}" if rejected else ""
                if rejected and not (out / "rejected.jsonl").exists():
                    write_rejected(rejected, out / "rejected.jsonl")
                raise DataError(
                    f"{root}: no track could be used and {len(rejected or ())} parts were rejected{why}"
                )
            count = write_records(itertools.chain([first], tracks), out / f"tracks.{form}")
        # Another form from an earlier run would hold every track a second time.
        (out / f"tracks.{'parquet' if form == 'jsonl' else 'jsonl'}").unlink(missing_ok=True)
        write_json(rows, out / "labels.jsonl")
        write_rejected(rejected or (), out / "rejected.jsonl")
    show.result(
        {"out": str(out), "clips": len(clip_ids), "tracks": count, "rejected": len(rejected or ()),
         **{f"selection {name}": number for name, number in statuses.most_common()}},
        as_json=json,
    )  # fmt: skip
    for row in (rejected or [])[:3]:
        show.note(f"rejected: {row.reason}")
    if len(rejected or ()) > 3:
        show.note(f"rejected: {len(rejected or ()) - 3} more, all in {out / 'rejected.jsonl'}")


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
    import dataclasses

    from saccade.errors import ConfigError, DataError
    from saccade.files import writing
    from saccade.kinematics.questions import Plan, make_questions
    from saccade.kinematics.records import read_tracks, write_records, write_rejected
    from saccade.kinematics.splits import assign_splits, decontaminate

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
    chosen = _settings(settings)
    plan = Plan(seed=seed, per_clip=per_clip, per_task=per_task, num_frames=frames, held_out=held_out)
    rejected: list[Rejected] = []
    # Poses and the like are the better part of a track and no question needs them.
    spare: dict[str, Any] = {"T_world_cam": None, "yaw": None, "scale_info": None, "image_times_s": None}
    tracks = [dataclasses.replace(track, **spare) for track in read_tracks(labels, rejected)]
    if exclude is not None:
        taken = _read_either(exclude)
        tracks, dropped = decontaminate(tracks, taken)
        show.note(f"left out {len(dropped)} tracks of scenes that are in {exclude}")
    if val_share is not None:
        tracks = assign_splits(tracks, {"train": 1 - val_share, "val": val_share}, seed)
    made = make_questions(tracks, plan, chosen)
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
            asked = _draw(asked, tracks, folder / "frames", labels, pictures, size, rejected, chosen)
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
    counts = Counter(question.task for question in asked)
    sizes = Counter(question.split for question in asked)
    show.result(
        {"out": str(out), "questions": len(asked), "clips": len({question.clip_id for question in asked}),
         "rejected": len(rejected), **counts, **{f"split {name}": number for name, number in sizes.items()}},
        as_json=json,
    )  # fmt: skip
    for name, number in sorted(made.objects.items()):
        show.note(f"objects {name}: {number}")
    for name, number in sorted(made.left_out.items()):
        if number:
            show.note(f"left out, {name}: {number}")
    if val_share and val_share < 1 and len(splits) == 1:
        show.note(f"all scenes fell into the split {splits[0]}: each is drawn by its name, and there are few")
    if rejected:
        show.note(f"rejected: {rejected[0].reason}; all {len(rejected)} in {folder / 'rejected.jsonl'}")


def _read_either(path: Path) -> list[Any]:
    """Read questions or tracks, whichever a file holds."""
    from saccade.errors import DataError
    from saccade.kinematics.records import read_questions, read_tracks

    try:
        return list(read_questions(path))
    except DataError as error:
        try:
            return list(read_tracks(path))
        except DataError:
            raise error from None


def _settings(tokens: tuple[str, ...]) -> Settings:
    """Read flags --label.NAME VALUE.

    Raises:
        ConfigError: No such setting, or a value of another kind.
    """
    from saccade.kinematics.settings import Settings, make_settings

    return make_settings(**read_fields(tokens, label=Settings)["label"])


def read_fields(tokens: tuple[str, ...], **groups: type) -> dict[str, dict[str, Any]]:
    """Read flags --GROUP.NAME VALUE, where a group is a data class whose fields have defaults.

    Returns:
        Values by group and name, of the defaults' types; those that were not given are not in it.

    Raises:
        ConfigError: No such setting, or a value of another kind.
    """
    import dataclasses

    from saccade.cli.train import read_settings
    from saccade.errors import ConfigError

    defaults = {
        f"{group}.{field.name}": field.default
        for group, kind in groups.items()
        for field in dataclasses.fields(kind)
    }
    values: dict[str, dict[str, Any]] = {group: {} for group in groups}
    for dotted, text in read_settings(tokens, list(defaults)).items():
        group, _, name = dotted.partition(".")
        default = defaults[dotted]
        try:
            values[group][name] = _read_value(str(text), default)
        except (KeyError, TypeError, ValueError):
            raise ConfigError(f"--{dotted} is {text!r}; expected a value such as {default}") from None
    return values


def _read_value(text: str, default: Any) -> Any:
    """Read text as the type of a default."""
    if isinstance(default, tuple):
        return tuple(_read_value(part.strip(), default[0]) for part in text.split(","))
    if isinstance(default, bool):
        return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]
    return type(default)(text)


def _draw(
    asked: list[Question],
    tracks: list[Track],
    folder: Path,
    labels: Path,
    pictures: Path | None,
    size: int,
    rejected: list[Rejected],
    settings: Settings,
) -> list[Question]:
    """Draw the frames of every question; those whose frames cannot be drawn go to the dead letters."""
    from saccade.errors import DataError
    from saccade.kinematics.draw import pictures_root, write_frames
    from saccade.kinematics.records import Rejected

    of: dict[str, list[Track]] = {}
    for track in tracks:
        of.setdefault(track.clip_id, []).append(track)
    kept = []
    roots = {name: pictures_root(part, labels, pictures) for name, part in of.items()}
    with show.progress() as bar:
        task = bar.add_task("drawing frames", total=len(asked), info="")
        for question in asked:
            try:
                root = roots[question.clip_id]
                write_frames(question, of[question.clip_id], folder, root=root, size=size, settings=settings)
                kept.append(question)
            except DataError as error:
                rejected.append(Rejected(question.clip_id, question.id, str(error)))
            bar.advance(task)
    return kept


def _split_names(asked: list[Question]) -> list[str]:
    """Names of the splits, after which files are called.

    Raises:
        DataError: One that would be a file elsewhere.
    """
    from saccade.errors import DataError

    splits = sorted({question.split for question in asked})
    for split in splits:
        if Path(split).name != split or split == "..":
            raise DataError(f"split {split!r}: is no name of a file; expected one such as train or val")
    return splits


def write_forms(asked: list[Question], folder: Path, drawn: bool) -> None:
    """Write LLaVA conversations and chat messages, a file for each split, and the list that mixes them."""
    from saccade.kinematics.draw import frames_key
    from saccade.kinematics.forms import to_chat, to_llava, write_json, write_mixture

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
