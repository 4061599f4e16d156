"""The full state of a run on disk: written whole or not at all, read without unpickling anything.

A checkpoint is a folder `checkpoints/step-000001234/`:

    model.safetensors      parameters and buffers, with the card
    ema.safetensors        the running average, when one is kept
    optimizer.safetensors  AdamW's moments, as PARAMETER/ENTRY
    random.safetensors     states of torch's generators, as PROCESS/DEVICE
    state.json             position, counters, best mark, unreadable images, loss scaler; names, sizes and SHA-256
                           of the files above
    state.sha256           SHA-256 of state.json

`checkpoints/LATEST` names the newest whole one. It is renamed into place after the folder is, and only
then are older ones removed, so whenever the process dies, LATEST points at a whole checkpoint or there
is none yet.

A checkpoint of format 1 (before the sums) is taken with what can be checked of it: types and ranges in state.json,
whole safetensors files, and that those are there without which the run would go on as another one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from saccade.errors import SaccadeError, WeightsError
from saccade.files import convert, open_regular, parse_json, replacing, sha256, write_text

FORMAT = 2
LATEST = "LATEST"
STATE, SUM = "state.json", "state.sha256"
GROUPS = ("model", "ema", "optimizer", "random")
_NAME = re.compile(r"step-\d{9,}-\d{5,}")


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
    """value, epoch, source (model or ema) and metrics of the best evaluation so far."""
    metrics: dict[str, int | float] = field(default_factory=dict)
    """The last evaluation's metrics, those of the average under ema_..."""
    waited: int = 0
    """Epochs since the best mark, for early stopping."""
    loss_sum: float = 0.0
    loss_count: int = 0
    """Mean training loss of this epoch so far."""
    skipped_steps: int = 0
    """Steps without effect, because their gradient was not finite."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Images that could not be read, with the reason."""
    seconds: float = 0.0
    """Time spent so far."""
    finished: str = ""
    """Why the run is over; empty while it is not."""

    def __post_init__(self) -> None:
        """Refuse a position that no run can be at."""
        counts = ("epoch", "epoch_step", "step", "ema_count", "waited", "loss_count")
        for name in counts:
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 or more")


@dataclass
class Best:
    """What `Progress.best` holds once there is one."""

    value: float
    epoch: int
    source: Literal["model", "ema"]
    metrics: dict[str, int | float]

    def __post_init__(self) -> None:
        """Refuse metrics without their number."""
        if "count" not in self.metrics:
            raise ValueError("metrics have no count")


@dataclass
class Part:
    """A file of a checkpoint as it was written."""

    size: int
    """Bytes."""
    sha256: str


@dataclass
class State:
    """`state.json`."""

    format: int
    progress: Progress
    scaler: dict[str, int | float]
    num_processes: int
    num_images: int
    card: str
    parts: dict[str, Part] = field(default_factory=dict)
    """By file name; empty in format 1."""


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


def save_snapshot(snapshot: Snapshot, run: Path, *, keep: int = 2) -> Path:
    """Write a checkpoint of the run folder `run` and remove all but the newest `keep`.

    Returns:
        Its folder.

    Raises:
        SaccadeError: The disk is full or not writable; the previous checkpoint stays as it was.
    """
    folder = run / "checkpoints" / f"step-{snapshot.progress.step:09d}-{snapshot.progress.epoch:05d}"
    if _named(run) == folder.name:
        return folder  # this very position is on the disk already
    with saving(folder):
        with replacing(folder) as temporary:
            temporary.mkdir()
            _write(snapshot, temporary)
        write_text(folder.parent / LATEST, folder.name + "\n")
        _link(folder / "model.safetensors", run / "last.safetensors")
    for old in sorted(folder.parent.glob("step-*"))[:-keep]:
        if old != folder:
            shutil.rmtree(old, ignore_errors=True)
    return folder


def load_snapshot(run: Path, name: str = "") -> Snapshot | None:
    """Read a checkpoint of a run folder.

    Args:
        run: The folder.
        name: Of the checkpoint; empty: the newest whole one.

    Returns:
        None when there is none yet.

    Raises:
        WeightsError: The checkpoint is damaged or of a newer format. The message offers the one before, if that is
            kept and whole.
    """
    folder = run / "checkpoints"
    if not name:
        there = sorted((path.name for path in folder.glob("step-*")), reverse=True)
        # Without LATEST only a writer that was killed between its first folder and that file leaves anything.
        name = _named(run) or (there[0] if there else "")
        if not name:
            return None
    try:
        return _read(folder, name)
    except WeightsError as error:
        raise WeightsError(f"{error}; {_way_out(run, name)}") from None


def remove_strays(run: Path) -> None:
    """Remove what a killed writer left half done; for the only writer of the run folder."""
    for stray in (run / "checkpoints").glob(".*"):
        if stray.is_dir():
            shutil.rmtree(stray, ignore_errors=True)


def go_back_to(run: Path, name: str) -> None:
    """Make the checkpoint `name` the newest one: the later ones are removed."""
    folder = run / "checkpoints"
    write_text(folder / LATEST, name + "\n")
    for later in folder.glob("step-*"):
        if later.name > name:
            shutil.rmtree(later, ignore_errors=True)


def split_checkpoint(path: Path) -> tuple[Path, str]:
    """Take RUN or RUN/checkpoints/STEP apart.

    Returns:
        The run folder, and the checkpoint's name; empty for a run folder.
    """
    path = Path(path)
    if _NAME.fullmatch(path.name) and path.parent.name == "checkpoints":
        return path.parent.parent, path.name
    return path, ""


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


def _named(run: Path) -> str:
    """Return what LATEST says; empty where there is no such file."""
    pointer = run / "checkpoints" / LATEST
    if not pointer.is_file():
        return ""
    with pointer.open("rb") as file:
        # Damaged text is no checkpoint's name either.
        return file.read(100).decode("utf-8", "replace").strip() or "nothing"


