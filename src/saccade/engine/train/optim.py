"""The optimiser: which parameters move, which decay, how far each layer moves, how gradients are clipped."""

from __future__ import annotations

import math
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn

from saccade.engine.train.recipe import OptimConfig
from saccade.errors import ConfigError, did_you_mean
from saccade.nn.modules import Scaled, Undecayed

HEAD_NAMES = (
    "head",
    "head_dist",
    "heads",
    "heads_dist",
    "fc",
    "classifier",
    "fc_norm",
    "norms",
    "weights",
    "weights_dist",
    "neck",
    "temporal",
)
"""First parts of the names of parameters that no classifier's backbone has, in our models and timm's."""


def is_head(name: str) -> bool:
    """Whether a parameter belongs to the classifier, or to a dense network's pyramid or head."""
    return name.split(".")[0] in HEAD_NAMES


def freeze(model: nn.Module, prefixes: tuple[str, ...]) -> list[str]:
    """Switch off the gradients of parameters by prefix; `backbone` means all but the classifier.

    Returns:
        Names of the frozen parameters.

    Raises:
        ConfigError: A prefix that no parameter has, or nothing left to train.
    """
    names = [name for name, _ in model.named_parameters()]
    frozen: list[str] = []
    for prefix in prefixes:
        if prefix == "backbone":
            hits = [name for name in names if not is_head(name)]
        else:
            hits = [name for name in names if name == prefix or name.startswith(prefix.rstrip(".") + ".")]
        if not hits:
            tops = {".".join(name.split(".")[:i]) for name in names for i in (1, 2)}
            raise ConfigError(
                f"optim.freeze: no parameter starts with {prefix!r}{did_you_mean(prefix, tops)}"
            )
        frozen += hits
    if set(frozen) == set(names):
        raise ConfigError("optim.freeze leaves nothing to train; freeze fewer layers")
    for name, parameter in model.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
    return sorted(set(frozen))


def train_mode(model: nn.Module) -> None:
    """Switch to training mode, but keep wholly frozen layers (and their batch statistics) as they are."""
    model.train()
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()


def no_decay_names(model: nn.Module, rule: str) -> set[str]:
    """Names of the parameters that weight decay leaves alone, by rule (see `OptimConfig.no_decay`)."""
    if rule == "none":
        return set()
    if rule == "model" and isinstance(model, Undecayed):
        return set(model.weight_decay_exempt())
    by_name = rule != "1d"
    return {
        name for name, p in model.named_parameters() if p.ndim <= 1 or (by_name and name.endswith(".bias"))
    }


def layer_numbers(model: nn.Module) -> dict[str, int]:
    """Which layer each parameter of a backbone belongs to, from 0; parameters of the classifier are left out.

    As `timm.optim.param_groups_layer_decay` groups them, so that published values of the decay transfer: class token,
    positions and patches are the lowest layer, every block is one, and what has no number joins the layer before it.
    Networks of timm say so themselves.
    """
    if hasattr(model, "group_matcher"):
        from timm.models import group_parameters

        groups: Any = group_parameters(model, model.group_matcher(coarse=False), reverse=True)  # pyright: ignore
        return {name: number for name, number in groups.items() if not is_head(name)}
    numbers: dict[str, int] = {}
    layers: dict[str, int] = {"stem": 0}
    for name, _ in model.named_parameters():
        if is_head(name):
            continue
        parts = name.split(".")
        end = 0
        while end + 1 < len(parts) and parts[end + 1].isdigit():
            end += 2
        low = not end or parts[0] in ("stem", "patch_embed")
        layer = ".".join(parts[:end]) if end and not low else "stem" if len(layers) == 1 else list(layers)[-1]
        numbers[name] = layers.setdefault(layer, len(layers))
    return numbers


def layer_scales(model: nn.Module, decay: float) -> dict[str, float]:
    """Learning-rate factor of every parameter: 1 for the classifier, times `decay` for each layer below."""
    backbone = model.get_submodule("backbone") if "backbone" in dict(model.named_children()) else None
    prefix = "" if backbone is None else "backbone."
    numbers = {prefix + name: number for name, number in layer_numbers(backbone or model).items()}
    top = max(numbers.values(), default=0) + 1
    return {name: decay ** (top - numbers.get(name, top)) for name, _ in model.named_parameters()}


def param_groups(model: nn.Module, config: OptimConfig) -> list[dict[str, Any]]:
    """Group the trainable parameters by weight decay and learning-rate factor.

    Returns:
        Groups for torch.optim with `params`, `names`, `weight_decay` and `lr_scale`.
    """
    spared = no_decay_names(model, config.no_decay)
    scales = layer_scales(model, config.layer_decay)
    if isinstance(model, Scaled):
        for name, factor in model.rate_scales().items():
            scales[name] *= factor
    groups: dict[tuple[bool, float], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        key = (name in spared, scales[name])
        group = groups.setdefault(
            key,
            {
                "params": [],
                "names": [],
                "weight_decay": 0.0 if key[0] else config.weight_decay,
                "lr_scale": key[1],
            },
        )
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())


def build_optimizer(model: nn.Module, config: OptimConfig, *, fused: bool = True) -> torch.optim.AdamW:
    """Make AdamW over `param_groups`; `fused` runs each step as one kernel."""
    named = [
        {
            **{k: v for k, v in group.items() if k != "names"},
            "params": list(zip(group["names"], group["params"], strict=True)),
        }
        for group in param_groups(model, config)
    ]
    return torch.optim.AdamW(
        named,
        lr=config.lr or 0.0,  # `set_lr` gives each step its own
        betas=(config.betas[0], config.betas[1]),
        eps=config.eps,
        weight_decay=0.0,
        fused=fused,
    )


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group its learning rate: `lr` times the group's factor."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]


def clip_gradients(accelerator: Accelerator, model: nn.Module, config: OptimConfig) -> Tensor:
    """Clip the gradients in place, after undoing any loss scaling.

    `agc` limits each unit's gradient to `clip_value` times the norm of its weights (Brock et al., 2021,
    arXiv 2102.06171), over all parameters, the classifier included, as the SHViT code does.

    Returns:
        Global norm of the gradients before clipping, (), the same in every process.
    """
    if config.clip == "norm" or accelerator.distributed_type == DistributedType.FSDP:
        # Sharded gradients have a norm only together, and Accelerate knows how: an infinite bound leaves them be.
        bound = config.clip_value if config.clip == "norm" else math.inf
        norm: Any = accelerator.clip_grad_norm_(model.parameters(), bound)
        return norm.full_tensor() if hasattr(norm, "full_tensor") else norm
    accelerator.unscale_gradients()
    learning = [p for p in model.parameters() if p.requires_grad]
    norm = nn.utils.get_total_norm([p.grad for p in learning if p.grad is not None])
    if config.clip == "agc":
        from timm.utils.agc import adaptive_clip_grad

        with torch.no_grad():
            adaptive_clip_grad(learning, config.clip_value)
    return norm
