"""Open any set of weights or bundle so that its task can run it, by the fastest path that was proved equal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import nn

from saccade.engine.export import is_bundle
from saccade.engine.sessions.finite import settled
from saccade.engine.sessions.net import NetSession, check_request, open_net
from saccade.errors import ConfigError
from saccade.files import count_threads
from saccade.nn.fold import fold
from saccade.tasks import get_task
from saccade.tasks.base import Batch, Net, Task
from saccade.tasks.open import card_of_source, load_model
from saccade.weights import Card

Log = Callable[[str], None]


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
    device: str = "cpu"
    size: tuple[int, int] | None = None
    """(height, width) that the file takes; None: any."""
    batch: int | None = None
    """The only batch that the file takes; None: any."""
    why: str = ""
    """How the backend was chosen, for people."""
    session: NetSession | None = None
    """What holds a runtime, when there is one."""

    def run(self, batch: Batch) -> Any:
        """Run the task on a batch; outputs are on the CPU."""
        with torch.no_grad():
            return settled(self.task.run(self.net, batch))

    def close(self) -> None:
        """Free the runtime; running afterwards is an error."""
        if self.session is not None:
            self.session.close()

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def open_runner(
    source: Path | str,
    *,
    verb: str,
    backend: str = "auto",
    precision: str = "float32",
    threads: int | None = None,
    device: str = "cpu",
    size: int = 0,
    batch: int = 16,
    embed: bool = False,
    log: Log = lambda text: None,
) -> Runner:
    """Open a run folder, weights file, bundle or model name.

    Args:
        source: As said. A bundle runs in its own format and precision.
        verb: What it is for, such as predict: tasks that cannot do it are refused (`Task.refuse`).
        backend: torch, compile, onnx, openvino, executorch, litert; or auto: for tasks that are measured the fastest
            of those at hand whose outputs equal PyTorch's, remembered; for the others PyTorch.
        precision: float32; bf16 (torch, openvino) only when named; int8 only as a bundle.
        threads: Threads of one call; None: all cores. For torch it sets the whole process.
        device: cpu, cuda, cuda:N or mps; all but cpu run in PyTorch.
        size: Side of the input in pixels (of detectors the shorter side); 0: that of the weights.
        batch: Samples per call that a choice is made for.
        embed: Open the network without its classifier, in PyTorch: vectors come out (`Task.embedding`).
        log: Called with lines about the work.

    Raises:
        ConfigError: A backend, precision or device that does not exist or does not go together, or a task that does
            not do what is asked.
        WeightsError: A source that cannot be read.
        MissingExtraError: The named backend's package is not installed.
        CheckFailed: The named backend differs from PyTorch.
    """
    check_request(backend, precision, device)
    known, bundled = card_of_source(source), is_bundle(source)
    if known is not None:
        get_task(known.task).refuse(verb, str(source))
    if precision == "int8" and not bundled:
        raise ConfigError(
            f"{source}: int8 needs calibration; run `saccade export --precision int8 --data ...` and use its bundle"
        )
    if embed:
        return _open_embedding(source, verb, backend, precision, threads, device, size)
    if known is not None and not bundled:
        _check_plain(known, source, backend, precision)
    if bundled or (known is not None and get_task(known.task).measured):
        return _open_session(source, backend, precision, threads, device, size, batch, log)
    model, card = load_model(source)
    task = get_task(card.task)
    task.refuse(verb, str(source))
    if task.measured:
        return _open_session(source, backend, precision, threads, device, size, batch, log)
    _check_plain(card, source, backend, precision)
    torch.set_num_threads(count_threads(threads))
    net = _on_device(task.watched(fold(model)), device)
    return Runner(task, task.sized(card, size), net, "torch", "float32", device, why="PyTorch")


def _open_embedding(
    source: Path | str, verb: str, backend: str, precision: str, threads: int | None, device: str, size: int
) -> Runner:
    """Open what gives vectors."""
    if is_bundle(source):
        raise ConfigError(f"{source}: a bundle gives no vectors; name the weights that it was made from")
    if backend not in ("auto", "torch") or precision != "float32":
        raise ConfigError(
            f"vectors are made with torch in float32, not with {backend} in {precision}; leave --backend and "
            "--precision out"
        )
    model, card = load_model(source)
    task = get_task(card.task)
    task.refuse(verb, str(source))
    torch.set_num_threads(count_threads(threads))
    net = _on_device(fold(task.embedding(model, card)), device)
    return Runner(task, task.sized(card, size), net, "torch", "float32", device, why="PyTorch")


def _check_plain(card: Card, source: Path | str, backend: str, precision: str) -> None:
    """Refuse what tasks without a choice of backends do not have."""
    if get_task(card.task).measured:
        return
    if backend not in ("auto", "torch"):
        raise ConfigError(
            f"{source}: weights of the task {card.task} run with torch; for {backend}, export them first with "
            f"`saccade export --weights {source} --to {backend}` and pass the bundle"
        )
    if precision != "float32":
        raise ConfigError(
            f"{source}: weights of the task {card.task} run in float32, not in {precision}; leave --precision out"
        )


def _open_session(
    source: Path | str,
    backend: str,
    precision: str,
    threads: int | None,
    device: str,
    size: int,
    batch: int,
    log: Log,
) -> Runner:
    """Open what runs tensors, and let its task call it."""
    # A bare model name makes weights from the global generator: every worker shall get the same ones.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        session = open_net(
            source, backend=backend, precision=precision, threads=threads, device=device, batch=batch, log=log
        )
    task = get_task(session.card.task)
    card = task.sized(session.card, size)
    net = task.exported(session, session.card)
    side = card.preprocess["size"]
    if task.measured and is_bundle(source) and session.size not in (None, (side, side)):
        session.close()
        raise ConfigError(
            f"{source}: this bundle takes pictures of {session.size[0]} px, not of {side}; export another one"
        )
    return Runner(
        task, card, net, session.backend, session.precision, device, session.size, session.batch, session.why, session
    )  # fmt: skip


def _on_device(net: nn.Module, device: str) -> nn.Module:
    try:
        return net.to(device).eval()
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"the device {device!r} cannot be used ({str(error)[:100]}); use cpu") from None
