"""OpenVINO: converted from our ONNX file, run on the CPU in a stated precision.

OpenVINO computes in bfloat16 by itself on processors that can; here the precision is always said. Its telemetry
package is switched off for this process before it is imported.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from saccade.errors import WeightsError
from saccade.export.session import count_threads
from saccade.extras import require


def import_openvino() -> ModuleType:
    """Import openvino without its usage reports.

    Raises:
        MissingExtraError: It is not installed.
    """
    with no_reports():
        return require("openvino", "openvino", "to write or run OpenVINO files")


@contextlib.contextmanager
def no_reports() -> Iterator[None]:
    """Keep OpenVINO's and NNCF's usage reports off while they are imported or used."""
    before = {name: os.environ.get(name) for name in ("CI", "NNCF_TELEMETRY_DISABLE")}
    # The telemetry package takes a CI variable as "do not send"; it looks at it on every start.
    os.environ.update({"CI": "1", "NNCF_TELEMETRY_DISABLE": "1"})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def write_openvino(onnx_file: Path, path: Path) -> None:
    """Convert an ONNX file to `path` (.xml, the weights beside it as .bin), all weights in float32.

    Raises:
        MissingExtraError: openvino is not installed.
    """
    openvino = import_openvino()
    with no_reports():
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
        core = openvino.Core()
        config = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
        }
        try:
            self._compiled = core.compile_model(core.read_model(str(path)), "CPU", config)
        except RuntimeError as error:
            raise WeightsError(f"{path}: OpenVINO cannot open this file ({str(error)[:300]})") from None
        self._request = self._compiled.create_infer_request()

    def __call__(self, images: Tensor) -> Tensor:
        """Map (batch, channels, height, width) float32 to outputs."""
        results = self._request.infer([images.detach().contiguous().numpy()], share_inputs=True)
        return torch.from_numpy(results[0].copy())

    def close(self) -> None:
        """Free the model."""
        self.__dict__.pop("_request", None)
        self.__dict__.pop("_compiled", None)
