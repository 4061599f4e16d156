"""Quantise to int8 after training: ranges from real pictures, weights per channel, activations per tensor.

Norms and softmax stay in float32: their ranges are wide and their share of the time is small. docs/export.md has what
it costs and brings, measured.
"""

import io
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from torch import Tensor

from saccade.engine.export.openvino import import_openvino
from saccade.extras import require

ONNX_OPERATORS = (
    "Conv", "Gemm", "MatMul", "Add", "Mul", "Relu", "Sigmoid", "Concat", "Split", "Slice", "ReduceMean",
    "Reshape", "Transpose", "GlobalAveragePool",
)  # fmt: skip
"""What ONNX Runtime has int8 kernels for; the more of a chain is in it, the fewer conversions stand between."""


def quantise_openvino(xml: Path, samples: list[dict[str, Tensor]], out: Path) -> None:
    """Quantise an OpenVINO file.

    Args:
        xml: float32 model.
        samples: Real inputs by name.
        out: `.xml` to write, with its `.bin`.

    Raises:
        MissingExtraError: nncf is not installed.
    """
    openvino = import_openvino()
    with _nncf() as nncf:
        model = openvino.Core().read_model(str(xml))
        arrays = [{name: value.numpy() for name, value in sample.items()} for sample in samples]
        data = nncf.Dataset([next(iter(one.values())) if len(one) == 1 else one for one in arrays])
        done = nncf.quantize(
            model,
            data,
            subset_size=len(samples),
            preset=nncf.QuantizationPreset.PERFORMANCE,
            fast_bias_correction=True,
        )
        openvino.save_model(done, str(out), compress_to_fp16=False)


def quantise_onnx(file: Path, samples: list[dict[str, Tensor]], out: Path) -> None:
    """Quantise an ONNX file into QDQ form (a pair of quantise and dequantise around each int8 operation).

    Done by ONNX Runtime's own tool: files that NNCF writes in this format keep ONNX Runtime from fusing and ran
    slower than float32 (docs/export.md).

    Args:
        file: float32 model.
        samples: Real inputs by name.
        out: File to write.

    Raises:
        MissingExtraError: onnx or onnxruntime is not installed.
    """
    require("onnx", "onnx", "to quantise ONNX files")
    quantisation = require("onnxruntime.quantization", "onnx", "to quantise ONNX files")
    shapes = require("onnxruntime.quantization.shape_inference", "onnx", "to quantise ONNX files")

    class Reader(quantisation.CalibrationDataReader):
        """Hands out the samples one by one, as the tool asks for it."""

        def __init__(self) -> None:
            self._samples = iter(samples)

        def get_next(self) -> dict | None:
            sample = next(self._samples, None)
            return None if sample is None else {name: value.numpy() for name, value in sample.items()}

    with _calm("root"), tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        shapes.quant_pre_process(str(file), str(prepared), skip_symbolic_shape=True)
        quantisation.quantize_static(
            str(prepared),
            str(out),
            Reader(),
            quant_format=quantisation.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantisation.QuantType.QUInt8,
            weight_type=quantisation.QuantType.QInt8,
            op_types_to_quantize=list(ONNX_OPERATORS),
        )


@contextmanager
def _calm(logger_name: str) -> Iterator[None]:
    """Hold back a logger's warnings."""
    logger = logging.getLogger("" if logger_name == "root" else logger_name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _nncf() -> Iterator:
    """Import nncf, and keep its log lines and progress bars back."""
    nncf = require("nncf", "int8", "to quantise to int8")
    with _calm("nncf"), redirect_stdout(io.StringIO()):
        yield nncf
