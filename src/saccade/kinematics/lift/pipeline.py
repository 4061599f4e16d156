"""From the frames of one plain clip to tracks in metres, with a reason for everything that is left out.

After section 3.2 of Ko et al. (arXiv 2503.19355): masks through the clip, the camera's path up to one factor, metric
depth for that factor, masked pixels lifted into the world, and filters. The paper's filters are not public; ours are
the fields of `PseudoSettings`, and the place of its model-based ones is taken by a second stack that has to agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from saccade.kinematics.engine import Product
from saccade.kinematics.lift.settings import DEFAULT_PSEUDO, PseudoSettings
from saccade.kinematics.lift.stages import CameraPose, Find, MetricDepth
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
    image_paths: Sequence[str] | None = None,
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
        settings: How objects are placed and what is refused.
        label_settings: Definitions of labels.

    Returns:
        Tracks with label_origin "pseudo", and a row of the dead-letter table for everything that was found and got
        no label: `record` is the reason's key (see `filters.REASONS`), `reason` names the track and says more.

    Raises:
        ShapeError: Images, times or intrinsics that do not fit each other.
        ConfigError: No intrinsics, and the depth stage gives no focal length either.
    """
    raise NotImplementedError
