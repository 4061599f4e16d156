"""One clip with everything drawn on it, as a video or as pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from saccade.errors import ConfigError, DataError
from saccade.extras import require
from saccade.files import replacing
from saccade.kinematics.draw import open_image
from saccade.kinematics.records import Track
from saccade.kinematics.scene import image_times, open_scene, paint
from saccade.kinematics.settings import DEFAULT, Settings
from saccade.kinematics.video import read_frames, split_fragment, video_facts

LARGEST_RATE = 120.0
"""Frames a second."""


def write_overlay(
    tracks: Sequence[Track],
    out: Path | str,
    *,
    video: Path | str | None = None,
    root: Path | str | None = None,
    size: int = 960,
    rate: float | None = None,
    settings: Settings = DEFAULT,
) -> int:
    """Write one clip with everything drawn on it.

    Args:
        tracks: Of one clip.
        out: A .mp4; or a folder, for pictures 000.png, 001.png ...
        video: Video of the clip, whose every frame is shown; by default what the tracks name.
        root: Folder that the paths of pictures and videos are relative to.
        size: Longer side, pixels.
        rate: Frames a second; those of the video, or of the annotation where there are only pictures.
        settings: Definitions.

    Returns:
        How many frames.

    Raises:
        ConfigError: A size or rate out of range, or another kind of file.
        DataError: No tracks, no pictures, or some that cannot be read.
        MissingExtraError: PyAV (extra `video`) is not installed and a video is read or written.
    """
    out = Path(out)
    if out.suffix not in ("", ".mp4"):
        raise ConfigError(f"{out}: the name ends in {out.suffix!r}; expected .mp4, or a folder for pictures")
    if not 64 <= size <= 8192 or (rate is not None and not 0 < rate <= LARGEST_RATE):
        raise ConfigError(
            f"size is {size} and rate {rate}; expected 64 to 8192 pixels and at most {LARGEST_RATE:g} a second"
        )
    scene = open_scene(tracks, settings)
    found, frames = frames_of(scene.tracks, video, root, rate)
    painted = (paint(image, scene, time, size=size, inset=True) for time, image in frames)
    if out.is_dir() and any(file.suffix != ".png" or not file.stem.isdigit() for file in out.iterdir()):
        raise ConfigError(
            f"{out}: holds other files than 000.png, 001.png ..., which a new folder would replace"
        )
    with replacing(out) as temporary:
        if out.suffix:
            return _encode(painted, temporary, found)
        temporary.mkdir()
        count = 0
        for image in painted:
            image.save(temporary / f"{count:03d}.png", compress_level=3)
            count += 1
        return count


def frames_of(
    tracks: Sequence[Track],
    video: Path | str | None = None,
    root: Path | str | None = None,
    rate: float | None = None,
    times_s: Sequence[float] | None = None,
) -> tuple[float, Iterator[tuple[float, Image.Image]]]:
    """Find the frames of a clip.

    Args:
        tracks: Of one clip.
        video: As for `write_overlay`.
        root: As for `write_overlay`.
        rate: As for `write_overlay`.
        times_s: Only the pictures nearest to these seconds.

    Returns:
        Frames a second, and the seconds and pictures.

    Raises:
        DataError: No pictures.
    """
    named: dict[float, str] = {}
    for track in tracks:
        for time, path in zip(image_times(track), track.image_paths or (), strict=False):
            if path is not None:
                named.setdefault(round(float(time), 6), str(Path(root or "") / path))
    seconds = sorted(named)
    files = {split_fragment(path) for path in named.values()}
    shift = 0.0
    if (
        video is None
        and seconds
        and all(second is not None for _, second in files)
        and len({f for f, _ in files}) == 1
    ):
        video = next(iter(files))[0]
    if video is not None:
        known = [second - time for time in seconds if (second := split_fragment(named[time])[1]) is not None]
        shift = float(np.median(known)) if known else 0.0
        first = min(float(image_times(track)[0]) for track in tracks)
        last = max(float(image_times(track)[-1]) for track in tracks)
        facts = video_facts(video)
        rate = rate or min(LARGEST_RATE, facts.frame_rate or 10.0)
        if facts.duration_s:
            last = min(last, facts.duration_s - 0.5 / rate - shift)
        grid = first + np.arange(max(0, int((last - first) * rate + 1e-6)) + 1) / rate
        if times_s is not None:
            grid = grid[sorted({int(np.argmin(np.abs(grid - time))) for time in times_s})]
        decoded = read_frames(video, (grid + shift).tolist())
        return rate, ((at - shift, Image.fromarray(frame)) for at, frame in decoded)
    if not seconds:
        raise DataError(
            f"clip {tracks[0].clip_id}: its tracks name no pictures; name its video, or label it with pictures"
        )
    if rate is None:
        rate = 1 / float(np.median(np.diff(seconds))) if len(seconds) > 1 else 2.0
    if times_s is not None:
        seconds = sorted({min(seconds, key=lambda second: abs(second - time)) for time in times_s})

    def opened() -> Iterator[tuple[float, Image.Image]]:
        for time in seconds:
            file, second = split_fragment(named[time])
            if second is None:
                yield time, open_image(file, f"clip {tracks[0].clip_id}")
            else:
                yield time, Image.fromarray(next(read_frames(file, [second]))[1])

    return rate, opened()


def _encode(images: Iterator[Image.Image], path: Path, rate: float) -> int:
    """Write a video that browsers play."""
    av = require("av", "video", "to write videos")
    codec = next(name for name in ("libx264", "libopenh264", "mpeg4") if name in av.codecs_available)
    count = 0
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = None
        for image in images:
            if stream is None:
                stream = container.add_stream(codec, rate=Fraction(rate).limit_denominator(1001))
                stream.width, stream.height, stream.pix_fmt = image.width, image.height, "yuv420p"
                if codec == "libx264":
                    stream.options = {"crf": "20", "preset": "veryfast"}
                else:
                    stream.bit_rate = int(0.15 * image.width * image.height * max(rate, 2))
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
            count += 1
        if stream is None:
            raise DataError(f"{path.name}: there is no frame to write; expected a clip with pictures")
        container.mux(stream.encode())
    return count
