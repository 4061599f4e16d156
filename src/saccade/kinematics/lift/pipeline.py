"""From the frames of one plain clip to tracks in metres, with a reason for everything that is left out.

After section 3.2 of Ko et al. (arXiv 2503.19355): masks through the clip, the camera's path up to one factor, metric
depth for that factor, masked pixels lifted into the world, and filters. The paper's filters are not public; ours are
the fields of `PseudoSettings`, and the place of its model-based ones is taken by a second stack that has to agree.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from saccade.errors import ShapeError
from saccade.kinematics.engine import Product
from saccade.kinematics.labels import TrackLabel, label_track
from saccade.kinematics.lift.barycentre import Barycentre
from saccade.kinematics.lift.filters import Evidence, Flows, disagree, refuse
from saccade.kinematics.lift.metric import Measured, guess_intrinsics, measure, measure_depths
from saccade.kinematics.lift.rigid import Rigid
from saccade.kinematics.lift.settings import DEFAULT_PSEUDO, PseudoSettings
from saccade.kinematics.lift.stages import (
    CameraPose,
    ClipRejected,
    Find,
    Lift,
    MaskTrack,
    MetricDepth,
    Placed,
)
from saccade.kinematics.records import Rejected, Track
from saccade.kinematics.settings import DEFAULT, Settings


@dataclass(frozen=True, eq=False)
class Stack:
    """What measures a clip's geometry."""

    depth: MetricDepth
    pose: CameraPose
    name: str = ""
    """Written into the tracks."""


def pseudo_label(
    clip_id: str,
    images: np.ndarray,
    times_s: np.ndarray,
    *,
    find: Find,
    stack: Stack,
    second: Stack | None = None,
    intrinsics: np.ndarray | None = None,
    source: str = "video",
    split: str = "train",
    group: str = "",
    image_paths: Sequence[str | None] | None = None,
    lift: Lift | None = None,
    settings: PseudoSettings = DEFAULT_PSEUDO,
    label_settings: Settings = DEFAULT,
) -> Product:
    """Label one clip.

    Args:
        clip_id: Of the clip.
        images: (T, H, W, 3) uint8 RGB, T at least 2.
        times_s: (T,) rising seconds from the clip's start; the grid of labels starts at 0.
        find: From names to masks.
        stack: Depth and camera.
        second: Another stack; tracks on which the two do not agree are rejected.
        intrinsics: (3, 3) pixels, pixel centres at whole numbers; by default from the median focal length that the
            depth stage gives, with the principal point in the middle.
        source: Of the records.
        split: Of the records.
        group: Of the records; the clip itself when empty.
        image_paths: T names of the pictures, for the records.
        lift: How objects are placed; by default what `settings.lift` names.
        settings: How objects are placed and what is refused.
        label_settings: Definitions of labels.

    Returns:
        Tracks with label_origin "pseudo", and a row of the dead-letter table for everything that was found and got
        no label: `record` is the reason's key (see `stages.REASONS`), `reason` names the track and says more.

    Raises:
        ShapeError: Images, times or intrinsics that do not fit each other.
        ConfigError: No intrinsics, and the depth stage gives no focal length either.
    """
    images, times = np.asarray(images), np.asarray(times_s, np.float64)
    _check(images, times, intrinsics, image_paths)
    lift = lift or make_lift(settings, label_settings)
    tracks = find(images, settings.names)
    if not tracks:
        names = ", ".join(settings.names)
        return Product(rejected=[Rejected(clip_id, "nothing_found", f"clip: no {names} in it")])
    moving = np.zeros(images.shape[:3], bool)
    for track in tracks:
        for frame, mask in enumerate(track.masks):
            if mask is not None:
                moving[frame] |= mask
    clip = _Clip(images, times, moving, intrinsics, settings, label_settings)
    try:
        first = clip.measure(stack)
    except ClipRejected as error:
        return Product(rejected=[Rejected(clip_id, error.reason, f"clip: {error}")])
    rejected: list[Rejected] = []

    def reject(track: MaskTrack, error: ClipRejected) -> None:
        text = f"track {track.track_id} ({track.category}): {error}"
        rejected.append(Rejected(clip_id, error.reason, text))

    passed, flows = [], Flows(images)
    for track in tracks:
        try:
            placed, label = clip.label(track, first, lift)
            evidence = Evidence(track, first.scene, placed, label, flows)
            if found := refuse(evidence, settings, label_settings):
                raise ClipRejected(*found)
            passed.append((track, placed, label))
        except ClipRejected as error:
            reject(track, error)
    if second is not None and passed:
        first_labels = [(track, label) for track, _, label in passed]
        refusals = clip.second_opinion(second, first_labels, lift)
        for track, _, _ in passed:
            if (refusal := refusals.get(track.track_id)) is not None:
                reject(track, refusal)
        passed = [row for row in passed if row[0].track_id not in refusals]
    records = [_record(clip_id, track, placed, first, stack, image_paths) for track, placed, _ in passed]
    named = [dataclasses.replace(record, source=source, split=split, group=group) for record in records]
    return Product(named, rejected)


