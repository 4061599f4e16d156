"""Clips of the synthetic world that teach motion: rendered once, from seeds, into files that are read by place.

Every clip has a rig of its own. Camera heights and focal lengths are cut into bands, every other one for training and
the rest for measuring, so that a network is always measured on rigs whose like it has never seen.

A set is a folder of chunks (`images-00012.npy`, `observations-00012.npy`, `tracks-00012.jsonl`) with
`set.json`, which says how to draw it again. A set that was not finished goes on with the chunks that are missing.

Shape legend: T frames, H by W pixels, S numbers seen of a frame.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch

from motion_demo.network import observations_of
from saccade.data.pool import writers
from saccade.errors import ConfigError, DataError
from saccade.files import convert, read_json, replacing, within, write_text, writing
from saccade.files.arrays import map_array
from saccade.kinematics.records import Track, read_tracks, write_records
from saccade.kinematics.settings import Settings, make_settings
from saccade.kinematics.sources.world import tracks_of
from saccade.settings import check
from saccade.worlds import CAMERAS, Clip, make_world, render
from saccade.worlds.world import World

CHUNK = 256
"""Clips of one file."""
PER_SEED = 10_000_000
"""Worlds of one seed of a set."""
HEIGHTS_M = (1.2, 1.5, 1.8, 2.1, 2.4, 2.7, 3.0)
"""Edges of the bands of camera heights, metres: the first, third and fifth band are for training."""
FOCALS = (0.65, 0.75, 0.85, 0.95, 1.05, 1.15, 1.25)
"""Edges of the bands of focal lengths, shares of the picture's width, dealt out in the same way."""
RIGS = ("train", "new")
Rigs = Literal["train", "new"]
Labels = Literal["truth", "pixels", "both"]
LEVELS: dict[str, dict[str, Any]] = {
    "easy": {"objects": (1, 1), "cameras": ("stand",), "distance_m": (3.5, 8.0)},
    "full": {"objects": (2, 4), "cameras": CAMERAS, "distance_m": (4.0, 16.0)},
}
"""The curriculum: one large object before a still camera, then several before one that drives and turns."""
MOTIONS = ("arc", "arc", "arc", "arc", "straight", "stop_and_go", "u_turn", "reverse", "rest")
"""Half of what moves turns, so that no clock hour is the answer to most questions."""
MOST_OBJECTS = 4
VISIBLE = 0.85
"""An object's centre is inside the picture for that share of the clip, at least."""


@dataclass(frozen=True)
class MotionPlan:
    """How a set is drawn; equal plans give equal sets."""

    clips: Annotated[int, within(1, PER_SEED)] = 1000
    seed: Annotated[int, within(0, 10**6 - 1)] = 0
    rigs: Rigs = "train"
    level: Literal["easy", "full"] = "full"
    """Of `LEVELS`."""
    frames: Annotated[int, within(4, 40)] = 10
    """Half a second apart."""
    size: Annotated[int, within(32, 1024, multiple_of=4)] = 96
    """Width in pixels; three quarters as high."""
    labels: Labels = "truth"
    """truth; pixels, as `motion_demo.pixels` measures them; or both: the truth of every other clip."""

    def __post_init__(self) -> None:
        check(self)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(T, H, W, 3) of a clip."""
        return self.frames, 3 * self.size // 4, self.size, 3

    @property
    def settings(self) -> Settings:
        """Definitions of labels and rules of selection, which small pictures and short clips ask for."""
        return make_settings(
            max_points=self.frames, min_points=self.frames, min_box_height_px=4.0, min_shown_share=0.8
        )


def draw_world(plan: MotionPlan, number: int) -> World:
    """Draw the world of one clip, with a rig out of the plan's bands."""
    random = np.random.default_rng([plan.seed, number, 0x816])
    first = RIGS.index(plan.rigs)
    high, far = (2 * int(random.integers(3)) + first for _ in range(2))
    return make_world(
        plan.seed * PER_SEED + number,
        seconds=0.5 * (plan.frames - 1),
        visible=VISIBLE,
        motions=MOTIONS,
        height_m=(HEIGHTS_M[high], HEIGHTS_M[high + 1]),
        focal=(FOCALS[far], FOCALS[far + 1]),
        **LEVELS[plan.level],
    )


