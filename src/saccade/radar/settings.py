"""What a radar was told to do, whichever file says so: frames, loops, chirps and their times."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from saccade.errors import ConfigError, DataError
from saccade.radar.waveform import Waveform

MAX_CHIRPS = 512
"""Chirp settings a device holds."""
MAX_TIME = 1e6
"""Seconds of a frame."""


@dataclass(frozen=True)
class Profile:
    """One frame of a capture and how frames follow each other."""

    waveform: Waveform
    """Its first frequency is that of the first sample: start of the ramp plus slope times the converter's delay."""
    tx_order: tuple[int, ...]
    """Transmitter of each chirp of a loop, from 0, all different."""
    rx: tuple[int, ...]
    """Receivers that are on, from 0."""
    loops: int
    """A frame."""
    frames: int
    """0: until stopped."""
    frame_period: float
    """Seconds from the start of a frame to the start of the next."""
    chirp_starts: tuple[float, ...]
    """Seconds from the start of a loop to the first sample of each of its chirps."""
    loop_period: float
    """Seconds."""
    layout: str = ""
    """Capture layout that the file implies; "" where it does not say."""
    real: bool = False
    swap: bool = False
    """Whether Q is stored before I."""
    bits: int = 16

    @property
    def transmitters(self) -> tuple[int, ...]:
        """Those in use, ascending."""
        return tuple(sorted(self.tx_order))

    def chirp_times(self, frames: int) -> np.ndarray:
        """Return the middle of each chirp's sampling, (frames * loops, transmitters ascending) seconds.

        Time 0 is the start of the first frame.
        """
        starts = np.asarray(self.chirp_starts)[np.argsort(self.tx_order)]
        middle = self.waveform.num_samples / (2 * self.waveform.sample_rate)
        frame = np.arange(frames)[:, None, None] * self.frame_period
        loop = np.arange(self.loops)[None, :, None] * self.loop_period
        return (frame + loop + starts + middle).reshape(-1, len(starts))


@dataclass(frozen=True)
class Raw:
    """The fields that TI's two kinds of file share, in their units."""

    start_ghz: float
    slope_mhz_us: float
    idle_us: float
    adc_start_us: float
    ramp_end_us: float
    samples: int
    rate_ksps: float


@dataclass(frozen=True)
class Chirp:
    """Settings of one chirp."""

    profile: int
    idle_us: float
    tx_mask: int


