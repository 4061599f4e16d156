"""Frames of videos at given seconds, by the times written in the file: right for variable frame rates too."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from saccade.errors import DataError
from saccade.extras import require
from saccade.files.pictures import check_size, decoding

VIDEOS = frozenset(
    {
        *(".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov"),
        *(".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv"),
    }
)
"""Files that are taken for videos, by the end of their name."""
TOLERANCE_S = 0.25
"""Farthest frame from a wanted second."""
FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,gif,mpeg,mpegts,mpegvideo,m4v,h264,hevc,ogg,asf"
"""FFmpeg's names of what such files hold. Nothing else is tried: a playlist would open more files."""
MAX_PIXELS = 1 << 26
THREADED_PIXELS = 1280 * 720
"""Smaller videos are decoded by one thread."""
MAX_FRAMES = 1 << 20
"""Longest video that is looked at, 9.7 hours at 30 frames a second."""
MAX_SECONDS = 1e6
"""Longest duration that is believed."""
MAX_CLIP_PIXELS = 1 << 29
"""Most pixels of all frames of a clip that are held at a time: 64 frames of 4K, 1.6 GB."""


@dataclass(frozen=True)
class VideoFacts:
    """What a video says of itself."""

    width: int
    """Of the pictures as they are stored; a file that says to turn them by a quarter swaps the two when read."""
    height: int
    duration_s: float
    """From the first frame to the end of the last, as far as the file says; 0 where it does not."""
    frame_rate: float
    """Average; 0 where the file does not say."""


def split_fragment(path: str) -> tuple[str, float | None]:
    """Split "video.mp4#t=1.500" into the file and its second; other paths have none."""
    file, mark, second = path.rpartition("#t=")
    if not mark:
        return path, None
    try:
        return file, float(second)
    except ValueError:
        return path, None


def video_facts(path: Path | str) -> VideoFacts:
    """Read what a video says of itself, without decoding it.

    Raises:
        DataError: No such file, or no video.
        MissingExtraError: PyAV (extra `video`) is not installed.
    """
    with _opened(Path(path)) as container, decoding(str(path), "video"):
        stream = container.streams.video[0]
        length = (
            stream.duration * stream.time_base if stream.duration else (container.duration or 0) / 1_000_000
        )
        if not 0 <= length <= MAX_SECONDS:
            raise DataError(f"{path}: says that it lasts {float(length):.3g} s; the file is damaged")
        return VideoFacts(stream.width, stream.height, float(length), float(stream.average_rate or 0))


def frame_times(path: Path | str) -> np.ndarray:
    """List the seconds at which a video's frames are shown, by its packets, without decoding it.

    Returns:
        (frames,) float64 seconds from the start of the stream, rising.

    Raises:
        DataError: No such file, no video, no frames, a damaged one, or one of more than `MAX_FRAMES` frames.
        MissingExtraError: PyAV (extra `video`) is not installed.
    """
    path = Path(path)
    with _opened(path) as container, decoding(str(path), "video"):
        stream = container.streams.video[0]
        packets = itertools.islice(container.demux(stream), MAX_FRAMES + 2)
        seconds = [_second(packet, stream) for packet in packets if packet.pts is not None]
    if not seconds:
        raise DataError(f"{path}: holds no frames; expected a video that is not empty")
    if len(seconds) > MAX_FRAMES:
        raise DataError(f"{path}: more than {MAX_FRAMES} frames; cut the video into clips")
    return np.unique(np.asarray(seconds))


