"""Read a `.pth` file without running anything that is in it.

PyTorch's weights-only loader reads nearly all files. Training checkpoints of published models also hold the
run's settings as foreign objects (`argparse.Namespace`, `yacs` nodes, NumPy scalars), which it refuses. For
those we read the same file with an unpickler that knows no callable but the tensor builders; settings become
inert stand-ins and are dropped. Any other foreign object is refused by name.
"""

import pickle
import warnings
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from saccade.errors import WeightsError

_BUILDERS = {
    ("collections", "OrderedDict"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch", "Size"),
    ("torch", "device"),
}
_SETTINGS = {
    ("argparse", "Namespace"),
    ("yacs.config", "CfgNode"),
    ("fvcore.common.config", "CfgNode"),
    ("pathlib", "PosixPath"),
    ("pathlib", "WindowsPath"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("_codecs", "encode"),
    ("loss", "Loss"),  # the loss log in the published Mobile-SRViT checkpoints
}


class _Inert(dict):
    """Stands for a settings object: takes any construction, keeps nothing, does nothing."""

    def __new__(cls, *_args: Any, **_kwargs: Any) -> "_Inert":
        return super().__new__(cls)

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        super().__init__()

    def __setstate__(self, _state: Any) -> None: ...


class _TensorUnpickler(pickle.Unpickler):
    """An unpickler that can build tensors and inert stand-ins, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _SETTINGS:
            return _Inert
        if (module, name) in _BUILDERS or (
            module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        ):
            return super().find_class(module, name)
        raise WeightsError(f"it holds a foreign object of type {module}.{name}")


def read_pth(path: Path) -> dict[str, Any]:
    """Read a file written by `torch.save` as plain containers and tensors on the CPU.

    Raises:
        WeightsError: Damaged, not such a file, or holding objects that only running code could rebuild.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                content = torch.load(path, map_location="cpu", weights_only=True)
            except pickle.UnpicklingError:
                if not zipfile.is_zipfile(path):
                    raise
                reader = SimpleNamespace(Unpickler=_TensorUnpickler, load=None, __name__="restricted")
                # Safe in spite of its name: `reader` decides what may be built, and it builds tensors only.
                content = torch.load(path, map_location="cpu", weights_only=False, pickle_module=reader)
    except WeightsError as error:
        raise WeightsError(
            f"{path}: refused, {error}; loading it would mean running code from the file; "
            "ask its author for safetensors or a plain state dict"
        ) from None
    except pickle.UnpicklingError:
        raise WeightsError(
            f"{path}: refused, it is damaged or holds objects that only running code from it could rebuild; "
            "ask its author for safetensors or a plain state dict"
        ) from None
    except (RuntimeError, EOFError, KeyError, ValueError, AttributeError, TypeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise WeightsError(f"{path}: not a readable PyTorch checkpoint ({reason})") from None
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: expected a dictionary of tensors, found {type(content).__name__}")
    return content


def tensors_of(content: dict[str, Any], where: str, *, prefer: tuple[str, ...]) -> dict[str, Tensor]:
    """Find the state dict inside a training checkpoint.

    Args:
        content: What the file held.
        where: File name for messages.
        prefer: Keys to look under, the first present wins; a dictionary of tensors is taken as it is.

    Raises:
        WeightsError: No tensors found.
    """
    for key in prefer:
        if isinstance(content.get(key), dict):
            content = content[key]
            break
    state = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not state:
        raise WeightsError(
            f"{where}: no tensors found; expected a state dict, or one under {', '.join(prefer)}"
        )
    wrapped = all(name.startswith("module.") for name in state)
    return {name.removeprefix("module."): value for name, value in state.items()} if wrapped else state
