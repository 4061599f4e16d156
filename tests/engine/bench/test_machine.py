import json
import os
import subprocess
import sys

from saccade.engine.bench import machine


def test_the_record_is_plain_json_and_names_this_machine():
    record = json.loads(json.dumps(machine.describe_machine()))
    assert record["cpu"]
    assert 1 <= record["cores"] <= record["logical_cores"] == os.cpu_count()
    assert record["memory_gb"] > 0.5
    assert record["versions"]["torch"]


def test_usable_cores_follow_affinity():
    if not hasattr(os, "sched_setaffinity"):
        return
    one = sorted(os.sched_getaffinity(0))[0]
    code = (
        f"import os; os.sched_setaffinity(0, [{one}]); from saccade.engine.bench.machine import usable_cores; "
        "print(usable_cores())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "1\n"


def test_instructions_agree_with_torch():
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    assert (capability in ("AVX2", "AVX512")) <= ("AVX2" in machine.instructions())
    assert (capability == "AVX512") <= ("AVX-512" in machine.instructions())
