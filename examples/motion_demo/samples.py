"""Samples that teach motion: what is seen of a clip with two boxed things, and how these and the camera move.

Labels are those of `kinematics.labels`, of the same tracks and by the same rules as those of every question.

Shape legend: T frames, K boxes, H by W pixels, F facts of a box, S numbers seen of a frame.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from motion_demo.network import mirror_observations
from motion_demo.sets import MotionSet, clip_number
from saccade.data.dataset import SampleKey
from saccade.errors import DataError
from saccade.files import replacing
from saccade.files.arrays import read_arrays
from saccade.kinematics.labels import clock_hours, step_angles
from saccade.kinematics.records import Track
from saccade.kinematics.settings import Settings
from saccade.tasks.answer.vlm.clips import cover_boxes

BOXES = 2
"""Things of a sample, in the order red, blue."""
IGNORED = -1
"""Hour of a step that has none."""
OF_CLIPS = ("ego", "rig", "seconds")
"""Targets that are of the clip, and not of its things."""
NOTHING = {"hour": IGNORED, "static": True}
"""Targets of a box that is not there, where they are not 0."""


@dataclass(frozen=True)
class Scene:
    """What is known of one clip. K objects, T frames."""

    times: np.ndarray
    """(T,) seconds."""
    places: np.ndarray
    """(K, T, 3) metres in the world."""
    boxes: np.ndarray
    """(K, T, 4) pixels, NaN where not seen."""
    eyes: np.ndarray
    """(T, 2) the camera on the ground, metres."""
    view: np.ndarray
    """(T,) its heading, radians counter-clockwise from x, unwrapped."""
    rig: np.ndarray
    """(3,) log of its height in metres, log of its focal length in widths, downward pitch in radians."""

    def mirrored(self, width: int) -> Scene:
        """The same clip as a mirror shows it: left and right change sides."""
        places, boxes, eyes = self.places.copy(), self.boxes.copy(), self.eyes.copy()
        places[..., 1] *= -1
        eyes[..., 1] *= -1
        boxes[..., [0, 2]] = width - boxes[..., [2, 0]]
        return Scene(self.times, places, boxes, eyes, -self.view, self.rig)

    def reversed(self) -> Scene:
        """The same clip run backwards."""
        return Scene(
            self.times, self.places[:, ::-1], self.boxes[:, ::-1], self.eyes[::-1], self.view[::-1], self.rig
        )


def scene_of(tracks: list[Track]) -> Scene:
    """Gather the tracks of one clip, which all have its grid of times."""
    first = tracks[0]
    assert first.T_world_cam is not None
    assert first.camera is not None
    poses = np.asarray(first.T_world_cam, np.float64)
    ahead, down = poses[:, :3, 2], poses[0, :3, 1]
    boxes = [[box or [np.nan] * 4 for box in track.boxes_2d or ()] for track in tracks]
    pitch = np.arctan2(-ahead[0, 2], -down[2])
    focal = first.camera["K"][0][0] / first.camera["width"]
    return Scene(
        first.times,
        np.stack([track.points for track in tracks]),
        np.asarray(boxes, np.float64),
        poses[:, :2, 3],
        np.unwrap(np.arctan2(ahead[:, 1], ahead[:, 0])),
        np.array([np.log(poses[0, 2, 3]), np.log(focal), pitch]),
    )


def scenes_of(motion: MotionSet) -> tuple[list[str], list[list[str]], list[Scene]]:
    """Gather the clips of a set that have tracks: their names, the names of their things, and scenes.

    Reading the tracks takes a while, so what comes of them is kept beside them and read the next time.
    """
    kept = motion.folder / "scenes.npz"
    if kept.is_file():
        with contextlib.suppress(DataError):  # made again below
            parts = read_arrays(kept)
            if parts.get("clips", np.array(-1)).tolist() == len(motion):
                return _unpack(parts)
    clips: dict[str, list[Track]] = {}
    for track in motion.tracks():
        clips.setdefault(track.clip_id, []).append(track)
    if not clips:
        raise DataError(f"{motion.folder}: none of its clips has a track; draw more clips")
    scenes = [scene_of(tracks) for tracks in clips.values()]
    parts = {
        "clips": np.array(len(motion)),
        "names": np.array(list(clips)),
        "things": np.array([track.track_id for tracks in clips.values() for track in tracks]),
        "counts": np.array([len(tracks) for tracks in clips.values()]),
        "times": scenes[0].times,
        "places": np.concatenate([scene.places for scene in scenes]),
        "boxes": np.concatenate([scene.boxes for scene in scenes]),
        **{name: np.stack([getattr(scene, name) for scene in scenes]) for name in ("eyes", "view", "rig")},
    }
    with replacing(kept) as temporary, temporary.open("wb") as file:
        np.savez(file, **parts)  # pyright: ignore[reportArgumentType]
    return _unpack(parts)


def _unpack(parts: dict[str, np.ndarray]) -> tuple[list[str], list[list[str]], list[Scene]]:
    """Cut the arrays of all things into those of each clip."""
    edges = np.cumsum(parts["counts"])[:-1]
    places, boxes, things = (np.split(parts[name], edges) for name in ("places", "boxes", "things"))
    scenes = [
        Scene(parts["times"], *of_clip)
        for of_clip in zip(places, boxes, parts["eyes"], parts["view"], parts["rig"], strict=True)
    ]
    return [str(name) for name in parts["names"]], [[str(name) for name in part] for part in things], scenes


def frames_tensor(images: np.ndarray, boxes: np.ndarray) -> Tensor:
    """Join pictures (T, H, W, 3) uint8 and boxes (K, T, 4) to what the eyes take: (T, 3 + K, H, W) float32."""
    masks = cover_boxes(boxes, *images.shape[1:3])
    colours = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return torch.cat([colours, torch.from_numpy(masks).transpose(0, 1)], 1)


def targets_of(scene: Scene, chosen: Sequence[int | None], settings: Settings) -> dict[str, Tensor]:
    """Say how some things and the camera of a clip move.

    Args:
        scene: The clip.
        chosen: Objects K, such as those of the red and of the blue box; None: no such box.
        settings: Definitions of labels.

    Returns:
        there (K,) bool; move (K, T - 1, 2) metres to the front and to the right of the first camera; moving
        (K, T - 1) bool; hour (K, T - 1) int64, 0 for 12 o'clock, -1 where there is none; way (K,) metres; static (K,)
        bool; ego (T - 1, 2) radians clockwise and camera heights forward; rig (3,).
    """
    steps = len(scene.times) - 1
    count = len(chosen)
    found: dict[str, Any] = {
        "there": np.zeros(count, bool), "move": np.zeros((count, steps, 2)), "moving": np.zeros((count, steps), bool),
        "hour": np.full((count, steps), IGNORED), "way": np.zeros(count), "static": np.ones(count, bool),
    }  # fmt: skip
    cosine, sine = np.cos(scene.view[0]), np.sin(scene.view[0])
    to_view = np.array([[cosine, sine], [sine, -cosine]])
    for slot, index in enumerate(chosen):
        if index is None:
            continue
        # As `label_track` does; a clip's tracks lie on its grid from end to end, so there is nothing to resample.
        places = scene.places[index]
        motion = np.diff(places, axis=0)
        found["there"][slot] = True
        found["move"][slot] = motion[:, :2] @ to_view.T
        found["way"][slot] = np.linalg.norm(motion, axis=1).sum()
        found["static"][slot] = np.linalg.norm(places - places[0], axis=1).max() < settings.static_radius_m
        angles, _ = step_angles(motion, np.array([0.0, 0.0, 1.0]), settings)
        found["moving"][slot] = ~np.isnan(angles)
        if not found["static"][slot]:
            hours = clock_hours(angles)
            found["hour"][slot] = [IGNORED if hour is None else hour % 12 for hour in hours]
    ahead = np.stack([np.cos(scene.view), np.sin(scene.view)], 1)[:-1]
    forward = (np.diff(scene.eyes, axis=0) * ahead).sum(1) / np.exp(scene.rig[0])
    found["ego"] = np.stack([-np.diff(scene.view), forward], 1)
    found["rig"] = scene.rig
    return {
        name: torch.as_tensor(value, dtype=torch.float32 if value.dtype == np.float64 else None)
        for name, value in found.items()
    }


def facts_of_boxes(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Measure boxes (..., 4) in a picture: (..., F) float32, what `facts_of_masks` says of the filled boxes."""
    there = np.asarray(np.isfinite(boxes).all(-1))
    x0, y0, x1, y1 = (np.nan_to_num(boxes[..., k]) for k in range(4))
    x0, x1, y0, y1 = (
        np.clip(x0, 0, width),
        np.clip(x1, 0, width),
        np.clip(y0, 0, height),
        np.clip(y1, 0, height),
    )
    wide, high = np.maximum(x1 - x0, 0.5), np.maximum(y1 - y0, 0.5)
    # Side and bottom are the covered shares of the outermost pixels.
    side = np.clip(np.maximum(1 - x0, x1 - width + 1), 0, 1)
    low = np.clip(y1 - height + 1, 0, 1)
    scale = 2.0 / width
    found = [
        ((x0 + x1) / 2 - width / 2) * scale, ((y0 + y1) / 2 - height / 2) * scale, (y1 - height / 2) * scale,
        np.log(wide / width) / 2, np.log(high / width) / 2, np.ones_like(x0), side, low,
    ]  # fmt: skip
    return (np.stack(found, -1) * there[..., None]).astype(np.float32)


