"""Which placed objects keep their label: rules on the mask, the path, and the pixels that should show the motion.

Every rule has a key, a limit in `PseudoSettings`, and a sentence for the dead-letter table. The first rule that is
unreadable is the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from saccade.kinematics.labels import TrackLabel
from saccade.kinematics.lift.barycentre import narrow
from saccade.kinematics.lift.features import flow, grey
from saccade.kinematics.lift.settings import DEFAULT_PSEUDO, PseudoSettings
from saccade.kinematics.lift.stages import MaskTrack, MetricScene, Placed
from saccade.kinematics.settings import DEFAULT, Settings


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that the rules look at. T frames."""

    track: MaskTrack
    scene: MetricScene
    placed: Placed
    label: TrackLabel
    flows: Flows

    @property
    def frames(self) -> np.ndarray:
        """Numbers of the frames in which the object was placed."""
        return np.flatnonzero(np.isfinite(self.placed.points).all(1))

    def mask(self, frame: int) -> np.ndarray:
        """(H, W) bool."""
        mask = self.track.masks[frame]
        return np.zeros(self.scene.depths.shape[1:], bool) if mask is None else mask


class Flows:
    """Dense flow between neighbouring frames of a clip, measured when asked for and kept for all its objects."""

    def __init__(self, images: np.ndarray) -> None:
        self._images = images
        self._known: dict[int, np.ndarray] = {}

    def after(self, frame: int) -> np.ndarray:
        """(H, W, 2) from a frame to the next one."""
        if frame not in self._known:
            self._known[frame] = flow(grey(self._images[frame]), grey(self._images[frame + 1]))
        return self._known[frame]


Rule = Callable[[Evidence, PseudoSettings, Settings], str | None]


def refuse(
    evidence: Evidence, settings: PseudoSettings = DEFAULT_PSEUDO, label_settings: Settings = DEFAULT
) -> tuple[str, str] | None:
    """Apply all rules to one object.

    Returns:
        Key and sentence of the first that it breaks, or None.
    """
    for key, rule in RULES.items():
        if (text := rule(evidence, settings, label_settings)) is not None:
            return key, text
    return None


def too_short(evidence: Evidence, settings: PseudoSettings, label_settings: Settings) -> str | None:
    """Enough grid points in a row."""
    if evidence.label.status != "too_short":
        return None
    return f"{evidence.label.n_points} grid points in a row, {label_settings.min_points} are needed"


def hardly_seen(evidence: Evidence, settings: PseudoSettings, label_settings: Settings) -> str | None:
    """High enough in the picture: the rule that data sets' objects have to pass as well."""
    heights = [np.count_nonzero(evidence.mask(frame).any(1)) for frame in evidence.frames]
    share = float(np.mean(np.array(heights) >= label_settings.min_box_height_px))
    if share >= label_settings.min_shown_share - 1e-9:
        return None
    least = label_settings.min_box_height_px
    return f"at least {least:g} px high in {share:.2f} of its frames, {label_settings.min_shown_share:g} are needed"


def at_border(evidence: Evidence, settings: PseudoSettings, label_settings: Settings) -> str | None:
    """Not cut off too often; all frames with a mask count, whether the object was placed in them or not."""
    touches = [
        bool(mask[[0, -1]].any() or mask[:, [0, -1]].any())
        for mask in evidence.track.masks
        if mask is not None and mask.any()
    ]
    share = float(np.mean(touches)) if touches else 0.0
    if share <= settings.max_border_share + 1e-9:
        return None
    return f"touches the border in {share:.2f} of its frames, {settings.max_border_share:g} are allowed"


def mask_slips(evidence: Evidence, settings: PseudoSettings, label_settings: Settings) -> str | None:
    """Areas of neighbouring grid points, in frames in which the object was placed."""
    frames = evidence.frames
    areas = np.array([np.count_nonzero(evidence.mask(frame)) for frame in frames], np.float64)
    times = evidence.scene.times_s[frames]
    near = np.diff(times) <= 1.5 * label_settings.dt + 1e-6
    ratio = np.maximum(areas[1:] / areas[:-1], areas[:-1] / areas[1:])
    if not near.any() or (worst := float(ratio[near].max())) < settings.max_area_change:
        return None
    limit = settings.max_area_change
    return f"its mask changes {worst:.1f} times between grid points, less than {limit:g} is allowed"


def depth_out_of_range(evidence: Evidence, settings: PseudoSettings, label_settings: Settings) -> str | None:
    """Depth of its place along the axis in every frame."""
    poses = evidence.scene.world_from_camera[evidence.frames]
    shift = evidence.placed.points[evidence.frames] - poses[:, :3, 3]
    depth = np.einsum("ti,ti->t", shift, poses[:, :3, 2])
    if settings.min_depth_m <= depth.min() and depth.max() <= settings.max_depth_m:
        return None
    return (
        f"{depth.min():.1f} to {depth.max():.1f} m away, {settings.min_depth_m:g} to {settings.max_depth_m:g} m "
        "are allowed"
    )


