"""The synthetic world as an imperfect pipeline sees it: rendered depth and masks, spoiled in a known way.

There are no weights in it, so stages that stand for networks give the truth with the flaws that networks have. Pixels
are the only thing that is passed on untouched; everything is drawn from seeds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from saccade.kinematics.lift.classical import ClassicalPose
from saccade.kinematics.lift.features import opencv
from saccade.kinematics.lift.pipeline import Stack
from saccade.kinematics.lift.stages import CameraPose, DepthMap, MaskTrack, Reconstruction
from saccade.kinematics.sources.world import LEAST_AREA_PX
from saccade.worlds import Clip

FAR_M = 150.0
"""Depth that stands for the sky."""


@dataclass(frozen=True)
class Flaws:
    """How far from the truth the stages are. Relative errors are those of the logarithm."""

    pixel_noise: float = 0.07
    """Standard deviation of each measured depth, relative."""
    smooth_bias: float = 0.04
    """Standard deviation of a smooth field drawn for each frame, relative; its grain is a third of the picture."""
    frame_bias: float = 0.03
    """Standard deviation of one factor for each frame, relative."""
    clip_bias: float = 0.0
    """Standard deviation of one factor for the whole clip, relative. Nothing inside the clip can tell it, so it goes
    straight into distances and speeds."""
    outliers: float = 0.10
    """Share of measured depths that have nothing to do with the truth: a half to twice the depth, and more."""
    shrink: int = 4
    """Depth is measured at every so many pixels and drawn large again, as networks do."""
    mask_px: float = 1.0
    """Outlines of masks move by so much (standard deviation), a part common to the frame and a part along it."""
    focal_noise: float = 0.03
    """Standard deviation of the focal length that comes with each frame's depth, relative."""
    scale: tuple[float, float] = (0.2, 5.0)
    """Range of the factor between the reconstruction's unit and the metre."""


@dataclass(frozen=True, eq=False)
class _Seen:
    """Depth of every frame of one clip as a network would measure it, found again by the picture itself."""

    depths: np.ndarray
    """(T, H, W) float32."""
    focals: np.ndarray
    """(T,) pixels."""
    places: dict[bytes, int]

    def place(self, image: np.ndarray) -> int:
        return self.places[_digest(image)]


class WorldDepth:
    """Stage `MetricDepth`: true depth with flaws."""

    def __init__(self, clip: Clip, seed: int, flaws: Flaws | None = None) -> None:
        self._seen = _measure(clip, np.random.default_rng([clip.world.seed, seed, 1]), flaws or Flaws())

    def __call__(self, image: np.ndarray) -> DepthMap:
        """Measure; see `stages.MetricDepth`."""
        place = self._seen.place(image)
        return DepthMap(self._seen.depths[place], float(self._seen.focals[place]))


class WorldPose:
    """Stage `CameraPose`: the classical stage on depth of its own, in a unit of its own.

    So it is with reconstruction networks: their depth is not that of the metric network, and its unit is unknown.
    """

    def __init__(
        self, clip: Clip, seed: int, flaws: Flaws | None = None, inner: CameraPose | None = None
    ) -> None:
        flaws = flaws or Flaws()
        rng = np.random.default_rng([clip.world.seed, seed, 2])
        self.factor = float(np.exp(rng.uniform(*np.log(flaws.scale))))
        self._seen, self._inner = _measure(clip, rng, flaws), inner or ClassicalPose()

    def __call__(
        self, images: np.ndarray, moving: np.ndarray, depths: np.ndarray, intrinsics: np.ndarray
    ) -> Reconstruction:
        """Reconstruct; see `stages.CameraPose`."""
        own = np.stack([self._seen.depths[self._seen.place(image)] for image in images])
        return self._inner(images, moving, np.float32(self.factor) * own, intrinsics)


