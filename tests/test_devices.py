"""Where networks run: what is there, and nothing else."""

import pytest
import torch

from saccade.devices import pick_device
from saccade.errors import ConfigError


def test_auto_is_a_device_that_is_there():
    assert pick_device(pick_device("auto")) == pick_device("auto")
    assert pick_device("cpu") == "cpu"


@pytest.mark.parametrize(
    "device", ["tpu", "", "cuda", "mps", "cuda:", "cuda:-1", "cuda:x", "cuda:999", "cpu:1"]
)
def test_a_device_that_is_not_there_is_refused(device):
    if (device == "cuda" and torch.cuda.is_available()) or (
        device == "mps" and torch.backends.mps.is_available()
    ):
        pytest.skip(f"{device} is there")
    with pytest.raises(ConfigError, match=f"--device is {device!r}, which torch does not see here"):
        pick_device(device)
