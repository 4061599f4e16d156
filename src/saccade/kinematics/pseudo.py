"""Labels from plain videos as a pipeline of stages: decode, find, depth, lift; on local processes or Ray.

Each stage sees one clip. What passes between them is kept small: masks as bits, depth in half precision; so results
are the same on every engine. Stages with networks take a share of a GPU where there is one, the others run on CPUs.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from saccade.kinematics.draw import stored_path
from saccade.kinematics.engine import Job, Product, Stage, Summary, run_clips
from saccade.kinematics.lift.classical import ClassicalPose
from saccade.kinematics.lift.features import opencv
from saccade.kinematics.lift.network_depth import DepthNetwork
from saccade.kinematics.lift.network_detect import TextDetector
from saccade.kinematics.lift.network_open import Machine
from saccade.kinematics.lift.network_track import DetectAndTrack, MaskTracker, TextTracker
from saccade.kinematics.lift.pipeline import Stack, pseudo_label
from saccade.kinematics.lift.stages import DepthMap, MaskTrack
from saccade.kinematics.pseudo_clips import Frames, Piece, decode, intrinsics_of, plan_clips
from saccade.kinematics.pseudo_files import GivenDepth, GivenMasks
from saccade.kinematics.pseudo_plan import SOURCES, Place, Plan, check_plan, is_network, plan_hash
from saccade.kinematics.records import Track

Depths = tuple[np.ndarray, list[float | None]]
"""(T, H, W) float16 metres and T focal lengths in pixels of the frames."""


@dataclass(frozen=True, eq=False)
class Found:
    """A clip with its masks, as bits."""

    frames: Frames
    names: list[tuple[str, str, float]]
    """track_id, category and score of each thing."""
    shown: list[list[int]]
    """Numbers of the frames in which each thing has a mask."""
    bits: list[np.ndarray]
    """Those masks, (n, H, W / 8) uint8."""
    depths: tuple[Depths, ...] = ()
    """Of each stack."""

    def tracks(self) -> list[MaskTrack]:
        """Masks as the pipeline takes them."""
        count, wide = len(self.frames.images), self.frames.images.shape[2]
        found = []
        for (name, category, score), shown, bits in zip(self.names, self.shown, self.bits, strict=True):
            masks: list[np.ndarray | None] = [None] * count
            for frame, row in zip(shown, np.unpackbits(bits, axis=2, count=wide).astype(bool), strict=True):
                masks[frame] = row
            found.append(MaskTrack(name, category, masks, score))
        return found


class Known:
    """Depth that was measured before, found again by the picture; a `stages.MetricDepth`."""

    def __init__(self, images: np.ndarray, depths: np.ndarray, focals: Sequence[float | None]) -> None:
        """Remember.

        Args:
            images: (T, H, W, 3) uint8.
            depths: (T, H, W) metres.
            focals: T focal lengths, pixels.
        """
        self.depths, self.focals = depths, focals
        self.places = {_digest(image): place for place, image in enumerate(images)}

    def __call__(self, image: np.ndarray) -> DepthMap:
        """Look up; see `stages.MetricDepth`."""
        place = self.places[_digest(image)]
        return DepthMap(self.depths[place].astype(np.float32), self.focals[place])


def run_pseudo(
    source: Path,
    out: Path,
    plan: Plan,
    *,
    place: Place | None = None,
    engine: str = "local",
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Summary, str]:
    """Label videos; what an earlier run with the same plan has finished is not done again.

    Args:
        source: Video or folder of videos.
        out: Folder for parts/, tracks.parquet and rejected.jsonl.
        plan: What to do.
        place: Where networks run.
        engine: local or ray.
        workers: Processes, or CPUs of Ray; with 0 the local engine works in this process.
        progress: Called with the number of finished clips and of all clips.

    Returns:
        What became of the clips, and the hash of everything that the labels depend on.

    Raises:
        ConfigError: A plan that cannot be: nothing that finds things, no depth, networks that do something else.
        DataError: No videos.
        WeightsError: A network that cannot be read.
        MissingExtraError: A package of an extra (pseudo, video, lift, kinematics, scale) is not installed.
    """
    check_plan(plan)
    key = plan_hash(plan)
    jobs: list[Job] = list(plan_clips(source, plan.label))
    stages = make_stages(plan, place or Place(), key, out)
    found = run_clips(jobs, stages, out, config_hash=key, engine=engine, workers=workers, progress=progress)
    return found, key


def make_stages(plan: Plan, place: Place, key: str, out: Path) -> list[Stage]:
    """The pipeline.

    Args:
        plan: What to do.
        place: Where networks run.
        key: Written into the records.
        out: Folder of the set, from which it names the videos.
    """
    depths = [source for source in (plan.depth, plan.second) if source is not None]
    networks = [plan.masks is None, *(is_network(source) for source in depths)]
    # All networks together fill one GPU; each is a pool of its own, which grows where there are more.
    share = 1 / max(1, sum(networks)) if place.device.split(":")[0] == "cuda" else 0.0
    stages = [
        Stage("decode", functools.partial(_decode, plan)),
        Stage("find", _find, start=functools.partial(_open_find, plan, place), gpu=share * networks[0]),
    ]
    for index, source in enumerate(depths):
        opened = functools.partial(_open_depth, source, plan, place)
        name = "depth" if index == 0 else "second depth"
        stages.append(Stage(name, _measure, start=opened, gpu=share * networks[1 + index]))
    return [*stages, Stage("lift", _lift, start=functools.partial(_open_lift, plan, place, key, out))]


def _decode(plan: Plan, piece: Piece) -> Frames:
    return decode(piece, plan.label, plan.size)


def _open_find(plan: Plan, place: Place) -> Callable[[Frames], list[MaskTrack]]:
    """What finds and follows things."""
    names = plan.pseudo.names
    if plan.masks is not None:
        given = GivenMasks(plan.masks)
        return lambda frames: given(frames, names)
    machine = _machine(plan, place)
    assert plan.track is not None
    if plan.detect is None:
        find = TextTracker(plan.track, same_overlap=plan.find.same_overlap, machine=machine)
    else:
        detect = TextDetector(plan.detect, threshold=plan.find.threshold, machine=machine)
        track = MaskTracker(plan.track, same_overlap=plan.find.same_overlap, machine=machine)
        find = DetectAndTrack(detect, track, plan.find.every)
    return lambda frames: find(frames.images, names)


def _find(find: Callable[[Frames], list[MaskTrack]], frames: Frames) -> Found:
    found = Found(frames, [], [], [])
    for track in find(frames):
        masks = [(frame, mask) for frame, mask in enumerate(track.masks) if mask is not None]
        found.names.append((track.track_id, track.category, track.score))
        found.shown.append([frame for frame, _ in masks])
        found.bits.append(np.packbits(np.stack([mask for _, mask in masks]), axis=2))
    return found


def _open_depth(source: str, plan: Plan, place: Place) -> Callable[[Frames], Depths]:
    """What measures depth."""
    if not is_network(source):
        given = GivenDepth(source)

        def read(frames: Frames) -> Depths:
            depth, focal = given(frames)
            return _half(depth), [focal] * len(depth)

        return read
    network = DepthNetwork(source, focal_px=plan.focal_px, machine=_machine(plan, place))

    def measure(frames: Frames) -> Depths:
        focal = None if plan.focal_px is None else float(intrinsics_of(frames, plan.focal_px)[0, 0])
        maps = network.many(list(frames.images), focal)
        return _half(np.stack([found.depth for found in maps])), [found.focal_px for found in maps]

    return measure


def _measure(measure: Callable[[Frames], Depths], found: Found) -> Found:
    if not found.names:  # the last stage says so
        return found
    return dataclasses.replace(found, depths=(*found.depths, measure(found.frames)))


@dataclass(frozen=True)
class _Lift:
    """What the last stage knows."""

    plan: Plan
    key: str
    out: Path
    networks: dict[str, str]
    opencv: Any


def _open_lift(plan: Plan, place: Place, key: str, out: Path) -> _Lift:
    cv2 = opencv()
    if place.threads:
        cv2.setNumThreads(place.threads)
    used = {name: getattr(plan, name) for name in SOURCES}
    return _Lift(plan, key, out, {name: source for name, source in used.items() if source is not None}, cv2)


def _lift(state: _Lift, found: Found) -> Product:
    frames, plan = found.frames, state.plan
    state.opencv.setRNGSeed(plan.seed)
    tracks = found.tracks()
    stacks = [
        Stack(Known(frames.images, *depths), ClassicalPose(), name)
        for depths, name in zip(found.depths, ("first", "second"), strict=False)
    ]
    # Without a thing there is no depth, and nobody asks for it.
    stacks = stacks or [Stack(Known(frames.images[:0], np.empty((0, 0, 0)), []), ClassicalPose())]
    product = pseudo_label(
        frames.piece.clip_id,
        frames.images,
        frames.times_s,
        find=lambda images, names: tracks,
        stack=stacks[0],
        second=stacks[1] if len(stacks) > 1 else None,
        intrinsics=None if plan.focal_px is None else intrinsics_of(frames, plan.focal_px),
        source="video",
        split=plan.split,
        group=frames.piece.name,
        image_paths=[f"{stored_path(frames.piece.path, state.out)}#t={t:.3f}" for t in frames.video_times_s],
        settings=plan.pseudo,
        label_settings=plan.label,
    )
    return Product([_at_full_size(track, frames, state) for track in product.tracks], product.rejected)


def _at_full_size(track: Track, frames: Frames, state: _Lift) -> Track:
    """Boxes and camera in pixels of the video, which the pictures of the record are; and what made the label."""
    ratio = np.array(frames.size) / frames.images.shape[2:0:-1]
    assert track.boxes_2d is not None
    assert track.camera is not None
    matrix = (np.diag([*ratio, 1.0]) @ np.array(track.camera["K"])).tolist()
    return dataclasses.replace(
        track,
        boxes_2d=[box and (np.array(box) * np.tile(ratio, 2)).tolist() for box in track.boxes_2d],
        camera={**track.camera, "K": matrix, "width": frames.size[0], "height": frames.size[1]},
        scale_info={**(track.scale_info or {}), "networks": state.networks, "config_hash": state.key},
    )


def _machine(plan: Plan, place: Place) -> Machine:
    """Where a network runs; a worker keeps to its share of the cores."""
    if place.threads:
        torch.set_num_threads(place.threads)
    return Machine(place.device, plan.dtype, place.batch)


def _half(depth: np.ndarray) -> np.ndarray:
    """Depth in half precision, a twentieth of a per cent; farther than that reaches is far enough."""
    return np.minimum(depth, 60000.0).astype(np.float16)


def _digest(image: np.ndarray) -> bytes:
    return hashlib.blake2b(image.tobytes(), digest_size=16).digest()
