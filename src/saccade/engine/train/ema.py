"""The running average of the weights, kept as a second network beside the first.

It is a full copy, made before the network is wrapped for several processes; every process updates its
copy from the same weights, so the copies stay equal without talking.
"""

import copy

import torch
from torch import nn

from saccade.engine.train.recipe import EmaConfig


class Ema:
    """average <- decay * average + (1 - decay) * weights, for parameters and float buffers alike."""

    def __init__(self, model: nn.Module, config: EmaConfig) -> None:
        self.module = copy.deepcopy(model).eval().requires_grad_(False)
        self.config = config
        self.count = 0
        """Updates so far; the warm-up depends on it, so it is part of a checkpoint."""

    def decay(self) -> float:
        """Share that the next update keeps."""
        if not self.config.warmup:
            return self.config.decay
        return min(self.config.decay, (1 + self.count) / (10 + self.count))

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights of `model` (not wrapped) after a step; integer buffers are copied."""
        share, theirs = 1 - self.decay(), model.state_dict()
        for name, value in self.module.state_dict().items():
            if value.is_floating_point():
                value.lerp_(theirs[name].to(value.dtype), share)
            else:
                value.copy_(theirs[name])
        self.count += 1
