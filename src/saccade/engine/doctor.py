"""Try out what Saccade stands on, and say for each thing that fails what to do about it.

Each check imports what it needs itself: a library that does not load is a finding, not a crash.
"""

import importlib
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from saccade.engine.bench import machine
from saccade.files import logical_cores, usable_cores

# Each extra's packages as (distribution, module): both must be there for the extra to work.
EXTRAS = {
    "onnx": [("onnx", "onnx"), ("onnxscript", "onnxscript"), ("onnxruntime", "onnxruntime")],
    "openvino": [("openvino", "openvino")],
    "int8": [("nncf", "nncf"), ("openvino", "openvino")],
    "jpeg": [("simplejpeg", "simplejpeg")],
    "digits": [("scikit-learn", "sklearn")],
    "shards": [("webdataset", "webdataset")],
    "plot": [("matplotlib", "matplotlib")],
    "tensorboard": [("tensorboard", "tensorboard")],
    "radar": [
        ("numba", "numba"),
        ("h5py", "h5py"),
        ("scipy", "scipy"),
        ("finufft", "finufft"),
        ("trimesh", "trimesh"),
    ],
    "heif": [("pi-heif", "pi_heif")],
    "worlds": [("numba", "numba")],
    "dense": [("numba", "numba"), ("faster-coco-eval", "faster_coco_eval"), ("torchmetrics", "torchmetrics")],
    "kinematics": [("numba", "numba"), ("pyarrow", "pyarrow")],
    "video": [("av", "av")],
    "lift": [("opencv-python-headless", "cv2")],
    "pseudo": [("transformers", "transformers")],
    "vlm": [("transformers", "transformers"), ("peft", "peft"), ("num2words", "num2words")],
    "scale": [("ray", "ray")],
}
MINIMUM_PYTHON = (3, 11)
MINIMUM_FREE_BYTES = 2 * 2**30


@dataclass
class Finding:
    """One thing looked at."""

    name: str
    state: str
    """ok, info (nothing to do), missing (optional), warn (works, but), or broken (something core)."""
    detail: str
    fix: str = ""
    """What to do, where there is something to do."""


def examine() -> list[Finding]:
    """Look at everything; slow parts are real calls, a second or two in all."""
    findings = [_python()]
    findings += [_guarded(check) for check in (_torch, _torchvision, _timm, _model)]
    findings += [_extra(name) for name in EXTRAS]
    findings += [_processor(), _memory(), _disk()]
    if findings[1].state == "ok":  # these ask torch
        findings += [_guarded(check) for check in (_threads, _accelerator, _onednn, _cache)]
    return findings


def _guarded(check: Callable[[], Finding]) -> Finding:
    """Run a check of something core; whatever it raises is the finding."""
    try:
        return check()
    except Exception as error:  # anything a broken binary may throw
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        name = check.__name__.strip("_")
        return Finding(name, "broken", reason, "pip install --force-reinstall torch torchvision timm")


def _python() -> Finding:
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info < MINIMUM_PYTHON:
        return Finding("python", "broken", version, "install Python 3.11 or newer")
    return Finding("python", "ok", f"{version} at {sys.executable}")


def _torch() -> Finding:
    import torch

    a = torch.arange(6.0).reshape(2, 3)
    product = (a @ a.T).tolist()
    if product != [[5.0, 14.0], [14.0, 50.0]]:
        return Finding("torch", "broken", f"a matrix product came out as {product}", "reinstall torch")
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU"
    return Finding("torch", "ok", f"{torch.__version__} ({build} build)")


