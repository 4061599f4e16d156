"""What a radar recorded along its way: complex samples, and where its antennas were believed to be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from saccade.errors import DataError
from saccade.radar.array import Array
from saccade.radar.waveform import Waveform


@dataclass(eq=False)
class Scan:
    """Samples of P poses, C channels (transmitter outer, receiver inner) and N samples a chirp."""

    samples: np.ndarray
    """(P, C, N) complex."""
    tx: np.ndarray
    """(P, C, 3): believed transmitter positions in the world, metres. What imaging uses."""
    rx: np.ndarray
    """(P, C, 3): believed receiver positions."""
    waveform: Waveform
    path_loss: bool = False
    """Whether the samples fall with 1 / (R_T R_R), so that imaging has to weigh them up again."""
    geometry: str = "free"
    true_tx: np.ndarray | None = None
    """(P, C, 3): where the transmitters really were; known in simulations only."""
    true_rx: np.ndarray | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    def check(self, where: str = "scan") -> Scan:
        """Make sure that shapes agree and every number is finite.

        Raises:
            DataError: Names the field, its shape and the one expected.
        """
        shape = self.samples.shape
        if self.samples.ndim != 3 or not np.iscomplexobj(self.samples) or not self.samples.size:
            raise DataError(
                f"{where}: samples are {self.samples.dtype} {shape}; expected complex (poses, channels, samples)"
            )
        if shape[2] != self.waveform.num_samples:
            raise DataError(
                f"{where}: samples hold {shape[2]} samples a chirp and the waveform says {self.waveform.num_samples}"
            )
        for name in ("tx", "rx", "true_tx", "true_rx"):
            value = getattr(self, name)
            if value is None:
                continue
            if value.shape != (*shape[:2], 3):
                raise DataError(f"{where}: {name} has shape {value.shape}; expected {(*shape[:2], 3)}")
            if not np.isfinite(value).all():
                raise DataError(f"{where}: {name} holds NaN or infinite positions; every pose needs one")
        if not np.isfinite(self.samples).all():
            bad = int(np.argwhere(~np.isfinite(self.samples).all((1, 2)))[0, 0])
            raise DataError(
                f"{where}: samples hold NaN or infinite values, first at pose {bad}; leave such poses out"
            )
        return self

    def flatten(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return samples (L, N), transmitters (L, 3) and receivers (L, 3) with L = P * C, channels fastest."""
        return (
            self.samples.reshape(-1, self.samples.shape[2]),
            self.tx.reshape(-1, 3),
            self.rx.reshape(-1, 3),
        )

    @property
    def virtual(self) -> np.ndarray:
        """Mid-points of the believed pairs, (P, C, 3)."""
        return (self.tx + self.rx) / 2


def place(
    array: Array, positions: np.ndarray, rotations: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Put a rigid array at poses: element = position + rotation @ offset.

    Args:
        array: In the radar's frame.
        positions: (P, 3) metres.
        rotations: (P, 3, 3), or None for none; from Euler angles as Rz Ry Rx (`euler`).

    Returns:
        Transmitters and receivers of each channel, (P, C, 3) each.
    """
    sides = []
    for offsets in array.pairs():
        turned = np.broadcast_to(offsets, (len(positions), *offsets.shape))
        if rotations is not None:
            turned = np.einsum("pij,cj->pci", rotations, offsets)
        sides.append(positions[:, None] + turned)
    return sides[0], sides[1]


def euler(angles: np.ndarray) -> np.ndarray:
    """Rotations (P, 3, 3) from angles (P, 3) about x, y and z, radians: Rz Ry Rx."""
    angles = np.atleast_2d(np.asarray(angles, np.float64))
    cos, sin = np.cos(angles), np.sin(angles)
    zero, one = np.zeros(len(angles)), np.ones(len(angles))
    rx = np.array([[one, zero, zero], [zero, cos[:, 0], -sin[:, 0]], [zero, sin[:, 0], cos[:, 0]]])
    ry = np.array([[cos[:, 1], zero, sin[:, 1]], [zero, one, zero], [-sin[:, 1], zero, cos[:, 1]]])
    rz = np.array([[cos[:, 2], -sin[:, 2], zero], [sin[:, 2], cos[:, 2], zero], [zero, zero, one]])
    return np.einsum("ijp,jkp,klp->pil", rz, ry, rx)
