"""What every runtime looks like from outside: a call from tensors to tensors, with its threads stated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from saccade.errors import ShapeError
from saccade.tasks.base import Exported
from saccade.weights.card import Card


class Session(Protocol):
    """An opened model. Closing it (the worker kinds hold a process) is safe to repeat."""

    @property
    def threads(self) -> int:
        """Threads of one call."""
        ...

    def __call__(self, *inputs: Tensor) -> Any:
        """Map float32 tensors on the CPU, in the order of the file, to its output, or a tuple of several."""
        ...

    def close(self) -> None:
        """Free what the session holds."""
        ...


class OpenedFile(Exported):
    """A session that knows what its file takes: what `Task.exported` gets.

    Formats with a fixed batch are fed in pieces, the last one filled up.

    Args:
        session: The opened file.
        card: What it is.
        shapes: Of the inputs, as in a manifest: numbers, and names of what may vary.
    """

    def __init__(self, session: Session, card: Card, shapes: Sequence[Sequence[int | str]]) -> None:
        self.session, self.card, self._shapes = session, card, shapes
        self.size = size_of(shapes[0])

    @property
    def threads(self) -> int:
        """Threads of one call."""
        return self.session.threads

    def __call__(self, *inputs: Tensor) -> Any:
        """Run the file.

        Raises:
            ShapeError: Inputs of another shape than the file takes.
        """
        for value, shape in zip(inputs, self._shapes, strict=True):
            fits = value.ndim == len(shape) and len(value)
            if not fits or any(
                isinstance(want, int) and want != got
                for got, want in zip(value.shape[1:], shape[1:], strict=True)
            ):
                takes = ", ".join(str(side) for side in ("batch", *shape[1:]))
                more = "; export it with --dynamic for other sizes" if self.size else ""
                raise ShapeError(
                    f"an input has shape {tuple(value.shape)}, this network takes ({takes}){more}"
                )
        return in_batches(self.session, inputs, self._shapes[0][0])

    def close(self) -> None:
        """Free the runtime."""
        self.session.close()


def size_of(shape: Sequence[int | str]) -> tuple[int, int] | None:
    """Height and width of the pictures that go in; None where any may, or where there are none."""
    height, width = shape[-2:] if len(shape) > 3 else ("", "")
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def in_batches(session: Session, inputs: tuple[Tensor, ...], batch: int | str | None) -> Any:
    """Run a file on any number of samples, in pieces where it takes a number of its own."""
    if not isinstance(batch, int):
        return session(*(value.contiguous() for value in inputs))
    count, pieces = len(inputs[0]), []
    for first in range(0, count, batch):
        places = torch.arange(first, first + batch).clamp(max=count - 1)
        found = session(*(value[places].contiguous() for value in inputs))
        kept = min(batch, count - first)
        pieces.append([value[:kept] for value in tensors_of(found)])
    joined = [torch.cat(parts) for parts in zip(*pieces, strict=True)]
    return joined[0] if len(joined) == 1 else tuple(joined)


def tensors_of(outputs: Any) -> list[Tensor]:
    """List the outputs of a file or network, one or several."""
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)