class WorldMasks:
    """Stage `Find`: true masks with outlines that are a little off. All objects are found, whatever the names."""

    def __init__(self, clip: Clip, seed: int, flaws: Flaws | None = None) -> None:
        flaws = flaws or Flaws()
        rng = np.random.default_rng([clip.world.seed, seed, 3])
        self._tracks = []
        for number, thing in enumerate(clip.world.objects, 1):
            masks = [_rough(frame == number, rng, flaws.mask_px) for frame in clip.instances]
            if any(mask is not None for mask in masks):
                self._tracks.append(MaskTrack(str(number), thing.name, masks))

    def __call__(self, images: np.ndarray, names: Sequence[str]) -> list[MaskTrack]:
        """Find; see `stages.Find`."""
        return list(self._tracks)


def world_stack(clip: Clip, seed: int, flaws: Flaws | None = None, inner: CameraPose | None = None) -> Stack:
    """Depth and camera path of a clip with the flaws of one seed; other seeds are other networks."""
    return Stack(WorldDepth(clip, seed, flaws), WorldPose(clip, seed, flaws, inner), f"world-{seed}")


def _digest(image: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16).digest()


def _measure(clip: Clip, rng: np.random.Generator, flaws: Flaws) -> _Seen:
    """Spoil the depth of all frames of a clip."""
    height, width = clip.depth.shape[1:]
    whole = rng.normal() * flaws.clip_bias
    found = np.stack([_spoil(depth, rng, flaws, whole) for depth in clip.depth])
    focal = clip.intrinsics[0, 0] * np.exp(flaws.focal_noise * rng.standard_normal(len(found)))
    # Of equal frames the first one counts: a network gives the same for the same picture.
    places = {_digest(image): place for place, image in reversed(list(enumerate(clip.images)))}
    return _Seen(found.reshape(-1, height, width), focal, places)


def _spoil(depth: np.ndarray, rng: np.random.Generator, flaws: Flaws, whole: float) -> np.ndarray:
    """Measure the depth (H, W) of one frame at a few pixels, wrongly, and draw it large again."""
    cv2 = opencv()
    height, width = depth.shape
    half = flaws.shrink // 2
    few = np.minimum(depth[half :: flaws.shrink, half :: flaws.shrink], FAR_M).astype(np.float64)
    size = few.shape[::-1]
    grain = cv2.resize(rng.standard_normal((4, 4)), size, interpolation=cv2.INTER_CUBIC)
    # Interpolation between grid points takes away some of the spread, which is put back.
    error = (
        whole + flaws.frame_bias * rng.normal() + flaws.smooth_bias * grain / max(float(grain.std()), 1e-9)
    )
    error = error + flaws.pixel_noise * rng.standard_normal(few.shape)
    wild = rng.random(few.shape) < flaws.outliers
    error = np.where(
        wild, rng.choice((-1.0, 1.0), few.shape) * rng.uniform(np.log(2), np.log(5), few.shape), error
    )
    # As far apart as they were measured: the first sample is at half a step.
    rows = (np.arange(height, dtype=np.float32) - half) / flaws.shrink
    columns = (np.arange(width, dtype=np.float32) - half) / flaws.shrink
    grid_x, grid_y = np.meshgrid(columns, rows)
    few = (few * np.exp(error)).astype(np.float32)
    return cv2.remap(few, grid_x, grid_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _rough(mask: np.ndarray, rng: np.random.Generator, spread: float) -> np.ndarray | None:
    """Move the outline of a mask (H, W) in and out by some pixels."""
    if np.count_nonzero(mask) < LEAST_AREA_PX:
        return None
    cv2 = opencv()
    kind = mask.astype(np.uint8)
    inside = cv2.distanceTransform(kind, cv2.DIST_L2, 5)
    outside = cv2.distanceTransform(1 - kind, cv2.DIST_L2, 5)
    height, width = mask.shape
    rows, columns = np.nonzero(mask)
    # The grain of the wobble is a fifth of the object: long stretches of the outline are off together.
    reach = max(np.ptp(rows), np.ptp(columns)) + 1
    cells = (max(2, int(5 * width / reach)), max(2, int(5 * height / reach)))
    wave = cv2.resize(rng.standard_normal((min(cells[1], height), min(cells[0], width))), (width, height))
    shift = spread * (0.7 * rng.normal() + 0.7 * wave)
    found = np.where(mask, inside - 0.5, 0.5 - outside) + shift > 0
    return found if np.count_nonzero(found) >= LEAST_AREA_PX else None
