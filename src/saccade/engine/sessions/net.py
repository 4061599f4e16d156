"""One object that runs a network, whatever it is stored as: tensors in, outputs out."""

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor, nn

from saccade.engine.export import FORMATS, Bundle, export, is_bundle, open_file, open_session, read_bundle
from saccade.engine.export.cache import prune_bundles
from saccade.engine.export.contract import contract
from saccade.engine.export.session import OpenedFile, Session, tensors_of
from saccade.engine.export.ship import exporter_versions
from saccade.engine.export.verify import difference, limit
from saccade.engine.sessions.eager import CompiledSession, EagerSession
from saccade.errors import ConfigError, SaccadeError, did_you_mean
from saccade.files import cache_dir, writing
from saccade.tasks import get_task
from saccade.tasks.open import load_model
from saccade.weights import Card

PRECISIONS = ("float32", "bf16", "int8")
IN_PROCESS = ("torch", "compile")
"""Backends that run the network itself; the others open an exported file."""
MADE_ON_THE_WAY = ("onnx", "openvino", "executorch", "litert")
"""Formats that a predictor may export by itself."""
EXPORT_PATIENCE = 1800.0
"""Seconds to wait for another process that exports the same network into the cache."""
Log = Callable[[str], None]


class NetSession(OpenedFile):
    """A network ready to run, whatever it is stored as. Not for use by several threads at once.

    Calling it maps float32 tensors on the CPU, as the task's `example` makes them, to the network's outputs on the
    CPU.

    Args:
        session: What runs it.
        card: What it is.
        shapes: As of `OpenedFile`.
        backend: torch, compile, onnx, openvino, executorch or litert.
        precision: float32, bf16 or int8.
        device: cpu, cuda, cuda:N or mps.
        why: How the backend was chosen, for people.
    """

    def __init__(
        self,
        session: Session,
        card: Card,
        shapes: Sequence[Sequence[int | str]],
        *,
        backend: str,
        precision: str,
        device: str = "cpu",
        why: str = "",
    ) -> None:
        super().__init__(session, card, shapes)
        self.backend, self.precision, self.device, self.why = backend, precision, device, why
        first = shapes[0][0]
        self.batch = first if isinstance(first, int) else None
        """The only batch that the file takes; None: any."""

    @property
    def threads(self) -> int:
        """Threads of one call."""
        return self.session.threads

    def __enter__(self) -> "NetSession":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def open_net(
    source: Path | str,
    *,
    backend: str = "auto",
    precision: str = "float32",
    threads: int | None = None,
    device: str = "cpu",
    batch: int = 16,
    log: Log = lambda text: None,
) -> NetSession:
    """Open a run folder, weights file, bundle or model name.

    Args:
        source: As said. A bundle runs in its own format and precision.
        backend: torch, compile, onnx, openvino, executorch, litert; or auto: the fastest of those at hand
            whose outputs equal PyTorch's, timed once for these weights on this machine and remembered.
        precision: float32; bf16 (torch, openvino) only when named; int8 only as a bundle.
        threads: Threads of one call; None: all cores. For torch it sets the whole process.
        device: cpu, cuda, cuda:N or mps; all but cpu run in PyTorch.
        batch: Pictures per call that the choice is made for.
        log: Called with lines about the work.

    Returns:
        A session; its `backend` and `why` say what was taken.

    Raises:
        ConfigError: A backend, precision or device that does not exist or does not go together.
        WeightsError: A source that cannot be read.
        MissingExtraError: The named backend's package is not installed.
        CheckFailed: The named backend differs from PyTorch.
    """
    check_request(backend, precision, device)
    if is_bundle(source):
        return _open_bundle(source, backend, precision, threads, device, batch, log)
    model, card = load_model(source)
    if precision == "int8":
        raise ConfigError(
            f"{source}: int8 needs calibration; run `saccade export --precision int8 --data ...` and use its bundle"
        )
    if device != "cpu" or backend in IN_PROCESS:
        return _open_eager(model, card, "torch" if backend == "auto" else backend, precision, threads, device)
    if backend != "auto":
        return _open_made(model, card, backend, precision, threads, log)
    from saccade.engine.sessions.choose import choose

    return choose(model, card, precision=precision, threads=threads, batch=batch, log=log)


def open_eager(
    model: nn.Module, card: Card, *, backend: str = "torch", precision: str = "float32",
    threads: int | None = None, device: str = "cpu",
) -> NetSession:  # fmt: skip
    """Wrap a network that is in memory, folded, without any file.

    Args:
        model: In evaluation mode, not folded; untouched.
        card: What it is.
        backend: torch or compile.
        precision: float32 or bf16.
        threads: Threads of PyTorch in this process; None leaves them.
        device: Where it runs.
    """
    return _open_eager(model, card, backend, precision, threads, device)


def _open_eager(
    model: nn.Module, card: Card, backend: str, precision: str, threads: int | None, device: str
) -> NetSession:
    """Run the network in this process."""
    if backend not in IN_PROCESS:
        raise ConfigError(
            f"the device {device!r} runs with the backends torch and compile only, not {backend!r}"
        )
    kind = EagerSession if backend == "torch" else CompiledSession
    session = kind(model, precision=precision, threads=threads, device=device)
    shapes = [_free(value) for value in get_task(card.task).example(card)]
    return NetSession(
        session, card, shapes, backend=backend, precision=precision, device=device, why="as asked for"
    )


