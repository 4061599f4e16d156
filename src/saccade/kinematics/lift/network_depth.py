"""Metric depth: Depth Pro, Depth Anything with a metric head, and ZoeDepth of transformers.

All give depth along the optical axis. Depth Pro (Bochkovskii et al., arXiv 2410.02073) gives inverse depth for a
camera whose picture is as wide as its focal length is long, and the field of view; where the true focal length is
known, that one is used. The others (Yang et al., arXiv 2406.09414; Bhat et al., arXiv 2302.12288) give metres for
cameras like those they were trained with, and no focal length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from saccade.errors import ConfigError, DataError
from saccade.kinematics.lift.network_open import (
    Kind,
    Machine,
    batches,
    kind_of,
    open_config,
    open_network,
    to_machine,
)
from saccade.kinematics.lift.stages import DepthMap

FLAG = "--depth"
KINDS = {
    "depth_pro": Kind("DepthProForDepthEstimation", "AutoImageProcessor"),
    "depth_anything": Kind("DepthAnythingForDepthEstimation", "AutoImageProcessor"),
    "zoedepth": Kind("ZoeDepthForDepthEstimation", "AutoImageProcessor"),
}
EXAMPLE = "apple/DepthPro-hf"


class DepthNetwork:
    """Depth of frames in metres; a `stages.MetricDepth`."""

    def __init__(self, source: str, *, focal_px: float | None = None, machine: Machine | None = None) -> None:
        """Open the network.

        Args:
            source: Folder, or hub id (owner/name).
            focal_px: Focal length in pixels of the frames, where it is known.
            machine: Where it runs.

        Raises:
            WeightsError: Files that are missing or damaged, or a hub that cannot be reached.
            ConfigError: Not a network of metric depth.
        """
        if focal_px is not None and not 0 < focal_px < float("inf"):
            raise ConfigError(f"focal length is {focal_px} pixels; expected a number above 0")
        self.source, self.focal_px, self.machine = source, focal_px, machine or Machine()
        self.kind = check_depth(source, focal_px)
        self.network, self.processor = open_network(source, KINDS[self.kind], self.machine, FLAG)

    def __call__(self, image: np.ndarray) -> DepthMap:
        """Measure; see `stages.MetricDepth`."""
        return self.many([image])[0]

    @torch.inference_mode()
    def many(self, images: Sequence[np.ndarray], focal_px: float | None = None) -> list[DepthMap]:
        """Measure many frames.

        Args:
            images: (H, W, 3) uint8 RGB each, all of one size.
            focal_px: Focal length of these frames, in place of the one that is known of all.

        Returns:
            Depth at the size of the frames.

        Raises:
            DataError: The field of view that came out is no camera's.
        """
        focal = focal_px or self.focal_px
        return [
            self._map(found, focal)
            for part in batches(images, self.machine.batch)
            for found in self._measure(list(part), focal)
        ]

    def _measure(self, images: list[np.ndarray], focal: float | None) -> list[dict[str, Any]]:
        """Take frames through the network and back to their own size."""
        inputs = to_machine(self.processor(images=images, return_tensors="pt"), self.machine)
        outputs = self.network(pixel_values=inputs["pixel_values"])
        outputs.predicted_depth = outputs.predicted_depth.float()
        sizes = [image.shape[:2] for image in images]
        if self.kind == "zoedepth":
            return self.processor.post_process_depth_estimation(outputs, source_sizes=sizes)
        if self.kind == "depth_pro":
            outputs.field_of_view = self._fields_of_view(outputs.field_of_view, sizes, focal)
        return self.processor.post_process_depth_estimation(outputs, target_sizes=sizes)

    def _fields_of_view(
        self, found: Any, sizes: Sequence[tuple[int, ...]], focal: float | None
    ) -> torch.Tensor:
        """Degrees across each picture: the known camera's, or those that the network believes in."""
        if focal is not None:
            wide = torch.tensor([size[1] for size in sizes], dtype=torch.float64)
            return torch.rad2deg(2 * torch.atan(wide / (2 * focal))).float().to(self.machine.device)
        degrees = found.float().reshape(-1)
        for value in degrees.tolist():
            if not 1 <= value <= 175:
                raise DataError(
                    f"{self.source} believes in a field of view of {value:.1f} degrees; expected 1 to 175, so give "
                    "the focal length"
                )
        return degrees

    def _map(self, found: dict[str, Any], focal: float | None) -> DepthMap:
        """Put together what came of one frame."""
        depth = found["predicted_depth"].cpu().numpy().astype(np.float32)
        # Interpolation may overshoot below zero, where there is no depth.
        depth[~(depth > 0)] = np.nan
        if focal is None and found.get("focal_length") is not None:
            focal = float(found["focal_length"])
        return DepthMap(depth, focal)


def check_depth(source: str, focal_px: float | None) -> str:
    """Refuse networks that do not know how long a metre is; reads no more than the configuration.

    Args:
        source: Folder, or hub id.
        focal_px: Focal length, where it is known.

    Returns:
        Its `model_type`.

    Raises:
        WeightsError: It cannot be read.
        ConfigError: One of those.
    """
    kind = kind_of(source, KINDS, task="measure depth in metres", flag=FLAG, example=EXAMPLE)
    config = open_config(source, FLAG)
    if kind == "depth_anything" and config.depth_estimation_type != "metric":
        raise ConfigError(
            f"{source} gives relative depth, which has no metres; expected a Depth Anything model with "
            "depth_estimation_type metric, whose name often holds Metric-Indoor or Metric-Outdoor"
        )
    if kind == "depth_pro" and not config.use_fov_model and focal_px is None:
        raise ConfigError(
            f"{source} comes without its field-of-view network, so its depth has no metres by itself; give the focal "
            "length with --focal"
        )
    return kind
