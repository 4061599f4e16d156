"""OpenVINO: converted from our ONNX file, run on the CPU in a stated precision.

OpenVINO computes in bfloat16 by itself on processors that can; here the precision is always said. `extras.require`
keeps its usage reports off.
"""

from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from saccade.engine.export.deadline import call_limit, too_long
from saccade.errors import WeightsError
from saccade.extras import require
from saccade.files import count_threads


def import_openvino() -> ModuleType:
    """Import openvino.

    Raises:
        MissingExtraError: It is not installed.
    """
    return require("openvino", "openvino", "to write or run OpenVINO files")


def write_openvino(onnx_file: Path, path: Path) -> None:
    """Convert an ONNX file to `path` (.xml, the weights beside it as .bin), all weights in float32.

    Raises:
        MissingExtraError: openvino is not installed.
    """
    openvino = import_openvino()
    model = openvino.convert_model(str(onnx_file))
    # The default would round the weights to float16.
    openvino.save_model(model, str(path), compress_to_fp16=False)


class OpenVinoSession:
    """OpenVINO on the CPU; also opens ONNX files.

    Args:
        path: `.xml` or `.onnx`.
        precision: float32, or bf16 for everything that OpenVINO runs in it; int8 files compute the rest in float32.
        threads: Threads of one call; None: all cores.
    """

    def __init__(self, path: Path, *, precision: str = "float32", threads: int | None = None) -> None:
        openvino = import_openvino()
        self.threads = count_threads(threads)
        self._core = openvino.Core()
        self._config = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
        }
        self._path, self._precision, self._limit = path, precision, call_limit()
        self._request, self._single = self._open(), None

    def _open(self, shapes: list[tuple[int, ...]] | None = None) -> Any:
        """Compile the file, for inputs of one shape when given, and make a request."""
        try:
            model = self._core.read_model(str(self._path))
            if shapes is not None:
                model.reshape({place: list(shape) for place, shape in enumerate(shapes)})
            return self._core.compile_model(model, "CPU", self._config).create_infer_request()
        except RuntimeError as error:
            raise WeightsError(f"{self._path}: OpenVINO cannot open this file ({str(error)[:300]})") from None

    def __call__(self, *inputs: Tensor) -> Any:
        """Map float32 tensors to the output, or a tuple of several."""
        arrays = [value.detach().contiguous().numpy() for value in inputs]
        shapes = [array.shape for array in arrays]
        request = self._request
        if self._precision == "int8" and len(arrays[0]) == 1:
            # With a free batch, OpenVINO 2026.4 computes int8 wrongly for one picture (0.4 of the largest output off,
            # 0.1 for the same picture within a batch of two or with the batch fixed); so one picture has its own.
            if self._single is None or self._single[0] != shapes:
                self._single = (shapes, self._open(shapes))
            request = self._single[1]
        assert request is not None, "the session was closed"
        try:
            request.start_async(arrays, share_inputs=True)
            if not request.wait_for(int(1000 * self._limit)):
                request.cancel()
                raise WeightsError(too_long(str(self._path), self._limit))
            found = [torch.from_numpy(value.copy()) for value in request.results.values()]
            return found[0] if len(found) == 1 else tuple(found)
        except RuntimeError as error:
            raise WeightsError(
                f"{self._path}: OpenVINO cannot run this file on inputs {shapes} ({str(error)[:300]})"
            ) from None

    def close(self) -> None:
        """Free the model."""
        self._request = self._single = None
