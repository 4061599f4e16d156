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
from saccade.engine.export.verify import difference, limit
from saccade.engine.sessions.finite import not_finite
from saccade.engine.sessions.predictor import (
    Predictor,
    bundle_predictor,
    fingerprint,
    made_bundle,
    open_eager,
)
from saccade.errors import CheckFailed, SaccadeError, WeightsError
from saccade.files import count_threads
from saccade.tasks.classify.task import preprocess_of
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
    say: Callable[[str], None],
) -> Predictor:
    """Return the fastest proven predictor for a network.

    Args:
        model: In evaluation mode, not folded.
        card: What it is.
        precision: float32 or bf16.
        threads: Threads of one call; None: all cores.
        batch: Pictures per call to time with.
        say: Called with lines about the work.

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

    def build(name: str) -> Predictor:
        if name == "torch":
            return open_eager(model, card, precision=precision, threads=count)
        return bundle_predictor(made_bundle(model, card, name, precision, say), threads=count)

    known = recall(key)
    if known and known.get("backend") in names:
        predictor = build(known["backend"])
        predictor.why = f"{known.get('why', '')} (measured before)"
        return predictor
    side = preprocess_of(card).size
    images = torch.randn(batch, card.in_chans, side, side, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        want = model(images)
    if not torch.isfinite(want).all():
        raise WeightsError(not_finite(card.origin or card.model))
    found: dict[str, Predictor] = {}
    for name in names:
        try:
            predictor = build(name)
            _prove(predictor, images, want, precision)
        except SaccadeError as error:
            say(f"{name} is out: {error}")
            continue
        found[name] = predictor
    if not found:
        raise CheckFailed(f"{card.model}: no backend gives PyTorch's result; run `saccade doctor`")
    return _fastest(found, images, key, say)


def choose_for_onnx(
    bundle: Bundle, *, threads: int | None, batch: int, say: Callable[[str], None]
) -> Predictor:
    """Run an ONNX bundle in ONNX Runtime or in OpenVINO, whichever is faster here and gives the same."""
    modules = {"onnx": "onnxruntime", "openvino": "openvino"}
    names = [name for name, module in modules.items() if importlib.util.find_spec(module)]
    count, manifest = count_threads(threads), bundle.manifest
    if len(names) < 2:
        return bundle_predictor(
            bundle, threads=count, backend=names[0] if names else "onnx", why="the only one here"
        )
    digest = manifest.files[bundle.model.name]["sha256"]
    key = _key(digest, manifest.precision, count, batch, names)
    known = recall(key)
    if known and known.get("backend") in names:
        why = f"{known.get('why', '')} (measured before)"
        return bundle_predictor(bundle, threads=count, backend=known["backend"], why=why)
    side = manifest.size or (preprocess_of(manifest.card).size,) * 2
    images = torch.randn(batch, manifest.card.in_chans, *side, generator=torch.Generator().manual_seed(3))
    found = {"onnx": bundle_predictor(bundle, threads=count, backend="onnx")}
    want = found["onnx"](images)
    try:
        found["openvino"] = bundle_predictor(bundle, threads=count, backend="openvino")
        found["openvino"](images)
    except SaccadeError as error:
        say(f"openvino is out: {error}")
        found.pop("openvino", None)
    if "openvino" in found and difference(found["openvino"](images), want) > max(manifest.tolerance, 1e-5):
        say("openvino is out: it differs from ONNX Runtime on this file")
        found.pop("openvino").close()
    return _fastest(found, images, key, say)


def _prove(predictor: Predictor, images: Tensor, want: Tensor, precision: str) -> None:
    """Compare one batch, and one picture of it, with PyTorch's own result."""
    allowed = limit(precision, 2e-6)
    for part in (images, images[:1]):
        gap = difference(predictor(part), want[: len(part)])
        if not gap <= allowed:
            raise CheckFailed(
                f"differs from PyTorch by {gap:.2g} of the largest output, allowed are {allowed:.2g}"
            )


def _fastest(found: dict[str, Predictor], images: Tensor, key: str, say: Callable[[str], None]) -> Predictor:
    """Time the candidates in turn, keep the fastest, close the others, remember."""
    times = {name: float("inf") for name in found}
    for _ in range(ROUNDS if len(found) > 1 else 1):
        for name, predictor in found.items():
            times[name] = min(times[name], _seconds(predictor, images))
    best = min(times, key=lambda name: times[name])
    rates = ", ".join(
        f"{name} {len(images) / seconds:.0f}" for name, seconds in sorted(times.items(), key=lambda t: t[1])
    )
    why = f"fastest here of those equal to PyTorch, images/s at batch {len(images)}: {rates}"
    say(f"took {best}: {why}")
    for name, predictor in found.items():
        if name != best:
            predictor.close()
    remember(key, {"backend": best, "why": why})
    found[best].why = why
    return found[best]


def _seconds(predictor: Predictor, images: Tensor) -> float:
    """Return the least seconds of one call within a short round."""
    best, end = float("inf"), time.perf_counter() + ROUND_SECONDS
    while True:
        start = time.perf_counter()
        predictor(images)
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
