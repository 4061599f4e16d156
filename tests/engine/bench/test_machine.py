import json
import os

from saccade.engine.bench import machine


def test_the_record_is_plain_json_and_names_this_machine():
    record = json.loads(json.dumps(machine.describe_machine()))
    assert record["cpu"]
    assert 1 <= record["cores"] <= record["logical_cores"] == os.cpu_count()
    assert record["memory_gb"] > 0.5
    assert record["versions"]["torch"]


def test_instructions_agree_with_torch():
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    assert (capability in ("AVX2", "AVX512")) <= ("AVX2" in machine.instructions())
    assert (capability == "AVX512") <= ("AVX-512" in machine.instructions())
