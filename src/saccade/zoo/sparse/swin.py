"""A Swin of timm as STViT-Swin, or with recovery as STViT-R-Swin: our own networks with its weights.

Attention weights of generating, semantic and recovery blocks come from the blocks they replace; relative position
tables of 7 x 7 windows and shifts have no meaning there and are left. The fourth stage's tables are cropped at the
centre for its smaller grid. The pretrained patch embedding replaces STViT-R's convolutional stem, the first
generating block has its residual, and there is no LayerScale, which would erase the blocks at its
usual start of 1e-5.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.errors import ConfigError
from saccade.models.stvit_r_dense import STViTRDense
from saccade.models.stvit_r_swin import STViTRSwin
from saccade.models.stvit_swin import STViTPlainSwinConfig, STViTSwin
from saccade.nn.stgm_window import WINDOW
from saccade.nn.stvit_r import STViTSwinConfig


def sparse_swin(
    base: nn.Module,
    *,
    tokens: int = 16,
    recover: bool = False,
    image_blocks: int | None = None,
    global_centers: bool = False,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
) -> nn.Module:
    """Build the STViT form of a timm `SwinTransformer`.

    Args:
        base: Four stages, windows of 7.
        tokens: Semantic tokens a window: 4, 9 or 16.
        recover: The STViT-R form, which keeps all maps.
        image_blocks: Third-stage blocks on image tokens (without recovery); two thirds of the stage by default.
        global_centers: Learned centres, zero at first.
        features_only: Give maps instead of logits; only with `recover`.
        out_indices: Stages whose maps to return; None: all four.

    Raises:
        ConfigError: Another kind of Swin.
    """
    model: Any = base
    sizes = _sizes(model)
    if not features_only and model.global_pool != "avg":
        raise ConfigError(f"this Swin has global_pool={model.global_pool!r}; expected 'avg'")
    common: dict[str, Any] = {
        **sizes, "tokens_per_window": tokens, "global_centers": global_centers, "shortcut": True, "layer_scale": None,
        "num_classes": int(model.num_classes), "in_chans": model.patch_embed.proj.weight.shape[1],
        "default_size": int(model.patch_embed.img_size[0]), "drop_path": _drop_path(model),
    }  # fmt: skip
    built: nn.Module
    if recover:
        if image_blocks is not None:
            raise ConfigError(
                "image_blocks does not apply with recover=True, where each unit of six blocks has one"
            )
        config = STViTSwinConfig(**common, stem="patch")
        built = STViTRDense(config, out_indices) if features_only else STViTRSwin(config)
    else:
        if features_only:
            raise ConfigError(
                "feature maps need recover=True: without it the third stage ends in semantic tokens"
            )
        depth = sizes["depths"][2]
        at = depth * 2 // 3 if image_blocks is None else image_blocks
        built = STViTSwin(STViTPlainSwinConfig(**common, image_blocks=at))
    weight = model.patch_embed.proj.weight
    built.to(device=weight.device, dtype=weight.dtype)
    _carry_over(built, model)
    with torch.no_grad():
        centers = getattr(built, "global_centers", None)
        if centers is not None:
            centers.zero_()
    return built.train(base.training)


def _sizes(model: Any) -> dict[str, Any]:
    """Read dims, depths and heads off the model.

    Raises:
        ConfigError: Something that STViT-Swin has no place for.
    """
    if len(model.layers) != 4:
        raise ConfigError(f"this Swin has {len(model.layers)} stages; expected 4")
    windows = {tuple(block.window_size) for layer in model.layers[:3] for block in layer.blocks}
    if windows != {(WINDOW, WINDOW)}:
        raise ConfigError(
            f"this Swin has windows of {sorted(windows)}; sparsify knows {WINDOW}x{WINDOW}, as in "
            "swin_*_patch4_window7_224"
        )
    if any(block.attn.qkv.bias is None for layer in model.layers for block in layer.blocks):
        raise ConfigError("this Swin has no biases in its attention (qkv_bias=False); expected them")
    high, wide = model.patch_embed.patch_size
    if high != wide:
        raise ConfigError(f"this Swin has patches of {high}x{wide}; expected square ones")
    return {
        "patch": int(high),
        "dim": int(model.embed_dim),
        "depths": tuple(len(layer.blocks) for layer in model.layers),
        "heads": tuple(int(layer.blocks[0].attn.num_heads) for layer in model.layers),
    }


def _drop_path(model: Any) -> float:
    """Read the largest rate of stochastic depth off the blocks."""
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for layer in model.layers for block in layer.blocks]
    return round(float(max(rates)), 6)


def _carry_over(built: Any, model: Any) -> None:
    """Copy every tensor that has a place."""
    source: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        source[_our_name(name)] = tensor
    unfilled = {}
    with torch.no_grad():
        for name, own in built.state_dict().items():
            flat = _flat_name(name)
            if flat in source and source[flat].shape == own.shape:
                own.copy_(source[flat])
            elif flat.endswith("relative_position_bias_table") and flat in source:
                own.copy_(_crop_table(source[flat], own.shape[0]))
            elif ".attn.q." in flat or ".attn.kv." in flat:
                dim = own.shape[0] if ".attn.q." in flat else own.shape[0] // 2
                fused = source[flat.replace(".attn.q.", ".attn.qkv.").replace(".attn.kv.", ".attn.qkv.")]
                own.copy_(fused[:dim] if ".attn.q." in flat else fused[dim:])
            else:
                unfilled[name] = own
    missing = [name for name in unfilled if not name.startswith(("global_centers", "norms."))]
    if missing:
        raise ConfigError(f"this Swin lacks {', '.join(missing[:5])}; it is not the Swin that sparsify knows")


def _our_name(name: str) -> str:
    """Translate a tensor name of timm's Swin into a common one: stages.S.blocks.J..., merges.S..., stem..., head."""
    parts = name.split(".")
    if parts[0] == "patch_embed":
        return ".".join(["stem", *parts[1:]])
    if parts[0] == "layers" and parts[2] == "downsample":
        return ".".join(["merges", str(int(parts[1]) - 1), *parts[3:]])
    if parts[0] == "layers":
        return ".".join(["stages", *parts[1:]])
    return ".".join(["head", parts[-1]]) if parts[0] == "head" else name


def _flat_name(name: str) -> str:
    """Translate a tensor name of our networks into the common one."""
    parts = name.split(".")
    if parts[0] == "stages" and parts[2] == "downsample":
        return ".".join(["merges", parts[1], *parts[3:]])
    if parts[0] == "stages" and parts[2] != "blocks":
        return ".".join(["stages", parts[1], "blocks", *parts[2:]])
    return name


def _crop_table(table: Tensor, rows: int) -> Tensor:
    """Fit a relative position table, ((2 w - 1)^2, heads), to another window: (rows, heads).

    The centre is cut out for a smaller window, and the border repeats for a larger one.
    """
    side, want = round(table.shape[0] ** 0.5), round(rows**0.5)
    maps = table.view(1, side, side, -1).permute(0, 3, 1, 2)
    grow = max(0, (want - side) // 2)
    maps = F.pad(maps, (grow, grow, grow, grow), mode="replicate")
    at = max(0, (side - want) // 2)
    return maps[0, :, at : at + want, at : at + want].flatten(1).T
