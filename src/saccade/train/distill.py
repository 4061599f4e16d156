"""The teacher of a distillation: any timm model, run folder or weights file, frozen."""

import torch
from torch import nn

from saccade.errors import ConfigError
from saccade.registry import create_model
from saccade.weights import load_model


def build_teacher(source: str, num_classes: int, device: torch.device | str) -> nn.Module:
    """Build a frozen network in evaluation mode on `device`.

    Args:
        source: `timm/NAME` or one of our model names (published weights are fetched), a run folder or a
            weights file.
        num_classes: Classes of the student.
        device: Where it runs.

    Raises:
        ConfigError: The teacher has other classes.
        WeightsError: Its weights cannot be had; a teacher without trained weights teaches nothing.
    """
    from saccade.registry import list_models

    if source.startswith("timm/") or source in list_models():
        # With the classes of its published head: a fresh head would teach noise.
        teacher = create_model(source, pretrained=True)
    else:
        teacher, _ = load_model(source)
    classes = getattr(teacher, "num_classes", num_classes)
    if classes != num_classes:
        raise ConfigError(
            f"loss.teacher: {source} knows {classes} classes and the data has {num_classes}; fine-tune "
            "a teacher on this data first and pass its run folder"
        )
    return teacher.to(device).eval().requires_grad_(False)
