"""Where an object is, as a body: one shape that moves upright over the ground, seen by everything that shows it.

Corners on the object are followed from frame to frame, and one bundle adjustment solves for its motion in front of
the camera, whose path is known: turned about the up axis and moved. Corners are sharp but know neither how far the
object is nor where its middle lies. That is told, less sharply, by the outline of each frame: its middle, its height,
the place where it stands on the ground, and the depth inside it, carried from the visible side to the middle by a
share of the visible width. The path is expected to be smooth, or at rest, but for a few moments.

Shape legend: T frames, S frames in which the object is seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from saccade.kinematics.lift.barycentre import narrow, surface_middles
from saccade.kinematics.lift.bundle import Observations, solve
from saccade.kinematics.lift.features import corners, depth_at, follow, grey, opencv
from saccade.kinematics.lift.settings import DEFAULT_PSEUDO, PseudoSettings
from saccade.kinematics.lift.stages import ClipRejected, MaskTrack, MetricScene, Placed

ROUNDS = 4
"""Adjustments of a body; after each one the moments are known at which its motion changes."""
WHOLE_HEIGHT, WHOLE_WIDTH = 0.75, 0.45
"""An outline of less, as a share of the usual height and width at its depth, is that of a part. Things that turn
become narrower and not lower."""
PART_PX = 30.0
"""Standard deviation of the middle of a part, pixels."""
PART_SIGMA = 0.1
"""Of the depth of a part, relative."""
HOLDS = 4
"""Followed points that place a body of which only a part is seen."""
SHARP = 0.01
"""Standard deviation of depth from heights and feet, relative, however large they are in the picture."""
NEAREST_M = 0.1
"""No middle is nearer, metres."""
CLIMB_M, CLIMB_CHANGE_M = 0.15, 0.1
"""Standard deviations of a step's height and of its change, metres."""


@dataclass(frozen=True)
class Rigid:
    """Stage `Lift`; its fields are its settings."""

    settings: PseudoSettings = DEFAULT_PSEUDO
    """How masks become surface points."""
    features: int = 40
    """Points followed on an object at a time."""
    apart_px: float = 4.0
    """Least distance between new points."""
    window: int = 9
    """Side of the followed patch, pixels."""
    pixel_sigma: float = 1.0
    """Standard deviation of a followed point, pixels."""
    outline_sigma: float = 1.5
    """Of the middle of the outline, pixels."""
    depth_sigma: float = 0.12
    """Of the depth of one point, relative."""
    core_share: float = 0.4
    """Depth of the surface is read where the way to the outline is at least this share of the longest one."""
    surface_sigma: float = 0.02
    """Of the depth of the whole surface, relative, however many pixels there are."""
    noise: float = 0.4
    """Of the depth of a pixel as if all were independent, relative; networks draw small maps large."""
    surface_share: float = 0.75
    """From the visible surface to the middle, in half visible widths."""
    acceleration_m: float = 0.1
    """Scale of changes from step to step, metres; larger ones are rare and count little."""
    rest_m: float = 0.05
    """Scale of steps of what stands still, metres; larger ones count little."""
    turn_sigma: float = 0.1
    """Change of the turn from step to step, radians."""

    def __call__(self, track: MaskTrack, scene: MetricScene) -> Placed:
        """Place; see `stages.Lift`.

        Raises:
            ClipRejected: No frame has enough pixels.
        """
        return _Body(self, track, scene).run()


@dataclass(frozen=True, eq=False)
class _Outline:
    """What the mask of one frame tells; None-like numbers are NaN."""

    middle: np.ndarray
    """(2,) pixels."""
    half_width: float
    """Pixels."""
    foot_row: float
    """Lowest row, pixels."""
    height: float
    """Pixels."""
    clear: np.ndarray
    """(4,) bool: left, top, right, bottom do not touch the border of the picture."""


