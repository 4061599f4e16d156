"""Data: find it, read it, change it, hand it out in batches. Public names are loaded when first used."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saccade.data.augment import build_augmentation
    from saccade.data.config import AugmentConfig, DataConfig
    from saccade.data.dataset import ImageDataset, SampleKey, collate, sample_seed
    from saccade.data.decode import decode_rgb, load_rgb
    from saccade.data.loader import build_loader, make_dataset
    from saccade.data.mix import mix_batch
    from saccade.data.opening import SourcePair, open_pair, open_source
    from saccade.data.preprocess import Preprocess
    from saccade.data.sampler import EpochSampler, OrderedSampler
    from saccade.data.source import Source

_HOMES = {
    "AugmentConfig": "config",
    "DataConfig": "config",
    "EpochSampler": "sampler",
    "ImageDataset": "dataset",
    "OrderedSampler": "sampler",
    "Preprocess": "preprocess",
    "SampleKey": "dataset",
    "Source": "source",
    "SourcePair": "opening",
    "build_augmentation": "augment",
    "build_loader": "loader",
    "collate": "dataset",
    "decode_rgb": "decode",
    "load_rgb": "decode",
    "make_dataset": "loader",
    "mix_batch": "mix",
    "open_pair": "opening",
    "open_source": "opening",
    "sample_seed": "dataset",
}

__all__ = [
    "AugmentConfig",
    "DataConfig",
    "EpochSampler",
    "ImageDataset",
    "OrderedSampler",
    "Preprocess",
    "SampleKey",
    "Source",
    "SourcePair",
    "build_augmentation",
    "build_loader",
    "collate",
    "decode_rgb",
    "load_rgb",
    "make_dataset",
    "mix_batch",
    "open_pair",
    "open_source",
    "sample_seed",
]


def __getattr__(name: str) -> Any:
    """Import the home of a public name on first use."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"saccade.data.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'saccade.data' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted(__all__)
