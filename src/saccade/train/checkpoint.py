"""The full state of a run on disk: written whole or not at all, read without unpickling anything.

A checkpoint is a folder `checkpoints/step-000001234/`:

    model.safetensors      parameters and buffers, with the card
    ema.safetensors        the running average, when one is kept
    optimizer.safetensors  AdamW's moments, as PARAMETER/ENTRY
    random.safetensors     states of torch's generators, as PROCESS/DEVICE
    state.json             position, counters, best mark, broken images, loss scaler

`checkpoints/LATEST` names the newest whole one. It is renamed into place after the folder is, and only
then are older ones removed, so whenever the process dies, LATEST points at a whole checkpoint or there
is none yet.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from saccade.errors import SaccadeError, WeightsError
from saccade.files import replacing, write_text

FORMAT = 1
LATEST = "LATEST"


@dataclass
class Progress:
    """Where a run is, as plain JSON values."""

    epoch: int = 0
    """Epoch under way, from 0."""
    epoch_step: int = 0
    """Steps of it that are done."""
    step: int = 0
    """Steps done in all."""
    ema_count: int = 0
    best: dict[str, Any] = field(default_factory=dict)
    """value, epoch, source (model or ema) and marks of the best evaluation so far."""
    marks: dict[str, float] = field(default_factory=dict)
    """The last evaluation's marks, those of the average under ema_..."""
    waited: int = 0
    """Epochs since the best mark, for early stopping."""
    loss_sum: float = 0.0
    loss_count: int = 0
    """Mean training loss of this epoch so far."""
    skipped: int = 0
    """Steps without effect, because their gradient was not finite."""
    broken: dict[str, str] = field(default_factory=dict)
    """Images that could not be read, with the reason."""
    seconds: float = 0.0
    """Time spent so far."""
    finished: str = ""
    """Why the run is over; empty while it is not."""


@dataclass
class Snapshot:
    """Everything a checkpoint holds, on the CPU."""

    progress: Progress
    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    ema: dict[str, Tensor] = field(default_factory=dict)
    random: dict[str, Tensor] = field(default_factory=dict)
    scaler: dict[str, float] = field(default_factory=dict)
    num_processes: int = 1
    num_images: int = 0
    """Training images; a resumed run must find as many."""
    card: str = ""
    """What the network is, as JSON."""


def save_snapshot(snapshot: Snapshot, run: Path, *, keep: int = 1) -> Path:
    """Write a checkpoint of the run folder `run` and remove all but the newest `keep`.

    Returns:
        Its folder.

    Raises:
        SaccadeError: The disk is full or not writable; the previous checkpoint stays as it was.
    """
    folder = run / "checkpoints" / f"step-{snapshot.progress.step:09d}-{snapshot.progress.epoch:05d}"
    state = {
        "format": FORMAT,
        "progress": dataclasses.asdict(snapshot.progress),
        "scaler": snapshot.scaler,
        "num_processes": snapshot.num_processes,
        "num_images": snapshot.num_images,
        "card": snapshot.card,
    }
    if _newest(run) == folder:
        return folder  # this very position is on the disk already
    groups = {name: getattr(snapshot, name) for name in ("model", "ema", "optimizer", "random")}
    with saving(folder):
        with replacing(folder) as temporary:
            temporary.mkdir()
            for name, tensors in groups.items():
                if tensors:
                    metadata = {"saccade": snapshot.card} if name in ("model", "ema") else None
                    save_file(_plain(tensors), temporary / f"{name}.safetensors", metadata=metadata)
            (temporary / "state.json").write_text(json.dumps(state), encoding="utf-8")
            for file in temporary.iterdir():
                _flush(file)
        write_text(folder.parent / LATEST, folder.name + "\n")
        _link(folder / "model.safetensors", run / "last.safetensors")
    for old in sorted(folder.parent.glob("step-*"))[:-keep]:
        if old != folder:
            shutil.rmtree(old, ignore_errors=True)
    return folder


