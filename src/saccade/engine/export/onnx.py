"""ONNX: written by torch's exporter from the folded network, run by ONNX Runtime on the CPU."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saccade.engine.export.deadline import Watch, call_limit, too_long
from saccade.engine.export.form import Portable
from saccade.errors import ConfigError, WeightsError
from saccade.extras import require
from saccade.files import count_threads

OPSET = 18
MIN_SIDE, MAX_SIDE = 65, 4096
"""Sides of pictures, in pixels, that a file with free size takes; from 65 on the coarsest map has several cells."""
MAX_BATCH = 65536


def write_onnx(module: Portable, image: Tensor, path: Path, *, dynamic: bool = False, step: int = 1) -> None:
    """Write an ONNX file with any batch and, on request, any height and width.

    Args:
        module: From `portable`.
        image: Example (2, channels, height, width).
        path: File to write; one file, weights inside.
        dynamic: Leave height and width free, within 65..4096 pixels.
        step: With `dynamic`, sides are multiples of this many pixels.

    Raises:
        MissingExtraError: onnx or onnxscript is not installed.
        ConfigError: The network's operations depend on the size in a way that cannot be exported.
    """
    require("onnx", "onnx", "to write ONNX files")
    require("onnxscript", "onnx", "to write ONNX files")
    with quiet():
        try:
            program = torch.onnx.export(
                module,
                (image,),
                input_names=["image"],
                output_names=["output"],
                dynamic_shapes=(dynamic_axes(dynamic, step),),
                opset_version=OPSET,
                dynamo=True,
                optimize=True,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            if not dynamic:
                raise
            raise ConfigError(
                f"this network cannot be exported with free height and width; leave out --dynamic "
                f"({_last_line(error)})"
            ) from None
        assert program is not None
        program.save(str(path), external_data=False)


def dynamic_axes(size: bool, step: int = 1) -> dict[int, Any]:
    """Axes of the picture that may vary, for torch's exporters: the batch, and with `size` both sides by `step`."""
    axes: dict[int, Any] = {0: torch.export.Dim("batch", min=1, max=MAX_BATCH)}
    if size and step > 1:
        axes[2] = step * torch.export.Dim("rows", min=-(-MIN_SIDE // step) + 1, max=MAX_SIDE // step)
        axes[3] = step * torch.export.Dim("columns", min=-(-MIN_SIDE // step) + 1, max=MAX_SIDE // step)
    elif size:
        axes[2] = torch.export.Dim("height", min=MIN_SIDE, max=MAX_SIDE)
        axes[3] = torch.export.Dim("width", min=MIN_SIDE, max=MAX_SIDE)
    return axes


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back what exporters print and warn about in the normal course of things."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


class OnnxSession:
    """ONNX Runtime on the CPU, threads as asked for, waiting threads asleep.

    Args:
        path: ONNX file.
        threads: Threads of one call; None: all cores.
        optimise: Let ONNX Runtime fuse; off only to look at a file as it was written.
    """

    def __init__(self, path: Path, *, threads: int | None = None, optimise: bool = True) -> None:
        ort = require("onnxruntime", "onnx", "to run ONNX files")
        self.threads = count_threads(threads)
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Threads that wait by spinning take the cores from the picture decoders beside them.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if not optimise:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own classes are not part of its public interface
            raise WeightsError(f"{path}: ONNX Runtime cannot open this file ({_last_line(error)})") from None
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or not outputs or {inputs[0].type, outputs[0].type} != {"tensor(float)"}:
            raise WeightsError(
                f"{path}: expected one float32 input and a float32 output; export the network again"
            )
        self._path, self._input, self._limit = path, inputs[0].name, call_limit()
        self._options, self._watch = ort.RunOptions(), Watch()

    def __call__(self, images: Tensor) -> Tensor:
        """Map (batch, channels, height, width) float32 to outputs.

        Raises:
            WeightsError: The file cannot run, or does not come to an end.
        """
        self._options.terminate = False
        self._watch.begin(self._limit, self._end)
        try:
            outputs = self._session.run(
                None, {self._input: images.detach().contiguous().numpy()}, self._options
            )
        except Exception as error:  # as above
            if self._options.terminate:
                raise WeightsError(too_long(str(self._path), self._limit)) from None
            shape = tuple(images.shape)
            raise WeightsError(
                f"{self._path}: ONNX Runtime cannot run this file on pictures {shape} ({_last_line(error)})"
            ) from None
        finally:
            self._watch.done()
        return torch.from_numpy(outputs[0])

    def _end(self) -> None:
        """Have the runtime stop at the next operator, inside loops too."""
        self._options.terminate = True

    def close(self) -> None:
        """Free the session."""
        self.__dict__.pop("_session", None)


def _last_line(error: BaseException) -> str:
    """Shorten a runtime's message to its last meaningful line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]
