"""What is to be done with plain videos: the networks or files, and every number that the labels depend on."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from saccade.errors import ConfigError
from saccade.files import within
from saccade.hub import config_path
from saccade.kinematics.engine import hash_of
from saccade.kinematics.lift.network_depth import check_depth
from saccade.kinematics.lift.network_detect import EXAMPLE as DETECTOR
from saccade.kinematics.lift.network_detect import KINDS as DETECTORS
from saccade.kinematics.lift.network_detect import check_names
from saccade.kinematics.lift.network_open import kind_of
from saccade.kinematics.lift.network_track import takes_names
from saccade.kinematics.lift.settings import DEFAULT_PSEUDO, PseudoSettings
from saccade.kinematics.pseudo_files import GivenDepth, GivenMasks
from saccade.kinematics.settings import DEFAULT, Settings
from saccade.settings import check

SOURCES = ("detect", "track", "masks", "depth", "second")
"""Fields of a plan that name networks or folders."""
VERSION = 1
"""Of the pipeline: raised when the same settings would give other labels."""
SIZE = 640
"""Longer side of the frames, pixels."""


@dataclass(frozen=True)
class Finding:
    """How things are found and followed."""

    threshold: Annotated[float, within(0, below=1)] = 0.25
    """Lowest score of a detection."""
    every: Annotated[int, within(1)] = 20
    """Frames from one look of the detector to the next."""
    same_overlap: Annotated[float, within(high=1, above=0)] = 0.5
    """Overlap from which on a detection is a thing already followed."""

    def __post_init__(self) -> None:
        check(self, "find")


@dataclass(frozen=True)
class Plan:
    """Where masks and depth come from, and every number that the labels depend on."""

    detect: str | None = None
    """Network that detects by names: folder or hub id."""
    track: str | None = None
    """Network that follows masks; with names itself (SAM 3) there is no detector."""
    masks: str | None = None
    """Folder of masks, in place of both; see `pseudo_files`."""
    depth: str | None = None
    """Network of metric depth, or a folder of depth maps; see `pseudo_files`."""
    second: str | None = None
    """Another one, whose labels have to agree."""
    focal_px: Annotated[float, within(above=0)] | None = None
    """Focal length in pixels of the videos, where it is known."""
    size: Annotated[int, within(32)] = SIZE
    """Longer side of the frames that the stages see, pixels."""
    dtype: Literal["float32", "bf16"] = "float32"
    """Of the networks."""
    seed: Annotated[int, within(0, (1 << 31) - 1)] = 0
    """Of what is drawn at random on the camera's path."""
    split: str = "train"
    """Of the records."""
    find: Finding = field(default_factory=Finding)
    """How things are found."""
    pseudo: PseudoSettings = field(default_factory=lambda: DEFAULT_PSEUDO)
    """How objects are placed and what is refused."""
    label: Settings = field(default_factory=lambda: DEFAULT)
    """Definitions of labels."""

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Place:
    """Where the networks run; the labels do not depend on it."""

    device: str = "cpu"
    batch: int = 4
    threads: int = 0
    """Of torch in one worker; 0 leaves it to torch."""


def plan_hash(plan: Plan) -> str:
    """Twelve hexadecimal digits of everything that the labels depend on, the networks' files included."""
    values = dataclasses.asdict(plan)
    for name in SOURCES:
        if values[name] is not None:
            values[name] = identity(values[name])
    return hash_of({"version": VERSION, **values})


def identity(source: str) -> str:
    """What a network or folder is, wherever it lies: a digest of its files' names, sizes and configuration.

    A hub id stands for itself with the revision that is fetched.

    Raises:
        WeightsError: No such folder, or a hub that cannot be reached.
    """
    folder = Path(source)
    if not folder.is_dir():
        found = config_path(source, extra="pseudo", flag="", example="apple/DepthPro-hf")
        return f"{source}@{found.parent.name}"
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            digest.update(f"{name} {path.stat().st_size}\n".encode())
            if path.suffix in (".json", ".safetensors"):
                with path.open("rb") as file:
                    digest.update(file.read(1 << 20))
    return digest.hexdigest()[:12]


def is_network(source: str) -> bool:
    """Tell a network from a folder of maps."""
    return not Path(source).is_dir() or (Path(source) / "config.json").is_file()


def check_plan(plan: Plan) -> None:
    """Refuse plans that cannot be, before anything is decoded.

    Raises:
        ConfigError: Nothing that finds things, no depth, no focal length, or networks that do something else.
        DataError: Folders that are not there.
        WeightsError: Networks that cannot be read.
    """
    check_names(plan.pseudo.names)
    if plan.masks is not None:
        if plan.detect or plan.track:
            raise ConfigError("--masks takes the place of --detect and --track; leave those out")
        GivenMasks(plan.masks)
    elif plan.track is None:
        raise ConfigError(
            "nothing follows things through the videos; name a network with --track (with --detect, unless it takes "
            "names itself), or a folder of masks with --masks"
        )
    elif takes_names(plan.track):
        if plan.detect:
            raise ConfigError(f"{plan.track} finds things by their names itself; leave --detect out")
    elif plan.detect is None:
        raise ConfigError(f"{plan.track} follows what a detector finds; name one with --detect")
    else:
        kind_of(plan.detect, DETECTORS, task="detect by names", flag="--detect", example=DETECTOR)
    if plan.depth is None:
        raise ConfigError(
            "nothing measures depth, without which there are no metres; name a network with --depth, or a folder of "
            "depth maps"
        )
    for source in (plan.depth, plan.second):
        if source is None:
            continue
        if not is_network(source):
            GivenDepth(source)
        elif check_depth(source, plan.focal_px) != "depth_pro" and plan.focal_px is None:
            raise ConfigError(
                f"{source} does not tell the focal length; give it with --focal, in pixels of the videos"
            )
