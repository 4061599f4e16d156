"""Every number that a label, a selection or a score depends on, in one place.

The paper's own thresholds are not public, so each of these is a decision of ours with a name.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from saccade.errors import ConfigError
from saccade.files import within
from saccade.settings import check, make

LONGEST_S = 86_400.0
"""No clip, scene or log is longer, seconds."""
MOST_POINTS = 100_000
"""Of one clip."""


@dataclass(frozen=True)
class Settings:
    """Definitions of labels, rules of selection and bands of scoring."""

    dt: Annotated[float, within(above=0)] = 0.5
    """Seconds between the points of a path."""
    max_points: Annotated[int, within(2, MOST_POINTS)] = 40
    """Points of a clip; 40 points are 39 steps, 19.5 s."""
    min_points: Annotated[int, within(2, MOST_POINTS)] = 4
    """A shorter run of points has no label."""
    max_gap_s: Annotated[float, within(0)] = 1.0
    """Widest hole between two samples that is bridged by a straight line, seconds."""
    static_radius_m: Annotated[float, within(0)] = 1.0
    """An object that stays nearer than this to its first point stands still, metres."""
    min_step_m: Annotated[float, within(0)] = 0.25
    """A shorter horizontal step has no direction, metres."""
    cmp_ratio: Annotated[float, within(1)] = 1.2
    """A winner has at least this many times the loser's value."""
    cmp_abs_m: Annotated[float, within(0)] = 1.0
    """And is this much ahead, metres."""
    cmp_abs_kmh: Annotated[float, within(0)] = 1.0
    """And is this much ahead, km/h."""
    same_max_deg: Annotated[float, within(0)] = 30.0
    """Two headings up to this angle apart are the same, degrees."""
    diff_min_deg: Annotated[float, within(0)] = 60.0
    """From this angle on they are different, degrees."""
    min_disp_m: Annotated[float, within(0)] = 0.5
    """Shortest net way within a window that has a direction, metres."""
    dir_run_min_s: Annotated[float, within(0)] = 1.0
    """Shortest stretch of one clock hour that is asked for, seconds."""
    up: tuple[float, float, float] = (0.0, 0.0, 1.0)
    """Up axis of the world where a track does not state its own."""
    direction_profile: Literal["signed", "paper_unsigned"] = "signed"
    """"signed": clockwise from above after the first moving step. "paper_unsigned": the published arccos against the
    first step, which cannot tell left from right; for comparison only."""

    min_box_height_px: Annotated[float, within(0)] = 24.0
    """Selection: lowest drawn box, pixels."""
    min_shown_share: Annotated[float, within(0)] = 0.6
    """Selection: share of the run's frames in which the object must be shown that large."""
    min_visibility: Annotated[int, within(0)] = 2
    """Selection: lowest nuScenes visibility level (2 is 40-60 %)."""
    min_visibility_share: Annotated[float, within(0)] = 0.5
    """Selection: share of the run's frames with at least that level."""
    min_sensor_points: Annotated[int, within(0)] = 1
    """Selection: measured points inside the box (nuScenes: LiDAR and radar together)."""
    min_interior_points: Annotated[int, within(0)] = 5
    """Selection: the same for Argoverse 2."""
    min_points_share: Annotated[float, within(0)] = 0.5
    """Selection: share of the run's frames with at least so many points."""
    max_cover: Annotated[float, within(0)] = 0.5
    """Selection: a pair is refused when one box covers more than this share of the other in any frame."""

    max_depth_m: Annotated[float, within(0)] = 80.0
    """Scale: pixels whose metric depth is not below this are left out, metres."""
    max_scale_spread: Annotated[float, within(0)] = 0.15
    """Scale: largest median absolute deviation of the frames' scales, relative to the clip's."""

    band: Annotated[float, within(0)] = 0.25
    """Scoring: relative error still right for distances and speeds; the band is closed."""
    min_iou: Annotated[float, within(0)] = 0.5
    """Scoring: overlap of intervals from which on an answer is right."""

    def __post_init__(self) -> None:
        _check_up(self.up)
        object.__setattr__(self, "up", tuple(float(part) for part in self.up))
        check(self)
        if self.min_points > self.max_points:
            raise ConfigError(
                f"min_points is {self.min_points} and max_points {self.max_points}, which makes no path; expected "
                "min_points <= max_points"
            )
        if self.same_max_deg > self.diff_min_deg:
            raise ConfigError(
                f"same_max_deg is {self.same_max_deg} and diff_min_deg {self.diff_min_deg}; expected same_max_deg <= "
                "diff_min_deg"
            )

    @property
    def clip_s(self) -> float:
        """Seconds that the grid of one clip spans, from its first point to its last."""
        return (self.max_points - 1) * self.dt

    @property
    def config_hash(self) -> str:
        """Twelve hexadecimal digits that change with any setting."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def make_settings(**values: Any) -> Settings:
    """Make settings from names given by a user.

    Raises:
        ConfigError: A name that no setting has, or a value out of its range.
    """
    return make(Settings, values, "settings")


def _check_up(value: Any) -> None:
    """Refuse an up axis without a direction."""
    try:
        parts = [float(part) for part in value]
    except (TypeError, ValueError):
        parts = []
    if len(parts) != 3 or not all(map(math.isfinite, parts)) or math.hypot(*parts) < 1e-9:
        raise ConfigError(
            f"up is {value!r}; expected three finite numbers that are not all zero, such as (0, 0, 1)"
        )


DEFAULT = Settings()
"""Settings of every published example."""
