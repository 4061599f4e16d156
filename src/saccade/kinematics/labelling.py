"""From a data set's annotations to a folder of tracks and labels: what `saccade kinematics label` does."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from saccade.errors import ConfigError, DataError
from saccade.files import writing
from saccade.kinematics.draw import stored_track
from saccade.kinematics.forms import write_json
from saccade.kinematics.records import Rejected, Track, write_records, write_rejected
from saccade.kinematics.selection import label_row
from saccade.kinematics.settings import DEFAULT, Settings
from saccade.kinematics.sources import read_source
from saccade.settings import check

FORMS = ("jsonl", "parquet")


@dataclass(frozen=True)
class WorldClips:
    """What is drawn of the built-in world; unset: its own defaults."""

    clips: int | None = None
    seconds: float | None = None
    size: int | None = None
    """Width of a frame in pixels."""
    seed: int | None = None

    def __post_init__(self) -> None:
        check(self)

    @property
    def given(self) -> dict[str, Any]:
        """Those that are set."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass
class Labelled:
    """What came out."""

    clips: int
    tracks: int
    selection: Counter[str]
    """Tracks by what was decided about them."""
    rejected: list[Rejected] = field(default_factory=list)


def label_source(
    source: str,
    root: str | None,
    out: Path | str,
    *,
    settings: Settings = DEFAULT,
    world: WorldClips | None = None,
    cameras: Sequence[str] = (),
    version: str | None = None,
    form: str = "jsonl",
    need_images: bool = True,
    strict: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Labelled:
    """Write tracks, labels.jsonl and rejected.jsonl.

    Args:
        source: nuscenes, argoverse2, nuplan, egoexo4d, tracks, or world.
        root: The data set's folder; None for the world.
        out: Folder to write.
        settings: Definitions of labels.
        world: Of the world only.
        cameras: Names; the front camera when empty, of the world all that a camera may do.
        version: Folder of nuScenes' tables, where there are several.
        form: jsonl or parquet.
        need_images: False: label although the pictures are not there.
        strict: Stop at the first thing that cannot be used.
        progress: Called with the number of tracks and of clips so far.

    Raises:
        ConfigError: Options that do not go with the source.
        DataError: No track could be used, or with `strict` one could not.
    """
    out = Path(out)
    place = _place(source, root, out, world, version, form)
    rejected: list[Rejected] | None = None if strict else []
    options: dict[str, Any] = {"rejected": rejected, **(world.given if world else {})}
    if source != "tracks":
        options |= {"need_images": need_images, "settings": settings}
        options |= {"cameras": list(cameras)} if cameras else {}
        options |= {"version": version} if version else {}
    rows: list[dict[str, Any]] = []
    clips: set[str] = set()

    def labelled() -> Iterator[Track]:
        for track in read_source(source, place, **options):
            rows.append(label_row(track, settings))
            clips.add(track.clip_id)
            if progress:
                progress(len(rows), len(clips))
            yield stored_track(track, out, place if source == "tracks" else None)

    with writing(out, "labelling"):
        # What is wrong from the start leaves no folder behind, and what an earlier run wrote stays.
        tracks = labelled()
        first = next(tracks, None)
        if first is None:
            why = f", the first because: {rejected[0].reason}" if rejected else ""
            if rejected and not (out / "rejected.jsonl").exists():
                write_rejected(rejected, out / "rejected.jsonl")
            raise DataError(
                f"{place}: no track could be used and {len(rejected or ())} parts were rejected{why}"
            )
        count = write_records(itertools.chain([first], tracks), out / f"tracks.{form}")
        # Another form from an earlier run would hold every track a second time.
        (out / f"tracks.{'parquet' if form == 'jsonl' else 'jsonl'}").unlink(missing_ok=True)
        write_json(rows, out / "labels.jsonl")
        write_rejected(rejected or (), out / "rejected.jsonl")
    return Labelled(len(clips), count, Counter(row["selection"] for row in rows), rejected or [])


def _place(
    source: str, root: str | None, out: Path, world: WorldClips | None, version: str | None, form: str
) -> str:
    """Check that options go with the source; return where it is read."""
    if form not in FORMS:
        raise ConfigError(f"--form is {form!r}; expected jsonl or parquet")
    if version is not None and source != "nuscenes":
        raise ConfigError(f"--version belongs to nuscenes; {source} has none")
    if source == "world":
        if root is not None:
            raise ConfigError(
                f"{root}: the world has no folder to read; leave it out and name the one to write with --out"
            )
        return str(out)
    if root is None:
        raise ConfigError(f"{source} needs its folder: saccade kinematics label {source} FOLDER --out {out}")
    if world and world.given:
        raise ConfigError(f"--{next(iter(world.given))} belongs to the world; {source} has none")
    return root
