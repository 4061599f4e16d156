"""`saccade kinematics label`: tracks from a data set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from saccade.cli import show
from saccade.cli.flags import names_of

if TYPE_CHECKING:
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
    from saccade.kinematics.labelling import WorldClips, label_source

    if root is not None and root.startswith("--"):  # the world has no folder, so the first setting came here
        settings, root = (root, *settings), None
    chosen = label_settings(settings, label)
    names = [name.strip() for name in cameras.split(",")] if cameras else []
    with show.progress() as bar:
        task = bar.add_task("labelling", total=None, info="")
        found = label_source(
            source, root, out, settings=chosen, world=WorldClips(clips, seconds, size, seed), cameras=names,
            version=version, form=form, need_images=not no_images, strict=strict,
            progress=lambda tracks, clips: bar.update(task, completed=tracks, total=None, info=f"{clips} clips"),
        )  # fmt: skip
    show.result(
        {"out": str(out), "clips": found.clips, "tracks": found.tracks, "rejected": len(found.rejected),
         **{f"selection {name}": number for name, number in found.selection.most_common()}},
        as_json=json,
    )  # fmt: skip
    for row in found.rejected[:3]:
        show.note(f"rejected: {row.reason}")
    if len(found.rejected) > 3:
        show.note(f"rejected: {len(found.rejected) - 3} more, all in {out / 'rejected.jsonl'}")


def label_settings(tokens: tuple[str, ...], command: Callable[..., Any]) -> Settings:
    """Read flags --label.NAME VALUE of a command.

    Raises:
        ConfigError: No such setting, or a value of another kind or out of range.
    """
    from saccade.kinematics.settings import Settings, make_settings
    from saccade.settings import read_groups

    return make_settings(**read_groups(tokens, {"label": Settings}, names_of(command))["label"])
