"""Reference figures of the published networks, and the weights and inputs they were computed with.

Each JSON file names the tensors of a published checkpoint with their shapes, and holds what the original code
computed in float64 when tensor NAME of shape SHAPE was `make_tensor(NAME, SHAPE)` times its factor in
`tensor_scale`, for the input `make_tensor("input", input_shape)`.
"""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor


def load(name: str) -> dict[str, Any]:
    """Read one file of figures."""
    return json.loads((Path(__file__).parent / f"{name}.json").read_text())


def make_tensor(name: str, shape: list[int]) -> Tensor:
    """A float64 tensor that depends on name and shape alone (RandomState streams are frozen in NumPy)."""
    random = np.random.RandomState(zlib.crc32(name.encode()))
    size = tuple(shape)
    if name == "input":
        values = random.standard_normal(size)
    elif name.endswith("num_batches_tracked"):
        values = np.zeros(size)
    elif name.endswith("running_mean") or (name.endswith("bias") and len(size) == 1):
        values = random.standard_normal(size) * 0.05
    elif name.endswith("running_var") or len(size) < 2:
        values = random.uniform(0.5, 1.5, size)
    else:
        fan_in = np.prod(size[1:])
        values = random.standard_normal(size) / np.sqrt(fan_in)
    return torch.as_tensor(np.asarray(values))


def make_state(golden: dict[str, Any]) -> dict[str, Tensor]:
    """The checkpoint of a file of figures, under the official names and shapes."""
    scale = golden.get("tensor_scale", {})
    return {name: make_tensor(name, shape) * scale.get(name, 1.0) for name, shape in golden["shapes"].items()}


def make_input(golden: dict[str, Any]) -> Tensor:
    """The input of a file of figures."""
    return make_tensor("input", golden["input_shape"]) * golden.get("input_scale", 1.0)


def assert_summary(tensor: Tensor, summary: dict[str, Any], tolerance: float = 1e-9) -> None:
    """Compare a tensor with its recorded shape, mean, deviation, norm and ends, relative to its deviation."""
    assert list(tensor.shape) == summary["shape"]
    flat = tensor.flatten()
    size = summary["std"]
    assert abs(flat.mean().item() - summary["mean"]) <= tolerance * size
    assert abs(flat.std(correction=0).item() - summary["std"]) <= tolerance * size
    assert abs(flat.norm().item() - summary["l2"]) <= tolerance * summary["l2"]
    for part, key in ((flat[:8], "first8"), (flat[-8:], "last8")):
        if key not in summary:
            continue
        assert (
            part - torch.tensor(summary[key], dtype=flat.dtype)
        ).abs().max().item() <= tolerance * size * 10


def assert_logits(logits: Tensor, golden: dict[str, Any], tolerance: float = 1e-9) -> None:
    """Compare logits with the recorded ones, relative to their norm."""
    assert list(logits.shape) == golden["output"]["shape"]
    for row, image in zip(logits, golden["output"]["images"], strict=True):
        expected = torch.tensor(image["first16"], dtype=row.dtype)
        assert (row[:16] - expected).abs().max().item() <= tolerance * image["l2"]
        assert abs(row.norm().item() - image["l2"]) <= tolerance * image["l2"]
        assert "argmax" not in image or row.argmax().item() == image["argmax"]
