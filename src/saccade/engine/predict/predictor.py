"""A network that is asked from Python: paths, pictures, arrays or tensors in, the task's rows out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from saccade.engine.predict.predict import settings_of
from saccade.engine.sessions.open import open_runner
from saccade.engine.sessions.runner import Runner
from saccade.errors import ConfigError, DataError, ShapeError
from saccade.tasks.base import Batch, unnamed
from saccade.weights import Card

Input = Any
"""A place of the task's data, a picture, (height, width, 3) uint8, a tensor as the network takes it, or something of
the task's own (`Task.from_memory`), such as a `RadarImage`."""


class Predictor:
    """Answers for a few inputs at a time; `saccade.predict` is for folders. From `open_predictor`.

    Calling it returns the task's rows, one for each input in order: name, label and confidence of a classifier, all
    detections of a detector. Not for use by several threads at once.
    """

    def __init__(self, runner: Runner, settings: dict[str, Any]) -> None:
        """Wrap an opened network; `settings` are fields of the task's `predict_settings`."""
        self._runner = runner
        self._settings = settings_of(runner.task, settings)

    @property
    def card(self) -> Card:
        """What the weights are."""
        return self._runner.card

    @property
    def backend(self) -> str:
        """What runs them."""
        return self._runner.backend

    @property
    def why(self) -> str:
        """How the backend was chosen, for people."""
        return self._runner.why

    def __call__(self, inputs: Input | Sequence[Input]) -> list[dict[str, Any]]:
        """Return a row for every input.

        Args:
            inputs: A path (a folder stands for all that is in it), a PIL picture, an array (height, width, 3) or
                (height, width) uint8, a float32 tensor (channels, height, width) or with a batch in front,
                normalised as `card.preprocess` says; or a list of them.

        Raises:
            DataError: Something that cannot be read.
            ShapeError: An array or tensor of another shape or type.
            ConfigError: A kind of input that this task does not take.
        """
        rows: list[dict[str, Any]] = []
        for batch, outputs in self._run(inputs):
            rows += self._runner.task.rows(outputs, batch, self.card, self._settings)
        return rows

    def outputs(self, inputs: Input | Sequence[Input]) -> Any:
        """Return what the network gives before it is put into words, on the CPU: as for calling.

        Returns:
            (inputs, classes) logits of a classifier, a list of boxes, scores and labels of a detector.
        """
        found = [outputs for _, outputs in self._run(inputs)]
        if all(isinstance(one, Tensor) for one in found):
            same = len({one.shape[1:] for one in found}) == 1
            return torch.cat(found) if same else [part for one in found for part in one]
        return [part for one in found for part in one]

    def takes(self, one: Any) -> bool:
        """Whether something in memory is of the task's own (`Task.from_memory`)."""
        return self._runner.task.from_memory(one, self.card) is not None

    def close(self) -> None:
        """Free the runtime; calling afterwards is an error."""
        self._runner.close()

    def __enter__(self) -> Predictor:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _run(self, inputs: Input | Sequence[Input]) -> Iterator[tuple[Batch, Any]]:
        given: Sequence[Input] = (
            list(inputs) if isinstance(inputs, Sequence) and not isinstance(inputs, str) else [inputs]
        )
        if not given:
            raise DataError("no inputs; pass a path, a picture, an array or a tensor")
        for one in given:
            for batch in self._batches(one):
                yield batch, self._runner.run(batch)

    def _batches(self, one: Input) -> Iterator[Batch]:
        """Make the batches of one thing."""
        task = self._runner.task
        if isinstance(one, str | Path):
            samples = task.open_inputs(str(one), self.card, self._settings)
            for place in range(len(samples)):
                batch = task.collate([samples[place]])
                if batch["skipped"]:
                    raise DataError(batch["skipped"][0][1])
                yield batch
        elif isinstance(one, Tensor):
            yield self._of_tensor(one)
        elif (own := task.from_memory(one, self.card)) is not None:
            yield own
        else:
            picture = _picture(one) if isinstance(one, np.ndarray) else one
            batch = task.from_pictures([picture], self.card) if isinstance(picture, Image.Image) else None
            if batch is None:
                raise ConfigError(
                    f"{self.card.model}: the task {task.name} takes no {type(one).__name__}; pass a path"
                )
            yield batch

    def _of_tensor(self, one: Tensor) -> Batch:
        """Make a batch of what the network takes; a single sample gets its batch dimension."""
        if not one.is_floating_point():
            raise ShapeError(
                f"a tensor has type {one.dtype}; expected float32, normalised as card.preprocess says: pass "
                "pictures of 0..255 as an array (height, width, 3) uint8 or a PIL picture"
            )
        (example, *_) = self._runner.task.example(self.card)
        images = one[None] if one.ndim == example.ndim - 1 else one
        channels = -3
        if (
            images.ndim != example.ndim
            or images.shape[channels] != example.shape[channels]
            or not len(images)
        ):
            raise ShapeError(
                f"a tensor has shape {tuple(one.shape)}; expected one like {tuple(example.shape)}, with or without "
                "the batch in front"
            )
        size = torch.tensor([images.shape[-2:]] * len(images), dtype=torch.int64)
        return {"image": images.float(), "size": size, **unnamed(len(images))}


def open_predictor(
    source: Path | str,
    *,
    backend: str = "auto",
    precision: str = "float32",
    threads: int | None = None,
    device: str = "cpu",
    size: int = 0,
    log: Callable[[str], None] = lambda text: None,
    **settings: Any,
) -> Predictor:
    """Open a run folder, weights file, bundle or model name to ask it from Python.

    Args:
        source: As said. A bundle runs in its own format and precision.
        backend: torch, compile, onnx, openvino, executorch, litert; or auto: for classifiers the fastest of those at
            hand whose outputs equal PyTorch's, timed once for these weights on this machine and remembered.
        precision: float32; bf16 (torch, openvino) only when named; int8 only as a bundle.
        threads: Threads of one call; None: all cores. For torch it sets the whole process.
        device: cpu, cuda, cuda:N or mps; all but cpu run in PyTorch.
        size: Side of the input in pixels; 0: that of the weights.
        log: Called with lines about the work.
        **settings: What the task can be asked, such as topk=3 of a classifier.

    Raises:
        ConfigError: A backend, precision, device or setting that does not exist or does not go together.
        WeightsError: A source that cannot be read.
        MissingExtraError: The named backend's package is not installed.
        CheckFailed: The named backend differs from PyTorch.
    """
    runner = open_runner(
        source,
        verb="predict",
        backend=backend,
        precision=precision,
        threads=threads,
        device=device,
        size=size,
        batch=1,
        log=log,
    )
    try:
        return Predictor(runner, settings)
    except ConfigError:
        runner.close()
        raise


def _picture(array: np.ndarray) -> Image.Image:
    """Read an array as a picture.

    Raises:
        ShapeError: Another shape or type.
    """
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise ShapeError(
            f"an array has shape {array.shape} and type {array.dtype}; expected (height, width, 3) uint8"
        )
    return Image.fromarray(array)
