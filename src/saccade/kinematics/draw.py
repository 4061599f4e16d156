"""Frames with coloured boxes: drawn after resizing, at least two pixels wide, written without losing the colour."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from saccade.errors import ConfigError, DataError, did_you_mean
from saccade.files import replacing
from saccade.files.pictures import decoding, open_picture
from saccade.kinematics.records import Question, Track
from saccade.kinematics.settings import DEFAULT, Settings
from saccade.kinematics.video import read_frames, split_fragment

COLOURS = {
    "red": (255, 0, 0),
    "blue": (0, 64, 255),
    "green": (0, 220, 0),
    "yellow": (255, 225, 0),
    "white": (255, 255, 255),
    "black": (0, 0, 0),
    "orange": (255, 128, 0),
    "purple": (160, 0, 220),
    "cyan": (0, 230, 230),
    "magenta": (255, 0, 200),
}
"""Red, green, blue of each name."""
MAX_PIXELS = 1 << 26
"""Larger pictures are refused before they are decoded."""
WIDTH_PX = 3
"""Of the lines; a line of one pixel does not survive the chroma subsampling of video."""


def draw_boxes(
    image: Image.Image,
    boxes: Mapping[str, Sequence[float] | None],
    *,
    size: int | None = None,
    width: int = WIDTH_PX,
    region: Sequence[int] | None = None,
    mirror: bool = False,
) -> Image.Image:
    """Cut, mirror and resize a picture, then draw boxes into it.

    Args:
        image: As recorded.
        boxes: {colour: x0, y0, x1, y1 in pixels of the result before resizing, or None where nothing is drawn}.
        size: Longer side of the result, pixels; as it is when None.
        width: Of the lines, pixels of the result.
        region: x0, y0, x1, y1 of the part that is kept.
        mirror: Flip left to right.

    Raises:
        ConfigError: Lines thinner than 2 pixels, no positive size, or a colour without a value.
    """
    if width < 2 or (size is not None and size < 8):
        raise ConfigError(
            f"width is {width} and size {size}; expected lines of at least 2 pixels and a side of at least 8"
        )
    image = image.convert("RGB")
    if region is not None:
        image = image.crop((region[0], region[1], region[2], region[3]))
    if mirror:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    scale = 1.0 if size is None else size / max(image.size)
    scale_x = scale_y = scale
    if scale != 1.0:
        shape = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        scale_x, scale_y = shape[0] / image.width, shape[1] / image.height
        image = image.resize(shape, Image.Resampling.BICUBIC, reducing_gap=3.0)
    pen = ImageDraw.Draw(image)
    for colour, box in boxes.items():
        if colour not in COLOURS:
            raise ConfigError(f"no colour {colour!r}{did_you_mean(colour, COLOURS)}")
        if box is None:
            continue
        # Around the box, held inside the picture, so that a small thing is not painted over.
        x0, x1 = (
            float(np.clip(x * scale_x + d, 0, image.width - 1))
            for x, d in ((box[0], -width), (box[2], width - 1))
        )
        y0, y1 = (
            float(np.clip(y * scale_y + d, 0, image.height - 1))
            for y, d in ((box[1], -width), (box[3], width - 1))
        )
        pen.rectangle((round(x0), round(y0), round(x1), round(y1)), outline=COLOURS[colour], width=width)
    return image


def open_image(path: Path | str, where: str = "") -> Image.Image:
    """Open a picture.

    Raises:
        DataError: No such file, no picture, or one of too many pixels.
    """
    path = Path(path)
    name = f"{where}: " if where else ""
    if not path.is_file():
        raise DataError(f"{name}{path}: no such picture; expected the frame that the record names")
    called = f"{name}{path}"
    with decoding(called, "picture"), open_picture(path, called, max_pixels=MAX_PIXELS) as image:
        return image.convert("RGB")


def stored_path(path: str, home: Path | str) -> str:
    """Return how the set in a folder names a picture: from that folder, wherever the command was started.

    Args:
        path: From the working folder, or absolute; with or without `#t=` of a frame of a video. An absolute path to
            something outside of the folder stays as the user gave it.
        home: Folder of the set.
    """
    file, second = split_fragment(path)
    fragment = "" if second is None else path[len(file) :]
    whole, folder = Path(file).absolute(), Path(home).absolute()
    if whole.is_relative_to(folder):
        return whole.relative_to(folder).as_posix() + fragment
    if Path(file).is_absolute():
        return path
    # From where the folder really is: ".." climbs there, whatever links lead to it.
    return Path(os.path.relpath(whole, os.path.realpath(folder))).as_posix() + fragment


def stored_track(track: Track, home: Path | str, labels: Path | str | None = None) -> Track:
    """Return a track as the set in a folder keeps it, its pictures by `stored_path`.

    Args:
        track: Of a data set, with paths from the working folder.
        home: Folder of the set.
        labels: Of a track that comes from another set: that set; pictures that are not there keep their names.
    """
    known = [path for path in track.image_paths or () if path is not None]
    if not known:
        return track
    found = None if labels is None else pictures_root([track], labels)
    root = "" if found is None else os.path.relpath(found)
    if labels is not None and not (Path(root) / split_fragment(known[0])[0]).is_file():
        return track
    paths = [
        None if path is None else stored_path(str(Path(root) / path), home)
        for path in track.image_paths or ()
    ]
    return dataclasses.replace(track, image_paths=paths)


def pictures_root(
    tracks: Iterable[Track], labels: Path | str, root: Path | str | None = None
) -> Path | str | None:
    """Find the folder that a clip's paths of pictures are relative to.

    Args:
        tracks: Of the clip.
        labels: Folder or file of its labels, beside which its pictures are; sets of earlier versions name them from
            the folder that holds theirs, or from wherever they were made, and are looked for there, too.
        root: That of the user, which is taken as it is.

    Returns:
        The folder; None for the working folder and for absolute paths.
    """
    if root is not None:
        return root
    name = next((path for track in tracks for path in track.image_paths or () if path is not None), None)
    if name is None or Path(name := split_fragment(name)[0]).is_absolute():
        return None
    labels = Path(labels).absolute()
    beside = labels if labels.is_dir() else labels.parent
    return next((folder for folder in (beside, beside.parent) if (folder / name).is_file()), None)


def frames_key(question: Question) -> str:
    """Name of the folder of a question's frames; questions that show the same frames share it."""
    things = sorted((thing["colour"], thing["track_id"]) for thing in question.objects)
    text = repr((question.clip_id, things, question.frame_times_s))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_frames(
    question: Question,
    tracks: Sequence[Track],
    folder: Path | str,
    *,
    root: Path | str | None = None,
    size: int | None = 448,
    width: int = WIDTH_PX,
    region: Sequence[int] | None = None,
    mirror: bool = False,
    settings: Settings = DEFAULT,
) -> list[Path]:
    """Write the frames of a question with its boxes, in order, as pictures.

    Pictures and not a video: compression over time moves and smears thin lines. JPEG is written without chroma
    subsampling.

    Args:
        question: With frame times.
        tracks: Of its clip; those it asks about are drawn, every one gives image paths.
        folder: Where the folder of its frames goes; a folder that is there is not written again.
        root: Folder that image paths are relative to.
        size: Longer side, pixels: the resolution at which the model will see them.
        width: Of the lines.
        region: Part of the pictures that is kept.
        mirror: Flip left to right.
        settings: dt is used.

    Returns:
        Paths of the frames.

    Raises:
        DataError: No picture for a frame, a picture that cannot be read, or a track that the clip does not have.
    """
    target = Path(folder) / frames_key(question)
    names = [target / f"{index:03d}.jpg" for index in range(len(question.frame_times_s or ()))]
    if target.is_dir():
        return names
    with replacing(target) as temporary:
        temporary.mkdir()
        for name, (image, boxes) in zip(
            names, frames_of(question, tracks, root=root, settings=settings), strict=True
        ):
            drawn = draw_boxes(image, boxes, size=size, width=width, region=region, mirror=mirror)
            drawn.save(temporary / name.name, quality=95, subsampling=0)
    return names


