"""Attention as the network computed it: SHViT's single heads and EfficientViM's states.

Nothing in the models knows of this file: hooks read the projections, and the weights are computed again from
them by the models' own formula.

SHViT (arXiv 2401.16456): each block has one (L, L) matrix, row = looking place, column = looked-at place.
Blocks of a stage are joined by attention rollout (Abnar and Zuidema, ACL 2020, arXiv 2005.00928, section 3:
half the matrix, half the identity for the residual, multiplied up); the convolutions between the blocks are
left out of the product, so a rollout is an approximation. A single block is exact.

EfficientViM (arXiv 2411.15241): each block has N states, each a softmax over the L places that it gathers from.

Shape legend: B batch, L = H * W places, N states.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from saccade.errors import ConfigError, ShapeError
from saccade.models.efficientvim import HiddenStateMixer
from saccade.models.shvit import QUERY_DIM, SingleHeadAttention


@dataclass
class AttentionMap:
    """How much each place was looked at."""

    name: str
    """Such as "stage 2" or "stage 2, block 3"."""
    heat: Tensor
    """(H, W) float32 on the CPU, summing to 1."""


@dataclass
class _Record:
    stage: int
    block: int
    weights: Tensor
    """(rows, L): rows are looking places or states, each summing to 1."""
    grid: tuple[int, int]


def attention_maps(
    model: nn.Module, image: Tensor, *, per_block: bool = False
) -> tuple[list[AttentionMap], Tensor]:
    """Record where a model looked, averaged over looking places (SHViT) or states (EfficientViM).

    Args:
        model: SHViT or EfficientViM of this package, in evaluation mode, not folded.
        image: (1, channels, height, width), normalised as the model expects, on its device.
        per_block: One map a block, in order; otherwise one a stage: the rollout for SHViT, the mean over the
            blocks for EfficientViM.

    Returns:
        The maps, first stage first, and the output of the model, (classes,) for a classifier.

    Raises:
        ShapeError: `image` is not one picture.
        ConfigError: The model has no attention that can be read.

    Cost: one forward pass and one more product a block.
    """
    if image.ndim != 4 or image.shape[0] != 1:
        raise ShapeError(f"image is {tuple(image.shape)}; expected one picture, (1, channels, height, width)")
    records, logits = record_attention(model, image)
    if per_block:
        return [
            AttentionMap(f"stage {r.stage}, block {r.block}", _heat(r.weights, r.grid)) for r in records
        ], logits
    maps = []
    for stage in sorted({r.stage for r in records}):
        group = [r for r in records if r.stage == stage]
        square = all(r.weights.shape[0] == r.weights.shape[1] for r in group) and _is_shvit(model)
        joined = rollout([r.weights for r in group]) if square else torch.cat([r.weights for r in group])
        maps.append(AttentionMap(f"stage {stage}", _heat(joined, group[0].grid)))
    return maps, logits


def record_attention(model: nn.Module, image: Tensor) -> tuple[list[_Record], Tensor]:
    """Run the model once and compute every block's weights from what its projections returned.

    Raises:
        ConfigError: The model has no attention that can be read.
    """
    records: list[_Record] = []
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, SingleHeadAttention):
            handles.append(module.qkv.register_forward_hook(_shvit_hook(records, module, name)))
        elif isinstance(module, HiddenStateMixer):
            handles.append(module.dwconv.register_forward_hook(_efficientvim_hook(records, module, name)))
    if not handles:
        raise ConfigError(
            f"{type(model).__name__} has no attention that can be drawn; it is read from shvit_* and "
            "efficientvim_* models only, and --method cam works for every model"
        )
    try:
        with torch.no_grad():
            output = model(image)
    finally:
        for handle in handles:
            handle.remove()
    return records, output[0].float().cpu()


def rollout(weights: list[Tensor]) -> Tensor:
    """Multiply up attention through residual blocks: each (L, L), first block first; rows sum to 1."""
    joined = torch.eye(weights[0].shape[0], dtype=weights[0].dtype)
    for one in weights:
        joined = (0.5 * one + 0.5 * torch.eye(len(one), dtype=one.dtype)) @ joined
    return joined


def _shvit_hook(records: list[_Record], module: SingleHeadAttention, name: str):
    """Read q and k off the qkv projection (B, 16 + 16 + P, H, W)."""

    def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        q, k = output.flatten(2)[:, : 2 * QUERY_DIM].split(QUERY_DIM, 1)
        weights = module.attention(q, k)[0].float().cpu()
        records.append(_Record(*_place(name, records), weights, _hw(output)))

    return hook


def _efficientvim_hook(records: list[_Record], module: HiddenStateMixer, name: str):
    """Read the token softmax off the last third of the projection (B, 3 N, H, W)."""

    def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        delta = output[0, 2 * module.num_states :].flatten(1)
        records.append(_Record(*_place(name, records), delta.softmax(-1).float().cpu(), _hw(output)))

    return hook


def _place(name: str, records: list[_Record]) -> tuple[int, int]:
    """Stage and block, counted from 1, from a module path "stages.S.blocks.B...."."""
    parts = name.split(".")
    numbers = [int(part) for part in parts if part.isdigit()]
    return (numbers[0] + 1, numbers[1] + 1) if len(numbers) >= 2 else (1, len(records) + 1)


def _hw(output: Tensor) -> tuple[int, int]:
    return int(output.shape[2]), int(output.shape[3])


def _heat(weights: Tensor, grid: tuple[int, int]) -> Tensor:
    """Average over rows and lay out on the grid."""
    return weights.mean(0).view(grid)


def _is_shvit(model: nn.Module) -> bool:
    return any(isinstance(module, SingleHeadAttention) for module in model.modules())