def _write(snapshot: Snapshot, folder: Path) -> None:
    """Write the files of a checkpoint and force them to the disk."""
    parts: dict[str, Part] = {}
    for name in GROUPS:
        if tensors := getattr(snapshot, name):
            file = folder / f"{name}.safetensors"
            metadata = {"saccade": snapshot.card} if name in ("model", "ema") else None
            save_file(_plain(tensors), file, metadata=metadata)
            parts[file.name] = Part(file.stat().st_size, sha256(file))
    state = State(
        FORMAT,
        snapshot.progress,
        snapshot.scaler,
        snapshot.num_processes,
        snapshot.num_images,
        snapshot.card,
        parts,
    )
    text = json.dumps(dataclasses.asdict(state)).encode()
    (folder / STATE).write_bytes(text)
    (folder / SUM).write_text(_sum_of(text), encoding="utf-8")
    for file in folder.iterdir():
        _flush(file)


def _read(home: Path, name: str) -> Snapshot:
    """Read a checkpoint of the folder `home` and check all that can be checked.

    Raises:
        WeightsError: It is not whole; the sentence has no end yet.
    """
    folder = home / name
    if not _NAME.fullmatch(name) or not folder.is_dir():
        raise WeightsError(f"{home}: there is no checkpoint {name!r}, which {LATEST} or the command names")
    state = _read_state(folder)
    groups: dict[str, dict[str, Tensor]] = {}
    for group in GROUPS:
        file = folder / f"{group}.safetensors"
        if state.parts or state.format > 1:
            _check_part(file, state.parts.get(file.name))
        try:
            groups[group] = load_file(file) if file.is_file() else {}
        except (SafetensorError, OSError, ValueError) as error:
            raise WeightsError(f"{file}: the checkpoint is damaged ({error})") from None
    needed = {"model", "random"} | ({"ema"} if state.progress.ema_count else set())
    if state.format == 1 and state.progress.step and not state.scaler:
        needed.add(
            "optimizer"
        )  # AdamW has moments from the first step on; with a scaler it may have skipped all
    if lost := sorted(group for group in needed if not groups[group]):
        raise WeightsError(f"{folder}: the checkpoint is damaged ({lost[0]}.safetensors is missing)")
    if not all(f"{number}/cpu" in groups["random"] for number in range(state.num_processes)):
        raise WeightsError(
            f"{folder}: the checkpoint is damaged (random.safetensors is not of {state.num_processes} processes)"
        )
    return Snapshot(
        progress=state.progress,
        scaler=state.scaler,
        num_processes=state.num_processes,
        num_images=state.num_images,
        card=state.card,
        **groups,
    )


def _new_names(values: Any) -> None:
    """Give what an earlier Saccade wrote its present names: skipped was broken, metrics were marks."""
    progress = values.get("progress") if isinstance(values, dict) else None
    if not isinstance(progress, dict):
        return
    best = progress.get("best")
    for holder, old, new in (
        (progress, "broken", "skipped"),
        (progress, "marks", "metrics"),
        (best, "marks", "metrics"),
    ):
        if isinstance(holder, dict) and old in holder:
            holder.setdefault(new, holder.pop(old))


def _read_state(folder: Path) -> State:
    """Read and check `state.json`.

    Raises:
        WeightsError: It is not what was written, or of a newer format.
    """
    file = folder / STATE
    try:
        with open_regular(file) as stream:
            text = stream.read()
        said = (folder / SUM).read_text(encoding="utf-8") if (folder / SUM).is_file() else ""
    except (OSError, UnicodeDecodeError, SaccadeError) as error:
        raise WeightsError(f"{file}: the checkpoint is damaged ({error})") from None
    values = parse_json(text, where=str(file), error=WeightsError)
    number = values.get("format") if isinstance(values, dict) else None
    if isinstance(number, int) and number > FORMAT:
        raise WeightsError(f"{folder}: written by a newer Saccade (format {number}); upgrade")
    _new_names(values)
    state = convert(values, State, where=str(file), error=WeightsError)
    if state.progress.best:
        convert(state.progress.best, Best, where=f"{file}: field progress.best", error=WeightsError)
    if (state.format > 1 or said) and said != _sum_of(text):
        raise WeightsError(f"{file}: the checkpoint is damaged ({STATE} is not what {SUM} says)")
    return state


def _sum_of(text: bytes) -> str:
    """`state.sha256` of a `state.json`, as `sha256sum` writes it."""
    return f"{hashlib.sha256(text).hexdigest()}  {STATE}\n"


def _check_part(file: Path, part: Part | None) -> None:
    """Compare a file of a checkpoint with what was written.

    Raises:
        WeightsError: It is missing, another one, or none was written.
    """
    what = ""
    if part is None:
        what = "it was not saved with it" if file.exists() else ""
    elif not file.is_file():
        what = "it is missing"
    elif (size := file.stat().st_size) != part.size:
        what = f"it has {size} bytes and was saved with {part.size}"
    elif sha256(file) != part.sha256:
        what = "its contents are not those that were saved"
    if what:
        raise WeightsError(f"{file}: the checkpoint is damaged ({what})")


def _way_out(run: Path, damaged: str) -> str:
    """Say what to go on from instead of a damaged checkpoint."""
    home = run / "checkpoints"
    for folder in sorted(home.glob("step-*"), reverse=True):
        if folder.name != damaged:
            try:
                _read(home, folder.name)
            except WeightsError:
                continue
            return f"the one before it is whole, so go on with: saccade train --resume {folder}"
    return f"no other one is kept, so start anew from {run}/best.safetensors with --weights"


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
