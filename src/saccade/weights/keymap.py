"""Translate tensor names and shapes between the official releases, timm and Saccade.

The layouts are recognised by their keys. A layout is described by one function from our name to its name;
the way back is read off the model's own names, so the two directions cannot disagree. Names of tensors in
published checkpoints are facts; sources: ysj9909/SHViT, mlvlab/EfficientViM, timm 1.0.31.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping

from torch import Tensor

from saccade.errors import WeightsError

Rules = list[tuple[str, str | Callable[[re.Match[str]], str]]]

# SHViT, ours -> official. Applied in order, each at most once per name.
_SHVIT_COMMON: Rules = [
    (r"^stem\.(\d)\.", lambda m: f"patch_embed.{2 * int(m[1])}."),
    (r"^(head|head_dist)\.norm\.", r"\1.bn."),
    (r"^(head|head_dist)\.fc\.", r"\1.l."),
    (r"\.attn\.norm\.", ".mixer.m.pre_norm."),
    (r"\.attn\.qkv\.", ".mixer.m.qkv."),
    (r"\.attn\.proj\.", ".mixer.m.proj.1."),
    (r"(blocks\.\d+)\.dwconv\.", r"\1.conv.m."),
    (r"(blocks\.\d+)\.ffn\.", r"\1.ffn.m."),
    (r"\.fc([12])\.(conv|norm)\.", r".pw\1.\2."),
    (r"\.merge\.expand\.", ".merge.conv1."),
    (r"\.merge\.dwconv\.", ".merge.conv2."),
    (r"\.merge\.project\.", ".merge.conv3."),
    (r"^((?!head).*)\.conv\.weight$", r"\1.c.weight"),
    (r"^((?!head|.*pre_norm).*)\.norm\.(?=\w+$)", r"\1.bn."),
]
_SHVIT_OFFICIAL: Rules = [
    *_SHVIT_COMMON,
    (r"^stages\.0\.blocks\.", "blocks1."),
    (r"^stages\.(\d)\.blocks\.(\d+)\.", lambda m: f"blocks{int(m[1]) + 1}.{int(m[2]) + 3}."),
    (r"^stages\.(\d)\.downsample\.dwconv1\.", lambda m: f"blocks{int(m[1]) + 1}.0.0.m."),
    (r"^stages\.(\d)\.downsample\.ffn1\.", lambda m: f"blocks{int(m[1]) + 1}.0.1.m."),
    (r"^stages\.(\d)\.downsample\.merge\.", lambda m: f"blocks{int(m[1]) + 1}.1."),
    (r"^stages\.(\d)\.downsample\.dwconv2\.", lambda m: f"blocks{int(m[1]) + 1}.2.0.m."),
    (r"^stages\.(\d)\.downsample\.ffn2\.", lambda m: f"blocks{int(m[1]) + 1}.2.1.m."),
]
_SHVIT_TIMM: Rules = [
    *_SHVIT_COMMON,
    (r"\.downsample\.dwconv1\.", ".downsample.0.m."),
    (r"\.downsample\.ffn1\.", ".downsample.1.m."),
    (r"\.downsample\.merge\.", ".downsample.2."),
    (r"\.downsample\.dwconv2\.", ".downsample.3.m."),
    (r"\.downsample\.ffn2\.", ".downsample.4.m."),
]
# EfficientViM: official and timm share names; shapes differ (see `arrange`).
_EFFICIENTVIM: Rules = [
    (r"^stem\.", "patch_embed.conv."),
    (r"^norms\.", "norm."),
    (r"^head\.fcs\.", "heads."),
    (r"^head\.weights$", "weights"),
    (r"^head_dist\.fcs\.", "heads_dist."),
    (r"^head_dist\.weights$", "weights_dist"),
    (r"\.merge\.expand\.", ".conv.0."),
    (r"\.merge\.dwconv\.", ".conv.1."),
    (r"\.merge\.se\.", ".conv.2."),
    (r"\.merge\.project\.", ".conv.3."),
    (r"\.mixer\.bcdt_proj\.weight$", ".mixer.BCdt_proj.conv.weight"),
    (r"\.mixer\.dwconv\.weight$", ".mixer.dw.conv.weight"),
    (r"\.mixer\.hz_proj\.weight$", ".mixer.hz_proj.conv.weight"),
    (r"\.mixer\.out_proj\.weight$", ".mixer.out_proj.conv.weight"),
]
# STViT-R-Swin, classifier and dense backbone; detectors' files hold the same names behind `backbone.`.
_STVIT_R: Rules = [
    (r"^stem\.convs\.(\d)\.conv\.", lambda m: f"patch_embed.proj.{2 * int(m[1])}.c."),
    (r"^stem\.convs\.(\d)\.norm\.", lambda m: f"patch_embed.proj.{2 * int(m[1])}.bn."),
    (r"^stages\.", "layers."),
    (r"^norms\.(\d)\.", r"norm\1."),
    (r"^global_centers$", "layers.2.semantic_token2"),
]
# Video Swin: the authors' code and mmaction (backbone and classifier of a recogniser), and torchvision's swin3d.
_VIDEO_SWIN: Rules = [
    (r"^stem\.", "backbone.patch_embed."),
    (r"^stages\.(\d)\.(\d+)\.", r"backbone.layers.\1.blocks.\2."),
    (r"^merges\.(\d)\.", r"backbone.layers.\1.downsample."),
    (r"^norm\.", "backbone.norm."),
    (r"^head\.", "cls_head.fc_cls."),
]
_SWIN3D: Rules = [
    (r"^stem\.", "patch_embed."),
    (r"^stages\.(\d)\.", lambda m: f"features.{2 * int(m[1])}."),
    (r"^merges\.(\d)\.", lambda m: f"features.{2 * int(m[1]) + 1}."),
    (r"\.mlp\.fc1\.", ".mlp.0."),
    (r"\.mlp\.fc2\.", ".mlp.3."),
]
_LAYOUTS: dict[str, dict[str, Rules]] = {
    "shvit": {"official": _SHVIT_OFFICIAL, "timm": _SHVIT_TIMM},
    "efficientvim": {"official": _EFFICIENTVIM, "timm": _EFFICIENTVIM},
    "stvit_r_swin": {"official": _STVIT_R, "mmdet": [*_STVIT_R, (r"^", "backbone.")]},
    "video_swin": {"official": _VIDEO_SWIN, "torchvision": _SWIN3D},
}
_PATCH = (2, 4, 4)
"""Frames and pixels of a patch of the published Video Swin networks."""
# Head tensors that a published loader drops when the model has no place for them.
_DROPPABLE = {
    "shvit": {"features": r"^(head|head_dist)\."},
    "efficientvim": {"features": r"^(norms|head|head_dist)\.", "plain": r"^head_dist\."},
    "stvit_r_swin": {"features": r"^(norm|head)\."},
}
# Tensors that published files hold and that the network computes by itself, in any layout.
_COMPUTED = r"(^|\.)(relative_position_index|attn_mask)$"
# Parts of a detector's file beside its backbone, and what a backbone has beyond a classifier's file.
_BESIDE = {"stvit_r_swin": r"^(neck|rpn_head|roi_head|bbox_head|mask_head)\."}
_FRESH = {"stvit_r_swin": {"features": r"^norms\."}}


def layouts(family: str) -> list[str]:
    """List the key layouts of a model family ("shvit" of "shvit_s1"): our own and foreign ones."""
    return ["saccade", *_LAYOUTS.get(family, {})]


def foreign_name(name: str, family: str, layout: str) -> str:
    """Translate one of our tensor names into a foreign layout."""
    for pattern, replacement in _LAYOUTS.get(family, {}).get(layout, []):
        name = re.sub(pattern, replacement, name, count=1)
    return name


def recognise(keys: Iterable[str], own_names: Iterable[str], family: str) -> tuple[str, dict[str, str]]:
    """Find the layout that explains most keys of a checkpoint.

    Args:
        keys: The checkpoint's tensor names.
        own_names: All tensor names of the widest form of the model (with every head).
        family: Model family.

    Returns:
        The layout, and a map from its names to ours.
    """
    keys, own_names = set(keys), list(own_names)
    best, best_map, best_hits = "saccade", {name: name for name in own_names}, -1
    for layout in layouts(family):
        table = {foreign_name(name, family, layout): name for name in own_names}
        hits = len(keys & table.keys())
        if hits > best_hits:
            best, best_map, best_hits = layout, table, hits
    return best, best_map


def droppable(name: str, family: str, form: str) -> bool:
    """Tell whether a tensor (our name) may be left out when loading into the "features" or "plain" form."""
    pattern = _DROPPABLE.get(family, {}).get(form)
    return bool(pattern and re.match(pattern, name))


def ignorable(key: str, family: str, form: str) -> bool:
    """Tell whether a tensor of a file (its own name) means nothing to the network."""
    beside = _BESIDE.get(family) if form == "features" else None
    return bool(re.search(_COMPUTED, key) or (beside and re.match(beside, key)))


def may_be_fresh(name: str, family: str, form: str) -> bool:
    """Tell whether the network may keep its own start for a tensor (our name) that a published file lacks."""
    pattern = _FRESH.get(family, {}).get(form)
    return bool(pattern and re.match(pattern, name))


def arrange(tensor: Tensor, shape: tuple[int, ...], name: str) -> Tensor:
    """Give a tensor our shape where that is another writing of its own (`same_values`), else refuse.

    Raises:
        WeightsError: Any other difference.
    """
    if tuple(tensor.shape) == shape:
        return tensor
    if same_values(tuple(tensor.shape), shape):
        return tensor.reshape(shape)
    raise WeightsError(f"tensor {name!r} has shape {tuple(tensor.shape)}, expected {shape}")


def same_values(shape: tuple[int, ...], own: tuple[int, ...]) -> bool:
    """Whether shapes differ by axes of length 1 only, or by a kernel of clips that is a matrix here."""
    if len(shape) == 5 and own == (shape[0], math.prod(shape[1:])):
        return True
    return [n for n in shape if n != 1] == [n for n in own if n != 1]


def to_layout(state: Mapping[str, Tensor], family: str, layout: str) -> dict[str, Tensor]:
    """Write a state dict of ours under a foreign layout's names and shapes.

    Args:
        state: Our names and shapes.
        family: Model family.
        layout: "saccade", "official" or "timm".

    Raises:
        WeightsError: No such layout for the family.
    """
    if layout not in layouts(family):
        raise WeightsError(f"no layout {layout!r} for {family}; choose from {', '.join(layouts(family))}")
    out = {}
    for name, tensor in state.items():
        new = foreign_name(name, family, layout)
        out[new] = (
            tensor if layout == "saccade" else tensor.reshape(_foreign_shape(new, tensor, family, layout))
        )
    return out


def _foreign_shape(name: str, tensor: Tensor, family: str, layout: str) -> tuple[int, ...]:
    """Restore the axes of length 1 that a foreign layout stores."""
    shape = tuple(tensor.shape)
    if family == "video_swin" and name.endswith("patch_embed.proj.weight"):
        return (shape[0], shape[1] // math.prod(_PATCH), *_PATCH)
    if family != "efficientvim":
        return shape
    if re.search(r"\.mixer\.(BCdt_proj|hz_proj|out_proj)\.conv\.weight$", name):
        return (*shape[:2], 1)
    if layout == "official" and re.search(r"(^norm\.[0-2]|\.blocks\.\d+\.norm)\.\w+$", name):
        return (1, *shape, 1)
    if layout == "official" and name.startswith("norm.3."):
        return (1, *shape, 1, 1)
    return shape
