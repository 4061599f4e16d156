"""A slice of the storm: some cases of quick readers; the whole of it is run by hand (tools/storm.py)."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

STORM = Path(__file__).parent.parent.parent / "tools" / "storm.py"

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="forks")]


def test_a_few_damaged_sets_are_refused_in_a_sentence(tmp_path):
    failures = tmp_path / "failures.jsonl"
    command = [sys.executable, str(STORM), "--seed", "7", "--cases", "20", "--readers", "check coco,check maps",
               "--kinds", "truncate,other-content,link-loop,fifo,delete-field", "--seconds", "10",
               "--out", str(failures)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    found = [json.loads(line) for line in failures.read_text().splitlines()]
    assert not found, done.stdout
    assert done.returncode == 0, done.stderr
    assert "most memory" in done.stdout