def assemble(
    path: Path,
    profiles: dict[int, Raw],
    chirps: dict[int, Chirp],
    frame: tuple[int, int, int, int, float],
    rx_mask: int,
    **format_: Any,
) -> Profile:
    """Turn the settings of TI's files into a profile.

    Args:
        path: For messages.
        profiles: By number.
        chirps: By number.
        frame: First chirp, last chirp, loops, frames, period in ms.
        rx_mask: Receivers that are on.
        format_: Fields of `Profile` about the capture's format.
    """
    first, last, loops, frames, period_ms = frame
    if not (0 <= first <= last < MAX_CHIRPS and 1 <= loops <= 65_535 and 0 <= frames <= 1 << 24):
        raise DataError(
            f"{path}: the frame runs over chirps {first} .. {last} with {loops} loops and {frames} frames; expected "
            f"chirps within 0 .. {MAX_CHIRPS - 1} and at least one loop"
        )
    order, starts, clock, used = [], [], 0.0, set()
    for number in range(first, last + 1):
        if number not in chirps:
            raise DataError(
                f"{path}: the frame uses chirp {number}, which has no settings; add its chirp entry"
            )
        chirp = chirps[number]
        if chirp.profile not in profiles:
            raise DataError(
                f"{path}: chirp {number} uses profile {chirp.profile}, which is not there; add its profile entry"
            )
        raw = profiles[chirp.profile]
        used.add(chirp.profile)
        if chirp.tx_mask.bit_count() != 1:
            raise DataError(
                f"{path}: chirp {number} has the transmitter mask {chirp.tx_mask:#x}; expected one transmitter at a "
                "time, because imaging has to know which one an echo is from"
            )
        order.append(chirp.tx_mask.bit_length() - 1)
        starts.append((clock + raw.idle_us + chirp.idle_us + raw.adc_start_us) * 1e-6)
        clock += raw.idle_us + chirp.idle_us + raw.ramp_end_us
    if len(used) != 1:
        raise DataError(
            f"{path}: the frame uses profiles {sorted(used)}; expected one, the same for every chirp"
        )
    raw = profiles[used.pop()]
    sampled = raw.adc_start_us + raw.samples / raw.rate_ksps * 1e3
    if sampled > raw.ramp_end_us * (1 + 1e-9):
        raise DataError(
            f"{path}: {raw.samples} samples at {raw.rate_ksps:g} ksps from {raw.adc_start_us:g} us end at "
            f"{sampled:g} us and the ramp at {raw.ramp_end_us:g} us; expected the ramp to last "
            "longer, so the profile is damaged"
        )
    # A loop in which every transmitter comes more than once is several loops.
    count = len(set(order))
    if len(order) % count or order != order[:count] * (len(order) // count):
        raise DataError(
            f"{path}: the chirps of a loop use transmitters {order}; expected each once, or the same turn repeated"
        )
    if frames != 1 and period_ms * 1e3 < clock * loops * (1 - 1e-9):
        raise DataError(
            f"{path}: a frame's chirps last {clock * loops / 1e3:g} ms and its period is {period_ms:g} ms; expected "
            "the period to be longer, so the profile is damaged"
        )
    turns = len(order) // count
    even = np.allclose(np.diff(np.asarray(starts)[::count]), clock * 1e-6 / turns, rtol=1e-6)
    if turns > 1 and not even:
        raise DataError(
            f"{path}: idle times differ between repeated turns of the transmitters; expected equal ones"
        )
    return checked(
        path,
        waveform=make_waveform(
            start_hz=raw.start_ghz * 1e9 + raw.slope_mhz_us * 1e6 * raw.adc_start_us,
            slope=raw.slope_mhz_us * 1e12,
            sample_rate=raw.rate_ksps * 1e3,
            num_samples=raw.samples,
        ),
        tx_order=tuple(order[:count]),
        rx=_bits(path, rx_mask),
        loops=loops * turns,
        frames=frames,
        frame_period=period_ms * 1e-3,
        chirp_starts=tuple(starts[:count]),
        loop_period=clock * 1e-6 / turns,
        **format_,
    )


def checked(path: Path, **fields: Any) -> Profile:
    """Make a profile whose times are finite and do not run backwards."""
    profile = Profile(**fields)
    sampling = profile.waveform.num_samples / profile.waveform.sample_rate
    times = [profile.frame_period, profile.loop_period, sampling, *profile.chirp_starts]
    if not all(0 <= time < MAX_TIME for time in times):
        raise DataError(
            f"{path}: frame period, loop period, sampling time and chirp starts are {times[:8]} s; expected 0 or "
            f"more and less than {MAX_TIME:g}"
        )
    return profile


def make_waveform(**fields: Any) -> Waveform:
    """Make the waveform; antenna spacing is given at the middle of the device's band."""
    start = fields["start_hz"]
    band = 79e9 if 75e9 <= start < 82e9 else 62e9 if 56e9 <= start < 65e9 else 0.0
    sweep = (
        fields["slope"] * fields["num_samples"] / fields["sample_rate"] if fields["sample_rate"] > 0 else 0.0
    )
    if fields["num_samples"] > 1 << 16:
        raise ConfigError(f"waveform: num_samples is {fields['num_samples']}; expected at most {1 << 16}")
    return Waveform(**fields, centre_hz=band or start + sweep / 2)


def _bits(path: Path, mask: int) -> tuple[int, ...]:
    """List the set bits of a receiver mask."""
    if not 0 < mask < 1 << 16:
        raise DataError(f"{path}: the receiver mask is {mask:#x}; expected at least one receiver")
    return tuple(bit for bit in range(16) if mask >> bit & 1)
