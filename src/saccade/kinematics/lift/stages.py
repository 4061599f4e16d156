"""What passes between the stages of the pseudo-label pipeline, and the one small interface of each.

A stage is anything callable with the right arguments, so that a network can be exchanged for another one, or for
none. Pixel centres are at whole numbers; masks and depth maps have the size of the frames.

Shape legend: T frames, H by W pixels, m points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np


@dataclass(frozen=True, eq=False)
class Detection:
    """One object in one frame."""

    box: tuple[float, float, float, float]
    """x0 y0 x1 y1 in pixels; corners are whole numbers, so the frame reaches from 0 to W."""
    label: str
    score: float


@dataclass(frozen=True, eq=False)
class MaskTrack:
    """One object through a clip."""

    track_id: str
    category: str
    masks: list[np.ndarray | None]
    """T masks (H, W) bool; None where it is not seen."""
    score: float = 1.0


@dataclass(frozen=True, eq=False)
class DepthMap:
    """Depth along the optical axis, as a network gives it."""

    depth: np.ndarray
    """(H, W) float32 metres; not finite where there is none."""
    focal_px: float | None = None
    """Focal length that the network believes in, in pixels of the frame."""


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """Where the camera was, and points at rest; in one frame, right up to one factor."""

    world_from_camera: np.ndarray
    """(T, 4, 4) float64."""
    intrinsics: np.ndarray
    """(3, 3) float64, pixels."""
    pixels: list[np.ndarray]
    """T arrays (m, 2): where points at rest are seen, x and y."""
    depths: list[np.ndarray]
    """T arrays (m,): their depth along the axis, in units of the reconstruction."""
    points: np.ndarray
    """(p, 3): points at rest in the reconstruction's world."""
    up: np.ndarray
    """(3,) unit vector, against gravity."""
    reprojection_px: float
    """Median distance between where points at rest are seen and where they should be."""
    notes: dict[str, float] = field(default_factory=dict)
    """What the stage has to say of itself; goes into the record."""


class Detect(Protocol):
    """Finds things by their names in one frame."""

    def __call__(self, image: np.ndarray, names: Sequence[str]) -> list[Detection]:
        """Find.

        Args:
            image: (H, W, 3) uint8 RGB.
            names: Such as "car", "person".
        """
        ...


class TrackMasks(Protocol):
    """Follows detected things through a clip."""

    def __call__(self, images: np.ndarray, found: dict[int, list[Detection]]) -> list[MaskTrack]:
        """Follow.

        Args:
            images: (T, H, W, 3) uint8 RGB.
            found: Detections by frame number.
        """
        ...


class Find(Protocol):
    """From names to masks through a clip: a detector and a tracker, or one network that does both."""

    def __call__(self, images: np.ndarray, names: Sequence[str]) -> list[MaskTrack]:
        """Find and follow.

        Args:
            images: (T, H, W, 3) uint8 RGB.
            names: Such as "car", "person".
        """
        ...


class MetricDepth(Protocol):
    """Depth of one frame in metres."""

    def __call__(self, image: np.ndarray) -> DepthMap:
        """Measure.

        Args:
            image: (H, W, 3) uint8 RGB.
        """
        ...


class CameraPose(Protocol):
    """The camera's path and points at rest, up to one factor."""

    def __call__(
        self, images: np.ndarray, moving: np.ndarray, depths: np.ndarray, intrinsics: np.ndarray
    ) -> Reconstruction:
        """Reconstruct.

        Args:
            images: (T, H, W, 3) uint8 RGB.
            moving: (T, H, W) bool: what may move, and is left out.
            depths: (T, H, W) float32: depth of each frame in any one unit; stages with depth of their own ignore it.
            intrinsics: (3, 3) pixels.

        Raises:
            ClipRejected: The clip cannot be reconstructed.
        """
        ...


class Lift(Protocol):
    """Where one object was, in metres, in the world of the reconstruction."""

    def __call__(self, track: MaskTrack, scene: MetricScene) -> Placed:
        """Place.

        Args:
            track: Of the object.
            scene: Everything that is known of the clip.

        Raises:
            ClipRejected: The object cannot be placed.
        """
        ...


@dataclass(frozen=True, eq=False)
class MetricScene:
    """A clip with its geometry in metres: what a lifting stage works with."""

    images: np.ndarray
    """(T, H, W, 3) uint8 RGB."""
    times_s: np.ndarray
    """(T,) seconds."""
    depths: np.ndarray
    """(T, H, W) float32: metric depth, drawn to the reconstruction frame by frame."""
    world_from_camera: np.ndarray
    """(T, 4, 4) metres."""
    intrinsics: np.ndarray
    """(3, 3) pixels."""
    up: np.ndarray
    """(3,) unit vector."""
    ground_m: float | None = None
    """Height of the world's origin above the ground, metres; the ground is where up . X + ground_m = 0. None where no
    ground was found."""


@dataclass(frozen=True, eq=False)
class Placed:
    """Positions of one object."""

    points: np.ndarray
    """(T, 3) metres in the world; NaN where it could not be placed."""
    method: str
    """How most of them came about."""
    notes: dict[str, float] = field(default_factory=dict)
    """What the stage has to say of itself."""


REASONS = {
    # The clip.
    "nothing_found": "no object of the names asked for",
    "too_few_features": "too little texture at rest for the camera's path",
    "lost_camera": "a frame fits no point of the frames before it",
    "background_moves": "what should be at rest is not where the path puts it",
    "no_scale": "no pixel tells the scale",
    "unsteady_scale": "the frames' scales disagree",
    "reversal_differs": "the clip played backwards gives another path",
    # One object.
    "too_few_pixels": "no mask is large enough to be placed",
    "too_short": "placed at too few grid points in a row",
    "hardly_seen": "too low in the picture for too long",
    "at_border": "cut off by the border of the picture too often",
    "mask_slips": "the mask's area jumps",
    "depth_out_of_range": "nearer or farther than depth can be trusted",
    "too_fast": "a step faster than such things move",
    "accelerates": "a change of velocity that such things do not make",
    "not_seen_moving": "the label says that it moves and the pixels do not",
    "second_stack": "the second stack refuses the clip",
    "status_disagrees": "it moves for one stack and not for the other",
    "distance_disagrees": "two stacks, two distances",
    "hour_disagrees": "two stacks, two end hours",
}
"""Keys that a pseudo-label's rejection may have, and what they mean."""


class ClipRejected(Exception):
    """A clip or an object that gets no label; `reason` is a key of `REASONS`, the text says more."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason
