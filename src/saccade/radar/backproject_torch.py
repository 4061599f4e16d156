"""Exact back-projection on any torch device, and differentiable: with respect to positions and samples.

The same sum as `backproject`, tile by tile. Whole turns of the phase are taken off in float64 before the rest goes to
float32, as there; where a device has no float64 (mps) the result is only as good as float32 paths, about 1e-3.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from saccade.errors import ConfigError
from saccade.radar.grid import Grid, RadarImage
from saccade.radar.scan import Scan
from saccade.radar.waveform import C

PAIRS = {"cpu": 1 << 16, "cuda": 1 << 24, "mps": 1 << 20}
"""Pairs of voxel and element held at a time."""


def project_torch(
    samples: Tensor,
    tx: Tensor,
    rx: Tensor,
    frequencies: Tensor,
    points: Tensor,
    *,
    path_loss: bool = False,
    pairs: int = 0,
) -> Tensor:
    """Back-project by torch operations.

    Args:
        samples: (L, N) complex64 or complex128; its precision is that of the result.
        tx: (L, 3) metres, float64 (float32 where a device has no float64).
        rx: (L, 3) likewise.
        frequencies: (N,) Hz, evenly spaced.
        points: (V, 3) voxels, metres.
        path_loss: Weigh by R_T R_R.
        pairs: Voxels times elements at a time; 0: as suits the device.

    Returns:
        (V,) complex, with a gradient with respect to samples, tx, rx and points where they ask for one.
    """
    real = samples.real.dtype
    pairs = pairs or PAIRS.get(samples.device.type, PAIRS["cpu"])
    rows = max(1, min(len(samples), int(math.sqrt(pairs))))
    columns = max(1, pairs // rows)
    start = float(frequencies[0]) / C
    step = float(frequencies[-1] - frequencies[0]) / max(1, len(frequencies) - 1) / C
    found = []
    for first in range(0, len(points), columns):
        part = points[first : first + columns, None]
        total = torch.zeros(len(part), dtype=samples.dtype, device=samples.device)
        for row in range(0, len(samples), rows):
            some = slice(row, row + rows)
            there = (part - tx[some]).norm(dim=2)
            back = (part - rx[some]).norm(dim=2)
            path = there + back
            wave, turn = (_wave(path * per_metre, real) for per_metre in (start, step))
            # Horner over the sweep, highest frequency first.
            mixed = torch.zeros_like(wave)
            for n in range(samples.shape[1] - 1, -1, -1):
                mixed = mixed * turn + samples[some, n]
            mixed = mixed * wave
            total = total + ((mixed * (there * back).to(real)) if path_loss else mixed).sum(1)
        found.append(total)
    return torch.cat(found)


def _wave(turns: Tensor, real: torch.dtype) -> Tensor:
    """Return exp(-2 pi j turns); whole turns go before the precision does."""
    rest = (turns - turns.detach().round()).to(real) * (-2 * math.pi)
    return torch.polar(torch.ones_like(rest), rest)


def exact_torch(scan: Scan, grid: Grid, device: str = "cuda") -> RadarImage:
    """Back-project a scan on a torch device, in float32 with float64 paths.

    Args:
        scan: Uses its believed positions.
        grid: Any.
        device: cuda, mps or cpu.

    Returns:
        Complex image; (nx, ny) for one depth, else (nx, ny, nz).

    Raises:
        ConfigError: A device that this machine does not have.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    kind = torch.device(device).type
    if not available.get(kind):
        raise ConfigError(f"device {device} is not available here; leave it out, or use cpu")
    scan.check()
    samples, tx, rx = scan.flatten()
    wide = torch.float32 if kind == "mps" else torch.float64
    moved = [torch.from_numpy(np.ascontiguousarray(a)).to(device, wide) for a in (tx, rx, grid.points())]
    with torch.inference_mode():
        values = project_torch(
            torch.from_numpy(samples.astype(np.complex64)).to(device), moved[0], moved[1],
            torch.from_numpy(scan.waveform.frequencies), moved[2], path_loss=scan.path_loss,
        )  # fmt: skip
    meta = {"elements": len(samples), "device": device}
    return RadarImage(values.cpu().numpy().reshape(grid.image_shape), grid, "backprojection", meta)