def draw_clip(plan: MotionPlan, number: int) -> Clip:
    """Render one clip of a set."""
    _, height, width, _ = plan.shape
    return render(draw_world(plan, number), 0.5 * np.arange(plan.frames), (height, width))


def clip_name(plan: MotionPlan, number: int) -> str:
    """Name of one clip of a set, which no other set has."""
    return f"motion-{plan.rigs}-{plan.level}-{plan.seed}-{number:07d}"


def clip_number(name: str) -> int:
    """Place of a clip in its set, by its name."""
    return int(name.rpartition("-")[2])


def label_clip(plan: MotionPlan, number: int, clip: Clip) -> list[Track]:
    """Return the tracks of a clip by the plan's labels; the pixel pipeline may have none."""
    name, split = clip_name(plan, number), "train" if plan.rigs == "train" else "val"
    if plan.labels == "truth" or (plan.labels == "both" and number % 2 == 0):
        return tracks_of(clip, name, split)
    from motion_demo.pixels import measured_tracks

    return measured_tracks(
        clip.world, clip.times_s, name, width=plan.size, split=split, settings=plan.settings
    )


def draw_set(
    folder: Path | str,
    plan: MotionPlan,
    *,
    workers: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> MotionSet:
    """Render what is missing of a set.

    Args:
        folder: Of the set; made when absent.
        plan: How it is drawn.
        workers: Processes; 0: this one.
        progress: Called with the clips done so far.

    Raises:
        ConfigError: The folder holds a set by another plan, or another process is writing there.
        MissingExtraError: numba (extra `worlds`) is not installed.
    """
    with writing(folder, "drawing clips"):
        return _draw_held(Path(folder), plan, workers, progress)


def _draw_held(folder: Path, plan: MotionPlan, workers: int, progress: Callable[[int], None]) -> MotionSet:
    """As `draw_set`, in a folder whose lock is held."""
    said, wanted = folder / "set.json", json.dumps(dataclasses.asdict(plan))
    if said.is_file():
        there = dataclasses.asdict(_read_plan(folder))
        # A set may grow: its first clips stay as they are.
        if {**there, "clips": plan.clips} != json.loads(wanted):
            raise ConfigError(f"{folder} holds a set drawn by {there}; choose another folder, or remove it")
    write_text(said, wanted + "\n")
    (folder / "scenes.npz").unlink(missing_ok=True)
    places = range(-(-plan.clips // CHUNK))
    done = plan.clips

    def length(place: int) -> int:
        return min(CHUNK, plan.clips - place * CHUNK)

    missing = [place for place in places if not _is_whole(folder, place, length(place))]
    done -= sum(length(place) for place in missing)
    progress(done)
    if workers > 1:
        with writers(workers) as pool:
            jobs = [pool.submit(_draw_chunk, folder, plan, place) for place in missing]
            for place, job in zip(missing, jobs, strict=True):
                job.result()
                progress(done := done + length(place))
    else:
        for place in missing:
            _draw_chunk(folder, plan, place)
            progress(done := done + length(place))
    return MotionSet(folder)


def _files(folder: Path, place: int) -> tuple[Path, Path, Path]:
    """Images, observations and tracks of a chunk."""
    return (
        folder / f"images-{place:05d}.npy",
        folder / f"observations-{place:05d}.npy",
        folder / f"tracks-{place:05d}.jsonl",
    )


def _is_whole(folder: Path, place: int, length: int) -> bool:
    """Whether a chunk is there, and as long as it should be (the last one of a set that grew is not)."""
    files = _files(folder, place)
    if not all(file.is_file() for file in files):
        return False
    try:
        return map_array(files[0]).shape[:1] == (length,)
    except DataError:
        return False


def _draw_chunk(folder: Path, plan: MotionPlan, place: int) -> None:
    """Render one chunk; the tracks come last, so that a chunk with tracks is whole."""
    numbers = range(place * CHUNK, min(plan.clips, (place + 1) * CHUNK))
    images = np.empty((len(numbers), *plan.shape), np.uint8)
    tracks: list[Track] = []
    for row, number in enumerate(numbers):
        clip = draw_clip(plan, number)
        images[row] = clip.images
        tracks += label_clip(plan, number, clip)
    pictures, seen, written = _files(folder, place)
    written.unlink(missing_ok=True)
    for path, values in ((pictures, images), (seen, see(images))):
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.save(file, values)
    write_records(tracks, written)


def see(images: np.ndarray) -> np.ndarray:
    """See clips (N, T, H, W, 3) uint8 forwards and backwards in time: (N, 2, T, S) float16, see `observations_of`."""
    found = []
    for clip in images:
        colours = torch.from_numpy(clip).permute(0, 3, 1, 2).float() / 127.5 - 1
        found.append(observations_of(torch.stack([colours, colours.flip(0)])).half().numpy())
    return np.stack(found)


def _read_plan(folder: Path) -> MotionPlan:
    """Read how a set is drawn.

    Raises:
        DataError: No such set, or a damaged `set.json`.
    """
    try:
        values = read_json(folder / "set.json", dict[str, Any])
        known = [field.name for field in dataclasses.fields(MotionPlan)]
        if foreign := [name for name in values if name not in known]:
            raise DataError(f"set.json has {foreign[0][:40]!r}, which no plan has")
        return convert(values, MotionPlan, where="set.json")
    except DataError as error:
        raise DataError(
            f"{folder}: no set of motion clips ({error}); expected a folder of the motion demonstration or `draw_set`"
        ) from None


class MotionSet:
    """A set as it lies on disk: clips by number."""

    def __init__(self, folder: Path | str) -> None:
        """Open a set.

        Args:
            folder: From `draw_set`.

        Raises:
            DataError: No such set, or one that was not finished.
        """
        self.folder = Path(folder)
        self.plan = _read_plan(self.folder)
        count = -(-self.plan.clips // CHUNK)
        files = [file for place in range(count) for file in _files(self.folder, place)]
        if lost := [file for file in files if not file.is_file()]:
            raise DataError(
                f"{lost[0]}: is missing; expected {count} chunks, so draw the set to its end first"
            )
        self._chunks = [map_array(_files(self.folder, place)[0]) for place in range(count)]
        self._observations = [map_array(_files(self.folder, place)[1]) for place in range(count)]
        for place, (images, observations) in enumerate(zip(self._chunks, self._observations, strict=True)):
            clips = min(CHUNK, self.plan.clips - place * CHUNK)
            shape = (clips, *self.plan.shape)
            seen = observations.shape[:3] == (clips, 2, self.plan.frames) and observations.ndim == 4
            if (
                images.shape != shape
                or images.dtype != np.uint8
                or not seen
                or observations.dtype != np.float16
            ):
                raise DataError(
                    f"{_files(self.folder, place)[0]}: frames of shape {images.shape} and observations of shape "
                    f"{observations.shape}; expected {shape} and as many; remove both and draw the set again"
                )

    def __len__(self) -> int:
        return self.plan.clips

    def images(self, number: int) -> np.ndarray:
        """Return the frames of a clip, (T, H, W, 3) uint8."""
        return np.array(self._chunks[number // CHUNK][number % CHUNK])

    def observations(self, number: int, *, backwards: bool = False) -> np.ndarray:
        """Return what is seen of a clip, or of the clip run backwards, (T, S) float32."""
        return self._observations[number // CHUNK][number % CHUNK, int(backwards)].astype(np.float32)

    def tracks(self) -> Iterator[Track]:
        """Yield the tracks of all clips, in order."""
        for place in range(len(self._chunks)):
            yield from read_tracks(_files(self.folder, place)[2])