def _torchvision() -> Finding:
    try:
        import torch

        ops = importlib.import_module("torchvision.ops")
        boxes = torch.tensor([[0.0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30]])
        kept = ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist()
    except (ImportError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        return Finding(
            "torchvision",
            "broken",
            f"{machine.installed_version('torchvision') or 'not installed'}: {reason}",
            "torch and torchvision must come from the same build (both CPU or both the index's default): "
            "pip install --force-reinstall torch torchvision",
        )
    if kept != [0, 2]:
        return Finding("torchvision", "broken", f"nms kept {kept}, expected [0, 2]", "reinstall torchvision")
    return Finding("torchvision", "ok", f"{machine.installed_version('torchvision')}, operators work")


def _timm() -> Finding:
    timm = importlib.import_module("timm")
    return Finding("timm", "ok", f"{timm.__version__}, {len(timm.list_models())} models")


def _model() -> Finding:
    import torch

    from saccade.zoo.registry import create_model

    with torch.no_grad():
        logits = create_model("shvit_s1", num_classes=3).eval()(torch.zeros(1, 3, 64, 64))
    if logits.shape != (1, 3) or not torch.isfinite(logits).all():
        return Finding("model", "broken", f"shvit_s1 gave {logits.tolist()}", "please report this")
    return Finding("model", "ok", "shvit_s1 runs")


def _extra(name: str) -> Finding:
    fix = f"pip install 'saccade[{name}]'"
    versions, absent = [], []
    for distribution, module in EXTRAS[name]:
        try:
            present = importlib.util.find_spec(module) is not None
            versions.append(f"{distribution} {metadata.version(distribution)}")
        except (metadata.PackageNotFoundError, ValueError, ImportError):
            present = False
        if not present:
            absent.append(distribution)
    if absent:
        return Finding(f"extra {name}", "missing", f"{', '.join(absent)} not installed", fix)
    return Finding(f"extra {name}", "ok", ", ".join(versions))


def _processor() -> Finding:
    has = ", ".join(machine.instructions()) or "none of those we look for"
    return Finding("processor", "info", f"{machine.cpu_name()}; {has}")


def _threads() -> Finding:
    import torch

    cores, threads = usable_cores(), torch.get_num_threads()
    detail = f"{cores} usable of {logical_cores()} logical cores, torch uses {threads} threads"
    if threads > cores:
        return Finding(
            "cores", "warn", detail, f"set OMP_NUM_THREADS={cores}: more threads than cores is slower"
        )
    return Finding("cores", "ok", detail)


def _memory() -> Finding:
    total, free = machine.memory_bytes()
    if not total:
        return Finding("memory", "info", "unknown on this system")
    return Finding("memory", "info", f"{total / 2**30:.1f} GB, {free / 2**30:.1f} GB available")


def _accelerator() -> Finding:
    import torch

    if torch.cuda.is_available():
        try:
            value = float(torch.ones(2, device="cuda").sum())
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            return Finding("accelerator", "warn", f"CUDA is there but fails: {reason}", "update the driver")
        name = f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
        return Finding("accelerator", "ok" if value == 2 else "warn", f"CUDA: {name}")
    if torch.backends.mps.is_available():
        return Finding("accelerator", "ok", "MPS (Apple GPU)")
    return Finding("accelerator", "info", "none (CPU only, which everything supports)")


def _onednn() -> Finding:
    import torch

    if torch.backends.mkldnn.is_available():
        return Finding("onednn", "ok", "available to torch; the fast path on x86 CPUs uses it")
    return Finding("onednn", "info", "not in this torch build; the fast path uses plain kernels")


def _cache() -> Finding:
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not os.access(existing, os.W_OK):
        return Finding(
            "cache", "warn", f"{folder} cannot be written", "set HF_HOME to a folder you can write to"
        )
    return Finding("cache", "ok", f"{folder} (published weights go there)")


def _disk() -> Finding:
    here, temporary = Path.cwd(), Path(tempfile.gettempdir())
    free = {str(folder): shutil.disk_usage(folder).free for folder in (here, temporary)}
    detail = ", ".join(f"{space / 2**30:.1f} GB free at {folder}" for folder, space in free.items())
    if min(free.values()) < MINIMUM_FREE_BYTES:
        return Finding(
            "disk", "warn", detail, "free some space: checkpoints and exports need a few hundred MB each"
        )
    return Finding("disk", "ok", detail)
