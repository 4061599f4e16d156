"""What a recipe says about data: where it is, how it is split, how it is augmented."""

import dataclasses
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from saccade.errors import DataError
from saccade.files import read_yaml, within
from saccade.trust import Stored


@dataclass
class DataConfig:
    """Where the samples are and how they are grouped."""

    source: str = ""
    """Folder of class folders, CSV of path,label, WebDataset shards (braces or URL), or a built-in name (digits)."""
    val: str = ""
    """Validation source in the same form; empty: `val/` beside `train/`, else a stratified part of `source`."""
    val_fraction: Annotated[float, within(0.001, 0.9)] = 0.2
    """Fraction kept for validation when there is no validation source; in (0, 0.9)."""
    size: Annotated[int, within(1, 8192)] | None = None
    """Side of the square input in pixels, of dense tasks the shorter side; unset: the model's own."""
    max_size: Annotated[int, within(1, 16384)] | None = None
    """Longest side in pixels, dense tasks only; unset: 5/3 of the shorter side (1333 for 800)."""
    ignored: tuple[Annotated[int, within(0, 65535)], ...] = ()
    """Of segmentation: values of class maps that count for nothing, beside 255, such as [11] (CamVid's unlabelled);
    the classes are the other values, in rising order."""
    keep_empty: bool = True
    """Of detection: learn from pictures without objects too (COCO's usual recipes leave them out)."""
    batch: Annotated[int, within(1, 1_000_000)] | None = 64
    """Samples per process and step; unset, as in recipes: from the number of samples."""
    frames: Annotated[int, within(1, 256)] | None = None
    """Of videos: frames of a clip; unset: the model's own, or 16."""
    sampling: Literal["auto", "uniform", "dense"] = "auto"
    """Of videos: uniform (spread over the clip), dense (`step_s` apart), or auto: the weights' own, or uniform."""
    step_s: Annotated[float, within(0.0001, 3600)] | None = None
    """Of videos: seconds between frames of dense sampling; unset: the weights' own, or 1/15."""
    views: Literal["1x1", "1x3", "4x1", "4x3", "10x3"] = "1x1"
    """Of videos: temporal times spatial views whose answers evaluation averages: 1x1, 1x3, 4x1, 4x3 or 10x3."""
    workers: Annotated[int, within(-1, 1024)] = -1
    """Loader processes; -1: one per core less one, 0: load in the training process."""
    mix: str = ""
    """Of the task answer: general LLaVA conversations mixed in, FILE:RATIO,FILE:RATIO with samples per question."""
    labels: str = ""
    """Of the task answer: tracks of `saccade kinematics label`, so that boxes are drawn at the size the model sees;
    empty: the frames drawn beside the questions."""
    pictures: str = ""
    """Folder that the pictures of `labels` are relative to."""
    max_pixels: Annotated[int, within(1)] = 178_956_970
    """Images with more pixels are refused as decompression bombs."""
    repeats: Annotated[int, within(1, 64)] = 1
    """Repeated augmentation: copies of each sample shared over the processes (3 in the SHViT recipe)."""


@dataclass
class AugmentConfig:
    """How training images are changed. Defaults suit a small folder of photographs."""

    scale: tuple[float, float] = (0.35, 1.0)
    """Area range of the random resized crop; (1, 1) keeps the whole picture."""
    ratio: tuple[float, float] = (0.75, 1.3333333333333333)
    """Aspect range of the random resized crop."""
    interpolation: Literal["bicubic", "bilinear", "random"] = "bicubic"
    """Resize filter: bicubic, bilinear or random (one of the two)."""
    hflip: Annotated[float, within(0, 1)] = 0.5
    """Probability of a mirror image; set 0 for text, digits and anything with a handedness."""
    vflip: Annotated[float, within(0, 1)] = 0.0
    color_jitter: Annotated[float, within(0, 1)] = 0.0
    """Brightness, contrast and saturation jitter; ignored, as in timm, when `rand_augment` is set."""
    rand_augment: str = ""
    """timm's string, such as rand-m9-mstd0.5-inc1; empty: off."""
    geometry: Literal["fixed", "multi_scale", "detr", "jitter", "crop"] = "fixed"
    """Sizes that dense tasks train at: fixed, multi_scale, detr, jitter (large-scale jitter) or crop."""
    photometric: bool = False
    """Change brightness, contrast, saturation and hue of dense tasks' pictures."""
    three_augment: bool = False
    """Grey scale, solarise or blur, one of the three (DeiT III)."""
    random_erasing: Annotated[float, within(0, 1)] = 0.0
    """Probability of erasing a rectangle with noise (pixel mode, one rectangle)."""
    mixup: Annotated[float, within(0)] = 0.0
    """Beta parameter of mixup; 0: off."""
    cutmix: Annotated[float, within(0)] = 0.0
    """Beta parameter of cutmix; 0: off."""
    mix_prob: Annotated[float, within(0, 1)] = 1.0
    """Probability that a batch is mixed at all."""
    mix_switch: Annotated[float, within(0, 1)] = 0.5
    """Probability of cutmix when both are on."""


@dataclass
class _Place:
    source: str = ""
    val: str = ""
    val_fraction: Annotated[float, within(0, 1)] = DataConfig.val_fraction
    labels: str = ""
    pictures: str = ""


@dataclass
class _Run:
    seed: int = 0


@dataclass
class _Split:
    """What the recipe of a run says about its data."""

    data: _Place = field(default_factory=_Place)
    run: _Run = field(default_factory=_Run)


def read_split(run: Path | str) -> tuple[DataConfig, int] | None:
    """Read what a run folder was trained on, and the seed of its split; None when it holds no recipe.

    Raises:
        DataError: The recipe is damaged.
    """
    path = Path(run) / "recipe.yaml"
    if not path.is_file():
        return None
    found = read_yaml(path, _Split, error=DataError)
    source, val, labels, pictures = (
        Stored(value, path, f"data.{name}", way="name data on this machine with --data") if value else ""
        for name, value in dataclasses.asdict(found.data).items()
        if name != "val_fraction"
    )
    share = found.data.val_fraction
    return DataConfig(source, val, share, labels=labels, pictures=pictures), found.run.seed


def same_place(first: str, second: str) -> bool:
    """Whether two specifications name the same place."""
    if not first or not second:
        return False
    one, other = (os.path.realpath(Path(place).expanduser()) for place in (first, second))
    return first == second or one == other
