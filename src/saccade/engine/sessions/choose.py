"""Pick the fastest way to run a network here: prove each candidate equal, time them in turn, remember the answer.

Only runtimes that are installed take part, never one of lower precision than was asked for. Timing is the least
of several short interleaved rounds, so that a busy neighbour does not decide.
"""

from __future__ import annotations

import hashlib
import importlib.util
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn

from saccade.engine.export.bundle import Bundle
from saccade.engine.export.cache import recall, remember
from saccade.engine.export.session import tensors_of
from saccade.engine.export.verify import difference, limit
from saccade.engine.sessions.finite import not_finite
from saccade.engine.sessions.made import fingerprint
from saccade.engine.sessions.runner import Runner
from saccade.errors import CheckFailed, SaccadeError, WeightsError
from saccade.files import count_threads
from saccade.tasks import get_task
from saccade.weights import Card

Build = Callable[[str], Runner]
"""Opens the network on a backend."""
Log = Callable[[str], None]
Inputs = tuple[Tensor, ...]
ROUNDS, ROUND_SECONDS = 5, 0.15
NEEDS = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("onnx", "onnxscript", "openvino")}
LEAST_SIDE = 192
"""Pixels that every file of free height and width takes."""
CANDIDATES = {"float32": ("torch", "onnx", "openvino"), "bf16": ("torch", "openvino")}


def choose(
    model: nn.Module, card: Card, build: Build, *, precision: str, threads: int | None, batch: int, log: Log
) -> Runner:
    """Return the fastest proven way to run a network.

    Args:
        model: In evaluation mode, not folded.
        card: What it is, from `Task.sized`.
        build: Opens it on a backend of `CANDIDATES`.
        precision: float32 or bf16.
        threads: Threads of one call; None: all cores.
        batch: Samples per call to time with.
        log: Called with lines about the work.

    Raises:
        CheckFailed: Not even PyTorch's own folded form equals the network.
        WeightsError: The network gives no finite numbers.
    """
    names = [
        name
        for name in CANDIDATES[precision]
        if all(importlib.util.find_spec(m) for m in NEEDS.get(name, ()))
    ]
    key = _key(fingerprint(model, card), precision, count_threads(threads), batch, names)
    if (runner := _known(key, names, build)) is not None:
        return runner
    inputs = get_task(card.task).example(card, batch=batch, seed=3)
    with torch.no_grad():
        want = tensors_of(model(*inputs))
    if not all(torch.isfinite(value).all() for value in want):
        raise WeightsError(not_finite(card.origin or card.model))
    found: dict[str, Runner] = {}
    for name in names:
        try:
            runner = build(name)
            _prove(runner, inputs, want, precision)
        except SaccadeError as error:
            log(f"{name} is out: {error}")
            continue
        found[name] = runner
    if not found:
        raise CheckFailed(f"{card.model}: no backend gives PyTorch's result; run `saccade doctor`")
    return _fastest(found, inputs, key, log)


def choose_for_onnx(bundle: Bundle, build: Build, *, threads: int | None, batch: int, log: Log) -> Runner:
    """Run an ONNX bundle in ONNX Runtime or in OpenVINO, whichever is faster here and gives the same.

    Args:
        bundle: From `read_bundle`.
        build: Opens it in onnx or openvino.
        threads: As of `choose`.
        batch: Likewise.
        log: Likewise.
    """
    modules = {"onnx": "onnxruntime", "openvino": "openvino"}
    names = [name for name, module in modules.items() if importlib.util.find_spec(module)]
    if len(names) < 2:
        runner = build(names[0] if names else "onnx")
        runner.why = "the only one here"
        return runner
    manifest = bundle.manifest
    digest = manifest.files[bundle.model.name]["sha256"]
    key = _key(digest, manifest.precision, count_threads(threads), batch, names)
    if (runner := _known(key, names, build)) is not None:
        return runner
    inputs = _inputs_of(bundle, batch)
    found = {"onnx": build("onnx")}
    want = found["onnx"].outputs(inputs)
    try:
        found["openvino"] = build("openvino")
        gap = _gap(found["openvino"].outputs(inputs), want)
        if not gap <= max(manifest.tolerance, 1e-5):
            log("openvino is out: it differs from ONNX Runtime on this file")
            found.pop("openvino").close()
    except SaccadeError as error:
        log(f"openvino is out: {error}")
        found.pop("openvino", None)
    return _fastest(found, inputs, key, log)


