"""Where networks run."""

import torch

from saccade.errors import ConfigError


def pick_device(device: str) -> str:
    """Resolve auto to the best device there is: cuda, mps, else cpu.

    Args:
        device: auto, cpu, cuda, cuda:N or mps.

    Raises:
        ConfigError: A device that this machine does not have.
    """
    count = {
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
        "cpu": 1,
    }
    if device == "auto":
        return next(kind for kind, number in count.items() if number)
    kind, colon, number = device.partition(":")
    index = int(number) if number.isdecimal() and len(number) < 4 else -1
    if not (0 <= index < count.get(kind, 0) if colon else count.get(kind, 0)):
        raise ConfigError(
            f"--device is {device!r}, which torch does not see here; expected cpu, cuda, cuda:N or mps"
        )
    return device
