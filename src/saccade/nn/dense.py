"""What a backbone does besides classify: give its maps to a dense head, and save memory in training."""

from collections.abc import Callable, Sequence

from torch import Tensor

from saccade.errors import ConfigError
from saccade.nn.modules import recomputed


def check_out_indices(out_indices: Sequence[int] | None, num_stages: int) -> tuple[int, ...]:
    """Resolve stage numbers, negatives counting from the end; None means all stages.

    Raises:
        ConfigError: A number outside [-num_stages, num_stages), or none at all.
    """
    wanted = range(num_stages) if out_indices is None else out_indices
    resolved = sorted({int(i) + num_stages if int(i) < 0 else int(i) for i in wanted})
    if not resolved or resolved[0] < 0 or resolved[-1] >= num_stages:
        raise ConfigError(
            f"out_indices is {tuple(wanted)}; expected stage numbers from 0 to {num_stages - 1}"
        )
    return tuple(resolved)


def run_blocks(blocks: Sequence[Callable[[Tensor], Tensor]], x: Tensor, *, recompute: bool) -> Tensor:
    """Apply blocks in order; with `recompute`, keep only their inputs and compute the rest again in backward."""
    for block in blocks:
        x = recomputed(block, x) if recompute and x.requires_grad else block(x)
    return x
