"""Built-in data `clips`: short videos of the synthetic world whose class is how the one moving object moves.

1800 videos of 16 frames in 2 s, 64 x 64 pixels, six classes: straight, arc, stop_and_go, u_turn, reverse and rest.
A ball moves over a textured ground among clutter, seen obliquely from above by a camera that stands still. What the
ball looks like, where its path lies, which way it begins and how far its end is from its start are drawn from the
same distributions for all classes that move. So one frame says next to nothing about the class, and the first frame
together with the last one little more than whether the ball rests: told the exact places of the ball, a random
forest is right in 19 % of all clips from one frame (chance is 17 %), in 39 % from those two, and in 93 % from all.

The clips are a function of `SEED` and their number alone (the bytes of the files also depend on the version of the
video encoder). They are drawn once, into the user's cache folder, in the layout that data of one's own has:
train/CLASS/*.mp4 and val/CLASS/*.mp4. The exact tracks lie beside them, in tracks.jsonl.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np

from saccade.extras import require
from saccade.files import cache_dir, replacing
from saccade.worlds import KINDS, Camera, Clip, Motion, Thing, World, make_world, render
from saccade.worlds.render import ELLIPSOID

CLIPS = "clips"
COUNTS = {"train": 1500, "val": 300}
MOVING = tuple(kind for kind in KINDS if kind != "rest")
SIDE = 64
FRAMES = 16
SECONDS = 2.0
SEED = 57_000
VERSION = 2
"""Part of the folder's name; rises when the clips change."""
REACH_M = (1.4, 2.4)
"""Distance between start and end of every motion but rest."""
SPREAD_M = 1.5
"""How far from the middle of the view, along each axis, the ball is at most at one moment, drawn for each clip."""
MARGIN_M = 0.6
"""Free ground around the path and the ball on it."""
QUALITY = 2
"""Quantiser of the video encoder: nearly lossless."""
TICKS = 10_000
"""Units of time in a second of the file; the encoder allows at most 65535."""


def clips_folder(
    progress: Callable[[int, int], None] | None = None,
    *,
    counts: dict[str, int] | None = None,
    home: Path | None = None,
) -> Path:
    """Return the folder of the built-in clips, drawing them first when they are not there.

    Args:
        progress: Called with (clips drawn, clips in all).
        counts: Clips of each part; the built-in data's own when left out.
        home: Folder to make; in the user's cache when left out.

    Raises:
        MissingExtraError: numba or PyAV (extras `worlds`, `video`) is not installed.
        OSError: The folder cannot be written.
    """
    from saccade.kinematics.records import write_records
    from saccade.kinematics.sources.world import tracks_of

    counts = counts or COUNTS
    home = home or cache_dir() / "data" / f"clips-{VERSION}"
    if (home / "train").is_dir():
        return home
    total, done, tracks = sum(counts.values()), 0, []
    times = moments()
    with replacing(home) as folder:
        for side, count in counts.items():
            for number in range(count):
                kind, clip = draw_clip(side, number)
                name = f"{side}/{kind}/{number:05d}.mp4"
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                write_video(folder / name, clip.images, times)
                paths = [f"{name}#t={time:.6f}" for time in times]
                tracks += tracks_of(clip, name, side, paths)
                done += 1
                if progress is not None:
                    progress(done, total)
        write_records(tracks, folder / "tracks.jsonl")
    return home


def moments() -> np.ndarray:
    """Return the seconds of the frames, (`FRAMES`,): the first shows the start of the motion, the last its end."""
    return np.linspace(0, SECONDS, FRAMES)


def draw_clip(side: str, number: int) -> tuple[str, Clip]:
    """Draw one clip: its class and what the camera sees. `side` is train or val, numbers count from 0."""
    seed = SEED + number + (10_000_000 if side == "val" else 0)
    kind = KINDS[number % len(KINDS)]
    return kind, render(draw_world(kind, seed), moments(), (SIDE, SIDE))


def draw_world(kind: str, seed: int) -> World:
    """Draw a world with one ball that moves in one way.

    Args:
        kind: One of `saccade.worlds.KINDS`.
        seed: Of all the rest, which does not depend on the kind as far as one frame can show.
    """
    rng = np.random.default_rng([seed, SEED])
    base = make_world(seed, seconds=SECONDS, objects=(1, 1), motions=("rest",), cameras=("stand",))
    pitch, height = math.radians(rng.uniform(50, 65)), rng.uniform(4.6, 5.4)
    camera = Camera(base.camera.motion, height, pitch, rng.uniform(0.8, 0.9))
    view = camera.motion.heading
    ahead = np.array([math.cos(view), math.sin(view)])
    target = np.asarray(camera.motion.start) + ahead * height / math.tan(pitch)
    size = float(rng.uniform(0.7, 1.1))
    motion = place_motion(draw_motion(kind, rng), target, rng)
    ball = Thing("ball", ELLIPSOID, (size, size, size), motion, _look(base.objects[0].look, rng))
    path, free = motion.at(np.linspace(0, SECONDS, 33))[0], size / 2 + MARGIN_M
    scenery = tuple(
        thing
        for thing in base.scenery
        if np.linalg.norm(path - np.asarray(thing.motion.start), axis=1).min()
        > free + math.hypot(*thing.size[:2]) / 2
    )
    return dataclasses.replace(base, objects=(ball,), scenery=scenery, camera=camera)


