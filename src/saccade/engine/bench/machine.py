"""What this machine is: processor, memory, versions. The record that stands beside every measurement."""

import platform
import subprocess
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import saccade
from saccade.files import logical_cores, usable_cores

# Instruction sets that decide which kernels the runtimes take, by their names in /proc/cpuinfo and sysctl.
INSTRUCTIONS = {
    "AVX2": ("avx2",),
    "AVX-512": ("avx512f",),
    "VNNI": ("avx512_vnni", "avx_vnni"),
    "AVX-512 BF16": ("avx512_bf16",),
    "AVX-512 FP16": ("avx512_fp16",),
    "AMX BF16": ("amx_bf16",),
    "AMX INT8": ("amx_int8",),
    "NEON dot product": ("asimddp", "feat_dotprod"),
    "NEON BF16": ("bf16", "feat_bf16"),
    "NEON INT8 matrices": ("i8mm", "feat_i8mm"),
}
PACKAGES = ("torch", "torchvision", "timm", "accelerate", "numpy", "onnx", "onnxruntime", "openvino", "nncf")


def describe_machine() -> dict[str, Any]:
    """Describe the machine and the versions, for the record beside a measurement.

    Returns:
        date (UTC), saccade, commit (empty outside a checkout), python, system, cpu, instructions, cores (that
        this process may use), logical_cores, memory_gb, governor (empty where unknown), torch_threads, gpu
        (empty without), versions.
    """
    import torch  # here, so that `doctor` can describe a machine whose torch does not load

    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "saccade": saccade.__version__,
        "commit": commit(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": cpu_name(),
        "instructions": instructions(),
        "cores": usable_cores(),
        "logical_cores": logical_cores(),
        "memory_gb": round(memory_bytes()[0] / 2**30, 1),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip(),
        "torch_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        "versions": {name: version for name in PACKAGES if (version := installed_version(name))},
    }


def memory_bytes() -> tuple[int, int]:
    """Return (all, available) memory in bytes; zeros where the system does not say."""
    lines = dict(line.split(":", 1) for line in _read("/proc/meminfo").splitlines() if ":" in line)
    if "MemTotal" in lines:
        kilobytes = [int(lines.get(name, "0 kB").split()[0]) for name in ("MemTotal", "MemAvailable")]
        return kilobytes[0] * 1024, kilobytes[1] * 1024
    total = _sysctl("hw.memsize")
    return (int(total), 0) if total.isdigit() else (0, 0)


@lru_cache
def cpu_name() -> str:
    """Name the processor, with family and model where the name alone says little."""
    fields: dict[str, str] = {}
    for line in _read("/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    if name := fields.get("model name"):
        return f"{name} (family {fields.get('cpu family', '?')}, model {fields.get('model', '?')})"
    return _sysctl("machdep.cpu.brand_string") or platform.processor() or platform.machine()


@lru_cache
def instructions() -> list[str]:
    """List which of `INSTRUCTIONS` the processor has."""
    words: set[str] = set()
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith(("flags", "Features")):
            words = set(line.partition(":")[2].split())
            break
    if not words and platform.system() == "Darwin":
        names = [name for options in INSTRUCTIONS.values() for name in options if name.startswith("feat_")]
        words = {name for name in names if _sysctl(f"hw.optional.arm.{name.upper()}") == "1"}
    return [label for label, names in INSTRUCTIONS.items() if words.intersection(names)]


def commit() -> str:
    """Return the short hash of the checkout this package runs from, "+" after it when changed; else ""."""
    root = Path(__file__).parents[4]
    if not (root / ".git").exists():
        return ""
    try:
        run = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return run.stdout.strip() if run.returncode == 0 else ""


def installed_version(name: str) -> str:
    """Return the version of an installed package, "" when it is not installed. Imports nothing."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _read(path: str) -> str:
    """Read a small system file; "" where there is none."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _sysctl(name: str) -> str:
    """Ask macOS; "" elsewhere."""
    if platform.system() != "Darwin":
        return ""
    try:
        run = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return run.stdout.strip()
