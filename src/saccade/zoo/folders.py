"""What stands beside weights that another library saved in a folder: model, classes and preprocessing, as a card.

Read are timm's `save_for_hf` and its wrapper in transformers, and transformers' own ViT and DeiT, whose tensors
become those of timm's VisionTransformer. Of other folders only the tensors are used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saccade.errors import WeightsError
from saccade.files import read_json
from saccade.weights.card import Card
from saccade.zoo import registry
from saccade.zoo.labels import numbered

CONFIG, TRANSFORM = "config.json", "preprocessor_config.json"
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Numbers of Pillow."""


def card_beside(path: Path) -> Card | None:
    """Describe the weights in a folder by its `config.json`; None where there is none that says enough.

    Args:
        path: The weights file.

    Raises:
        WeightsError: A damaged description, or one that contradicts itself.
    """
    config = path.parent / CONFIG
    if path.name not in _WEIGHTS or not config.is_file():
        return None
    about, where = read_json(config, dict, error=WeightsError), str(config)
    kind, name = about.get("model_type"), about.get("architecture")
    if isinstance(name, str):
        published = about.get("pretrained_cfg")
        card = _of_timm(name, about, published if isinstance(published, dict) else {})
    elif kind in ("vit", "deit"):
        card = _of_transformers(str(kind), about, config.parent / TRANSFORM)
    else:
        return None
    card.labels = _labels(about, card.num_classes, where)
    card.origin = str(path)
    return Card.from_json(card.to_json(), where)  # which checks what came out of the file


def _of_timm(name: str, about: Mapping[str, Any], published: Mapping[str, Any]) -> Card:
    """Describe a network of timm, or of ours where the name is one."""
    options = about.get("model_args")
    count = about.get("num_classes", published.get("num_classes"))
    if not isinstance(count, int):
        labels = about.get("id2label")
        count = len(labels) if isinstance(labels, dict) else 1000
    shape = published.get("input_size")
    shape = shape if isinstance(shape, list) and len(shape) == 3 else (3, 0, 0)
    preprocess = {
        field: published[field]
        for field in ("mean", "std", "crop_pct", "interpolation")
        if field in published
    }
    if shape[-1]:
        preprocess["size"] = shape[-1]
    ours = name in registry.list_models()
    known = dict(options) if isinstance(options, dict) and not ours else {}
    channels = known.pop("in_chans", shape[0])
    known.pop("num_classes", None)
    side = known.get("img_size")
    if isinstance(side, list) and len(side) == 2 and side[0] == side[1]:
        side = known["img_size"] = side[0]
    if isinstance(side, int):
        preprocess["size"] = side
    return Card(name if ours else f"timm/{name}", known, count, channels, preprocess=preprocess)


def _of_transformers(kind: str, about: Mapping[str, Any], transform: Path) -> Card:
    """Describe a ViT or DeiT of transformers as timm's VisionTransformer."""
    where = f"{transform.parent / CONFIG}"
    wide, size = _whole(about, "hidden_size", 768, where), _whole(about, "image_size", 224, where)
    options = {
        "img_size": size,
        "patch_size": _whole(about, "patch_size", 16, where),
        "embed_dim": wide,
        "depth": _whole(about, "num_hidden_layers", 12, where),
        "num_heads": _whole(about, "num_attention_heads", 12, where),
        "mlp_ratio": _whole(about, "intermediate_size", 3072, where) / wide,
    }
    kinds, labels = str(about.get("architectures")), about.get("id2label")
    both = "WithTeacher" in kinds
    if kind == "deit" and not both:
        raise WeightsError(
            f"{where}: DeiT without both of its classifiers has no form in timm; save the model of "
            "DeiTForImageClassificationWithTeacher"
        )
    # transformers writes no labels where there are two that nobody named.
    count = len(labels) if isinstance(labels, dict) else _whole(about, "num_labels", 2, where)
    count = count if "Classification" in kinds else 0
    asked = read_json(transform, dict, error=WeightsError) if transform.is_file() else {}
    side, crop = (_side(asked.get(name, size), size) for name in ("size", "crop_size"))
    cuts = asked.get("do_center_crop") is True and side >= crop
    preprocess = {
        "size": crop if cuts else side,
        "crop_pct": crop / side if cuts else 1.0,
        "mode": "crop" if cuts else "squash",
        "mean": asked.get("image_mean", [0.5] * 3),
        "std": asked.get("image_std", [0.5] * 3),
        "interpolation": _FILTERS.get(asked.get("resample", 2), "bilinear"),
    }
    base = "deit_base_distilled_patch16_224" if both else "vit_base_patch16_224"
    channels = _whole(about, "num_channels", 3, where)
    return Card(f"timm/{base}", options, count, channels, preprocess=preprocess)


