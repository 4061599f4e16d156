"""The interchange records: what a track and a question are, written once.

From these annotations come the JSON schema given to others, the check of what is read, and the columns in Parquet.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Annotated, Any, NotRequired, TypedDict

import numpy as np
from msgspec import Meta

from saccade.kinematics.kinds import KINDS, task_names
from saccade.kinematics.validation import schema_of

VERSION = 1
TRACK_FORMAT = f"saccade-track/{VERSION}"
QUESTION_FORMAT = f"saccade-question/{VERSION}"
ORIGINS = ("gt", "offline_perception", "slam", "pseudo", "synthetic")
"""Where labels come from: people, a perception system run afterwards, SLAM, our pipeline, or a made-up world."""

Text = Annotated[str, Meta(min_length=1)]
Pair = Annotated[list[float], Meta(min_length=2, max_length=2)]
Vector = Annotated[list[float], Meta(min_length=3, max_length=3)]
Four = Annotated[list[float], Meta(min_length=4, max_length=4)]
Pixels = Annotated[int, Meta(ge=1, le=1 << 20)]


def _polarities() -> tuple[str, ...]:
    """What may be asked for."""
    found = (polarity for name in task_names() for polarity in KINDS[name].wordings.polarities)
    return tuple(dict.fromkeys(polarity for polarity in found if polarity))


class Camera(TypedDict):
    """A pinhole and its picture."""

    K: Annotated[list[Vector], Meta(min_length=3, max_length=3)]
    width: Pixels
    height: Pixels
    name: NotRequired[str]
    distortion: NotRequired[Annotated[list[float] | None, Meta(description="4: fisheye; 5: k1 k2 p1 p2 k3.")]]


class Thing(TypedDict):
    """An object in its box."""

    track_id: Text
    colour: Text


@dataclass(frozen=True, eq=False)
class Track:
    """One object in one clip. Lists run along `timestamps_s`."""

    clip_id: Text
    source: Text
    split: Text
    track_id: Text
    category: Text
    timestamps_s: Annotated[list[float], Meta(description="Seconds from the clip's start.")]
    xyz_world: Annotated[
        list[Annotated[list[float | None], Meta(min_length=3, max_length=3)] | None],
        Meta(description="Metres in one fixed frame; null where missing."),
    ]
    label_origin: Annotated[str, ORIGINS]
    group: Annotated[
        Text, Meta(description="Log, scene or take: what splits may not tear apart. By default the clip.")
    ] = ""
    size_lwh: Annotated[
        Annotated[list[Annotated[float, Meta(ge=0)]], Meta(min_length=3, max_length=3)] | None,
        Meta(description="Metres."),
    ] = None
    yaw: Annotated[
        list[float | None] | None, Meta(description="Radians about z, anticlockwise from above.")
    ] = None
    boxes_2d: Annotated[
        list[Four | None] | None,
        Meta(description="x0 y0 x1 y1 in pixels of the image of each time; null where it is not visible."),
    ] = None
    camera: Annotated[dict[str, Any] | None, Camera | None] = None
    T_world_cam: Annotated[
        list[Annotated[list[Four], Meta(min_length=4, max_length=4)] | None] | None,
        Meta(description="Camera to world, at the time of each image."),
    ] = None
    up: Vector = field(default_factory=lambda: [0.0, 0.0, 1.0])
    scale_info: dict[str, Any] | None = None
    image_paths: list[str | None] | None = None
    image_times_s: list[float | None] | None = None
    visibility: Annotated[list[float | None] | None, Meta(description="nuScenes level, 1 to 4.")] = None
    num_points: Annotated[list[float | None] | None, Meta(description="Measured points inside the box.")] = (
        None
    )

    @property
    def times(self) -> np.ndarray:
        """(n,) seconds."""
        return np.asarray(self.timestamps_s, np.float64)

    @property
    def points(self) -> np.ndarray:
        """(n, 3) metres; NaN where missing."""
        rows = [(None, None, None) if row is None else row for row in self.xyz_world]
        return np.asarray(rows, np.float64).reshape(-1, 3)

    def to_dict(self) -> dict[str, Any]:
        """Return the record as written: with its format, without what is not known."""
        return _written(self, TRACK_FORMAT)


@dataclass(frozen=True)
class Question:
    """One question with its answer."""

    id: Text
    clip_id: Text
    task: Annotated[str, task_names]
    question: Text
    answer: str
    value: Annotated[Any, float | str | list[Any]]
    """Metres, km/h, hours or a ratio; a clock hour; [start, end]; a colour; same or different."""
    objects: Annotated[list[dict[str, str]], list[Thing]]
    source: Text
    split: Text
    group: Text = ""
    unit: str | None = None
    window_s: Pair | None = None
    options: Annotated[
        dict[str, list[str]] | None,
        dict[str, str | list[Text]] | None,
        Meta(description="What the answer may be, and the words that say so."),
    ] = None
    polarity: Annotated[str | None, _polarities] = None
    """What is asked for: more or less, same or different."""
    clock: Annotated[int | None, Meta(description="The hour asked for.", ge=1, le=12)] = None
    template_id: str | None = None
    config_hash: str | None = None
    duration_s: Annotated[float | None, Meta(ge=0)] = None
    frame_times_s: list[float] | None = None
    camera_name: Annotated[str | None, Meta(description="The rig, for a breakdown by it.")] = None

    @property
    def context(self) -> dict[str, Any]:
        """What reading an answer to it needs."""
        options = self.options or {thing["colour"]: [thing["colour"]] for thing in self.objects}
        duration = self.duration_s
        if duration is None and self.frame_times_s:
            duration = self.frame_times_s[-1]
        return {"duration_s": duration, "options": options, "asks": self.polarity, "polarity": self.polarity}

    def to_dict(self) -> dict[str, Any]:
        """Return the record as written: with its format, without what is not known."""
        return _written(self, QUESTION_FORMAT)


def _written(record: Track | Question, title: str) -> dict[str, Any]:
    values = {name: value for name, value in vars(record).items() if value is not None and value != ""}
    return {"format": title, **values}


@functools.lru_cache
def _question_schema(names: tuple[str, ...]) -> dict[str, Any]:
    """Derive the schema once for the kinds that there are."""
    return schema_of(Question, QUESTION_FORMAT)


def question_schema() -> dict[str, Any]:
    """JSON schema of a question of any kind in the table."""
    return _question_schema(task_names())


TRACK_SCHEMA = schema_of(Track, TRACK_FORMAT)
"""One track of one object in one clip."""
QUESTION_SCHEMA = question_schema()
"""One question with its answer."""
