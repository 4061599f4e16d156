"""Labels of motion clips as plain video gives them: the same worlds through the pixel pipeline, flaws and all.

The pipeline (`saccade.kinematics.lift`) sees a clip in larger pictures than a network does, with rendered depth and
masks that are spoiled as those of networks are (`saccade.kinematics.lift.world.Flaws`); the camera's path comes from
pixels. What it refuses or does not follow through the whole clip has no label here.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from saccade.kinematics.lift.pipeline import pseudo_label
from saccade.kinematics.lift.world import WorldMasks, world_stack
from saccade.kinematics.records import Track
from saccade.kinematics.settings import Settings
from saccade.worlds import render
from saccade.worlds.world import World

WIDTH_PX = 320
"""Of the pictures that the pipeline sees; three quarters as high."""
LEAST_POINTS = 4
"""Shortest path that the pipeline's own rules let pass; `complete` asks for more."""


def tool_tracks(
    world: World, times_s: np.ndarray, name: str, *, width: int, split: str, settings: Settings
) -> list[Track]:
    """Measure the objects of a clip in its pixels, as a geometry tool that is asked about them would.

    Args:
        world: Of the clip.
        times_s: (T,) of its frames.
        name: Its clip_id.
        width: Of its own pictures, which the boxes of the tracks are for.
        split: Of the tracks.
        settings: Definitions of labels.

    Returns:
        Tracks with label_origin "pseudo", some known for a part of the clip only.

    Raises:
        MissingExtraError: opencv (extra `lift`) is not installed.
    """
    clip = render(world, times_s, (3 * WIDTH_PX // 4, WIDTH_PX))
    found = pseudo_label(
        name, clip.images, times_s, find=WorldMasks(clip, 0), stack=world_stack(clip, 0), source="world", split=split,
        label_settings=dataclasses.replace(settings, min_points=LEAST_POINTS),
    )  # fmt: skip
    return [shrunk(track, width) for track in found.tracks]


def measured_tracks(
    world: World, times_s: np.ndarray, name: str, *, width: int, split: str, settings: Settings
) -> list[Track]:
    """Label a clip for training: of `tool_tracks`, those that are known at every frame.

    Args and errors as for `tool_tracks`.

    Returns:
        Tracks in a world with z up whose ground is at 0.
    """
    found = tool_tracks(world, times_s, name, width=width, split=split, settings=settings)
    return [upright(track) for track in found if complete(track)]


def complete(track: Track) -> bool:
    """Whether an object's place is known at every frame, and how high the camera was above the ground."""
    return (
        all(place is not None for place in track.xyz_world)
        and (track.scale_info or {}).get("ground_m") is not None
    )


def shrunk(track: Track, width: int) -> Track:
    """Bring the boxes and the camera of a track to pictures of another width."""
    assert track.camera is not None
    scale = width / track.camera["width"]
    matrix = np.diag([scale, scale, 1.0]) @ np.asarray(track.camera["K"])
    height = round(scale * track.camera["height"])
    camera = {**track.camera, "K": matrix.tolist(), "width": width, "height": height}
    boxes = [None if box is None else [scale * side for side in box] for box in track.boxes_2d or ()]
    return dataclasses.replace(track, camera=camera, boxes_2d=boxes)


def upright(track: Track) -> Track:
    """Turn the world of a track so that z is up and the ground lies at 0."""
    poses = np.asarray(track.T_world_cam, np.float64)
    up = np.asarray(track.up, np.float64) / np.linalg.norm(track.up)
    ahead = poses[0, :3, 2] - (poses[0, :3, 2] @ up) * up
    ahead /= np.linalg.norm(ahead)
    turn = np.eye(4)
    turn[:3, :3] = np.stack([ahead, np.cross(up, ahead), up])
    turn[2, 3] = (track.scale_info or {})["ground_m"]
    places = track.points @ turn[:3, :3].T + turn[:3, 3]
    return dataclasses.replace(
        track, xyz_world=places.tolist(), T_world_cam=(turn @ poses).tolist(), up=[0.0, 0.0, 1.0]
    )