def _whole(about: Mapping[str, Any], name: str, usual: int, where: str) -> int:
    """Read a size."""
    value = about.get(name, usual)
    if not isinstance(value, int) or not 1 <= value <= 1 << 18:
        raise WeightsError(f"{where}: {name} is {str(value)[:40]!r}; expected a whole number from 1")
    return value


def _side(value: Any, usual: int) -> int:
    """Read the side of a picture as transformers writes it: a number, or its height or shortest edge."""
    if isinstance(value, dict):
        value = value.get("height") or value.get("shortest_edge")
    return value if isinstance(value, int) and value > 0 else usual


def _labels(about: Mapping[str, Any], count: int, where: str) -> list[str]:
    """Read the names of the outputs; names that a library made up (LABEL_0) count as none."""
    named = about.get("label_names") or about.get("id2label") or []
    if isinstance(named, dict):
        named = numbered(named, where)
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise WeightsError(
            f"{where}: the names of the classes are damaged; expected a list, or number to name"
        )
    told = about.get("label_descriptions")
    if isinstance(told, dict):
        named = [str(told.get(name, name)) for name in named]
    if len(named) != count or all(name == f"LABEL_{number}" for number, name in enumerate(named)):
        return []
    return named


# transformers -> timm; of each block the queries, keys and values are one matrix there.
_NAMES = (
    (r"^(vit|deit)\.", ""),
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.distillation_token$", "dist_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^(encoder\.layer|layers)\.", "blocks."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.attention\.(attention\.(query|key|value)|[qkv]_proj)\.", r".attn.\1."),
    (r"\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.(intermediate\.dense|mlp\.fc1)\.", ".mlp.fc1."),
    (r"(blocks\.\d+)\.(output\.dense|mlp\.fc2)\.", r"\1.mlp.fc2."),
    (r"^layernorm\.", "norm."),
    (r"^(cls_)?classifier\.", "head."),
    (r"^distillation_classifier\.", "head_dist."),
)
_PARTS = ("query", "key", "value")
_JOINED = re.compile(r"(.*\.attn)\.(?:attention\.)?(query|key|value|[qkv]_proj)\.(weight|bias)")


def as_timm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of a ViT of transformers to timm's; others stay as they are."""
    if not any(re.search(r"(^|\.)embeddings\.patch_embeddings\.projection\.weight$", name) for name in state):
        return dict(state)
    renamed: dict[str, Tensor] = {}
    joined: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        for pattern, new in _NAMES:
            name = re.sub(pattern, new, name)
        if name.startswith("pooler."):
            continue  # of the bare ViTModel; no classifier uses it
        if match := _JOINED.fullmatch(name):
            part = {"q": "query", "k": "key", "v": "value"}.get(match[2][0], match[2])
            joined.setdefault(f"{match[1]}.qkv.{match[3]}", {})[part] = value
        else:
            renamed[name] = value
    for name, parts in joined.items():
        if set(parts) != set(_PARTS):
            raise WeightsError(f"{name}: expected query, key and value, found {', '.join(sorted(parts))}")
        renamed[name] = torch.cat([parts[part] for part in _PARTS])
    return renamed
