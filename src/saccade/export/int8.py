"""Quantise to int8 after training: ranges from real pictures, weights per channel, activations per tensor.

NNCF chooses the places in both formats, so that ONNX and OpenVINO files compute alike. docs/export.md has what it
costs and brings, measured.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from saccade.export.openvino import import_openvino, no_reports
from saccade.extras import require


def quantise_openvino(xml: Path, images: list[Tensor], out: Path) -> None:
    """Quantise an OpenVINO file.

    Args:
        xml: float32 model.
        images: Pictures (1, channels, height, width), normalised.
        out: `.xml` to write, with its `.bin`.

    Raises:
        MissingExtraError: nncf is not installed.
    """
    openvino = import_openvino()
    with _nncf() as nncf:
        model = openvino.Core().read_model(str(xml))
        data = nncf.Dataset([image.numpy() for image in images])
        done = nncf.quantize(model, data, subset_size=len(images), **_settings(nncf))
        openvino.save_model(done, str(out), compress_to_fp16=False)


def quantise_onnx(file: Path, images: list[Tensor], out: Path) -> None:
    """Quantise an ONNX file into QDQ form (a pair of quantise and dequantise around each int8 operation).

    Args:
        file: float32 model with the input `image`.
        images: Pictures (1, channels, height, width), normalised.
        out: File to write.

    Raises:
        MissingExtraError: onnx or nncf is not installed.
    """
    onnx = require("onnx", "onnx", "to write ONNX files")
    with _nncf() as nncf:
        model = onnx.load(str(file))
        data = nncf.Dataset([{"image": image.numpy()} for image in images])
        done = nncf.quantize(model, data, subset_size=len(images), **_settings(nncf))
        onnx.save(done, str(out))


def _settings(nncf) -> dict:
    """Settings of nncf.quantize for both formats."""
    return {"preset": nncf.QuantizationPreset.PERFORMANCE, "fast_bias_correction": True}


@contextmanager
def _nncf() -> Iterator:
    """Import nncf without its usage reports and without its log lines."""
    with no_reports():
        nncf = require("nncf", "int8", "to quantise to int8")
        logger = logging.getLogger("nncf")
        level = logger.level
        logger.setLevel(logging.ERROR)
        try:
            yield nncf
        finally:
            logger.setLevel(level)
