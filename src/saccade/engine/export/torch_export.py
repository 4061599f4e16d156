"""torch.export: a `.pt2` program for PyTorch itself, without our code.

PyTorch's own reader of these files is not safe on a stranger's file: it evaluates size expressions as code and falls
back to arbitrary pickle. `check_program` therefore reads the archive first, by itself, and lets pass only what our
exporter writes: raw tensors, operators of `aten`, and size expressions made of a handful of names.
"""

import copy
import io
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from saccade.engine.export.form import free_axes
from saccade.engine.export.onnx import cannot_free, quiet
from saccade.errors import ConfigError, WeightsError
from saccade.files import count_threads, parse_json
from saccade.files.archives import check_members
from saccade.tasks.base import ExportForm
from saccade.weights.pth import read_checkpoint

MAX_JSON_BYTES = 256 << 20
_TARGET = re.compile(r"torch\.ops\.aten\.[a-z_0-9]+\.[A-Za-z_0-9]+|_operator\.[a-z]+|torch\.sym_[a-z]+")
_EXPRESSION = re.compile(
    r"(?:(?:Symbol|Integer|Add|Mul|Pow|Mod|FloorDiv|CeilDiv|CleanDiv|Max|Min|Eq|Ne|Ge|Gt|Le|Lt|And|Or|Not)\("
    r"|'[a-z]+\d*'|(?:positive|integer)=True|\d+|True|False|[-(), +*/]|\))*"
)


def write_torch(form: ExportForm, path: Path, *, precision: str = "float32") -> None:
    """Write a `.pt2` program.

    Args:
        form: From `portable`.
        path: File to write.
        precision: float32, or bf16 weights and arithmetic (inputs and outputs stay float32).

    Raises:
        ConfigError: The network cannot be exported, or not with free sizes.
    """
    module = form.module
    if precision == "bf16":
        module = (_InBfloat16 if len(form.inputs) == 1 else _SeveralInBfloat16)(form.module)
    with quiet():
        try:
            program = torch.export.export(
                module, tuple(form.inputs.values()), dynamic_shapes=free_axes(form), strict=False
            )
        except RuntimeError as error:  # UserError of the tracer included
            reason = " ".join(str(error).split())[:200]
            raise ConfigError(cannot_free(form, reason)) from None
        # The example pictures would be stored as a pickle, and nobody needs them.
        program._example_inputs = None
        for part in program.graph_module.modules():
            if isinstance(part, GraphModule):
                for node in part.graph.nodes:  # which line of which file on this machine made it
                    node.meta.pop("stack_trace", None)
        torch.export.save(program, str(path))


class _InBfloat16(nn.Module):
    """A network of one input in bfloat16, float32 outside."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.inner = copy.deepcopy(module).to(torch.bfloat16)

    def forward(self, image: Tensor) -> Any:
        found = self.inner(image.to(torch.bfloat16))
        return found.float() if isinstance(found, Tensor) else tuple(value.float() for value in found)


class _SeveralInBfloat16(_InBfloat16):
    """A network of several inputs likewise."""

    def forward(self, *inputs: Tensor) -> Any:
        found = self.inner(*(value.to(torch.bfloat16) for value in inputs))
        return found.float() if isinstance(found, Tensor) else tuple(value.float() for value in found)


def check_program(path: Path) -> None:
    """Refuse a `.pt2` file that holds anything but plain tensors and plain operators.

    Raises:
        WeightsError: Damaged, or with contents that could run code when opened.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = check_members(
                archive.infolist(), path.stat().st_size, where=str(path), error=WeightsError
            )
            for info in members.values():
                if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
                    raise WeightsError(
                        f"{path}: {info.filename!r} is compressed or encrypted, which our exporter does not do"
                    )
                _check_member(archive, info, path)
    except (
        zipfile.BadZipFile,
        KeyError,
        OSError,
        EOFError,
        RuntimeError,
        NotImplementedError,
        zlib.error,
        struct.error,
    ) as error:
        raise WeightsError(f"{path}: not a program of torch.export ({error}); export it again") from None


def _check_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> None:
    """Check one entry of the archive by where it lies and what it holds."""
    if info.filename.startswith("/") or ".." in info.filename.split("/"):
        raise WeightsError(f"{path}: holds {info.filename!r}, a name outside the archive")
    inner = info.filename.partition("/")[2]
    if inner.endswith(".json"):
        if info.file_size > MAX_JSON_BYTES:
            raise WeightsError(
                f"{path}: {inner} has {info.file_size} bytes; at most {MAX_JSON_BYTES} are read"
            )
        values = parse_json(
            archive.read(info), where=f"{path}: {inner}", error=WeightsError, max_bytes=MAX_JSON_BYTES
        )
        for problem in _problems(values):
            raise WeightsError(f"{path}: {inner} holds {problem}, which our exporter does not write; refused")
    elif inner.startswith("data/sample_inputs/"):
        if info.file_size:
            read_checkpoint(io.BytesIO(archive.read(info)), f"{path}: {inner}")
    elif not re.fullmatch(
        r"data/(weights/weight_\d+|constants/tensor_\d+)|version|byteorder|archive_format|archive_version"
        r"|\.data/(serialization_id|version)|extra/saccade_contract",
        inner,
    ):
        raise WeightsError(f"{path}: holds {inner!r}, which our exporter does not write; refused")


def _problems(value: Any) -> list[str]:
    """List what in a parsed JSON file could run code: pickled payloads, foreign operators, odd expressions."""
    found: list[str] = []
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, list):
            stack.extend(item)
        if not isinstance(item, dict):
            continue
        if item.get("use_pickle"):
            found.append("a pickled payload")
        target = item.get("target")
        if (
            "inputs" in item
            and "outputs" in item
            and isinstance(target, str)
            and not _TARGET.fullmatch(target)
        ):
            found.append(f"the operator {target[:80]!r}")
        for key in ("expr_str", "hint_expr_str"):
            text = item.get(key)
            if isinstance(text, str) and not _EXPRESSION.fullmatch(text):
                found.append(f"the expression {text[:80]!r}")
        stack.extend(item.values())
    return found


class TorchSession:
    """A `.pt2` program run by PyTorch.

    Args:
        path: The file; checked by `check_program` first.
        threads: Threads of PyTorch in this process; None leaves them as they are.
    """

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        check_program(path)
        if threads is not None:
            torch.set_num_threads(count_threads(threads))
        self.threads = torch.get_num_threads()
        try:
            with quiet():
                self._module = torch.export.load(str(path)).module()
        except Exception as error:  # the reader raises as many kinds as there are fields
            raise WeightsError(f"{path}: PyTorch cannot open this file ({str(error)[:300]})") from None

    def __call__(self, *inputs: Tensor) -> Any:
        """Map float32 tensors to the output, or a tuple of several."""
        with torch.no_grad():
            return self._module(*inputs)

    def close(self) -> None:
        """Free the module."""
        self.__dict__.pop("_module", None)