def _free(value: Tensor) -> list[int | str]:
    """Return the shape of an input with its batch free, and height and width where it has channels."""
    inner = list(value.shape[1:])
    return ["batch", *inner[:-2], "height", "width"] if len(inner) > 2 else ["batch", *inner]


def _open_made(
    model: nn.Module, card: Card, backend: str, precision: str, threads: int | None, log: Log
) -> NetSession:
    """Export into the cache unless it is there, then open."""
    bundle = made_bundle(model, card, backend, precision, log)
    return net_of_bundle(bundle, threads=threads, why="as asked for")


def made_bundle(model: nn.Module, card: Card, form: str, precision: str, log: Log) -> Bundle:
    """Return a verified bundle of a network from the cache, exporting it on first use."""
    home = cache_dir() / "bundles" / fingerprint(model, card, form)[:16]
    with writing(home, f"exporting {card.model} for later", beside=True, patience=EXPORT_PATIENCE):
        kept = next((path for path in home.glob(f"*-{form}-{precision}") if is_bundle(path)), None)
        bundle = _cached(kept, model, card, log) if kept else None
        if bundle is None:
            log(f"exporting {card.model} to {form} ({precision}) once, into {home}")
            made = export((model, card), form, precision=precision, out=home, log=log)
            bundle = read_bundle(made.path)
        with contextlib.suppress(OSError):
            os.utime(home)  # used last now
    prune_bundles(keep=home)
    bundle.manifest.card = card
    return bundle


def _cached(path: Path, model: nn.Module, card: Card, log: Log) -> Bundle | None:
    """Return a bundle of the cache after running it on one sample beside the network; None where it is no good."""
    try:
        bundle = read_bundle(path)
        file = open_file(bundle, threads=1)
    except SaccadeError as error:
        log(f"the cached bundle is made again: {error}")
        return None
    try:
        form = get_task(card.task).export_form(model, bundle.manifest.card)
        given = tuple(value[:1] for value in form.inputs.values())
        with torch.no_grad():
            wanted = tensors_of(form.module(*given))
        allowed = limit(bundle.manifest.precision, 2e-6)
        pairs = list(zip(tensors_of(file(*given)), wanted, strict=True))
        if all(got.shape == want.shape and difference(got, want) <= allowed for got, want in pairs):
            return bundle
        log(f"the cached bundle {path} does not answer as the network does; it is made again")
    except SaccadeError as error:
        log(f"the cached bundle is made again: {error}")
    finally:
        file.close()
    return None


def net_of_bundle(
    bundle: Bundle, *, threads: int | None = None, backend: str | None = None, why: str = ""
) -> NetSession:
    """Open a bundle that was read, in its own runtime or another that can."""
    manifest = bundle.manifest
    session = open_session(bundle, threads=threads, backend=backend)
    shapes = [port["shape"] for port in manifest.inputs]
    return NetSession(
        session,
        manifest.card,
        shapes,
        backend=backend or manifest.format,
        precision=manifest.precision,
        why=why,
    )


def fingerprint(model: nn.Module, card: Card, form: str = "") -> str:
    """Hex digest of what a network computes and of what would export it.

    Args:
        model: Its tensors, their names, and its layers with their settings.
        card: Its options and preprocessing; not its labels, origin and metrics.
        form: Of an exported file: adds the versions of what makes that format, or the pins of its environment.
    """
    facts = {
        "structure": repr(model),
        "card": contract(dataclasses.replace(get_task(card.task).sized(card), labels=[]), form, ""),
        "tools": exporter_versions(form) if form else {},
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes() if tensor.ndim
                      else str(tensor.item()).encode())  # fmt: skip
    return digest.hexdigest()


def _open_bundle(
    source: Path | str, backend: str, precision: str, threads: int | None, device: str, batch: int, log: Log
) -> NetSession:
    """Open a bundle as its manifest says; refuse what contradicts it."""
    bundle = read_bundle(source)
    manifest = bundle.manifest
    if device != "cpu":
        raise ConfigError(
            f"{source}: bundles run on the CPU; for {device} use the run folder or weights file"
        )
    if precision not in ("float32", manifest.precision):
        raise ConfigError(
            f"{source}: this bundle is {manifest.precision}, not {precision}; export another one"
        )
    if backend == "auto":
        if manifest.format == "onnx" and manifest.precision == "float32":
            from saccade.engine.sessions.choose import choose_for_onnx

            return choose_for_onnx(bundle, threads=threads, batch=batch, log=log)
        return net_of_bundle(bundle, threads=threads, why="the bundle's own format")
    return net_of_bundle(bundle, threads=threads, backend=backend, why="as asked for")


def check_request(backend: str, precision: str, device: str) -> None:
    """Refuse names that do not exist."""
    backends = ("auto", *IN_PROCESS, *(f for f in MADE_ON_THE_WAY if f in FORMATS))
    if backend not in backends:
        raise ConfigError(f"unknown backend {backend!r}{did_you_mean(backend, backends)}")
    if precision not in PRECISIONS:
        raise ConfigError(f"unknown precision {precision!r}{did_you_mean(precision, PRECISIONS)}")
    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise ConfigError(f"unknown device {device!r}; choose from cpu, cuda, cuda:N, mps") from None
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not present.get(kind, False):
        raise ConfigError(f"the device {device!r} is not present here; use cpu")