def _known(key: str, names: list[str], build: Build) -> Runner | None:
    """Open what was the fastest before; None where nobody knows."""
    known = recall(key)
    if not known or known.get("backend") not in names:
        return None
    runner = build(known["backend"])
    runner.why = f"{known.get('why', '')} (measured before)"
    return runner


def _inputs_of(bundle: Bundle, batch: int) -> Inputs:
    """Make noise as a file takes it: what it leaves free is as large as in the task's example, where that may be."""
    manifest, generator, inputs = bundle.manifest, torch.Generator().manual_seed(3), []
    task = get_task(manifest.card.task)
    for port, example in zip(manifest.inputs, task.example(task.sized(manifest.card)), strict=True):
        shape = [manifest.batch or batch]
        for named, side in zip(port["shape"][1:], example.shape[1:], strict=True):
            least = LEAST_SIDE if named in ("height", "width") else 1
            shape.append(named if isinstance(named, int) else max(side, least))
        inputs.append(torch.randn(shape, generator=generator))
    return tuple(inputs)


def _gap(got: list[Tensor], want: list[Tensor]) -> float:
    """Return the largest difference of any output, relative to the largest value."""
    return max(difference(one, other) for one, other in zip(got, want, strict=True))


def _prove(runner: Runner, inputs: Inputs, want: list[Tensor], precision: str) -> None:
    """Compare one batch, and one sample of it, with PyTorch's own result."""
    allowed = limit(precision, 2e-6)
    for count in (len(inputs[0]), 1):
        gap = _gap(
            runner.outputs(tuple(value[:count] for value in inputs)), [value[:count] for value in want]
        )
        if not gap <= allowed:
            raise CheckFailed(
                f"differs from PyTorch by {gap:.2g} of the largest output, allowed are {allowed:.2g}"
            )


def _fastest(found: dict[str, Runner], inputs: Inputs, key: str, log: Log) -> Runner:
    """Time the candidates in turn, keep the fastest, close the others, remember."""
    times, batch = {name: float("inf") for name in found}, len(inputs[0])
    for _ in range(ROUNDS if len(found) > 1 else 1):
        for name, runner in found.items():
            times[name] = min(times[name], _seconds(runner, inputs))
    best = min(times, key=lambda name: times[name])
    rates = ", ".join(
        f"{name} {batch / seconds:.0f}" for name, seconds in sorted(times.items(), key=lambda t: t[1])
    )
    why = f"fastest here of those equal to PyTorch, images/s at batch {batch}: {rates}"
    log(f"took {best}: {why}")
    for name, runner in found.items():
        if name != best:
            runner.close()
    remember(key, {"backend": best, "why": why})
    found[best].why = why
    return found[best]


def _seconds(runner: Runner, inputs: Inputs) -> float:
    """Return the least seconds of one call within a short round."""
    best, end = float("inf"), time.perf_counter() + ROUND_SECONDS
    while True:
        start = time.perf_counter()
        runner.outputs(inputs)
        best = min(best, (now := time.perf_counter()) - start)
        if now > end:
            return best


def _key(digest: str, precision: str, threads: int, batch: int, names: list[str]) -> str:
    """Name the remembered choice: weights, machine, versions, threads, batch."""
    packages = {"torch"} | {module for name in names for module in NEEDS.get(name, ())}
    machine = [platform.machine(), _processor(), torch.backends.cpu.get_cpu_capability()]
    parts = [digest, precision, str(threads), str(batch), *names, *machine]
    parts += [f"{name} {version(name)}" for name in sorted(packages)]
    return f"choices/{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:32]}"


def _processor() -> str:
    """Name the processor as the system does; "" when it does not."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    wanted = ("model name", "model\t", "stepping", "CPU part")
    return " ".join(sorted({line for line in lines if line.startswith(wanted)}))