class MotionSamples(Dataset):
    """Clips of a set with two of their things boxed.

    In training the pair, its colours, a mirror and the direction of time are drawn for every sample; in evaluation a
    clip gives one sample for every two of its things.
    """

    def __init__(self, motion: MotionSet, *, vary: bool) -> None:
        """Read the tracks of a set.

        Args:
            motion: The set.
            vary: Draw anew every time, as training does.
        """
        self.motion, self.vary = motion, vary
        _, self.height, self.width, _ = motion.plan.shape
        self.names, self.things, self.scenes = scenes_of(motion)
        self._known: dict[tuple[int, int], Known] = {}
        self.places: list[tuple[int, tuple[int | None, ...]]] = []
        for number, scene in enumerate(self.scenes):
            count = len(scene.places)
            if vary:
                self.places.append((number, ()))
            else:
                self.places += [
                    (number, (k, k + 1 if k + 1 < count else None)) for k in range(0, count, BOXES)
                ]

    def __len__(self) -> int:
        return len(self.places)

    def observations(self, number: int, *, backwards: bool = False) -> Tensor:
        """Return what is seen of a clip with tracks, (T, S)."""
        place = clip_number(self.names[number])
        return torch.from_numpy(self.motion.observations(place, backwards=backwards))

    def known(self, number: int, form: int = 0) -> Known:
        """Label a clip when it is first asked for: as it is (0), in a mirror (1), and both backwards (2, 3)."""
        if (number, form) not in self._known:
            scene = self.scenes[number]
            scene = scene.mirrored(self.width) if form % 2 else scene
            scene = scene.reversed() if form >= 2 else scene
            self._known[number, form] = know(scene, self.height, self.width, self.motion.plan.settings)
        return self._known[number, form]

    def __getitem__(self, key: SampleKey | int) -> dict[str, Any]:
        """Return {observations, facts, seconds, index, name, unreadable} and the targets of `targets_of`."""
        index, seed = key if isinstance(key, SampleKey) else (int(key), int(key))
        number, chosen = self.places[index]
        form = 0
        if self.vary:
            random = np.random.default_rng(seed)
            form = int(random.integers(4))
            order = [int(thing) for thing in random.permutation(len(self.scenes[number].places))]
            chosen = tuple([*order, None][:BOXES])
            if random.random() < 0.5:
                chosen = chosen[::-1]
        known = self.known(number, form)
        observations = self.observations(number, backwards=form >= 2)
        return {
            "observations": mirror_observations(observations) if form % 2 else observations,
            "index": index,
            "name": self.names[number],
            "skipped": [],
            **known.of(chosen),
        }


