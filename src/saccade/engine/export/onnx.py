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
from saccade.engine.export.form import free_axes
from saccade.errors import ConfigError, WeightsError
from saccade.extras import require
from saccade.files import count_threads
from saccade.tasks.base import ExportForm

OPSET = 18


def write_onnx(form: ExportForm, path: Path) -> None:
    """Write an ONNX file.

    Args:
        form: From `portable`.
        path: File to write; one file, weights inside.

    Raises:
        MissingExtraError: onnx or onnxscript is not installed.
        ConfigError: The network's operations depend on the size in a way that cannot be exported.
    """
    require("onnx", "onnx", "to write ONNX files")
    require("onnxscript", "onnx", "to write ONNX files")
    with quiet():
        try:
            program = torch.onnx.export(
                form.module,
                tuple(form.inputs.values()),
                input_names=list(form.inputs),
                output_names=list(form.outputs),
                dynamic_shapes=free_axes(form),
                opset_version=OPSET,
                dynamo=True,
                optimize=True,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise ConfigError(cannot_free(form, _last_line(error))) from None
        assert program is not None
        model = program.model
        for part in (model.graph, *model.functions.values()):
            for node in (
                part.all_nodes()
            ):  # the exporter writes there which line of which file on this machine made it
                for holder in (node, *node.outputs):
                    holder.metadata_props.clear()
        program.save(str(path), external_data=False)


def cannot_free(form: ExportForm, reason: str) -> str:
    """Say that a network does not go through an exporter, and what may help."""
    free = {label for axes in form.free.values() for label in axes.values()} - {"batch"}
    what = "this network cannot be exported"
    return (
        f"{what} with free height and width; leave out --dynamic ({reason})" if free else f"{what} ({reason})"
    )


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
        if not inputs or not outputs or {port.type for port in (*inputs, *outputs)} != {"tensor(float)"}:
            raise WeightsError(f"{path}: expected float32 inputs and outputs; export the network again")
        self._path, self._inputs, self._limit = path, [port.name for port in inputs], call_limit()
        self._options, self._watch = ort.RunOptions(), Watch()

    def __call__(self, *inputs: Tensor) -> Any:
        """Map float32 tensors to the output, or a tuple of several.

        Raises:
            WeightsError: The file cannot run, or does not come to an end.
        """
        self._options.terminate = False
        self._watch.begin(self._limit, self._end)
        try:
            arrays = [value.detach().contiguous().numpy() for value in inputs]
            outputs = self._session.run(None, dict(zip(self._inputs, arrays, strict=True)), self._options)
        except Exception as error:  # as above
            if self._options.terminate:
                raise WeightsError(too_long(str(self._path), self._limit)) from None
            shown = ", ".join(str(tuple(value.shape)) for value in inputs)
            raise WeightsError(
                f"{self._path}: ONNX Runtime cannot run this file on inputs {shown} ({_last_line(error)})"
            ) from None
        finally:
            self._watch.done()
        found = [torch.from_numpy(value) for value in outputs]
        return found[0] if len(found) == 1 else tuple(found)

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
