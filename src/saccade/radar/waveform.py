"""The wave that a radar sends: a linear frequency sweep, sampled.

Equations: Smith, Alimam, Vedula, Torlak, arXiv 2305.02074 and 2305.02064, and the authors' public parameter sets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from saccade.errors import ConfigError, did_you_mean
from saccade.files import within
from saccade.settings import check

C = 299_792_458.0
"""Speed of light, m/s."""


@dataclass(frozen=True)
class Waveform:
    """A frequency-modulated continuous wave: sample n of a chirp is taken at start_hz + n * slope / sample_rate."""

    start_hz: Annotated[float, within(above=0)]
    slope: Annotated[float, within(above=0)]
    """Hz per second."""
    sample_rate: Annotated[float, within(above=0)]
    """Samples per second."""
    num_samples: Annotated[int, within(1)]
    centre_hz: Annotated[float, within(above=0)] = 79e9
    """What spacing rules call the wavelength; given, not computed from the sweep."""

    def __post_init__(self) -> None:
        """Check signs and sizes."""
        check(self, "waveform")

    @staticmethod
    def named(name: str) -> Waveform:
        """Return a published parameter set.

        Args:
            name: "fmcw_v1" (79 samples, older data generators), "77ghz" (79 samples, 4 GHz), "empm" (32 samples,
                4 GHz) or "fmcw_v2" (64 samples; the set meant by the published name is our inference).

        Raises:
            ConfigError: No such set.
        """
        if name not in _NAMED:
            raise ConfigError(f"no waveform {name!r}{did_you_mean(name, _NAMED)}")
        slope, samples = _NAMED[name]
        return Waveform(77e9, slope, 2e6, samples)

    @staticmethod
    def from_bandwidth(
        start_hz: float,
        bandwidth: float,
        num_samples: int,
        *,
        sample_rate: float = 2e6,
        centre_hz: float = 0.0,
    ) -> Waveform:
        """Make the sweep whose first and last samples lie `bandwidth` apart.

        Args:
            start_hz: First frequency.
            bandwidth: Hz.
            num_samples: At least 2.
            sample_rate: Samples per second.
            centre_hz: Middle of the sweep when 0.
        """
        if num_samples < 2:
            raise ConfigError(f"waveform: num_samples is {num_samples}; a bandwidth needs at least 2")
        slope = sample_rate * bandwidth / (num_samples - 1)
        return Waveform(start_hz, slope, sample_rate, num_samples, centre_hz or start_hz + bandwidth / 2)

    @property
    def frequencies(self) -> np.ndarray:
        """Frequency of each sample, (N,) Hz."""
        return self.start_hz + np.arange(self.num_samples) * (self.slope / self.sample_rate)

    @property
    def wavenumbers(self) -> np.ndarray:
        """2 pi f / c of each sample, (N,) rad/m."""
        return 2 * np.pi * self.frequencies / C

    @property
    def wavelength(self) -> float:
        """At the centre frequency, m."""
        return C / self.centre_hz

    @property
    def bandwidth(self) -> float:
        """From the first to the last sample, Hz."""
        return (self.num_samples - 1) * self.slope / self.sample_rate

    @property
    def range_resolution(self) -> float:
        """C / (2 bandwidth), m; infinite for one sample."""
        return C / (2 * self.bandwidth) if self.bandwidth else math.inf

    @property
    def max_range(self) -> float:
        """Unambiguous range c * sample_rate / (2 * slope), m."""
        return C * self.sample_rate / (2 * self.slope)


# Slope in Hz/s and samples; all start at 77 GHz and sample at 2 MHz.
_NAMED = {
    "fmcw_v1": (100.036e12, 79),
    "77ghz": (2e6 * 4e9 / 78, 79),
    "empm": (2e6 * 4e9 / 31, 32),
    "fmcw_v2": (124.996e12, 64),
}