@dataclass(frozen=True)
class Known:
    """Everything about the things of a clip, each by itself, ready to be picked from."""

    facts: np.ndarray
    """(n, T, F)."""
    things: dict[str, np.ndarray]
    """Targets of `targets_of` that are of things, (n, ...)."""
    clip: dict[str, Tensor]
    """Those of the clip, and its seconds."""

    def of(self, chosen: Sequence[int | None]) -> dict[str, Tensor]:
        """Return facts and targets of some things, in that order; None is a box that is not there."""
        at = [0 if thing is None else thing for thing in chosen]
        gone = [slot for slot, thing in enumerate(chosen) if thing is None]
        facts = self.facts[at]
        facts[gone] = 0
        found = {"facts": torch.from_numpy(facts.swapaxes(0, 1).copy())}
        for name, values in self.things.items():
            part = values[at]
            part[gone] = NOTHING.get(name, 0)
            found[name] = torch.from_numpy(part)
        return {**found, **self.clip}


def know(scene: Scene, height: int, width: int, settings: Settings) -> Known:
    """Measure and label everything in a clip."""
    found = targets_of(scene, range(len(scene.places)), settings)
    found["seconds"] = torch.as_tensor(np.array(scene.times), dtype=torch.float32)
    things = {name: value.numpy() for name, value in found.items() if name not in OF_CLIPS}
    clip = {name: value for name, value in found.items() if name in OF_CLIPS}
    return Known(facts_of_boxes(scene.boxes, height, width), things, clip)
