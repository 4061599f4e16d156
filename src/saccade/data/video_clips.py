"""From a video to the input of a network: which frames, how they are cut and changed, and samples of it.

Frames are chosen by the times at which the file shows them, never by a count and a nominal rate, so that videos of
variable frame rate come out right:

    uniform  the clip is divided into as many stretches of equally many frames as are wanted, one frame of each:
             a random one in training, the middle one in evaluation
    dense    frames `step_s` seconds apart from a random start in training, from the middle of the clip in evaluation

In evaluation several views of a clip may be taken (`VIEWS`): temporal ones with other frames, spatial ones along the
longer side of the picture. The network sees each, and its answers are averaged (`tasks/video.py`).

Shape legend: V views, T frames, C channels, S side of the square input, n frames that the clip has.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from saccade.data.clips import ClipSource
from saccade.data.config import AugmentConfig
from saccade.data.dataset import TolerantDataset, seeded
from saccade.data.decode import MAX_PIXELS
from saccade.data.preprocess import IMAGENET_MEAN, IMAGENET_STD, Fields
from saccade.errors import ConfigError, DataError, did_you_mean
from saccade.kinematics.video import check_clip, frame_times, read_frames, video_facts

VIEWS = {"1x1": (1, 1), "1x3": (1, 3), "4x1": (4, 1), "4x3": (4, 3), "10x3": (10, 3)}
"""Settings of evaluation: temporal times spatial views."""
SAMPLINGS = ("uniform", "dense")
MAX_FRAMES = 256
ClipAugment = Callable[[Tensor], Tensor]
"""From frames (T, 3, height, width) uint8 to (T, 3, S, S) float32, drawing from the global generators."""


@dataclass(frozen=True)
class VideoPreprocess(Fields):
    """How a video becomes a network's input."""

    size: int = 224
    """Side S of the square input, in pixels."""
    crop_pct: float = 0.875
    """Share of the resized picture that the crop keeps along the shorter side, in (0, 1]."""
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    frames: int = 16
    """Frames T that the network sees at a time."""
    sampling: str = "uniform"
    """uniform or dense."""
    step_s: float = 1 / 15
    """Seconds between frames of dense sampling: every second frame at 30 frames a second."""
    views: str = "1x1"
    """One of `VIEWS`; evaluation only."""

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ConfigError: A value of the wrong kind or out of range.
        """
        object.__setattr__(self, "mean", tuple(float(value) for value in self.mean))
        object.__setattr__(self, "std", tuple(float(value) for value in self.std))
        if not isinstance(self.size, int) or not 8 <= self.size <= 4096:
            raise ConfigError(
                f"preprocess.size should be a whole number of pixels in 8..4096, not {self.size!r}"
            )
        if not isinstance(self.frames, int) or not 1 <= self.frames <= MAX_FRAMES:
            raise ConfigError(f"preprocess.frames should be in 1..{MAX_FRAMES}, not {self.frames!r}")
        if not 0 < self.crop_pct <= 1 or not 1e-4 <= self.step_s <= 3600:
            raise ConfigError(
                f"preprocess.crop_pct {self.crop_pct!r} should be in (0, 1] and step_s {self.step_s!r} in seconds, "
                "1e-4 to 3600"
            )
        for name, known in (("sampling", SAMPLINGS), ("views", tuple(VIEWS))):
            value = getattr(self, name)
            if value not in known:
                near = did_you_mean(str(value), known) or f"; expected one of {', '.join(known)}"
                raise ConfigError(f"preprocess.{name} {value!r} is unknown{near}")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ConfigError("preprocess.mean and preprocess.std should have three values, std positive")

    @property
    def num_views(self) -> int:
        """Views V of a clip in evaluation."""
        return VIEWS[self.views][0] * VIEWS[self.views][1]

    def choose(self, times_s: np.ndarray, rng: np.random.Generator | None = None) -> list[np.ndarray]:
        """Choose frames.

        Args:
            times_s: (n,) seconds at which the clip's frames are shown, rising.
            rng: Draws for training; None: the temporal views of evaluation.

        Returns:
            Places in `times_s`, (T,) int64, not falling, for each temporal view; one in training. Uniform sampling
            takes the frame that is shown at a second, so a clip of few frames shows some of them more than once;
            dense sampling beyond the end of a clip repeats its last frame.
        """
        wanted = self.frames
        views = 1 if rng is not None else VIEWS[self.views][0]
        # The last frame is shown for a while too: as long as a usual one.
        period = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 1.0
        if self.sampling == "uniform":
            step = float(times_s[-1] - times_s[0] + period) / wanted
            if rng is not None:
                shares = [rng.random(wanted)]
            else:
                shares = [np.full(wanted, (view + 0.5) / views) for view in range(views)]
            begins = np.arange(wanted)
            return [shown_at(times_s, times_s[0] + (begins + share) * step) for share in shares]
        spare = max(0.0, float(times_s[-1] - times_s[0]) - (wanted - 1) * self.step_s)
        starts = [rng.random()] if rng is not None else [0.5] if views == 1 else np.linspace(0, 1, views)
        return [
            nearest(times_s, times_s[0] + spare * start + self.step_s * np.arange(wanted)) for start in starts
        ]

    def resize(self, frames: Tensor, called: str = "clip") -> Tensor:
        """Resize (T, 3, h, w) uint8 so that the crop fits: the shorter side is S / crop_pct.

        Raises:
            DataError: Too many pixels would come out; the sentence names the clip as `called`.
        """
        side, (height, width) = int(self.size / self.crop_pct), frames.shape[-2:]
        scale = side / min(height, width)
        size = max(side, round(height * scale)), max(side, round(width * scale))
        check_clip(called, len(frames), size[1], size[0])
        if size == (height, width):
            return frames
        return F.interpolate(frames, size, mode="bilinear", antialias=True, align_corners=False)

    def crops(self, frames: Tensor) -> list[Tensor]:
        """Cut the spatial views (T, 3, S, S) out of resized frames: the middle, or evenly along the longer side."""
        high, wide = (side - self.size for side in frames.shape[-2:])
        count = VIEWS[self.views][1]
        places = [0.5] if count == 1 else [view / (count - 1) for view in range(count)]
        corners = [
            (round(high / 2), round(wide * place)) if wide >= high else (round(high * place), round(wide / 2))
            for place in places
        ]
        return [frames[..., top : top + self.size, left : left + self.size] for top, left in corners]

    def normalise(self, frames: Tensor) -> Tensor:
        """Turn (..., 3, height, width) uint8 into float32 under mean and std."""
        mean = torch.tensor(self.mean).view(3, 1, 1) * 255
        return (frames.float() - mean) / (torch.tensor(self.std).view(3, 1, 1) * 255)

    def denormalise(self, frames: Tensor) -> Tensor:
        """Turn what `normalise` gave back into uint8."""
        scaled = frames * torch.tensor(self.std).view(3, 1, 1) + torch.tensor(self.mean).view(3, 1, 1)
        return (scaled * 255).round().clamp(0, 255).to(torch.uint8)


def shown_at(times_s: np.ndarray, wanted_s: np.ndarray) -> np.ndarray:
    """Find the frames that are shown at given seconds: places in `times_s`, the last that is not later."""
    # A microsecond, because times are rounded in files and sums of them here.
    return (np.searchsorted(times_s, wanted_s + 1e-6, side="right") - 1).clip(0)


def nearest(times_s: np.ndarray, wanted_s: np.ndarray) -> np.ndarray:
    """Find the places of the values in `times_s` (rising) that are nearest to those wanted."""
    after = np.clip(np.searchsorted(times_s, wanted_s), 1, max(1, len(times_s) - 1))
    if len(times_s) == 1:
        return np.zeros(len(wanted_s), dtype=np.int64)
    closer = wanted_s - times_s[after - 1] <= times_s[after] - wanted_s
    return after - closer


def build_clip_augmentation(config: AugmentConfig, preprocess: VideoPreprocess) -> ClipAugment:
    """Make the training transform: one crop, mirror and colour change for all frames of a clip.

    Raises:
        ConfigError: An augmentation that is for pictures only.
    """
    from torchvision.transforms import v2

    for name in ("rand_augment", "three_augment"):
        if getattr(config, name):
            raise ConfigError(
                f"augment.{name} changes single pictures; leave it out of a recipe for task video"
            )
    whole = tuple(config.scale) == (1.0, 1.0)
    size = preprocess.size
    steps: list[Any] = []
    if not whole:
        steps.append(v2.RandomResizedCrop(size, config.scale, config.ratio, antialias=True))
    steps.append(v2.RandomHorizontalFlip(config.hflip))
    steps.append(v2.RandomVerticalFlip(config.vflip))
    if config.color_jitter:
        steps.append(v2.ColorJitter(*[config.color_jitter] * 3))
    change = v2.Compose(steps)
    erase = v2.RandomErasing(config.random_erasing, value=0) if config.random_erasing else None
    plain = dataclasses.replace(preprocess, views="1x1")

    def augment(frames: Tensor) -> Tensor:
        if whole:
            frames = plain.crops(plain.resize(frames))[0]
        images = preprocess.normalise(change(frames))
        return images if erase is None else erase(images)

    return augment


class ClipDataset(TolerantDataset):
    """The samples of a source of videos under a training or evaluation transform.

    A sample is a dictionary:

        image   (V, T, C, S, S) float32, normalised; V is 1 in training; empty without content
        label   int, -1 when there is none
        index   int, position in the data set
        name    str
        skipped  list of (name, reason): clips that could not be used while this sample was made
    """

    def __init__(
        self,
        source: ClipSource,
        preprocess: VideoPreprocess,
        *,
        augment: ClipAugment | None = None,
        max_pixels: int = MAX_PIXELS,
    ):
        """Join a source and a transform.

        Args:
            source: From `open_clips`.
            preprocess: Frames, views and size.
            augment: The training transform; None: evaluate.
            max_pixels: Videos of larger pictures count as skipped.
        """
        self.names, self.where, self.notes = source.names, source.where, source.notes
        self.source, self.preprocess, self.augment, self.max_pixels = source, preprocess, augment, max_pixels

    def about(self, index: int) -> dict[str, Any]:
        """Return the label."""
        return {"label": int(self.source.targets[index])}

    def make(self, index: int, seed: int) -> dict[str, Any]:
        """Decode and transform a clip.

        Raises:
            DataError: The video cannot be read.
        """
        if self.augment is None:
            return {"image": self.views(index)}
        (frames,) = self.decode(index, np.random.default_rng(seed))
        with seeded(seed):
            return {"image": self.augment(frames)[None]}

    def views(self, index: int) -> Tensor:
        """Make all views of a clip for evaluation, (V, T, C, S, S), temporal views outermost.

        Raises:
            DataError: The video cannot be read.
        """
        clips = self.decode(index, None)
        return torch.stack(
            [self.preprocess.normalise(one) for clip in clips for one in self.preprocess.crops(clip)]
        )

    def decode(self, index: int, rng: np.random.Generator | None) -> list[Tensor]:
        """Read the frames that `VideoPreprocess.choose` chooses: (T, 3, height, width) uint8 for each temporal view.

        In evaluation (`rng` is None) they are resized, each as soon as it is decoded.

        Raises:
            DataError: The video cannot be read.
        """
        path = self.source.read(index)
        facts = video_facts(path)
        if facts.width * facts.height > self.max_pixels:
            raise DataError(
                f"{path}: {facts.width} x {facts.height} pixels, more than data.max_pixels {self.max_pixels}"
            )
        start, end = self.source.span(index)
        times = frame_times(path)
        times = times[(times >= start - 1e-6) & (times < end)]
        if not len(times):
            raise DataError(f"{path}: no frames from {start:g} s to {end:g} s; the video is shorter")
        chosen = self.preprocess.choose(times, rng)
        places = np.unique(np.concatenate(chosen))
        pixels: list[Tensor] = []
        for _, frame in read_frames(path, times[places].tolist()):
            picture = torch.from_numpy(frame)
            if rng is None:
                resized = self.preprocess.resize(picture.permute(2, 0, 1)[None], str(path))
                picture = resized[0].permute(1, 2, 0)
            check_clip(path, len(places), picture.shape[1], picture.shape[0])
            if pixels and picture.shape != pixels[0].shape:
                raise DataError(f"{path}: the size of its pictures changes; expected one size")
            pixels.append(picture)
        return [
            torch.stack([pixels[i] for i in np.searchsorted(places, one)]).permute(0, 3, 1, 2)
            for one in chosen
        ]


def collate_clips(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Join samples of a `ClipDataset` into one batch, leaving out those without an image.

    Returns:
        image (batch * V, T, C, S, S) float32, the views of a clip next to each other; label and index (batch,) int64,
        name a list, unreadable a list of (name, reason).
    """
    whole = [sample for sample in samples if sample["image"].ndim == 5]
    return {
        "image": torch.cat([sample["image"] for sample in whole]) if whole else torch.empty(0, 1, 3, 8, 8),
        "label": torch.tensor([sample["label"] for sample in whole], dtype=torch.int64),
        "index": torch.tensor([sample["index"] for sample in whole], dtype=torch.int64),
        "name": [sample["name"] for sample in whole],
        "skipped": [entry for sample in samples for entry in sample["skipped"]],
    }
