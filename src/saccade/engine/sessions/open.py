"""Open any set of weights or bundle so that its task can run it, by the fastest path that was proved equal."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch

from saccade.engine.export import is_bundle, read_bundle
from saccade.engine.sessions.choose import choose, choose_for_onnx
from saccade.engine.sessions.made import made_bundle
from saccade.engine.sessions.runner import Runner, run_bundle, run_module
from saccade.errors import ConfigError, did_you_mean
from saccade.tasks import get_task
from saccade.tasks.open import card_of_source, load_model
from saccade.weights import Card

PRECISIONS = ("float32", "bf16", "int8")
IN_PROCESS = ("torch", "compile")
"""Backends that run the network itself; the others open an exported file."""
BACKENDS = ("auto", *IN_PROCESS, "onnx", "openvino", "executorch", "litert")
Log = Callable[[str], None]


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
    known = card_of_source(source)
    if known is not None:
        get_task(known.task).refuse(verb, str(source))
    if embed:
        _check_embedding(source, backend, precision)
    if is_bundle(source):
        return _open_bundle(source, backend, precision, threads, device, size, batch, log)
    if precision == "int8":
        raise ConfigError(
            f"{source}: int8 needs calibration; run `saccade export --precision int8 --data ...` and use its bundle"
        )
    if device != "cpu" and backend not in ("auto", *IN_PROCESS):
        raise ConfigError(
            f"the device {device!r} runs with the backends torch and compile only, not {backend!r}"
        )
    if known is not None:
        _check_plain(known, source, backend, precision)
    model, card = load_model(source)
    task = get_task(card.task)
    if known is None:
        task.refuse(verb, str(source))
        _check_plain(card, source, backend, precision)
    card = task.sized(card, size)

    def build(name: str) -> Runner:
        if name in IN_PROCESS:
            return run_module(
                model, card, reload=lambda: load_model(source)[0], backend=name, precision=precision,
                threads=threads, device=device, embed=embed,
            )  # fmt: skip
        bundle = made_bundle(model, card, name, precision, log)
        return run_bundle(bundle, threads=threads, why="as asked for")

    if embed or not task.measured or (device != "cpu" and backend == "auto"):
        return dataclasses.replace(build("torch"), why="PyTorch")
    if backend == "auto":
        return choose(model, card, build, precision=precision, threads=threads, batch=batch, log=log)
    return build(backend)


def _check_embedding(source: Path | str, backend: str, precision: str) -> None:
    """Refuse what gives no vectors."""
    if is_bundle(source):
        raise ConfigError(f"{source}: a bundle gives no vectors; name the weights that it was made from")
    if backend not in ("auto", "torch") or precision != "float32":
        raise ConfigError(
            f"vectors are made with torch in float32, not with {backend} in {precision}; leave --backend and "
            "--precision out"
        )


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


def _open_bundle(
    source: Path | str, backend: str, precision: str, threads: int | None, device: str, size: int, batch: int,
    log: Log,
) -> Runner:  # fmt: skip
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

    def build(name: str, why: str = "as asked for") -> Runner:
        return run_bundle(bundle, threads=threads, backend=name, why=why, size=size)

    if backend != "auto":
        return build(backend)
    if (manifest.format, manifest.precision) == ("onnx", "float32"):
        return choose_for_onnx(bundle, build, threads=threads, batch=batch, log=log)
    return build(manifest.format, "the bundle's own format")


def check_request(backend: str, precision: str, device: str) -> None:
    """Refuse names that do not exist."""
    if backend not in BACKENDS:
        raise ConfigError(f"unknown backend {backend!r}{did_you_mean(backend, BACKENDS)}")
    if precision not in PRECISIONS:
        raise ConfigError(f"unknown precision {precision!r}{did_you_mean(precision, PRECISIONS)}")
    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise ConfigError(f"unknown device {device!r}; choose from cpu, cuda, cuda:N, mps") from None
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not present.get(kind, False):
        raise ConfigError(f"the device {device!r} is not present here; use cpu")
