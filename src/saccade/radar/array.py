"""Where the antennas of a MIMO radar sit, in the radar's own frame.

Channel order everywhere: transmitter outer, receiver inner. Positions in metres; the mean of the virtual elements
is at x = y = 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from saccade.errors import ConfigError, did_you_mean


@dataclass(frozen=True, eq=False)
class Array:
    """Transmitters (T, 3) and receivers (R, 3)."""

    tx: np.ndarray
    rx: np.ndarray

    def __post_init__(self) -> None:
        """Check shapes."""
        for name in ("tx", "rx"):
            value = np.asarray(getattr(self, name), np.float64)
            if value.ndim != 2 or value.shape[1] != 3 or not len(value) or not np.isfinite(value).all():
                raise ConfigError(
                    f"array: {name} has shape {value.shape}; expected (antennas, 3) finite metres"
                )
            object.__setattr__(self, name, value)

    @staticmethod
    def named(name: str, wavelength: float) -> Array:
        """Return a published array, linear along y and centred.

        Args:
            name: "awr1x42" (TI 2 x 4), "empm" (the same with transmitters 5 mm away), "toolbox" (2 x 8), "300ghz"
                (2 x 8 without a gap), or "monostatic" (one antenna).
            wavelength: Metres, at the waveform's centre frequency.

        Raises:
            ConfigError: No such array.
        """
        if name not in _NAMED:
            raise ConfigError(f"no array {name!r}{did_you_mean(name, _NAMED)}")
        tx, rx = _NAMED[name]
        return Array.from_table([(0, 0, a, b) for a, b in tx], [(0, 0, a, b) for a, b in rx], wavelength)

    @staticmethod
    def from_table(tx: list[tuple], rx: list[tuple], wavelength: float) -> Array:
        """Make a centred array from rows (x in wavelengths, x in metres, y in wavelengths, y in metres)."""
        unit = np.array([[wavelength, 1, 0, 0], [0, 0, wavelength, 1], [0, 0, 0, 0]])
        array = Array(*(np.array(rows, np.float64).reshape(-1, 4) @ unit.T for rows in (tx, rx)))
        centre = array.virtual.mean(0) * (1, 1, 0)
        return Array(array.tx - centre, array.rx - centre)

    @property
    def num_channels(self) -> int:
        """Transmitters times receivers."""
        return len(self.tx) * len(self.rx)

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Return transmitter and receiver of each channel, (channels, 3) each."""
        return np.repeat(self.tx, len(self.rx), 0), np.tile(self.rx, (len(self.tx), 1))

    @property
    def virtual(self) -> np.ndarray:
        """Mid-point of each channel's pair, (channels, 3)."""
        tx, rx = self.pairs()
        return (tx + rx) / 2

    @property
    def offsets(self) -> np.ndarray:
        """Transmitter minus receiver of each channel, (channels, 3)."""
        tx, rx = self.pairs()
        return tx - rx

    @property
    def is_linear(self) -> bool:
        """Whether all antennas lie on one line along y, as the Fourier methods need."""
        both = np.concatenate([self.tx, self.rx])
        return bool(np.ptp(both[:, 0]) < 1e-9 and np.ptp(both[:, 2]) < 1e-9)


# Rows (wavelengths, metres) along y: transmitters, receivers.
_FOUR = [(0.0, 0), (0.5, 0), (1.0, 0), (1.5, 0)]
_EIGHT = [(0.5 * i, 0) for i in range(8)]
_NAMED = {
    "awr1x42": ([(1.5, 1e-3), (3.5, 1e-3)], _FOUR),
    "empm": ([(1.5, 5e-3), (3.5, 5e-3)], _FOUR),
    "toolbox": ([(3.5, 1e-3), (7.5, 1e-3)], _EIGHT),
    "300ghz": ([(4.0, 0), (8.0, 0)], _EIGHT),
    "monostatic": ([(0.0, 0)], [(0.0, 0)]),
}
