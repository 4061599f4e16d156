"""Networks of transformers as stages: opened from a folder or the hub, on one device, in one number format.

Weights come from safetensors only and no code that lies beside them is run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch

from saccade.errors import ConfigError
from saccade.extras import require
from saccade.files import within
from saccade.hub import DTYPES, fetching, load_network, model_type_of
from saccade.settings import check

EXTRA = "pseudo"


@dataclass(frozen=True)
class Machine:
    """Where a network runs, and how."""

    device: str = "cpu"
    """cpu, cuda, cuda:N or mps."""
    dtype: Literal["float32", "bf16"] = "float32"
    batch: Annotated[int, within(1)] = 4
    """Frames that pass through the network at once, where it takes frames one by one."""

    def __post_init__(self) -> None:
        check(self)
        kind = self.device.split(":")[0]
        if kind not in ("cpu", "cuda", "mps"):
            raise ConfigError(f"device is {self.device!r}; expected cpu, cuda, cuda:N or mps")
        there = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
        if kind in there and not there[kind]():
            raise ConfigError(f"device is {self.device!r} and this machine has none; take cpu")


@dataclass(frozen=True)
class Kind:
    """A class of networks that a stage knows how to talk to."""

    model: str
    """Its class in transformers."""
    processor: str = "AutoProcessor"
    """Class that opens what turns frames into inputs."""


def kind_of(source: str, kinds: Mapping[str, Kind], *, task: str, flag: str, example: str) -> str:
    """Return the `model_type` of a network, one of `kinds`; reads no more than its configuration.

    Args:
        source: Folder, or hub id (owner/name).
        kinds: By model_type.
        task: What is wanted of it, for the error.
        flag: How the user names it.
        example: A hub id that would do.

    Raises:
        WeightsError: No such folder, or a hub that cannot be reached.
        ConfigError: A network of another class.
    """
    found = model_type_of(source, extra=EXTRA, flag=flag, example=example)
    if found not in kinds:
        classes = ", ".join(kind.model for kind in kinds.values())
        raise ConfigError(f"{source} is a {found} model, which does not {task} here; choose one of {classes}")
    return found


def open_config(source: str, flag: str) -> Any:
    """Read the configuration of a network.

    Raises:
        WeightsError: It cannot be read.
    """
    with fetching(source, "config.json", flag=flag):
        return _transformers().AutoConfig.from_pretrained(source)


def open_network(source: str, kind: Kind, machine: Machine, flag: str) -> tuple[Any, Any]:
    """Open a network, ready to be asked, and its processor.

    Raises:
        WeightsError: Files that are missing, incomplete or damaged, or a hub that cannot be reached.
    """
    library = _transformers()
    with fetching(source, "the processor's files", flag=flag):
        processor = getattr(library, kind.processor).from_pretrained(source)
    network = load_network(getattr(library, kind.model), source, dtype=machine.dtype, flag=flag)
    return network.to(machine.device).eval(), processor


def to_machine(inputs: Any, machine: Machine) -> Any:
    """Bring inputs to the network; pictures in its number format, identifiers as they are."""
    for name, value in inputs.items():
        if isinstance(value, torch.Tensor):
            dtype = DTYPES[machine.dtype] if value.is_floating_point() else None
            inputs[name] = value.to(machine.device, dtype)
    return inputs


def batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Cut a sequence into pieces of at most `size`."""
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]


def _transformers() -> Any:
    """Import transformers, or say which extra brings it."""
    return require("transformers", EXTRA, "for the networks of pseudo-labels")
