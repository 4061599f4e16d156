"""Say what a network is made of: its parts, their parameters and the shapes they put out."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Part:
    """One module of a network."""

    name: str
    kind: str
    """Class name."""
    params: int
    """With everything inside it."""
    output: tuple[int, ...]
    """Shape of what it last put out (of the first tensor of several); empty when it was not called."""


def outline(model: nn.Module, picture: Tensor, *, depth: int = 2) -> list[Part]:
    """List the parts of a network down to a depth, in the order they are declared.

    Args:
        model: Any network; left in the mode it is in.
        picture: (batch, channels, height, width), run once without gradients.
        depth: How many dots a name may have, plus one; a part that contains listed parts is left out.

    Returns:
        One entry a part that holds parameters, and one named "(direct)" for parameters that belong to a part
        above the depth itself, such as class tokens. The counts add up to the whole network.
    """
    chosen = {
        name: module
        for name, module in model.named_modules()
        if name
        and name.count(".") < depth
        and (name.count(".") == depth - 1 or not any(True for _ in module.children()))
    }
    outputs: dict[str, tuple[int, ...]] = {}

    def remember(name: str):
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            first = next(iter(output), None) if isinstance(output, tuple | list) else output
            if isinstance(first, Tensor):
                outputs[name] = tuple(first.shape)

        return hook

    handles = [module.register_forward_hook(remember(name)) for name, module in chosen.items()]
    try:
        with torch.no_grad():
            model(picture)
    finally:
        for handle in handles:
            handle.remove()
    parts = [
        Part(name, type(module).__name__, sum(p.numel() for p in module.parameters()), outputs.get(name, ()))
        for name, module in chosen.items()
    ]
    direct = sum(p.numel() for p in model.parameters()) - sum(part.params for part in parts)
    return [part for part in [*parts, Part("(direct)", "Parameter", direct, ())] if part.params]