def load_snapshot(run: Path) -> Snapshot | None:
    """Read the newest whole checkpoint of a run folder; None when there is none yet.

    What a killed writer left half done is removed.

    Raises:
        WeightsError: The checkpoint is damaged or of a newer format.
    """
    folder = run / "checkpoints"
    for stray in folder.glob(".*"):
        if stray.is_dir():
            shutil.rmtree(stray, ignore_errors=True)
    newest = _newest(run)
    if newest is None:
        return None
    folder = newest
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        if state["format"] > FORMAT:
            raise WeightsError(f"{folder}: written by a newer Saccade (format {state['format']}); upgrade")
        groups = {
            name: load_file(folder / f"{name}.safetensors")
            if (folder / f"{name}.safetensors").is_file()
            else {}
            for name in ("model", "ema", "optimizer", "random")
        }
        progress = Progress(**state["progress"])
        return Snapshot(
            progress=progress,
            scaler=state["scaler"],
            num_processes=state["num_processes"],
            num_images=state["num_images"],
            card=state["card"],
            **groups,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(
            f"{folder}: the checkpoint is damaged ({type(error).__name__}: {error}); start anew from "
            f"{run}/best.safetensors with --weights"
        ) from None
    except Exception as error:  # safetensors raises its own kind
        if type(error).__name__ != "SafetensorError":
            raise
        raise WeightsError(f"{folder}: the checkpoint is damaged ({error})") from None


@contextlib.contextmanager
def saving(what: Path) -> Iterator[None]:
    """Turn a full or read-only disk inside the block into one sentence that says what is still safe."""
    try:
        yield
    except SaccadeError:
        raise
    except Exception as error:  # the safetensors library raises its own kind for a full disk
        text = str(error)
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or any(
            sign in text for sign in ("No space left", "quota", "File too large")
        )
        if full:
            raise SaccadeError(
                f"{what}: the disk is full; nothing saved before is lost, so free some space and go on "
                f"with: saccade train --resume {_run_of(what)}"
            ) from error
        if isinstance(error, OSError):
            raise SaccadeError(f"{what}: cannot be written ({error.strerror or error})") from error
        raise


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Name every tensor of an optimiser's state PARAMETER/ENTRY."""
    tensors = {}
    for group in optimizer.param_groups:
        for name, parameter in zip(group["param_names"], group["params"], strict=True):
            for entry, value in optimizer.state.get(parameter, {}).items():
                tensors[f"{name}/{entry}"] = value
    return tensors


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` named.

    Raises:
        WeightsError: A tensor of a parameter that the optimiser does not have.
    """
    blank = optimizer.state_dict()
    numbers: dict[str, int] = {}
    parameters: dict[str, Tensor] = {}
    for group, live in zip(blank["param_groups"], optimizer.param_groups, strict=True):
        numbers |= dict(zip(group["param_names"], group["params"], strict=True))
        parameters |= dict(zip(group["param_names"], live["params"], strict=True))
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        name, _, entry = key.rpartition("/")
        if name not in numbers:
            raise WeightsError(
                f"the checkpoint has optimiser state for {name}, which this model does not train"
            )
        if value.shape == parameters[name].shape:
            # In the parameter's own memory order: the fused kernel walks both without looking at strides.
            value = torch.empty_like(parameters[name], dtype=value.dtype).copy_(value)
        state.setdefault(numbers[name], {})[entry] = value
    optimizer.load_state_dict({"state": state, "param_groups": blank["param_groups"]})


def _newest(run: Path) -> Path | None:
    """Return the folder that LATEST names."""
    pointer = run / "checkpoints" / LATEST
    return pointer.parent / pointer.read_text(encoding="utf-8").strip() if pointer.is_file() else None


def _plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Detach, move to the CPU and lay out in memory as safetensors asks."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def _flush(path: Path) -> None:
    """Force a file to the disk, so that a rename after it does not overtake it."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _link(source: Path, target: Path) -> None:
    """Make `target` the same file as `source` (a copy where the file system has no links), atomically."""
    with replacing(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)


def _run_of(path: Path) -> Path:
    """Return the run folder that a checkpoint lies in."""
    return path.parent.parent if path.parent.name == "checkpoints" else path.parent
