"""Data sets with 3-D annotation, one file each, read without the data sets' own kits; and the synthetic world."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from saccade.errors import ConfigError, did_you_mean
from saccade.kinematics.records import Track, read_tracks

SOURCES = {
    "nuscenes": "saccade.kinematics.sources.nuscenes",
    "argoverse2": "saccade.kinematics.sources.argoverse2",
    "nuplan": "saccade.kinematics.sources.nuplan",
    "egoexo4d": "saccade.kinematics.sources.egoexo4d",
    "world": "saccade.kinematics.sources.world",
}
"""Data sets by name; each module has `read(root, *, cameras, need_images, rejected, settings)`."""


def read_source(name: str, root: Path | str, **options: Any) -> Iterator[Track]:
    """Read the tracks of a data set.

    Args:
        name: One of `SOURCES`, or `tracks` for files in our interchange format.
        root: Its folder.
        options: Arguments of the reader; for `tracks`, `rejected` only.

    Raises:
        ConfigError: No such data set.
        DataError: What the reader finds wrong.
    """
    if name == "tracks":
        return read_tracks(root, options.get("rejected"))
    if name not in SOURCES:
        raise ConfigError(f"no data set {name!r}{did_you_mean(name, [*SOURCES, 'tracks'])}")
    return importlib.import_module(SOURCES[name]).read(root, **options)
