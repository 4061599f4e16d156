"""Steps that count: what each one said of itself, the same in every process, and none that would spoil the weights.

The rule: a step whose gradient is not finite changes neither the weights nor the optimiser's moments. It is logged
and counted, and so many of them in a row end the run (`skip_limit`). Whether a gradient is finite is read off its
norm, which clipping computes anyhow, and on the device, so that no step waits for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils._pytree import tree_leaves

from saccade.errors import ConfigError

GRAD_NORM = "grad_norm"
"""Name of the gradient's global norm, before clipping, among what a step says."""
SKIPPED_IN_ROW = 10
"""So many steps in a row without a finite gradient end a run."""
SKIPPED_IN_ROW_SCALED = 30
"""Likewise under a loss scaler, which begins too high on purpose and halves the scale at each such step."""


def skip_limit(accelerator: Accelerator, total: int) -> int:
    """Return how many steps left out in a row end a run of `total` steps: all, but at most 10 (30 when scaled)."""
    return min(total, SKIPPED_IN_ROW if accelerator.scaler is None else SKIPPED_IN_ROW_SCALED)


def take_step(accelerator: Accelerator, optimizer: Any, norm: Tensor) -> None:
    """Step unless the gradient is not finite; then weights and moments stay as they are.

    Args:
        accelerator: Knows the loss scaler, if any.
        optimizer: As Accelerate wrapped it.
        norm: Global norm of the gradient, (), the same in every process.
    """
    inner = optimizer.optimizer
    if accelerator.scaler is not None:
        optimizer.step()  # the scaler has looked at every entry itself, skips the step and lowers the scale
    elif inner.defaults.get("fused"):
        # The kernel reads this where it runs; asking for it here would make every step wait for the device.
        inner.found_inf = norm.isfinite().logical_not().to(torch.float32)
        optimizer.step()
    elif bool(norm.isfinite()):
        optimizer.step()


@contextmanager
def several_values() -> Iterator[None]:
    """Turn batch normalisation's refusal of a single value into a sentence.

    Raises:
        ConfigError: A batch of one whose map has shrunk to one pixel.
    """
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ConfigError(
            "data.batch is 1, but the network normalises by its batch and one picture has nothing to be compared "
            "with; use --batch 2 or more"
        ) from None


@dataclass(frozen=True)
class Report:
    """What one step said of itself: means over all processes, weighted by their samples."""

    step: int
    """Steps done, this one included."""
    lr: float
    values: dict[str, float]
    """loss, its parts and `GRAD_NORM`."""

    @property
    def skipped(self) -> bool:
        """Whether the gradient was not finite, so that the step changed nothing."""
        return not math.isfinite(self.values[GRAD_NORM])


class Reports:
    """Keeps what steps said on the device until somebody looks, because looking waits for the device."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.several = accelerator.num_processes > 1
        self.free = accelerator.device.type == "cpu" and not self.several
        """Whether looking costs nothing, so that it may be done after every step."""
        self.waiting: list[tuple[int, float, int, dict[str, Tensor]]] = []

    def add(self, step: int, lr: float, samples: int, values: dict[str, Tensor]) -> None:
        """Keep what a step said.

        Args:
            step: Steps done, this one included.
            lr: Its learning rate.
            samples: Of this process in this step.
            values: loss, its parts and `GRAD_NORM`, each a scalar; the same names in every process.
        """
        self.waiting.append((step, lr, samples, values))

    def collect(self) -> list[Report]:
        """Return what was kept and forget it; every process must call this at the same place."""
        waiting, self.waiting = self.waiting, []
        if not waiting:
            return []
        flat = torch.stack(
            [v.detach().float().reshape(()) for *_, values in waiting for v in values.values()]
        )
        if self.several:
            flat = self._mean(flat, [float(n) for *_, n, values in waiting for _ in values])
        numbers = iter(flat.tolist())
        return [Report(step, lr, {name: next(numbers) for name in values}) for step, lr, _, values in waiting]

    def _mean(self, flat: Tensor, samples: list[float]) -> Tensor:
        """Join the processes' values, weighted by their samples."""
        weights = torch.tensor(samples, dtype=torch.float64, device=flat.device)
        total = self.accelerator.reduce(torch.stack([flat.double() * weights, weights]), "sum")
        assert isinstance(total, Tensor)
        return total[0] / total[1]


def finite(values: Mapping[str, float]) -> dict[str, float]:
    """Keep the finite values, which are all that JSON can hold."""
    return {name: value for name, value in values.items() if math.isfinite(value)}


def first_not_finite(*groups: Mapping[str, Tensor]) -> str:
    """Return the name of the first tensor with an entry that is not finite; empty when there is none."""
    for name, tensor in _floats(item for group in groups for item in group.items()):
        if not bool(tensor.isfinite().all()):
            return name
    return ""


def has_nan(outputs: Any) -> bool:
    """Whether a network's outputs (a tensor, or containers of some) hold a NaN."""
    tensors = [("", leaf) for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]
    return any(bool(tensor.isnan().any()) for _, tensor in _floats(tensors))


def _floats(tensors: Iterable[tuple[str, Tensor]]) -> list[tuple[str, Tensor]]:
    return [(name, tensor) for name, tensor in tensors if tensor.is_floating_point()]
