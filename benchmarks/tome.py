"""Token merging (ToMe), a peer to measure STViT against; small, and not part of the package.

Bolya et al., "Token Merging: Your ViT But Faster", ICLR 2023, arXiv 2210.09461, sections 3.1 to 3.3, written from the
paper: in every block, between attention and MLP, tokens are dealt alternately into two sets A and B; each token of A
draws one edge to the token of B whose key is most similar (cosine; keys averaged over heads); the r most similar
edges are kept and their ends averaged, weighted by how many patches each stands for; the class token is never merged
away. Attention is proportional: log(size) of each key is added to the logits. No parameters of its own.

Shape legend: B batch, N tokens, C channels, h heads, r tokens merged in a block.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ToMe(nn.Module):
    """A plain timm ViT (DeiT's form, with a class token or without) that merges tokens block by block.

    Args:
        vit: The network; its modules are used as they are.
        merged: r of each block; capped at half of the tokens that may go.
    """

    def __init__(self, vit: Any, merged: Sequence[int]) -> None:
        super().__init__()
        first = vit.blocks[0].attn
        if vit.num_prefix_tokens > 1 or not isinstance(getattr(first, "q_norm", nn.Identity()), nn.Identity):
            raise ValueError("this peer covers ViTs with at most a class token and with plain attention only")
        if len(merged) != len(vit.blocks):
            raise ValueError(f"{len(merged)} numbers of merged tokens for {len(vit.blocks)} blocks")
        self.vit, self.merged = vit, tuple(merged)
        self.num_classes = vit.num_classes

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the head."""
        self.vit.reset_classifier(num_classes)
        self.num_classes = num_classes

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures (B, channels, height, width) to logits (B, classes)."""
        vit = self.vit
        x = vit.norm_pre(vit.patch_drop(vit._pos_embed(vit.patch_embed(x))))
        size = x.new_ones(x.shape[0], x.shape[1], 1)
        for block, r in zip(vit.blocks, self.merged, strict=True):
            mixed, keys = proportional_attention(block.attn, block.norm1(x), size)
            x = x + block.drop_path1(block.ls1(mixed))
            r = min(r, (x.shape[1] - vit.num_prefix_tokens) // 2)
            if r > 0:
                x, size = merge(x, size, keys, r, class_token=vit.num_prefix_tokens == 1)
            x = x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))
        x = vit.norm(x)
        if vit.global_pool != "avg":
            return vit.forward_head(x)
        # The mean over patches, not over tokens: a token counts as often as it stands for patches.
        x, size = x[:, vit.num_prefix_tokens :], size[:, vit.num_prefix_tokens :]
        return vit.head(vit.head_drop(vit.fc_norm((x * size).sum(1) / size.sum(1))))


def proportional_attention(attn: Any, x: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """Attend with log(size) added to the logits (section 3.2, Eq. 1).

    Args:
        attn: timm's attention.
        x: (B, N, C), normalised.
        size: (B, N, 1) patches that each token stands for.

    Returns:
        Mixed tokens (B, N, C), and keys (B, N, C / h), averaged over heads.
    """
    batch, count, dim = x.shape
    q, k, v = attn.qkv(x).view(batch, count, 3, attn.num_heads, -1).permute(2, 0, 3, 1, 4)
    bias = size.log().transpose(1, 2).unsqueeze(1)
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.expand(-1, -1, count, -1))
    return attn.proj_drop(attn.proj(mixed.transpose(1, 2).reshape(batch, count, dim))), k.mean(1)


def merge(
    x: Tensor, size: Tensor, keys: Tensor, r: int, *, class_token: bool = True
) -> tuple[Tensor, Tensor]:
    """Merge the r most similar pairs (section 3.1 and appendix D).

    Args:
        x: (B, N, C).
        size: (B, N, 1).
        keys: (B, N, D).
        r: At most half of the tokens that may go.
        class_token: Token 0 is the class token and stays.

    Returns:
        x (B, N - r, C), size (B, N - r, 1); tokens of A that were kept come first, the class token at place 0.
    """
    with torch.no_grad():
        keys = F.normalize(keys, dim=-1)
        scores = keys[:, ::2] @ keys[:, 1::2].transpose(1, 2)
        if class_token:
            scores[:, 0] = -math.inf
        best, partner = scores.max(2)
        order = best.argsort(1, descending=True)
        gone, kept = order[:, :r, None], order[:, r:].sort(1).values[..., None]
        target = partner[..., None].gather(1, gone)
    weighted = torch.cat([x * size, size], 2)
    a, b = weighted[:, ::2], weighted[:, 1::2]
    wide = weighted.shape[2]
    moving = a.gather(1, gone.expand(-1, -1, wide))
    b = b.scatter_add(1, target.expand(-1, -1, wide), moving)
    joined = torch.cat([a.gather(1, kept.expand(-1, -1, wide)), b], 1)
    size = joined[..., -1:]
    return joined[..., :-1] / size, size


def schedule(mean: float, depth: int) -> list[int]:
    """Spread a mean number of merged tokens, not necessarily whole, over the blocks."""
    return [math.floor((i + 1) * mean + 1e-9) - math.floor(i * mean + 1e-9) for i in range(depth)]
