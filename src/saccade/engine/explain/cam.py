"""Grad-CAM: which places of the picture spoke for a class.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017,
arXiv 1610.02391. Works on any classifier without naming its layers: the outputs of all modules are recorded,
and the last one that still is a map and still carries gradient is taken. For a network that ends in average
pooling and a linear layer this equals the class-activation map. EfficientViM answers from its hidden states
too; the map shows the part of the answer that comes through its last feature map.

Shape legend: B batch, C channels, H height, W width, L tokens.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from saccade.errors import ConfigError, ShapeError


@dataclass
class ClassMap:
    """Evidence for one class over the picture."""

    heat: Tensor
    """(H, W) float32 on the CPU, in [0, 1]: 1 is the strongest evidence, 0 none (or evidence against)."""
    logits: Tensor
    """(classes,) float32 on the CPU."""
    target: int
    """The class explained."""
    layer: str
    """Which module's output was used."""


def class_map(model: nn.Module, image: Tensor, target: int | None = None) -> ClassMap:
    """Compute the Grad-CAM of one picture.

    Args:
        model: A classifier in evaluation mode; its parameters are not changed.
        image: (1, C, H, W), normalised as the model expects, on the model's device.
        target: Class number; None: the model's first answer.

    Returns:
        The map at the resolution of the chosen layer.

    Raises:
        ShapeError: `image` is not one picture.
        ConfigError: `target` is not a class, the outputs are not logits, or no layer keeps a map.

    Cost: one forward and one backward pass.
    """
    if image.ndim != 4 or image.shape[0] != 1:
        raise ShapeError(f"image is {tuple(image.shape)}; expected one picture, (1, channels, height, width)")
    recorded: list[tuple[str, Tensor, bool]] = []

    def record(name: str):
        def hook(module: nn.Module, _inputs: object, output: object) -> None:
            first = output[0] if isinstance(output, tuple) and output else output
            if not isinstance(first, Tensor) or not first.requires_grad:
                return
            last = _channels_last(model, module)
            if _grid(model, first, last) is not None:
                recorded.append((name, first, last))

        return hook

    handles = [module.register_forward_hook(record(name)) for name, module in model.named_modules() if name]
    try:
        with torch.enable_grad():
            # The picture asks for gradients, so frozen parameters do not hide the maps.
            logits = model(image.detach().clone().requires_grad_(True))
    finally:
        for handle in handles:
            handle.remove()
    if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[1] < 2:
        raise ConfigError(f"{type(model).__name__} does not return logits, so there is no class to explain")
    if target is None:
        target = int(logits[0].argmax())
    if not 0 <= target < logits.shape[1]:
        raise ConfigError(f"class {target} does not exist; the model has classes 0 to {logits.shape[1] - 1}")
    for name, output, last in reversed(recorded):
        (gradient,) = torch.autograd.grad(logits[0, target], output, retain_graph=True, allow_unused=True)
        if gradient is None or not bool(gradient.abs().sum() > 0):
            continue
        features, slopes = _as_map(model, output, last), _as_map(model, gradient, last)
        if not bool(slopes.abs().sum() > 0):  # only a class token had a slope: nothing about places
            continue
        heat = (slopes.mean((1, 2), keepdim=True) * features).sum(0).clamp(min=0)
        peak = heat.max()
        heat = heat / peak if bool(peak > 0) else heat
        return ClassMap(heat.detach().float().cpu(), logits[0].detach().float().cpu(), target, name)
    raise ConfigError(
        f"{type(model).__name__} keeps no spatial map that leads to its answer at this size, "
        "so there is nothing to draw; try a larger --size"
    )


def _grid(model: nn.Module, output: Tensor, channels_last: bool) -> tuple[int, int] | None:
    """(height, width) when an output is a map or a token sequence laid out on a grid; otherwise None."""
    if output.ndim == 4 and output.shape[0] == 1:
        height, width = output.shape[1:3] if channels_last else output.shape[2:4]
        # A 1-wide "map" is a vector; a strongly lopsided one is a matrix of tokens or states.
        if height > 1 and width > 1 and max(height, width) <= 8 * min(height, width):
            return int(height), int(width)
        return None
    grid = getattr(getattr(model, "patch_embed", None), "grid_size", None)
    width = getattr(model, "embed_dim", None)  # not queries, keys and values, nor the hidden layer
    if output.ndim != 3 or output.shape[::2] != (1, width) or not isinstance(grid, tuple) or len(grid) != 2:
        return None
    tokens = output.shape[1] - int(getattr(model, "num_prefix_tokens", 0))
    return (int(grid[0]), int(grid[1])) if tokens == grid[0] * grid[1] > 1 else None


def _channels_last(model: nn.Module, module: nn.Module) -> bool:
    """Whether a module of a network gives maps as (B, H, W, C).

    timm's models say so of themselves; in those that do, only convolutions still give (B, C, H, W).
    """
    return getattr(model, "output_fmt", "NCHW") == "NHWC" and not isinstance(module, nn.Conv2d)


def _as_map(model: nn.Module, output: Tensor, channels_last: bool) -> Tensor:
    """Bring an output for which `_grid` is known to (C, H, W)."""
    grid = _grid(model, output, channels_last)
    assert grid is not None
    if output.ndim == 3:
        return output[0, output.shape[1] - grid[0] * grid[1] :].T.reshape(-1, *grid)
    return output[0].movedim(-1, 0) if channels_last else output[0]