def frames_of(
    question: Question,
    tracks: Sequence[Track],
    *,
    root: Path | str | None = None,
    settings: Settings = DEFAULT,
) -> Iterator[tuple[Image.Image, dict[str, list[float] | None]]]:
    """Open the frames of a question as recorded, each with the boxes that belong into it.

    Args:
        question: With frame times.
        tracks: Of its clip.
        root: Folder that image paths are relative to.
        settings: dt is used.

    Yields:
        Picture and {colour: box in its pixels, or None where the thing is not visible}, in order.

    Raises:
        DataError: No picture for a frame, a picture that cannot be read, or a track that the clip does not have.
    """
    where = f"question {question.id}"
    of = {track.track_id: track for track in tracks if track.clip_id == question.clip_id}
    for thing in question.objects:
        if thing["track_id"] not in of:
            raise DataError(
                f"{where}: clip {question.clip_id} has no track {thing['track_id']!r}; expected its labels"
            )
    times = question.frame_times_s or []
    pictures = _pictures(list(of.values()))
    near = settings.dt / 2 + 1e-6
    chosen = [min(pictures, key=lambda at: abs(at - time), default=None) for time in times]
    for time, nearest in zip(times, chosen, strict=True):
        if nearest is None or abs(nearest - time) > near:
            raise DataError(
                f"{where}: clip {question.clip_id} has no picture at {time:g} s; expected one for each frame"
            )
    paths = [str(Path(root or "") / pictures[nearest]) for nearest in chosen if nearest is not None]
    for time, image in zip(times, _images(paths, where), strict=True):
        yield (
            image,
            {thing["colour"]: _box_at(of[thing["track_id"]], time, near) for thing in question.objects},
        )


def _images(paths: Sequence[str], where: str) -> Iterator[Image.Image]:
    """Open pictures, or frames of a video that is decoded once, in order."""
    files = [split_fragment(path) for path in paths]
    seconds = [second for _, second in files if second is not None]
    if len(seconds) == len(paths) and len({file for file, _ in files}) == 1:
        for _, frame in read_frames(files[0][0], seconds):
            yield Image.fromarray(frame)
        return
    for path, (file, second) in zip(paths, files, strict=True):
        if second is None:
            yield open_image(path, where)
        else:
            yield Image.fromarray(next(read_frames(file, [second]))[1])


def _pictures(tracks: Sequence[Track]) -> dict[float, str]:
    """Paths of a clip's pictures by the time of the annotation they go with."""
    found: dict[float, str] = {}
    for track in tracks:
        for time, path in zip(track.timestamps_s, track.image_paths or (), strict=False):
            if path is not None:
                found.setdefault(time, path)
    return found


def _box_at(track: Track, time: float, near: float) -> list[float] | None:
    """Box of a track at a frame's time; None where it is not visible."""
    if track.boxes_2d is None:
        return None
    row = int(np.argmin(np.abs(track.times - time)))
    return track.boxes_2d[row] if abs(track.times[row] - time) <= near else None
