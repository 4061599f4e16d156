"""The training transform, built from timm's and torchvision's parts."""

from saccade.data.config import AugmentConfig
from saccade.data.dataset import Augmentation
from saccade.data.preprocess import Preprocess


def build_augmentation(config: AugmentConfig, preprocess: Preprocess) -> Augmentation:
    """Build the training transform."""
    raise NotImplementedError
