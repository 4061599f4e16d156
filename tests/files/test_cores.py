"""Counting cores: affinity, quotas of containers, and one place that does it."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from saccade.files import cores

SOURCE = Path(__file__).parent.parent.parent / "src" / "saccade"


@pytest.mark.parametrize(
    ("files", "most"),
    [
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "30000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, 6),
        ({"cpu.max": "\xff"}, 6),
        ({"cpu.max": "100000 0"}, 6),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 6),
        ({}, 6),
    ],
)
def test_a_container_gets_no_more_than_its_quota(tmp_path, monkeypatch, files, most):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="latin-1")
    monkeypatch.setattr(cores, "_GROUPS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    assert cores.usable_cores() == most


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_usable_cores_follow_affinity():
    one = sorted(os.sched_getaffinity(0))[0]
    code = (
        f"import os; os.sched_setaffinity(0, [{one}])\n"
        "from saccade.files import cores; print(cores.usable_cores())"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stdout.strip() == "1"


def test_nothing_else_counts_cores():
    counters = {"cpu_count", "process_cpu_count", "sched_getaffinity"}
    for file in sorted(SOURCE.rglob("*.py")):
        if file != SOURCE / "files" / "cores.py":
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
                assert name not in counters, (
                    f"{file}:{node.lineno} counts cores; use saccade.files.usable_cores"
                )