class _Body:
    """The state of one object."""

    def __init__(self, settings: Rigid, track: MaskTrack, scene: MetricScene) -> None:
        self.settings, self.track, self.scene = settings, track, scene
        self.surface = surface_middles(track, scene, settings.settings)
        self.frames = np.flatnonzero(np.isfinite(self.surface).all(1))
        if not len(self.frames):
            raise ClipRejected(
                "too_few_pixels", f"no mask has {settings.settings.min_pixels} pixels with depth"
            )
        self.inverse = np.linalg.inv(scene.intrinsics)
        self.focal = float(scene.intrinsics[0, 0])
        poses = scene.world_from_camera[self.frames]
        self.camera_turns = poses[:, :3, :3].transpose(0, 2, 1)
        """(S, 3, 3) from the world to the camera."""
        self.eyes = poses[:, :3, 3]
        up = scene.up
        side = np.linalg.svd(up[None])[2][1:]
        if np.cross(side[0], side[1]) @ up < 0:
            side = side[::-1]
        self.axes = np.stack([side[0], side[1], up])
        """(3, 3) rows: two level directions and up."""
        self.outlines = [_outline(track.masks[frame]) for frame in self.frames]

    def run(self) -> Placed:
        """Measure, follow, adjust."""
        count = len(self.frames)
        centres, sigmas, whole = self._middles()
        points = np.full((len(self.scene.times_s), 3), np.nan)
        if count < 3:
            points[self.frames] = centres
            return Placed(points, "rigid", {"points": 0.0})
        numbers, places, pixels = self._follow()
        world, total = self._adjust(centres, sigmas, whole, numbers, places, pixels)
        held = self._held(whole, np.bincount(places, minlength=count))
        points[self.frames[held]] = world[held]
        return Placed(points, "rigid", {"points": float(total)})

    def _adjust(
        self,
        centres: np.ndarray,
        sigmas: np.ndarray,
        whole: np.ndarray,
        numbers: np.ndarray,
        places: np.ndarray,
        pixels: np.ndarray,
    ) -> tuple[np.ndarray, int]:
        """Solve for the body's motion.

        Args:
            centres: (S, 3) measured middles in the world.
            sigmas: (S,) relative deviations of their depth.
            whole: (S,) frames whose outline is the object's.
            numbers: (n,) which point was followed.
            places: (n,) in which of the S frames.
            pixels: (n, 2) where.

        Returns:
            (S, 3) middles in the world, and how many points there were.
        """
        settings, count = self.settings, len(self.frames)
        camera = np.einsum("sij,sj->si", self.camera_turns, centres - self.eyes)
        rays = np.concatenate([pixels, np.ones((len(pixels), 1))], 1) @ self.inverse.T
        deep = self._depths(places, pixels)
        # The middle of the body is point 0: seen at the middle of the outline, as far away as it was measured.
        middle = np.stack([outline.middle for outline in self.outlines])
        middle_rays = np.concatenate([middle, np.ones((count, 1))], 1) @ self.inverse.T
        seen = Observations(
            np.concatenate([np.arange(count), places]),
            np.concatenate([np.zeros(count, int), numbers + 1]),
            np.concatenate([middle_rays[:, :2], rays[:, :2]]),
            np.concatenate([np.log(camera[:, 2]), np.log(deep)]),
        )
        outline_sigma = np.where(whole, settings.outline_sigma, PART_PX)
        ray_sigma = np.concatenate([outline_sigma, np.full(len(rays), settings.pixel_sigma)]) / self.focal
        depth_sigma = np.concatenate([sigmas, np.full(len(rays), settings.depth_sigma)])
        basis = np.zeros((count, 6, 4))
        basis[:, :3, 0] = self.camera_turns @ self.axes[2]
        basis[:, 3:, 1:] = self.camera_turns @ self.axes.T
        turns, shifts, body = self.camera_turns, camera, self._body(camera, numbers, places, rays, deep)
        state = np.concatenate([np.zeros((count, 1)), centres @ self.axes.T], 1)
        world, path = centres, None
        for _ in range(ROUNDS):
            out = solve(
                turns, shifts, body, seen, ray_sigma=ray_sigma, depth_sigma=depth_sigma, basis=basis,
                fixed=np.zeros(count, bool), prior=self._prior(path), start=state, rounds=8,
            )  # fmt: skip
            turns, shifts, body, state = out.turns, out.shifts, out.points, state + out.steps
            middles = turns @ body[0] + shifts
            world = np.einsum("sji,sj->si", self.camera_turns, middles) + self.eyes
            path = world @ self.axes.T
        return world, len(body) - 1

    def _depths(self, places: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        """Measured depths (n,) of followed points, of pixels on the object only."""
        deep = np.full(len(places), np.nan)
        for place, frame in enumerate(self.frames):
            at = places == place
            deep[at] = depth_at(self.scene.depths[frame], pixels[at], self.track.masks[frame])
        return deep

    def _body(
        self, camera: np.ndarray, numbers: np.ndarray, places: np.ndarray, rays: np.ndarray, deep: np.ndarray
    ) -> np.ndarray:
        """Points of the body (P + 1, 3) as depth puts them in the frame that shows them first, the middle at zero."""
        names, first = np.unique(numbers, return_index=True)
        body = np.zeros((len(names) + 1, 3))
        at = places[first]
        middle = camera[at]
        far = np.where(np.isfinite(deep[first]), deep[first], middle[:, 2])
        far = np.clip(far, 0.7 * middle[:, 2], 1.3 * middle[:, 2])
        body[1:] = np.einsum("nji,nj->ni", self.camera_turns[at], rays[first] * far[:, None] - middle)
        return body

    def _held(self, whole: np.ndarray, followed: np.ndarray) -> np.ndarray:
        """Frames (S,) in which something holds the body: it is whole, is so before and after, or has points."""
        between = whole.copy()
        between[1:-1] |= whole[:-2] & whole[2:]
        return between | (followed >= HOLDS)

    def _middles(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Measure the middle of the object in each frame.

        Three measurements: the depth of the surface, which is right on the average; the height of the outline and the
        place of its foot on the ground, which are sharper and may be off by one factor or one length for the whole
        track, which the first one tells.

        Returns:
            (S, 3) in the world, (S,) relative deviations of their depth, and (S,) whether the object is seen whole.
        """
        settings, scene = self.settings, self.scene
        count = len(self.frames)
        surface, pixels = np.array(
            [
                _core_depth(scene.depths[frame], self.track.masks[frame], settings.core_share)
                for frame in self.frames
            ]
        ).T
        tall = np.array([outline.height for outline in self.outlines])
        wide = np.array([outline.half_width for outline in self.outlines])
        middle = np.stack([outline.middle for outline in self.outlines])
        whole = self._whole(tall * surface, wide * surface)
        half = wide * surface / self.focal
        half = np.where(whole, half, float(np.median(half[whole])))
        far = np.full((count, 3), np.nan)
        sigma = np.full((count, 3), np.inf)
        far[:, 0] = surface + settings.surface_share * half
        sigma[:, 0] = np.hypot(settings.surface_sigma, settings.noise / np.sqrt(pixels))
        far[whole, 1] = self.focal / tall[whole]
        sigma[:, 1] = np.hypot(SHARP, settings.outline_sigma / tall)
        rays = np.concatenate([middle, np.ones((count, 1))], 1) @ self.inverse.T
        if scene.ground_m is not None:
            rows = np.array([outline.foot_row for outline in self.outlines])
            feet = np.stack([middle[:, 0], rows, np.ones(count)], 1) @ self.inverse.T
            fall = -np.einsum("sji,sj,i->s", self.camera_turns, feet, scene.up)
            above = self.eyes @ scene.up + scene.ground_m
            stands = whole & (fall > 1e-3) & (above > 0)
            far[stands, 2] = above[stands] / fall[stands]
            sigma[:, 2] = np.hypot(SHARP, settings.outline_sigma / self.focal / np.maximum(fall, 1e-3))
        known = np.isfinite(far)
        if known[:, 1].any():
            far[:, 1] *= float(np.median((far[:, 0] / far[:, 1])[known[:, 1]]))
        if known[:, 2].any():
            shift = float(np.median(((far[:, 0] - far[:, 2]) / half)[known[:, 2]]))
            far[:, 2] += np.clip(shift, -0.5, 1.5) * half
        logs = np.log(np.maximum(far, NEAREST_M))
        # Of a measurement far from the others (a hidden foot, a hole in the depth) little is believed.
        typical = np.nanmedian(logs, axis=1)[:, None]
        weight = np.where(known, 1 / sigma**2 / (1 + ((logs - typical) / (3 * sigma)) ** 2), 0.0)
        total = weight.sum(1)
        deep = np.exp(np.where(known, weight * logs, 0.0).sum(1) / total)
        places = np.einsum("sji,sj->si", self.camera_turns, rays * deep[:, None]) + self.eyes
        return places, np.where(whole, total**-0.5, PART_SIGMA), whole

    def _whole(self, tall: np.ndarray, wide: np.ndarray) -> np.ndarray:
        """Frames (S,) whose outline is the whole object's: not behind something else, not cut by the border.

        Args:
            tall: (S,) height of the outline times depth.
            wide: (S,) its width, likewise.
        """
        clear = np.array([outline.clear.all() for outline in self.outlines])
        whole = clear
        for _ in range(2):
            if not whole.any():
                return np.ones(len(clear), bool)
            usual_height, usual_width = np.median(tall[whole]), np.median(wide[whole])
            whole = clear & (tall > WHOLE_HEIGHT * usual_height) & (wide > WHOLE_WIDTH * usual_width)
        return whole if whole.any() else np.ones(len(clear), bool)

    def _prior(self, path: np.ndarray | None) -> np.ndarray:
        """Quadratic form of smoothness of places, heights and turns, with the jumps of a path (S, 3) found before."""
        settings, count = self.settings, len(self.frames)
        times = self.scene.times_s[self.frames]
        whole = np.zeros((count, 4, count, 4))
        for place in range(1, count - 1):
            before, after = times[place] - times[place - 1], times[place + 1] - times[place]
            step = (before + after) / 2
            row = np.zeros(count)
            # Change of velocity, as a length at half-second steps.
            row[place - 1], row[place + 1] = 1 / before, 1 / after
            row[place] = -1 / before - 1 / after
            row *= 0.5 * (0.5 / step) ** 0.5
            jump = 0.0 if path is None else np.linalg.norm(row @ path[:, :2]) / settings.acceleration_m
            weight = 1 / settings.acceleration_m**2 / (1 + jump**2 / 2)
            form = np.outer(row, row)
            for axis in (1, 2):
                whole[:, axis, :, axis] += weight * form
            whole[:, 3, :, 3] += form / CLIMB_CHANGE_M**2
            whole[:, 0, :, 0] += form / settings.turn_sigma**2
        for place in range(1, count):
            row = np.zeros(count)
            row[place - 1], row[place] = -1.0, 1.0
            form = np.outer(row, row)
            whole[:, 3, :, 3] += form / CLIMB_M**2
            if settings.rest_m > 0 and path is not None:
                step = np.linalg.norm(row @ path[:, :2]) / settings.rest_m
                weight = 1 / settings.rest_m**2 / (1 + step**2 / 2)
                for axis in (1, 2):
                    whole[:, axis, :, axis] += weight * form
        whole[0, 0, 0, 0] += 1e6  # the turn of the first frame is the zero of all turns
        return whole.reshape(4 * count, 4 * count)

    def _follow(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Follow corners on the object: (n,) numbers of points, (n,) places of frames, (n, 2) pixels."""
        settings = self.settings
        numbers, frames, pixels = [], [], []
        total = 0
        last = np.empty((0, 2), np.float32)
        names = np.empty(0, int)
        before = None
        for place, frame in enumerate(self.frames):
            picture = grey(self.scene.images[frame])
            mask = self.track.masks[frame]
            assert mask is not None
            inner = narrow(mask, settings.settings.erode_px + 1)
            if before is not None and len(last):
                one, two = self.outlines[place - 1], self.outlines[place]
                grown = two.half_width / max(one.half_width, 1.0)
                guess = two.middle + (last - one.middle) * np.clip(grown, 0.7, 1.4)
                there, found = follow(before, picture, last, guess, settings.window, 1)
                columns, rows = np.clip(np.rint(there).astype(int), 0, np.array(mask.shape[::-1]) - 1).T
                found &= inner[rows, columns]
                last, names = there[found], names[found]
            else:
                last, names = last[:0], names[:0]
            fresh = corners(picture, inner, last, settings.features - len(last), settings.apart_px)
            names = np.concatenate([names, total + np.arange(len(fresh))])
            last = np.concatenate([last, fresh]).astype(np.float32)
            total += len(fresh)
            numbers.append(names)
            frames.append(np.full(len(names), place))
            pixels.append(last.astype(np.float64))
            before = picture
        number, frame, pixel = np.concatenate(numbers), np.concatenate(frames), np.concatenate(pixels)
        if not len(number):
            return number.astype(int), frame.astype(int), pixel.reshape(-1, 2)
        often = np.bincount(number, minlength=total)[number] >= 2
        number = np.unique(number[often], return_inverse=True)[1]
        return number, frame[often], pixel[often]


def _outline(mask: np.ndarray | None) -> _Outline:
    """Measure the outline of a mask (H, W)."""
    assert mask is not None
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, bottom, left, right = rows[0], rows[-1], columns[0], columns[-1]
    clear = np.array([left > 1, top > 1, right < width - 2, bottom < height - 2])
    return _Outline(
        np.array([(left + right) / 2, (top + bottom) / 2]),
        (right - left + 1) / 2,
        float(bottom) + 0.5,
        float(bottom - top + 1),
        clear,
    )


def _core_depth(depth: np.ndarray, mask: np.ndarray | None, share: float) -> tuple[float, int]:
    """Median depth well inside a mask, where depth maps hold nothing of what is behind, and of how many pixels."""
    assert mask is not None
    cv2 = opencv()
    padded = np.pad(mask.astype(np.uint8), 1, mode="edge")
    inside = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
    known = mask & np.isfinite(depth)
    values = depth[known & (inside >= share * inside.max())]
    if not len(values):  # a hole where the object is thickest
        values = depth[known]
    return float(np.median(values)), len(values)
