"""The camera's path without weights: corners, PnP against a map of points at rest, and bundle adjustment.

Points get their first place from the depth of the frame that shows them first, those on the ground from the plane
that fits most of what is below the horizon. Later frames are placed against the
map and not against the frame before, so errors do not add up along the clip. What may move is masked out. At the end
all poses and points are adjusted together, with every depth as a weak prior: parallax decides where there is some,
depth where there is none. The result has the unit of the depths.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from saccade.kinematics.lift.bundle import Observations, solve
from saccade.kinematics.lift.features import corners, depth_at, flow, follow, follow_plane, grey, opencv
from saccade.kinematics.lift.ground import RATIO, Ground, find_ground
from saccade.kinematics.lift.stages import ClipRejected, Reconstruction

FORWARD = (0.25, 0.5, 0.75, 1.0, 1.4)
"""Ways that a camera may have gone on when nothing else fits, in heights above the ground."""


@dataclass(frozen=True)
class ClassicalPose:
    """The stage; its fields are its settings."""

    features: int = 350
    """Points followed at a time."""
    apart_px: float = 8.0
    """Least distance between new points in a picture 320 pixels wide; larger in larger ones."""
    window: int = 13
    """Side of the followed patch, pixels."""
    levels: int = 4
    """Halvings of the pyramid."""
    inlier_px: float = 2.5
    """Reprojection error of a point that agrees with a pose, in a picture 320 pixels wide."""
    min_inliers: int = 12
    """A frame with fewer cannot be placed."""
    margin_px: int = 4
    """Masks of what may move are widened by this."""
    pixel_sigma: float = 0.4
    """Standard deviation of a followed point, pixels."""
    depth_sigma: float = 0.1
    """Standard deviation of a measured depth, relative."""

    def __call__(
        self, images: np.ndarray, moving: np.ndarray, depths: np.ndarray, intrinsics: np.ndarray
    ) -> Reconstruction:
        """Reconstruct; see `stages.CameraPose`.

        Raises:
            ClipRejected: Too few points at rest, or a frame that fits none of them.
            MissingExtraError: opencv-python-headless (extra `lift`) is not installed.
        """
        return _Mapper(self, images, moving, depths, np.asarray(intrinsics, np.float64)).run()


@dataclass(frozen=True, eq=False)
class _Placed:
    """A frame with its pose and the points that agree with it."""

    turn: np.ndarray
    shift: np.ndarray
    numbers: np.ndarray
    pixels: np.ndarray
    inliers: int


def _better(one: _Placed | None, two: _Placed | None) -> _Placed | None:
    """The one that more points agree with, the later one if equal."""
    if one is None or two is None:
        return one or two
    return two if two.inliers >= one.inliers else one


class _Mapper:
    """The state of one clip."""

    def __init__(
        self,
        settings: ClassicalPose,
        images: np.ndarray,
        moving: np.ndarray,
        depths: np.ndarray,
        intrinsics: np.ndarray,
    ) -> None:
        cv2 = opencv()
        self.cv2, self.settings, self.intrinsics, self.depths = cv2, settings, intrinsics, depths
        self.inverse = np.linalg.inv(intrinsics)
        self.pictures = [grey(image) for image in images]
        wide = max(1.0, images.shape[2] / 320)
        self.apart, self.inlier = wide * settings.apart_px, wide * settings.inlier_px
        side = 2 * settings.margin_px + 1
        kernel = np.ones((side, side), np.uint8)
        self.rest = [cv2.dilate(mask.astype(np.uint8), kernel) == 0 for mask in moving]
        self.grounds: list[Ground | None] = []
        """Per frame: the ground in the camera's frame."""
        self.turns: list[np.ndarray] = [np.eye(3)]
        self.shifts: list[np.ndarray] = [np.zeros(3)]
        self.points = np.empty((0, 3))
        self.flat = np.empty(0, bool)
        """Points that lie on the ground."""
        self.seen: list[tuple[np.ndarray, np.ndarray]] = []
        """Per frame: numbers of points and their pixels (m, 2)."""

    def run(self) -> Reconstruction:
        """Place frame after frame, then adjust everything."""
        self._add(0, np.empty(0, int), np.empty((0, 2), np.float32))
        for frame in range(1, len(self.pictures)):
            self._place(frame)
        return self._finish()

    def _project(
        self, points: np.ndarray, turn: np.ndarray, shift: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        camera = points @ turn.T + shift
        front = camera[:, 2] > 1e-6
        flat = camera / np.where(front, camera[:, 2], 1.0)[:, None]
        return (flat @ self.intrinsics.T)[:, :2], front

    def _rays(self, pixels: np.ndarray) -> np.ndarray:
        """Directions (n, 3) of length 1 along the axis."""
        return np.concatenate([pixels, np.ones((len(pixels), 1))], 1) @ self.inverse.T

    def _ground(self, frame: int) -> Ground | None:
        """Find the ground in one frame."""
        depth = self.depths[frame]
        rows, columns = np.nonzero(self.rest[frame][2::4, 2::4])
        pixels = np.stack([4 * columns + 2, 4 * rows + 2], 1)
        deep = depth[pixels[:, 1], pixels[:, 0]].astype(np.float64)
        rays = self._rays(pixels)
        return find_ground(np.zeros_like(rays), rays, deep, np.array([0.0, -1.0, 0.0]))

    def _add(self, frame: int, numbers: np.ndarray, pixels: np.ndarray) -> None:
        """Take the points that a frame shows, and new ones where there are none."""
        depth = self.depths[frame]
        where = self.rest[frame] & np.isfinite(depth) & (depth > 0)
        room = self.settings.features - len(numbers)
        fresh = corners(self.pictures[frame], where, pixels, room, self.apart)
        far = depth_at(depth, fresh, reach=4)
        fresh, far = fresh[np.isfinite(far)], far[np.isfinite(far)]
        ground = self._ground(frame)
        self.grounds.append(ground)
        if len(fresh):
            rays = self._rays(fresh)
            flat = np.zeros(len(fresh), bool)
            if ground is not None:
                fall = -(rays @ ground.up)
                expected = ground.height / np.maximum(fall, 1e-9)
                flat = (fall > 1e-9) & (np.abs(np.log(far / expected)) < 1.5 * RATIO)
                far = np.where(flat, expected, far)
            world = (rays * far[:, None] - self.shifts[frame]) @ self.turns[frame]
            numbers = np.concatenate([numbers, len(self.points) + np.arange(len(fresh))])
            pixels = np.concatenate([pixels, fresh])
            self.points = np.concatenate([self.points, world])
            self.flat = np.concatenate([self.flat, flat])
        if len(numbers) < self.settings.min_inliers:
            raise ClipRejected("too_few_features", f"frame {frame} shows {len(numbers)} points at rest")
        self.seen.append((numbers, pixels))

    def _place(self, frame: int) -> None:
        """Find the pose of the next frame and the points that it still shows."""
        numbers, pixels = self.seen[frame - 1]
        best: _Placed | None = None
        if frame > 1:  # as it went on so far
            turn, shift = self.turns[-1], self.shifts[-1]
            step = turn @ self.turns[-2].T
            guess = step @ turn, step @ (shift - self.shifts[-2]) + shift
            best = self._try(frame, numbers, pixels, guess)
        if best is None or len(best.numbers) < 0.4 * len(numbers):
            best = _better(best, self._try(frame, numbers, pixels, None))
        ground = self.grounds[-1]
        if ground is not None and (best is None or len(best.numbers) < 0.4 * len(numbers)):
            for heights in FORWARD:  # straight on, at other speeds
                guess = self.turns[-1], self.shifts[-1] - np.array([0, 0, heights * ground.height])
                best = _better(best, self._try(frame, numbers, pixels, guess))
        if best is None:
            raise ClipRejected(
                "lost_camera", f"frame {frame} does not fit the points of the frames before it"
            )
        # Once the pose is known, where every point must be is known too.
        for _ in range(2):
            before = best.inliers
            best = _better(best, self._try(frame, numbers, pixels, (best.turn, best.shift))) or best
            if best.inliers <= 1.05 * before:
                break
        self.turns.append(best.turn)
        self.shifts.append(best.shift)
        self._add(frame, best.numbers, best.pixels)

    def _try(
        self, frame: int, numbers: np.ndarray, pixels: np.ndarray, guess: tuple[np.ndarray, np.ndarray] | None
    ) -> _Placed | None:
        """Follow points into a frame and place it."""
        there, found = self._follow(frame, numbers, pixels, guess)
        columns, rows = np.rint(np.where(found[:, None], there, 0)).astype(int).T
        found &= self.rest[frame][rows, columns]
        if found.sum() < self.settings.min_inliers:
            return None
        numbers, there = numbers[found], there[found].astype(np.float64)
        cv2 = self.cv2
        cv2.setRNGSeed(frame)
        good, turn, shift, inliers = cv2.solvePnPRansac(
            self.points[numbers], there, self.intrinsics, None, iterationsCount=200,
            reprojectionError=self.inlier, confidence=0.999, flags=cv2.SOLVEPNP_P3P,
        )  # fmt: skip
        if not good or inliers is None or len(inliers) < self.settings.min_inliers:
            return None
        inliers = inliers.ravel()
        turn, shift = cv2.solvePnPRefineLM(
            self.points[numbers[inliers]], there[inliers], self.intrinsics, None, turn, shift
        )
        turn, shift = cv2.Rodrigues(turn)[0], shift.ravel()
        pixels, front = self._project(self.points[numbers], turn, shift)
        # Points whose first depth was wrong fit no pose well until they are adjusted: they are kept a while.
        kept = front & (np.linalg.norm(pixels - there, axis=1) < 4 * self.inlier)
        return _Placed(turn, shift, numbers[kept], there[kept].astype(np.float32), len(inliers))

    def _follow(
        self, frame: int, numbers: np.ndarray, pixels: np.ndarray, guess: tuple[np.ndarray, np.ndarray] | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Follow points from the frame before: (n, 2) where they are and (n,) whether they were found."""
        before, after = self.pictures[frame - 1], self.pictures[frame]
        window, levels = self.settings.window, self.settings.levels
        if guess is None:
            limits = np.array(after.shape[::-1]) - 1
            columns, rows = np.clip(np.rint(pixels).astype(int), 0, limits).T
            return follow(before, after, pixels, pixels + flow(before, after)[rows, columns], window, 2)
        old, _ = self._project(self.points[numbers], self.turns[frame - 1], self.shifts[frame - 1])
        new, front = self._project(self.points[numbers], *guess)
        inside = (new > -50).all(1) & (new < np.array(after.shape[::-1]) + 50).all(1)
        start = pixels + np.where((front & inside)[:, None], new - old, 0.0)
        there, found = follow(before, after, pixels, start, window, 2)
        ground = self.grounds[frame - 1]
        if ground is not None and (flat := self.flat[numbers]).any():
            turn = guess[0] @ self.turns[frame - 1].T
            shift = guess[1] - turn @ self.shifts[frame - 1]
            plane = self.intrinsics @ (turn - np.outer(shift, ground.up) / ground.height) @ self.inverse
            there[flat], found[flat] = follow_plane(before, after, pixels[flat], plane, window, levels)
        return there, found

    def _finish(self) -> Reconstruction:
        """Adjust all poses and points together, twice: what does not fit the first time is left out the second."""
        settings = self.settings
        pose = np.concatenate([np.full(len(numbers), frame) for frame, (numbers, _) in enumerate(self.seen)])
        point = np.concatenate([numbers for numbers, _ in self.seen])
        pixels = np.concatenate([found for _, found in self.seen]).astype(np.float64)
        deep = np.concatenate(
            [depth_at(self.depths[frame], found) for frame, (_, found) in enumerate(self.seen)]
        )
        rays = (np.concatenate([pixels, np.ones((len(pixels), 1))], 1) @ self.inverse.T)[:, :2]
        sigma = settings.pixel_sigma / float(self.intrinsics[0, 0])
        turns, shifts, points = np.stack(self.turns), np.stack(self.shifts), self.points
        kept = np.bincount(point, minlength=len(points))[point] >= 2
        errors = np.zeros(len(pose))
        for limit in (12.0, 6.0):
            used, place = np.unique(point[kept], return_inverse=True)
            if len(used) < settings.min_inliers:
                raise ClipRejected("too_few_features", f"only {len(used)} points at rest are seen twice")
            seen = Observations(pose[kept], place, rays[kept], np.log(deep[kept]))
            out = solve(
                turns,
                shifts,
                points[used],
                seen,
                ray_sigma=sigma,
                depth_sigma=settings.depth_sigma,
                rounds=15,
            )
            turns, shifts = out.turns, out.shifts
            points = points.copy()
            points[used] = out.points
            errors = np.zeros(len(pose))
            errors[kept] = out.errors
            kept = kept & (errors < limit)
            kept &= np.bincount(point[kept], minlength=len(points))[point] >= 2
        world_from_camera = np.tile(np.eye(4), (len(turns), 1, 1))
        world_from_camera[:, :3, :3] = turns.transpose(0, 2, 1)
        world_from_camera[:, :3, 3] = -(turns.transpose(0, 2, 1) @ shifts[..., None])[..., 0]
        camera = (turns[pose] @ points[point][..., None])[..., 0] + shifts[pose]
        frames = [kept & (pose == frame) & (camera[:, 2] > 0) for frame in range(len(turns))]
        if min(int(chosen.sum()) for chosen in frames) < settings.min_inliers // 2:
            raise ClipRejected("lost_camera", "a frame shares too few points at rest with the others")
        return Reconstruction(
            world_from_camera,
            self.intrinsics,
            [pixels[chosen] for chosen in frames],
            [camera[chosen, 2] for chosen in frames],
            points[np.unique(point[kept])],
            np.array([0.0, -1.0, 0.0]),
            float(np.median(errors[kept]) * settings.pixel_sigma),
            {"features": float(len(np.unique(point[kept])))},
        )