def too_fast(evidence: Evidence, settings: PseudoSettings, label_settings: Settings) -> str | None:
    """Speed of the fastest step."""
    people = evidence.track.category in settings.people
    limit = settings.max_speed_people_mps if people else settings.max_speed_mps
    speed = float(np.linalg.norm(np.diff(evidence.label.points, axis=0), axis=1).max()) / label_settings.dt
    return None if speed <= limit else f"a step at {speed:.1f} m/s, {limit:g} are allowed"


def accelerates(evidence: Evidence, settings: PseudoSettings, label_settings: Settings) -> str | None:
    """Change of velocity between neighbouring steps."""
    change = np.linalg.norm(np.diff(evidence.label.points, 2, axis=0), axis=1) / label_settings.dt**2
    limit = settings.max_acceleration_mps2
    if not len(change) or change.max() < limit:
        return None
    return f"velocity changes by {change.max():.1f} m/s2, less than {limit:g} is allowed"


def not_seen_moving(evidence: Evidence, settings: PseudoSettings, label_settings: Settings) -> str | None:
    """Pixels on the object that are not where they would be at rest, in the steps that the label says it makes."""
    if evidence.label.status != "ok":
        return None
    scene, points = evidence.scene, evidence.placed.points
    least = label_settings.min_step_m
    shares = []
    for frame in evidence.frames:
        if frame + 1 >= len(points):
            continue
        part = (scene.times_s[frame + 1] - scene.times_s[frame]) / label_settings.dt
        if not np.linalg.norm(points[frame + 1] - points[frame]) >= part * least:
            continue
        pixels = np.argwhere(narrow(evidence.mask(frame), settings.erode_px))[:, ::-1]
        if not len(pixels):
            continue
        rest = rest_flow(scene, frame, pixels, points[frame])
        seen = evidence.flows.after(frame)[pixels[:, 1], pixels[:, 0]]
        shares.append(float(np.mean(np.linalg.norm(seen - rest, axis=1) > settings.dynamic_px)))
    if not shares or (share := float(np.mean(shares))) >= settings.min_dynamic_share:
        return None
    return f"{share:.2f} of its pixels move, {settings.min_dynamic_share:g} are needed"


def rest_flow(scene: MetricScene, frame: int, pixels: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Where pixels (n, 2) of something at a place (3,) would go by the camera's motion alone: (n, 2) pixels."""
    one, two = scene.world_from_camera[frame], scene.world_from_camera[frame + 1]
    depth = float((place - one[:3, 3]) @ one[:3, 2])
    rays = np.concatenate([pixels, np.ones((len(pixels), 1))], 1) @ np.linalg.inv(scene.intrinsics).T
    world = depth * rays @ one[:3, :3].T + one[:3, 3]
    camera = (world - two[:3, 3]) @ two[:3, :3]
    front = np.maximum(camera[:, 2:], 1e-6)
    return (camera / front) @ scene.intrinsics[:2].T - pixels


RULES: dict[str, Rule] = {
    "too_short": too_short,
    "hardly_seen": hardly_seen,
    "at_border": at_border,
    "mask_slips": mask_slips,
    "depth_out_of_range": depth_out_of_range,
    "too_fast": too_fast,
    "accelerates": accelerates,
    "not_seen_moving": not_seen_moving,
}
"""In the order in which they are applied."""


def disagree(
    one: TrackLabel, two: TrackLabel, settings: PseudoSettings = DEFAULT_PSEUDO
) -> tuple[str, str] | None:
    """Compare the labels that two stacks give to one object.

    Returns:
        Key and sentence of what they do not agree on, or None.
    """
    if one.status != two.status:
        return "status_disagrees", f"{one.status} for the first stack and {two.status} for the second"
    if one.distance_m is None or two.distance_m is None or one.status != "ok":
        return None
    gap = abs(one.distance_m - two.distance_m) / max((one.distance_m + two.distance_m) / 2, 1e-9)
    if gap > settings.agree_distance:
        return (
            "distance_disagrees",
            f"{one.distance_m:.2f} m and {two.distance_m:.2f} m, {100 * settings.agree_distance:g} % are allowed",
        )
    if one.end_clock and two.end_clock:
        hours = abs(one.end_clock - two.end_clock)
        if min(hours, 12 - hours) > settings.agree_hours:
            return "hour_disagrees", f"{one.end_clock} o'clock and {two.end_clock} o'clock at the end"
    return None
