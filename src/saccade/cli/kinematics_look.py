"""`saccade kinematics overlay` and `saccade kinematics inspect`: labels as people can judge them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from saccade.cli import show
from saccade.cli.kinematics_label import Tokens, label_settings

if TYPE_CHECKING:
    from saccade.kinematics.records import Track


def overlay(
    source: Path,
    /,
    *settings: Tokens,
    labels: Path | None = None,
    clip: str | None = None,
    out: Path | None = None,
    size: int = 960,
    rate: float | None = None,
    pictures: Path | None = None,
    json: bool = False,
) -> None:
    """Draw boxes and paths, metres, km/h and hours on one clip, with the clip from above in a corner.

    Example: saccade kinematics overlay clip.mp4 --labels labels --out shown.mp4

    Args:
        source: A video, or tracks: a folder or file from `saccade kinematics label`.
        settings: Definitions, as for labels.
        labels: Tracks of the video; those in its folder when left out.
        clip: Which clip of the tracks; the first, or the one that names the video, when left out.
        out: A .mp4, or a folder for pictures; CLIP-overlay.mp4 when left out.
        size: Longer side, pixels.
        rate: Frames a second; as recorded when left out.
        pictures: Folder that the tracks' pictures are relative to.
        json: Print one JSON object.
    """
    from saccade.errors import DataError
    from saccade.kinematics.draw import pictures_root
    from saccade.kinematics.overlay import write_overlay
    from saccade.kinematics.video import VIDEOS

    chosen = label_settings(settings, overlay)
    video = source if source.suffix.lower() in VIDEOS else None
    if video is not None and not video.is_file():
        raise DataError(f"{video}: no such video")
    where = labels or (source if video is None else source.parent)
    tracks = _tracks_of(where, clip, video)
    name = tracks[0].clip_id
    safe = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name)
    out = out or Path(f"{safe}-overlay.mp4")
    root = pictures_root(tracks, where, pictures)
    count = write_overlay(tracks, out, video=video, root=root, size=size, rate=rate, settings=chosen)
    show.result({"out": str(out), "clip": name, "tracks": len(tracks), "frames": count}, as_json=json)


def inspect(
    labels: Path,
    /,
    *settings: Tokens,
    out: Path,
    clips: int = 12,
    size: int = 320,
    pictures: Path | None = None,
    seed: int = 0,
    json: bool = False,
) -> None:
    """Write one page about labels: clips with boxes, paths from above, speeds, statistics, what was rejected and why.

    The page holds its pictures itself and needs no network.

    Example: saccade kinematics inspect labels --out report.html

    Args:
        labels: Folder from `saccade kinematics label`.
        settings: Definitions, as for labels.
        out: The page.
        clips: At most so many are shown, drawn evenly from all sources.
        size: Width of their frames, pixels.
        pictures: Folder that the tracks' pictures are relative to.
        seed: Of the choice of clips.
        json: Print one JSON object.
    """
    from saccade.kinematics.report import write_report

    facts = write_report(
        labels,
        out,
        clips=clips,
        size=size,
        root=pictures,
        seed=seed,
        settings=label_settings(settings, inspect),
    )
    show.result({"out": str(out), **facts}, as_json=json)


def _tracks_of(where: Path, clip: str | None, video: Path | None) -> list[Track]:
    """Find the tracks of one clip.

    Raises:
        DataError: None are there.
    """
    from saccade.errors import DataError, did_you_mean
    from saccade.kinematics.records import read_tracks
    from saccade.kinematics.video import split_fragment

    def fits(track: Track) -> bool:
        if clip is not None:
            return track.clip_id == clip
        if video is None:
            return not found or track.clip_id == found[0].clip_id
        names = {Path(split_fragment(path)[0]).name for path in (track.image_paths or ()) if path is not None}
        same = video.name in names or track.clip_id in (video.name, video.stem)
        return same and (not found or track.clip_id == found[0].clip_id)

    found: list[Track] = []
    names: dict[str, None] = {}
    try:
        for track in read_tracks(where):
            names[track.clip_id] = None
            if fits(track):
                found.append(track)
    except DataError as error:
        if video is None or found:
            raise
        raise DataError(
            f"{video}: its tracks are not in {where} ({error}); make them with saccade kinematics pseudo-label and "
            "name them with --labels"
        ) from None
    if not found:
        wanted = f"no clip {clip!r}" if clip else f"no track names {video.name if video else 'a clip'}"
        hint = did_you_mean(clip or "", names) if clip else "; name one of its clips with --clip"
        raise DataError(f"{where}: {wanted}{hint}")
    return found
