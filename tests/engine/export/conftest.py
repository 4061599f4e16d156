"""Small networks for the export tests: real ones, with norms that folding must get right."""

import pytest
import torch
from torch import nn

from saccade.models.efficientvim import EfficientViM, EfficientViMConfig
from saccade.models.shvit import SHViT, SHViTConfig
from saccade.weights import Card

SIZE = 96


def build(name: str, num_classes: int = 7) -> tuple[nn.Module, Card]:
    """Make a small network of a family with random norm weights and statistics that fit them."""
    torch.manual_seed(0)
    if name == "shvit_s1":
        model: nn.Module = SHViT(SHViTConfig((16, 32, 48), (1, 2, 1), (0, 8, 12), num_classes=num_classes))
    else:
        config = EfficientViMConfig((16, 32, 48), (1, 2, 1), (9, 5, 3), num_classes=num_classes)
        model = EfficientViM(config)
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, 0, 0.1)
            module.momentum = 1.0
    model.train()
    with torch.no_grad():
        model(torch.randn(4, 3, SIZE, SIZE))
    labels = [f"class {i}" for i in range(num_classes)]
    card = Card(name, num_classes=num_classes, labels=labels, preprocess={"size": SIZE})
    return model.eval(), card


@pytest.fixture(scope="session")
def shvit() -> tuple[nn.Module, Card]:
    return build("shvit_s1")


@pytest.fixture(scope="session")
def vim() -> tuple[nn.Module, Card]:
    return build("efficientvim_m1")


@pytest.fixture(scope="session")
def onnx_bundle(shvit, tmp_path_factory):
    """One ONNX bundle with free size, shared by the tests that only read it."""
    from saccade.engine.export import export

    return export(shvit, "onnx", dynamic=True, out=tmp_path_factory.mktemp("bundles")).path
