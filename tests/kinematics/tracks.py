"""Tracks of made-up clips with boxes, many and varied, for questions."""

import numpy as np

from saccade.kinematics.records import Track


def path_of(random, points=20):
    """Make a path of half-second points: straight, turning, stopping, or both."""
    speed = random.uniform(1.5, 9)
    turns = np.zeros(points - 1)
    kind = random.integers(0, 4)
    if kind == 1:
        turns[random.integers(3, points - 4)] = random.choice([-90, 90, 60, -60, 180])
    elif kind == 2:
        turns[:] = random.choice([-12, 12])
    heading = np.radians(random.uniform(0, 360) + np.cumsum(turns))
    pace = np.full(points - 1, speed)
    if kind == 3:
        pace[random.integers(2, points - 2) :] = 0
    steps = pace[:, None] * 0.5 * np.stack([np.cos(heading), np.sin(heading), 0 * heading], 1)
    return np.concatenate([[[0, 0, 0]], np.cumsum(steps, 0)]) + random.uniform(-20, 20, 3)


def clip(name, random, objects=4, points=20, split="train", source="made", category="car", images=None):
    """Make the tracks of one clip; every object has a box of its own place in the picture."""
    times = (0.5 * np.arange(points)).tolist()
    made = []
    for index in range(objects):
        left = 40.0 * index + 5
        made.append(
            Track(
                clip_id=name, source=source, split=split, track_id=f"t{index}", category=category,
                timestamps_s=times, xyz_world=path_of(random, points).tolist(), label_origin="synthetic",
                group=name, size_lwh=[4.0, 1.8, 1.5],
                boxes_2d=[[left + 0.2 * step, 10.0, left + 30 + 0.2 * step, 60.0] for step in range(points)],
                camera={"K": [[100.0, 0, 80], [0, 100.0, 45], [0, 0, 1]], "width": 160, "height": 90, "name": "rig"},
                T_world_cam=[np.eye(4).tolist()] * points,
                image_paths=images or [f"{name}/{step:03d}.jpg" for step in range(points)],
                image_times_s=times,
            )
        )  # fmt: skip
    return made


def many(count, seed=0, **options):
    """Make the tracks of many clips."""
    random = np.random.default_rng(seed)
    return [track for index in range(count) for track in clip(f"clip{index:03d}", random, **options)]
