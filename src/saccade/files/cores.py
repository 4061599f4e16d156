"""How many cores this process may use: the one place that counts them."""

from __future__ import annotations

import os
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """Count the logical cores that this process may run on, at least 1.

    The machine's, less those that its affinity leaves out, and no more than the container's quota of time is worth,
    rounded.
    """
    affine = getattr(os, "sched_getaffinity", None)  # not on macOS
    cores = len(affine(0)) if affine else logical_cores()
    quota, period = _quota()
    if quota > 0 and period > 0:
        cores = min(cores, round(quota / period))
    return max(1, cores)


def logical_cores() -> int:
    """Count the machine's logical cores, whether or not this process may use them."""
    return os.cpu_count() or 1


def count_threads(threads: int | None) -> int:
    """Resolve a number of threads: what was asked for, else the cores that this process may use."""
    return usable_cores() if threads is None else max(1, int(threads))


def _quota() -> tuple[int, int]:
    """Return the container's (quota, period) in microseconds; zeros where there is none (control groups 2 and 1)."""
    text = _read("cpu.max") or f"{_read('cpu/cpu.cfs_quota_us')} {_read('cpu/cpu.cfs_period_us')}"
    parts = text.split()
    if len(parts) == 2 and all(part.isdigit() for part in parts):  # "max" or -1: no limit
        return int(parts[0]), int(parts[1])
    return 0, 0


def _read(name: str) -> str:
    try:
        return (_GROUPS / name).read_text(encoding="ascii").strip()
    except (OSError, UnicodeError):
        return ""
