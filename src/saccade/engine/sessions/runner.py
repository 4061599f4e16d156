"""A network ready to run, whatever it is stored as: a module, a session of PyTorch, or an opened file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from saccade.engine.export import Bundle, open_file
from saccade.engine.export.session import Session, tensors_of
from saccade.engine.sessions.eager import CompiledSession, EagerSession
from saccade.engine.sessions.finite import settled
from saccade.errors import ConfigError
from saccade.files import count_threads
from saccade.nn.fold import fold
from saccade.tasks import get_task
from saccade.tasks.base import Batch, Net, Task
from saccade.weights import Card


@dataclass
class Runner:
    """A network ready to run. Not for use by several threads at once."""

    task: Task
    card: Card
    """With the whole evaluation transform, at the size that was asked for."""
    net: Net
    """What `Task.run` takes: a folded module on its device, or a session."""
    backend: str
    """torch, compile, onnx, openvino, executorch or litert."""
    precision: str
    again: Callable[[], Runner]
    """Opens an equal one, for another thread."""
    device: str = "cpu"
    size: tuple[int, int] | None = None
    """(height, width) that the file takes; None: any."""
    batch: int | None = None
    """The only batch that the file takes; None: any."""
    why: str = ""
    """How the backend was chosen, for people."""
    session: Session | None = None
    """What runs tensors and is closed at the end; None: a module does."""

    def run(self, batch: Batch) -> Any:
        """Run the task on a batch; outputs are on the CPU."""
        with torch.no_grad():
            return settled(self.task.run(self.net, batch))

    def outputs(self, inputs: tuple[Tensor, ...]) -> list[Tensor]:
        """Run the session on tensors, without what the task does before and behind it."""
        assert self.session is not None
        return tensors_of(self.session(*inputs))

    def close(self) -> None:
        """Free the runtime; running afterwards is an error."""
        if self.session is not None:
            self.session.close()

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def run_bundle(
    bundle: Bundle, *, threads: int | None, backend: str = "", why: str = "", size: int = 0
) -> Runner:
    """Open a bundle that was read, in its own runtime or another that can.

    Args:
        bundle: From `read_bundle`.
        threads: Threads of one call; None: all cores.
        backend: Another runtime for its file; empty: its own.
        why: How it was chosen.
        size: Side of the input in pixels; 0: that of the card.

    Raises:
        ConfigError: A backend that does not open its format, or a size that the file does not take.
    """
    manifest = bundle.manifest
    task = get_task(manifest.card.task)
    card = task.sized(manifest.card, size)
    if task.measured and manifest.size is not None:
        (example, *_) = task.example(card)
        if tuple(example.shape[-2:]) != manifest.size:
            raise ConfigError(
                f"{bundle.path}: this bundle takes pictures of {manifest.size[0]} px, not of {example.shape[-2]}; "
                "export another one"
            )
    file = open_file(bundle, threads=threads, backend=backend or None)
    return Runner(
        task, card, task.exported(file, manifest.card), backend or manifest.format, manifest.precision,
        lambda: run_bundle(bundle, threads=threads, backend=backend, why=why, size=size),
        size=manifest.size, batch=manifest.batch, why=why, session=file,
    )  # fmt: skip


def run_module(
    model: nn.Module,
    card: Card,
    *,
    reload: Callable[[], nn.Module],
    backend: str = "torch",
    precision: str = "float32",
    threads: int | None = None,
    device: str = "cpu",
    embed: bool = False,
    why: str = "as asked for",
) -> Runner:
    """Run a network in this process, folded.

    Args:
        model: In evaluation mode, not folded; untouched.
        card: What it is, from `Task.sized`.
        reload: Makes an equal network, for `Runner.again`.
        backend: torch or compile.
        precision: float32 or bf16.
        threads: Threads of PyTorch in this process; None: all cores.
        device: Where it runs.
        embed: Without its classifier: vectors come out (`Task.embedding`).
        why: How it was chosen.

    Raises:
        ConfigError: A device that cannot be used, or a network that gives no vectors.
    """
    task = get_task(card.task)
    session = None
    torch.set_num_threads(count_threads(threads))
    try:
        if embed:
            net = fold(task.embedding(model, card)).to(device).eval()
        elif task.measured:
            kind = EagerSession if backend == "torch" else CompiledSession
            net = session = kind(model, precision=precision, device=device)
        else:
            net = task.watched(fold(model)).to(device).eval()
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"the device {device!r} cannot be used ({str(error)[:100]}); use cpu") from None

    def again() -> Runner:
        return run_module(
            reload(), card, reload=reload, backend=backend, precision=precision, threads=threads, device=device,
            embed=embed, why=why,
        )  # fmt: skip

    return Runner(task, card, net, backend, precision, again, device, why=why, session=session)
