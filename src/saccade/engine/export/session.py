"""What every runtime looks like from outside: a call from pictures to outputs, with its threads stated."""

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
