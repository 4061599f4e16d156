"""Pick the fastest way to run a network here: prove each candidate equal, time them in turn, remember the answer.

Only runtimes that are installed take part, never one of lower precision than was asked for. Timing is the least
of several short interleaved rounds, so that a busy neighbour does not decide.
"""

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
from saccade.engine.sessions.net import NetSession, fingerprint, made_bundle, net_of_bundle, open_eager
from saccade.errors import CheckFailed, SaccadeError, WeightsError
from saccade.files import count_threads
from saccade.tasks import get_task
from saccade.weights import Card

ROUNDS, ROUND_SECONDS = 5, 0.15
NEEDS = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("onnx", "onnxscript", "openvino")}
CANDIDATES = {"float32": ("torch", "onnx", "openvino"), "bf16": ("torch", "openvino")}


def choose(
    model: nn.Module,
    card: Card,
    *,
    precision: str,
    threads: int | None,
    batch: int,
    log: Callable[[str], None],
) -> NetSession:
    """Return the fastest proven session for a network.

    Args:
        model: In evaluation mode, not folded.
        card: What it is.
        precision: float32 or bf16.
        threads: Threads of one call; None: all cores.
        batch: Pictures per call to time with.
        log: Called with lines about the work.

    Raises:
        CheckFailed: Not even PyTorch's own folded form equals the network.
        WeightsError: The network gives no finite numbers.
    """
    count = count_threads(threads)
    names = [
        name
        for name in CANDIDATES[precision]
        if all(importlib.util.find_spec(m) for m in NEEDS.get(name, ()))
    ]
    key = _key(fingerprint(model, card), precision, count, batch, names)

    def build(name: str) -> NetSession:
        if name == "torch":
            return open_eager(model, card, precision=precision, threads=count)
        return net_of_bundle(made_bundle(model, card, name, precision, log), threads=count)

    known = recall(key)
    if known and known.get("backend") in names:
        net = build(known["backend"])
        net.why = f"{known.get('why', '')} (measured before)"
        return net
    inputs = get_task(card.task).example(card, batch=batch, seed=3)
    with torch.no_grad():
        want = tensors_of(model(*inputs))
    if not all(torch.isfinite(value).all() for value in want):
        raise WeightsError(not_finite(card.origin or card.model))
    found: dict[str, NetSession] = {}
    for name in names:
        try:
            net = build(name)
            _prove(net, inputs, want, precision)
        except SaccadeError as error:
            log(f"{name} is out: {error}")
            continue
        found[name] = net
    if not found:
        raise CheckFailed(f"{card.model}: no backend gives PyTorch's result; run `saccade doctor`")
    return _fastest(found, inputs, key, log)


def choose_for_onnx(
    bundle: Bundle, *, threads: int | None, batch: int, log: Callable[[str], None]
) -> NetSession:
    """Run an ONNX bundle in ONNX Runtime or in OpenVINO, whichever is faster here and gives the same."""
    modules = {"onnx": "onnxruntime", "openvino": "openvino"}
    names = [name for name, module in modules.items() if importlib.util.find_spec(module)]
    count, manifest = count_threads(threads), bundle.manifest
    if len(names) < 2:
        return net_of_bundle(
            bundle, threads=count, backend=names[0] if names else "onnx", why="the only one here"
        )
    digest = manifest.files[bundle.model.name]["sha256"]
    key = _key(digest, manifest.precision, count, batch, names)
    known = recall(key)
    if known and known.get("backend") in names:
        why = f"{known.get('why', '')} (measured before)"
        return net_of_bundle(bundle, threads=count, backend=known["backend"], why=why)
    inputs = _inputs(bundle, batch)
    found = {"onnx": net_of_bundle(bundle, threads=count, backend="onnx")}
    want = tensors_of(found["onnx"](*inputs))
    try:
        found["openvino"] = net_of_bundle(bundle, threads=count, backend="openvino")
        gap = _gap(found["openvino"], inputs, want)
    except SaccadeError as error:
        log(f"openvino is out: {error}")
        found.pop("openvino", None)
        gap = 0.0
    if not gap <= max(manifest.tolerance, 1e-5):
        log("openvino is out: it differs from ONNX Runtime on this file")
        found.pop("openvino").close()
    return _fastest(found, inputs, key, log)


def _inputs(bundle: Bundle, batch: int) -> tuple[Tensor, ...]:
    """Make inputs that a bundle's file takes: the task's example, in the file's own sizes."""
    card = bundle.manifest.card
    found = get_task(card.task).example(card, batch=batch, seed=3)
    shapes = [
        [
            got if isinstance(want, str) else want
            for got, want in zip(value.shape[1:], port["shape"][1:], strict=True)
        ]
        for value, port in zip(found, bundle.manifest.inputs, strict=True)
    ]
    generator = torch.Generator().manual_seed(3)
    return tuple(
        value if list(value.shape[1:]) == shape else torch.randn(batch, *shape, generator=generator)
        for value, shape in zip(found, shapes, strict=True)
    )


def _gap(net: NetSession, inputs: tuple[Tensor, ...], want: list[Tensor]) -> float:
    """Return the largest difference of a session's outputs from those that are wanted."""
    return max(difference(got, one) for got, one in zip(tensors_of(net(*inputs)), want, strict=True))


def _prove(net: NetSession, inputs: tuple[Tensor, ...], want: list[Tensor], precision: str) -> None:
    """Compare one batch, and one sample of it, with PyTorch's own result."""
    allowed = limit(precision, 2e-6)
    for count in (len(inputs[0]), 1):
        gap = _gap(net, tuple(value[:count] for value in inputs), [value[:count] for value in want])
        if not gap <= allowed:
            raise CheckFailed(
                f"differs from PyTorch by {gap:.2g} of the largest output, allowed are {allowed:.2g}"
            )


def _fastest(
    found: dict[str, NetSession], inputs: tuple[Tensor, ...], key: str, log: Callable[[str], None]
) -> NetSession:
    """Time the candidates in turn, keep the fastest, close the others, remember."""
    times = {name: float("inf") for name in found}
    for _ in range(ROUNDS if len(found) > 1 else 1):
        for name, net in found.items():
            times[name] = min(times[name], _seconds(net, inputs))
    best = min(times, key=lambda name: times[name])
    rates = ", ".join(
        f"{name} {len(inputs[0]) / seconds:.0f}"
        for name, seconds in sorted(times.items(), key=lambda t: t[1])
    )
    why = f"fastest here of those equal to PyTorch, images/s at batch {len(inputs[0])}: {rates}"
    log(f"took {best}: {why}")
    for name, net in found.items():
        if name != best:
            net.close()
    remember(key, {"backend": best, "why": why})
    found[best].why = why
    return found[best]


def _seconds(net: NetSession, inputs: tuple[Tensor, ...]) -> float:
    """Return the least seconds of one call within a short round."""
    best, end = float("inf"), time.perf_counter() + ROUND_SECONDS
    while True:
        start = time.perf_counter()
        net(*inputs)
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
