"""Every number that a pseudo-label depends on beyond the definitions of labels.

The published pipeline's thresholds are not public, so each of these is a decision of ours with a name. Limits that
labels of all kinds share (grid, shortest run, spread of the scale, farthest depth) are in `kinematics.settings`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from saccade.errors import ConfigError
from saccade.files import within
from saccade.settings import check


@dataclass(frozen=True)
class PseudoSettings:
    """How objects are placed, and which clips and tracks are refused."""

    names: tuple[str, ...] = ("car", "truck", "bus", "motorcycle", "bicycle", "person")
    """What is looked for in the pictures."""
    people: tuple[str, ...] = ("person", "pedestrian", "runner", "player")
    """Of those, the ones that the lower limit of speed is for."""

    lift: Literal["rigid", "barycentre"] = "rigid"
    """"rigid": the motion of the whole body, from points followed on it, its outline, its depth and the ground.
    "barycentre": the middle of the visible surface frame by frame, smoothed; simple, and biased by half a body."""
    erode_px: Annotated[int, within(0)] = 1
    """Masks are narrowed by so much before depth is read, pixels."""
    trim_share: Annotated[float, within(0, below=0.5)] = 0.10
    """Share of the nearest and of the farthest depths inside a mask that is left out."""
    min_pixels: Annotated[int, within(0)] = 30
    """A smaller mask does not place its object in that frame."""
    smooth: bool = True
    """Barycentres: running median of 3, then mean of 3, on the grid."""

    max_reprojection_px: Annotated[float, within(0)] = 2.0
    """Clip: median distance of points at rest from where the camera's path puts them."""
    max_reversal_gap: Annotated[float, within(0)] = 0.10
    """Clip: the camera's path from the clip played backwards may differ by this share of its length; 0 leaves the
    check, and its time, out."""
    reversal_min_m: Annotated[float, within(0)] = 1.0
    """Clip: a camera that moves less has no length to compare, metres."""

    max_area_change: Annotated[float, within(0)] = 3.0
    """Track: ratio of mask areas in neighbouring grid points, from which on the mask has slipped."""
    max_speed_mps: Annotated[float, within(0)] = 60.0
    """Track: fastest step."""
    max_speed_people_mps: Annotated[float, within(0)] = 12.0
    """Track: fastest step of people."""
    max_acceleration_mps2: Annotated[float, within(0)] = 12.0
    """Track: change of velocity between neighbouring steps."""
    min_depth_m: Annotated[float, within(0)] = 2.0
    """Track: nearest median depth in any frame."""
    max_depth_m: Annotated[float, within(0)] = 60.0
    """Track: farthest median depth in any frame."""
    dynamic_px: Annotated[float, within(0)] = 1.5
    """Track: a pixel that is so far from where it would be at rest has moved."""
    min_dynamic_share: Annotated[float, within(0)] = 0.3
    """Track: share of pixels on the object that have moved, of steps in which its label says so."""
    max_border_share: Annotated[float, within(0)] = 0.4
    """Track: share of its frames in which the mask touches the border of the picture."""

    agree_distance: Annotated[float, within(0)] = 0.20
    """Second opinion: the two distances differ by at most this share of their mean."""
    agree_hours: Annotated[int, within(0)] = 1
    """Second opinion: the two end hours differ by at most so many."""

    def __post_init__(self) -> None:
        check(self)
        if not self.names:
            raise ConfigError("names is empty; name at least one kind of thing, such as car")


DEFAULT_PSEUDO = PseudoSettings()
