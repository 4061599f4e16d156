"""`saccade.sparsify`: from a timm model to its STViT form."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import nn

from saccade.errors import ConfigError
from saccade.nn.origin import origin_of, set_origin
from saccade.zoo.sparse.trunk import FAMILIES
from saccade.zoo.sparse.vit import SparseViT

PREFIX = "stvit/"
"""`stvit/NAME` is the STViT form of `timm/NAME`."""
USUAL: dict[str, Any] = {
    "tokens": 16, "recover": False, "pooling": "max", "image_blocks": None, "stgm_blocks": 2, "global_centers": True,
    "head": "keep", "units": 1,
}  # fmt: skip
"""Options of `sparsify` that a name in `create_model` takes too, and their defaults."""


def sparsify(
    model: nn.Module,
    *,
    tokens: int = 16,
    recover: bool = False,
    pooling: str = "max",
    image_blocks: int | None = None,
    stgm_blocks: int = 2,
    global_centers: bool = True,
    head: str = "keep",
    units: int = 1,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
) -> nn.Module:
    """Make the STViT form of a vision transformer: most of its blocks run on a few semantic tokens.

    Weights are carried over and nothing is trained: fine-tune the result, best with the original as teacher
    (`saccade sparsify` does both). The learned global centres start at zero, so the first forward pass equals
    spatial pooling only. Method: Chang et al., CVPR 2023, arXiv 2303.08685; the conversion is ours.

    Args:
        model: A timm `VisionTransformer` (DeiT, AugReg, CLIP and SigLIP towers, DINOv2, with or without class and
            register tokens), `Eva` (EVA02, DINOv3; rotary positions), `Beit` or `VisionTransformerRelPos` (relative
            positions, off from the first generating block on), or `SwinTransformer` with windows of 7. Copied.
        tokens: Semantic tokens, a square number: of the whole picture, for Swin of each window (the paper: 4, 9, 16).
        recover: The STViT-R form: the map comes back at the end.
        pooling: First centres: "max", "window" (learned weights, first the plain mean) or "offset". Not for Swin.
        image_blocks: Blocks on all tokens before the first generating one; a third of the depth by default. For Swin
            without recovery: of its third stage, two thirds by default.
        stgm_blocks: Generating blocks. Not for Swin.
        global_centers: Whether there are learned centres.
        head: "keep" class and register tokens and the head as they are, or "mean": no such tokens, and the head
            (which then has to be trained again) sees the mean of the semantic tokens. Not for Swin.
        units: Dumbbell units, each with its own semantic tokens; only with `recover`. Not for Swin.
        features_only: With `recover`: give a list of maps instead of logits (attributes `channels`, `strides`).
        out_indices: Which maps; for plain transformers 0 is what leaves the first image blocks and u what unit u - 1
            restores, for Swin the four stages. Only with `features_only`.

    Returns:
        A new network, in the mode of the given one, with `token_maps(x)` to look at what each token stands for.

    Raises:
        ConfigError: Not a network that this can convert, or options that do not fit it; says which.
    """
    whole = {"tokens": tokens, "image_blocks": image_blocks, "stgm_blocks": stgm_blocks, "units": units}
    for name, value in whole.items():
        if name == "image_blocks" and value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigError(f"{name} is {value!r}; expected a whole number")
    kind = type(model).__name__
    # torchvision has classes of the same names, built otherwise.
    if kind in (*FAMILIES, "SwinTransformer") and not type(model).__module__.startswith("timm."):
        raise ConfigError(
            f"this {kind} comes from {type(model).__module__.split('.')[0]}; sparsify converts timm's, "
            "such as timm.create_model('vit_base_patch16_224')"
        )
    made: nn.Module
    if kind == "SwinTransformer":
        from saccade.zoo.sparse.swin import sparse_swin

        for name, value, usual in (
            ("pooling", pooling, "max"), ("stgm_blocks", stgm_blocks, 2), ("head", head, "keep"), ("units", units, 1),
        ):  # fmt: skip
            if value != usual:
                raise ConfigError(f"{name} is {value!r}; a Swin has {name}={usual!r} only")
        made = sparse_swin(
            model, tokens=tokens, recover=recover, image_blocks=image_blocks,
            global_centers=global_centers, features_only=features_only, out_indices=out_indices,
        )  # fmt: skip
    elif kind in FAMILIES:
        made = SparseViT(
            copy.deepcopy(model), tokens=tokens, pooling=pooling, image_blocks=image_blocks,
            stgm_blocks=stgm_blocks, global_centers=global_centers, head=head, recover=recover, units=units,
            features_only=features_only, out_indices=out_indices,
        )  # fmt: skip
        made.train(model.training)
    else:
        raise ConfigError(
            f"a {kind} cannot be converted: expected timm's {', '.join(FAMILIES)} or SwinTransformer"
        )
    name, options = _name_of(model)
    if name:
        given = (tokens, recover, pooling, image_blocks, stgm_blocks, global_centers, head, units)
        own = {key: value for key, value in zip(USUAL, given, strict=True) if value != USUAL[key]}
        set_origin(made, PREFIX + name, {**options, **own})
    return made


def _name_of(model: nn.Module) -> tuple[str, dict[str, Any]]:
    """Find under which timm name and options this network can be built again; "" when it cannot."""
    origin = origin_of(model)
    if origin is not None and origin.name.startswith("timm/"):
        return origin.name.removeprefix("timm/"), dict(origin.options)
    known: Any = getattr(model, "pretrained_cfg", None) or {}
    name = str(known.get("architecture", ""))
    if not name:
        return "", {}
    import timm
    import torch

    try:
        with torch.device("meta"):
            again = timm.create_model(name, num_classes=int(getattr(model, "num_classes", 1000)))
    except (
        Exception
    ):  # a name that timm cannot build by itself; such a network converts, and is only not named
        return "", {}
    # Sizes given at run time change no tensor, so they travel as an option.
    options = {"dynamic_img_size": True} if getattr(model, "dynamic_img_size", False) else {}
    return (name, options) if _outline(again) == _outline(model) else ("", {})


def _outline(model: nn.Module) -> tuple[Any, ...]:
    """Describe what a network computes, but for its weights and for what drops out in training."""
    shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    layers = [line for line in str(model).splitlines() if "drop" not in line.lower()]
    return shapes, layers, getattr(model, "global_pool", None)