def draw_motion(kind: str, rng: np.random.Generator) -> Motion:
    """Draw a motion of `SECONDS` whose start and end lie as far apart whatever its kind (rest excepted).

    The direction from start to end is uniform over the circle, and the heading at time 0 is that of the motion, which
    a ball does not show. Every motion begins at the origin.
    """
    reach, side, back = rng.uniform(*REACH_M), rng.choice((-1.0, 1.0)), rng.random() < 0.5
    share, where, bend = rng.uniform(0.3, 0.45), rng.uniform(0.25, 0.75), rng.uniform(0.55, 0.95)
    swing, extra = math.radians(rng.uniform(100, 160)), rng.uniform(0.5, 1.0)
    heading = rng.uniform(-math.pi, math.pi)
    pieces: list[tuple[float, float, float]]
    if kind == "rest":
        pieces = [(SECONDS, 0.0, 0.0)]
    elif kind == "straight":
        pieces = [(SECONDS, reach / SECONDS, 0.0)]
    elif kind == "stop_and_go":
        moving = SECONDS * (1 - share)
        speed, first = reach / moving, moving * where
        pieces = [(first, speed, 0.0), (SECONDS * share, 0.0, 0.0), (moving - first, speed, 0.0)]
    elif kind == "arc":
        length = swing * reach / (2 * math.sin(swing / 2))
        pieces = [(SECONDS, length / SECONDS, side * swing / SECONDS)]
    elif kind == "u_turn":
        # The turn's diameter and the difference of the two legs are the sides of a right triangle over `reach`.
        width, gap = reach * bend, reach * math.sqrt(1 - bend**2)
        legs = [extra * reach, extra * reach + gap]
        legs = legs[::-1] if back else legs
        bow = math.pi * width / 2
        speed = (sum(legs) + bow) / SECONDS
        turn = (bow / speed, speed, side * 2 * speed / width)
        pieces = [(legs[0] / speed, speed, 0.0), turn, (legs[1] / speed, speed, 0.0)]
    else:
        away, home = (extra * reach, (1 + extra) * reach) if back else ((1 + extra) * reach, extra * reach)
        speed = (away + home) / SECONDS
        pieces = [(away / speed, speed, 0.0), (home / speed, -speed, 0.0)]
    return Motion(kind, (0.0, 0.0), heading, np.asarray(pieces, dtype=np.float64))


def place_motion(motion: Motion, middle: np.ndarray, rng: np.random.Generator) -> Motion:
    """Put a motion on the ground: at a moment drawn, it is at a place drawn around a middle.

    What rests stands where a ball that moves might be at another moment, so that places do not tell it from the rest.

    Args:
        motion: From `draw_motion`.
        middle: (2,) metres on the ground.
        rng: Draws moment and place.
    """
    ghost, times = motion, rng.choice(moments(), 2)
    if motion.kind == "rest":
        ghost = draw_motion(MOVING[rng.integers(len(MOVING))], rng)
    then, now = ghost.at(times)[0]
    start = middle + rng.uniform(-SPREAD_M, SPREAD_M, 2) - then
    if motion.kind == "rest":
        start = start + now
    return dataclasses.replace(motion, start=(float(start[0]), float(start[1])))


def write_video(path: Path, images: np.ndarray, times_s: np.ndarray) -> None:
    """Write frames (T, H, W, 3) uint8 as an MPEG-4 video that shows each at its second.

    Raises:
        MissingExtraError: PyAV (extra `video`) is not installed.
    """
    av = require("av", "video", "to write videos")
    rate = round((len(times_s) - 1) / float(times_s[-1] - times_s[0])) if len(times_s) > 1 else 1
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.height, stream.width, stream.pix_fmt = *images.shape[1:3], "yuv420p"
        context = stream.codec_context
        context.time_base, context.thread_count = Fraction(1, TICKS), 1
        context.qmin = context.qmax = QUALITY
        for image, time in zip(images, times_s, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = round(TICKS * float(time)), Fraction(1, TICKS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _look(look: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Give the ball a colour of its own that differs from the dull ground."""
    look = look.copy()
    look[:3] = np.roll(
        [rng.uniform(0.75, 1.0), rng.uniform(0.1, 0.5), rng.uniform(0.1, 0.3)], rng.integers(3)
    )
    look[3:6] = 0.6 * look[:3]
    return look
