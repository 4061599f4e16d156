"""What every runtime looks like from outside: a call from pictures to outputs, with its threads stated."""

import os
from typing import Protocol

from torch import Tensor


class Session(Protocol):
    """An opened model. Closing it (the worker kinds hold a process) is safe to repeat."""

    threads: int

    def __call__(self, images: Tensor) -> Tensor:
        """Map (batch, channels, height, width) float32 on the CPU to float32 outputs."""
        ...

    def close(self) -> None:
        """Free what the session holds."""
        ...


def count_threads(threads: int | None) -> int:
    """Resolve a number of threads: what was asked for, else the cores this process may use."""
    if threads is not None:
        return max(1, int(threads))
    try:
        return max(1, len(os.sched_getaffinity(0)))
    except AttributeError:  # not on macOS
        return max(1, os.cpu_count() or 1)
