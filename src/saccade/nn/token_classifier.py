"""What the STViT networks have in common around their tokens: head, recomputation, weight decay, token maps."""

from __future__ import annotations

import abc

from torch import Tensor, nn

from saccade.nn.transformer import init_transformer


class TokenNet(nn.Module):
    """A network of tokens: which parameters recipes decay, and recomputation in training."""

    recompute = False

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade time for memory in training: keep the inputs of blocks and units only."""
        self.recompute = enable

    def weight_decay_exempt(self) -> set[str]:
        """Names of the parameters that recipes do not decay: vectors, position embeddings and biases."""
        return {
            name
            for name, p in self.named_parameters()
            if p.ndim <= 1 or name == "pos_embed" or name.endswith("relative_position_bias_table")
        }


class TokenClassifier(TokenNet, abc.ABC):
    """A classifier of the mean of its final tokens; `num_features` has to be set first."""

    num_features: int

    @abc.abstractmethod
    def forward_features(self, x: Tensor) -> Tensor:
        """Map a picture (B, in_chans, height, width) to its final tokens (B, M, C), normalised."""

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the head by a fresh one with `num_classes` outputs; 0 removes it."""
        self.num_classes = num_classes
        self.head = nn.Linear(self.num_features, num_classes) if num_classes else None
        if self.head is not None:
            init_transformer(self.head)

    def forward_head(self, x: Tensor, *, pre_logits: bool = False) -> Tensor:
        """Average the tokens and classify; `pre_logits` stops after the mean, (B, C)."""
        x = x.mean(1)
        return x if pre_logits or self.head is None else self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        """Map a picture (B, in_chans, height, width) to logits (B, num_classes)."""
        return self.forward_head(self.forward_features(x))


def image_maps(weights: Tensor, size: tuple[int, int]) -> Tensor:
    """Turn attention weights into maps of the image tokens, which come last among the keys.

    Args:
        weights: (B, h, M, N), mean taken over heads.
        size: (H, W), H * W <= N.

    Returns:
        (B, M, H, W), each map summing to 1.
    """
    seen = weights.mean(1)[:, :, -size[0] * size[1] :]
    return (seen / seen.sum(2, keepdim=True)).unflatten(2, size)
