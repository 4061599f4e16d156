"""Load the authors' detectors and segmenters: checkpoints of mmdet 2 and mmseg 0, tensor by tensor.

For every tensor of ours, one rule gives the name in such a file; what the rules do not explain is listed, never
guessed. Two conventions differ. mmdet's classes come first and its background last, ours the other way round; its
boxes and masks have no background at all, where torchvision's have one that nothing reads (zeros here). Anchors,
the order of deltas and what they mean, and the way regions are read off the maps agree. The names are facts read in
mmdet, mmseg and the authors' configurations; for the norms before EfficientViM's pyramid no public file tells the
name, so any `neck.…norm….N.weight` is taken for the N-th.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from saccade.errors import WeightsError
from saccade.nn.origin import name_of
from saccade.tasks.dense.nets.build import HEADS
from saccade.tasks.dense.nets.network import DenseNet
from saccade.weights.card import Card
from saccade.weights.keymap import arrange, foreign_name
from saccade.zoo.loading import Fit
from saccade.zoo.registry import create_model, family_of, list_models

Rules = list[tuple[str, str | Callable[[re.Match[str]], str]]]

_BACKBONES = {"shvit": "official", "efficientvim": "official", "stvit_r_swin": "mmdet"}
"""Layout of the names behind `backbone.` in each family."""
_PRE_NORM = r"^neck\.\w*norm\w*\.(\d+)\.(weight|bias)$"
_COMPUTED = r"(^|\.)(relative_position_index|attn_mask)$"

_RETINANET: Rules = [
    (r"^head\.classification_head\.conv\.(\d)\.0\.", r"bbox_head.cls_convs.\1.conv."),
    (r"^head\.regression_head\.conv\.(\d)\.0\.", r"bbox_head.reg_convs.\1.conv."),
    (r"^head\.classification_head\.cls_logits\.", "bbox_head.retina_cls."),
    (r"^head\.regression_head\.bbox_reg\.", "bbox_head.retina_reg."),
]
_PROPOSALS: Rules = [
    (r"^head\.rpn\.head\.conv\.0\.0\.", "rpn_head.rpn_conv."),
    (r"^head\.rpn\.head\.cls_logits\.", "rpn_head.rpn_cls."),
    (r"^head\.rpn\.head\.bbox_pred\.", "rpn_head.rpn_reg."),
]
_REGIONS: Rules = [
    (r"^head\.stages\.(\d)\.box_predictor\.cls_score\.", r"roi_head.bbox_head.\1.fc_cls."),
    (r"^head\.stages\.(\d)\.box_predictor\.bbox_pred\.", r"roi_head.bbox_head.\1.fc_reg."),
    (r"^head\.stages\.(\d)\.mask_head\.(\d)\.0\.", r"roi_head.mask_head.\1.convs.\2.conv."),
    (r"^head\.stages\.(\d)\.mask_predictor\.conv5_mask\.", r"roi_head.mask_head.\1.upsample."),
    (r"^head\.stages\.(\d)\.mask_predictor\.mask_fcn_logits\.", r"roi_head.mask_head.\1.conv_logits."),
    # Faster and Mask R-CNN: two linear layers. Cascades: convolutions with norms, a flattening, one linear layer.
    (r"^head\.stages\.(\d)\.box_head\.fc6\.", r"roi_head.bbox_head.\1.shared_fcs.0."),
    (r"^head\.stages\.(\d)\.box_head\.fc7\.", r"roi_head.bbox_head.\1.shared_fcs.1."),
    (r"^head\.stages\.(\d)\.box_head\.5\.", r"roi_head.bbox_head.\1.shared_fcs.0."),
    (r"^head\.stages\.(\d)\.box_head\.(\d)\.0\.", r"roi_head.bbox_head.\1.shared_convs.\2.conv."),
    (r"^head\.stages\.(\d)\.box_head\.(\d)\.1\.", r"roi_head.bbox_head.\1.shared_convs.\2.bn."),
]
_SEMANTIC: Rules = [
    (r"^head\.classifier\.1\.", "decode_head.conv_seg."),
    # Between two convolutions of a branch lies an enlargement, which has a number there too.
    (r"^head\.branches\.(\d)\.(\d)\.0\.", lambda m: f"decode_head.scale_heads.{m[1]}.{2 * int(m[2])}.conv."),
    (r"^head\.branches\.(\d)\.(\d)\.1\.", lambda m: f"decode_head.scale_heads.{m[1]}.{2 * int(m[2])}.bn."),
]


def is_mmdet(keys: Mapping[str, Tensor]) -> bool:
    """Tell whether tensor names are those of an mmdet or mmseg network."""
    heads = ("bbox_head.", "rpn_head.", "roi_head.", "decode_head.")
    return any(key.startswith("backbone.") for key in keys) and any(key.startswith(heads) for key in keys)


def mmdet_name(net: DenseNet, name: str) -> str:
    """Return the name that one of our tensors has in an mmdet or mmseg file of the same network."""
    top, _, rest = name.partition(".")
    if top == "backbone":
        family = family_of(name_of(net))
        if family not in _BACKBONES:
            raise WeightsError(
                f"no published detector of mmdet is known for {name_of(net)}; "
                f"there are some for the families {', '.join(_BACKBONES)}"
            )
        return _backbone_name(family, rest)
    if top == "neck":
        return f"neck.{_neck_name(net, rest)}"
    for pattern, replacement in (*_RETINANET, *_PROPOSALS, *_REGIONS, *_SEMANTIC):
        name, hits = re.subn(pattern, replacement, name, count=1)
        if hits:
            break
    if len(getattr(net.head, "stages", ())) == 1:
        name = re.sub(r"^(roi_head\.\w+)\.0\.", r"\1.", name)
    return name


def _backbone_name(family: str, rest: str) -> str:
    """Translate a name within the backbone."""
    foreign = foreign_name(rest, family, _BACKBONES[family])
    return foreign if foreign.startswith("backbone.") else f"backbone.{foreign}"


def _long_axes(tensor: Tensor) -> tuple[int, ...]:
    """Return the shape without axes of length 1, which layouts treat differently."""
    return tuple(n for n in tensor.shape if n != 1)


def _neck_name(net: DenseNet, rest: str) -> str:
    """Translate a name within the pyramid."""
    part, number, *tail = rest.split(".")
    index, end = int(number), ".".join(tail)
    neck = net.neck
    if part == "coarser":
        return f"fpn_convs.{len(neck.outputs) + index}.conv.{end}"
    if part == "finer_outputs":
        # Numbered from the finest level there, in the order of the enlargements here.
        return f"extra_fpn_convs.{neck.num_finer - 1 - index}.conv.{end}"
    names = {"laterals": "lateral_convs", "outputs": "fpn_convs", "finer": "extra_trans_convs"}
    if part in names:
        return f"{names[part]}.{index}.conv.{end}"
    return f"pre_norm.{index}.{end}"


def from_mmdet(state: Mapping[str, Tensor], net: DenseNet) -> Fit:
    """Translate a checkpoint's tensors for one of our networks, which stays untouched.

    Args:
        state: The `state_dict` of the file.
        net: The network, with as many classes as the file's.

    Raises:
        WeightsError: A backbone that has no published detector.
    """
    given = {_with_place(key): key for key in state}
    found = Fit("mmdet", {}, [], [], [])
    used = set()
    for name, own in net.state_dict().items():
        wanted = mmdet_name(net, name)
        key = given.get(wanted)
        if key is None:
            found.missing.append(wanted)
            continue
        used.add(key)
        try:
            found.mapped[name] = arrange(_with_background(state[key], own, name), tuple(own.shape), key)
        except WeightsError as error:
            found.mismatched.append(str(error))
    found.unexpected = [key for key in state if key not in used and not re.search(_COMPUTED, key)]
    return found


def _with_place(key: str) -> str:
    """Give the norms before a pyramid one name, whatever theirs is."""
    norm = re.match(_PRE_NORM, key)
    return f"neck.pre_norm.{norm[1]}.{norm[2]}" if norm else key


def _with_background(tensor: Tensor, own: Tensor, name: str) -> Tensor:
    """Give rows of classes our order, and a row for the background where the file has none."""
    if ".box_predictor.cls_score." in name:
        return tensor.roll(1, 0)
    if ".box_predictor.bbox_pred." in name:
        if len(tensor) == 4:  # one box for all classes
            return tensor.repeat(len(own) // 4, *[1] * (tensor.ndim - 1))
        return torch.cat([torch.zeros_like(tensor[:4]), tensor])
    if ".mask_predictor.mask_fcn_logits." in name:
        return torch.cat([torch.zeros_like(tensor[:1]), tensor])
    return tensor


def identify_mmdet(state: Mapping[str, Tensor], where: str = "the state dict") -> Card:
    """Find out which network of ours a checkpoint of mmdet or mmseg belongs to.

    Args:
        state: The `state_dict` of the file.
        where: File name for messages.

    Returns:
        A card with backbone, head, their options and the number of classes. Classes have COCO's names where
        there are 80 of objects, else numbers; such files do not hold them as tensors.

    Raises:
        WeightsError: Another head or backbone.
    """
    head, num_classes = _head_of(state, where)
    options = _head_options(state)
    wanted = {
        key: _long_axes(tensor)
        for key, tensor in state.items()
        if key.startswith("backbone.") and not re.search(_COMPUTED, key)
    }
    for name in list_models():
        family = family_of(name)
        if family not in _BACKBONES:
            continue
        # The published STViT-R detectors were trained with the release's masks.
        own: dict[str, Any] = {"compat": True} if family == "stvit_r_swin" else {}
        with torch.device("meta"):
            backbone = create_model(name, features_only=True, **own)
        if wanted == {_backbone_name(family, key): _long_axes(t) for key, t in backbone.state_dict().items()}:
            row = HEADS[head]
            normed = any(re.match(_PRE_NORM, key) for key in state)
            if normed != (family == "efficientvim" and row.kind == "detect"):
                options["pre_norm"] = normed
            labels = _coco_names() if row.kind == "detect" and num_classes == 80 else []
            return Card(
                model=name,
                options=own,
                num_classes=num_classes,
                task=row.kind,
                labels=labels or [f"class {i}" for i in range(num_classes)],
                origin=where,
                head=head,
                head_options=options,
            )
    raise WeightsError(
        f"{where}: a {head} of mmdet whose backbone is none of ours; the authors' detectors stand on SHViT, "
        "EfficientViM and STViT-R"
    )


def _head_of(state: Mapping[str, Tensor], where: str) -> tuple[str, int]:
    """Return our name of the head, and the number of classes."""
    masks = any(key.startswith("roi_head.mask_head.") for key in state)
    signs = {
        "bbox_head.retina_cls.bias": ("retinanet", lambda n: n // 9),
        "roi_head.bbox_head.0.fc_cls.bias": (
            "cascade_mask_rcnn" if masks else "cascade_rcnn",
            lambda n: n - 1,
        ),
        "roi_head.bbox_head.fc_cls.bias": ("mask_rcnn" if masks else "faster_rcnn", lambda n: n - 1),
        "decode_head.scale_heads.0.0.conv.weight": ("semantic_fpn", None),
    }
    for key, (head, count) in signs.items():
        if key in state:
            return head, len(state["decode_head.conv_seg.bias"]) if count is None else count(len(state[key]))
    raise WeightsError(
        f"{where}: an mmdet or mmseg network whose head is none of {', '.join(h for h, _ in signs.values())}"
    )


def _head_options(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read the widths that differ from the published ones off the tensors."""
    found: dict[str, tuple[int, int]] = {}
    for key, tensor in state.items():
        plain = re.sub(r"^(roi_head\.\w+)\.0\.", r"\1.", key)
        sizes = {
            "neck.lateral_convs.0.conv.weight": ("width", 256, 0),
            "roi_head.bbox_head.fc_cls.weight": ("fc_width", 1024, 1),
            "roi_head.mask_head.upsample.weight": ("mask_width", 256, 1),
            "decode_head.conv_seg.weight": ("head_width", 128, 1),
        }
        if plain in sizes:
            name, usual, axis = sizes[plain]
            found[name] = (int(tensor.shape[axis]), usual)
    convs = {key for key in state if re.match(r"roi_head\.mask_head\.(0\.)?convs\.\d+\.conv\.weight$", key)}
    if "mask_width" in found:
        found["mask_convs"] = (len(convs), 4)
    return {name: size for name, (size, usual) in found.items() if size != usual}


def _coco_names() -> list[str]:
    """Return the 80 classes in the order of their numbers."""
    from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

    categories: list[str] = MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    return [name for name in categories if name not in ("__background__", "N/A")]