def make_lift(settings: PseudoSettings = DEFAULT_PSEUDO, label_settings: Settings = DEFAULT) -> Lift:
    """The stage that `settings.lift` names."""
    return Rigid(settings) if settings.lift == "rigid" else Barycentre(settings, label_settings)


def _check(
    images: np.ndarray, times: np.ndarray, intrinsics: np.ndarray | None, paths: Sequence | None
) -> None:
    """Refuse arguments that do not fit each other."""
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8 or len(images) < 2:
        raise ShapeError(
            f"images have shape {images.shape} and type {images.dtype}; expected (T, H, W, 3) uint8 with T at least 2"
        )
    if times.shape != (len(images),) or not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        raise ShapeError(
            f"times_s has shape {times.shape}; expected {len(images)} rising numbers, one a frame"
        )
    if intrinsics is not None and np.shape(intrinsics) != (3, 3):
        raise ShapeError(f"intrinsics have shape {np.shape(intrinsics)}; expected (3, 3)")
    if paths is not None and len(paths) != len(images):
        raise ShapeError(f"{len(paths)} image_paths for {len(images)} frames; expected one each")


@dataclass(frozen=True, eq=False)
class _Clip:
    """A clip and how it is to be labelled."""

    images: np.ndarray
    times: np.ndarray
    moving: np.ndarray
    """(T, H, W) bool: what may move."""
    intrinsics: np.ndarray | None
    settings: PseudoSettings
    label_settings: Settings

    def measure(self, stack: Stack) -> Measured:
        """Find the geometry with one stack."""
        depths, focals = measure_depths(self.images, stack.depth)
        intrinsics = self.intrinsics
        if intrinsics is None:
            intrinsics = guess_intrinsics(focals, *self.images.shape[1:3])
        return measure(
            self.images, self.times, self.moving, depths, np.asarray(intrinsics, np.float64), stack.pose,
            self.settings, self.label_settings,
        )  # fmt: skip

    def label(self, track: MaskTrack, measured: Measured, lift: Lift) -> tuple[Placed, TrackLabel]:
        """Place an object and measure its path."""
        scene = measured.scene
        placed = lift(track, scene)
        up = scene.up.tolist()
        return placed, label_track(scene.times_s, placed.points, up=up, settings=self.label_settings)

    def second_opinion(
        self, stack: Stack, labels: Sequence[tuple[MaskTrack, TrackLabel]], lift: Lift
    ) -> dict[str, ClipRejected]:
        """Label again with another stack: by track_id, why those are refused on which the two do not agree."""
        try:
            other = self.measure(stack)
        except ClipRejected as error:
            text = f"the second stack gives no geometry: {error.reason}, {error}"
            return {track.track_id: ClipRejected("second_stack", text) for track, _ in labels}
        refused = {}
        for track, label in labels:
            try:
                if found := disagree(label, self.label(track, other, lift)[1], self.settings):
                    raise ClipRejected(*found)
            except ClipRejected as error:
                refused[track.track_id] = error
        return refused


def _record(
    clip_id: str,
    track: MaskTrack,
    placed: Placed,
    measured: Measured,
    stack: Stack,
    image_paths: Sequence[str | None] | None,
) -> Track:
    """Write down one object. Boxes and intrinsics have whole numbers at the corners of pixels, as all records do."""
    scene, scale = measured.scene, measured.scale
    height, width = scene.images.shape[1:3]
    intrinsics = scene.intrinsics.copy()
    intrinsics[:2, 2] += 0.5
    times = [round(float(time), 9) for time in scene.times_s]
    notes = {
        "scale": scale.scale,
        "spread": scale.spread,
        "frame_scales": list(scale.frame_scales),
        "pixels": scale.n_used,
        "reprojection_px": measured.reconstruction.reprojection_px,
        "stack": stack.name,
        "ground_m": scene.ground_m,
        "lift": placed.method,
        "score": track.score,
        **measured.reconstruction.notes,
        **placed.notes,
    }
    return Track(
        clip_id=clip_id,
        source="video",
        split="train",
        track_id=track.track_id,
        category=track.category,
        timestamps_s=times,
        xyz_world=[row.tolist() if np.isfinite(row).all() else None for row in placed.points],
        label_origin="pseudo",
        boxes_2d=[box_of(mask) for mask in track.masks],
        camera={"K": intrinsics.tolist(), "width": width, "height": height, "name": "camera"},
        T_world_cam=scene.world_from_camera.tolist(),
        up=scene.up.tolist(),
        scale_info=notes,
        image_paths=None if image_paths is None else list(image_paths),
        image_times_s=list(times),
    )


def box_of(mask: np.ndarray | None) -> list[float] | None:
    """Box x0 y0 x1 y1 around a mask (H, W), which holds its pixels whole; None where there is none."""
    if mask is None or not mask.any():
        return None
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)]
