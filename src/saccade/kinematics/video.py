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

VIDEOS = frozenset(
    {
        *(".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov"),
        *(".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv"),
    }
)
"""Files that are taken for videos, by the end of their name."""
TOLERANCE_S = 0.25
"""Farthest frame from a wanted second."""
MAX_PIXELS = 1 << 26
THREADED_PIXELS = 1280 * 720
"""Smaller videos are decoded by one thread."""
MAX_FRAMES = 1 << 20
"""Longest video that is looked at, 9.7 hours at 30 frames a second."""


@dataclass(frozen=True)
class VideoFacts:
    """What a video says of itself."""

    width: int
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
    with _opened(Path(path)) as container:
        stream = container.streams.video[0]
        length = (
            stream.duration * stream.time_base if stream.duration else (container.duration or 0) / 1_000_000
        )
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
    av = require("av", "video", "to read videos")
    with _opened(path) as container:
        stream = container.streams.video[0]
        try:
            packets = itertools.islice(container.demux(stream), MAX_FRAMES + 2)
            seconds = [_second(packet, stream) for packet in packets if packet.pts is not None]
        except av.error.FFmpegError as error:
            raise DataError(f"{path}: cannot be read to its end ({str(error)[:80]})") from None
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
        The true second of each frame and the frame, (height, width, 3) uint8 RGB. A frame that is nearest to two
        wanted seconds comes twice.

    Raises:
        DataError: No such file, no video, no frames, a damaged one, or no frame near a second.
        MissingExtraError: PyAV (extra `video`) is not installed.
    """
    path = Path(path)
    wanted = list(times_s)
    if any(later < earlier for earlier, later in itertools.pairwise(wanted)):
        raise DataError(f"{path}: the seconds asked for do not rise; expected them in order")
    av = require("av", "video", "to read videos")
    with _opened(path) as container:
        stream = container.streams.video[0]
        # Starting threads costs tens of milliseconds, more than a whole small clip does.
        large = stream.width * stream.height >= THREADED_PIXELS
        stream.thread_type = "AUTO" if large else "NONE"
        before: Any = None
        try:
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
        except av.error.FFmpegError as error:
            raise DataError(f"{path}: cannot be decoded ({str(error)[:80]})") from None
        if before is None and wanted:
            raise DataError(f"{path}: holds no frames; expected a video that is not empty")
        for time in wanted:
            yield _checked(path, before, stream, time)


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
    return found, frame.to_ndarray(format="rgb24")


def _opened(path: Path) -> Any:
    """Open a video."""
    av = require("av", "video", "to read videos")
    if not path.is_file():
        raise DataError(f"{path}: no such video")
    try:
        # Absolute, so that no part of a name is taken for a protocol.
        container = av.open(str(path.absolute()))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a video ({str(error)[:80]})") from None
    if not container.streams.video:
        container.close()
        raise DataError(f"{path}: holds no pictures; expected a video")
    stream = container.streams.video[0]
    if stream.codec_context is None:  # something that is no video and looks like one from its first bytes
        container.close()
        raise DataError(f"{path}: cannot be read as a video (nothing here decodes it)")
    if stream.width * stream.height > MAX_PIXELS or stream.width < 1:
        container.close()
        raise DataError(f"{path}: {stream.width} x {stream.height} pixels; expected at most {MAX_PIXELS}")
    return container