def read_frames(path: Path | str, times_s: Sequence[float]) -> Iterator[tuple[float, np.ndarray]]:
    """Decode the frames nearest to given seconds.

    Args:
        path: A video.
        times_s: Seconds from its first frame, rising.

    Yields:
        The true second of each frame and the frame, (height, width, 3) uint8 RGB, turned upright as the file says. A
        frame that is nearest to two wanted seconds comes twice.

    Raises:
        DataError: No such file, no video, no frames, a damaged one, or no frame near a second.
        MissingExtraError: PyAV (extra `video`) is not installed.
    """
    path = Path(path)
    wanted = list(times_s)
    if any(later < earlier for earlier, later in itertools.pairwise(wanted)):
        raise DataError(f"{path}: the seconds asked for do not rise; expected them in order")
    with _opened(path) as container, decoding(str(path), "video"):
        stream = container.streams.video[0]
        # Starting threads costs tens of milliseconds, more than a whole small clip does.
        large = stream.width * stream.height >= THREADED_PIXELS
        stream.thread_type = "AUTO" if large else "NONE"
        before: Any = None
        if wanted and wanted[0] > 2 * TOLERANCE_S:
            offset = int((wanted[0] - TOLERANCE_S) / stream.time_base) + (stream.start_time or 0)
            container.seek(max(0, offset), stream=stream, backward=True)
        for frame in container.decode(stream):
            if not wanted:
                return
            now = _second(frame, stream)
            while wanted and now >= wanted[0]:
                earlier = _second(before, stream) if before is not None else -np.inf
                chosen = before if wanted[0] - earlier < now - wanted[0] else frame
                yield _checked(path, chosen, stream, wanted.pop(0))
            before = frame
        if before is None and wanted:
            raise DataError(f"{path}: holds no frames; expected a video that is not empty")
        for time in wanted:
            yield _checked(path, before, stream, time)


def check_clip(path: Path | str, frames: int, width: int, height: int) -> None:
    """Refuse to hold so many frames of this size at a time.

    Raises:
        DataError: More than `MAX_CLIP_PIXELS` pixels.
    """
    if frames * width * height > MAX_CLIP_PIXELS:
        raise DataError(
            f"{path}: {frames} frames of {width} x {height} pixels are more than the {MAX_CLIP_PIXELS} pixels held "
            "at a time; use a smaller copy of the video, or fewer frames"
        )


def _second(frame: Any, stream: Any) -> float:
    """Seconds of a frame from the start of the stream."""
    return float((frame.pts - (stream.start_time or 0)) * stream.time_base) if frame.pts is not None else 0.0


def _checked(path: Path, frame: Any, stream: Any, wanted: float) -> tuple[float, np.ndarray]:
    """Return a frame that is near enough to what was asked for."""
    found = _second(frame, stream)
    # The last frame lasts until the next would have come.
    lasts = float(1 / stream.average_rate) if stream.average_rate else 0.0
    if abs(found - wanted) > max(TOLERANCE_S, lasts) + 1e-6:
        raise DataError(
            f"{path}: no frame near {wanted:g} s, the nearest is at {found:.2f} s; the video is shorter"
        )
    check_size(str(path), frame.width, frame.height, MAX_PIXELS)  # the file's head may say anything
    # Phones film as their sensor lies and write beside it how to turn the pictures, in quarters anticlockwise.
    return found, np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)))


def _opened(path: Path) -> Any:
    """Open a video."""
    av = require("av", "video", "to read videos")
    if not path.is_file():
        raise DataError(f"{path}: no such video")
    options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
    with decoding(str(path), "file", "cannot be read as a video"):
        # Absolute, so that no part of a name is taken for a protocol.
        container = av.open(str(path.absolute()), options=options)
    if not container.streams.video:
        container.close()
        raise DataError(f"{path}: holds no pictures; expected a video")
    stream = container.streams.video[0]
    if stream.codec_context is None:  # something that is no video and looks like one from its first bytes
        container.close()
        raise DataError(f"{path}: cannot be read as a video (nothing here decodes it)")
    try:
        if min(stream.width, stream.height) < 1:
            raise DataError(f"{path}: {stream.width} x {stream.height} pixels; the video is damaged")
        check_size(str(path), stream.width, stream.height, MAX_PIXELS)
    except DataError:
        container.close()
        raise
    return container
