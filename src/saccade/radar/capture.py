"""Samples of a DCA1000 capture: which 16-bit word belongs to which chirp, receiver and sample.

Layouts after Texas Instruments, "mmWave Radar Device ADC Raw Data Capture" (SWRA581). All words are little-endian.

    xwr14    four lanes, one a receiver, all four always in the file: for each sample I of lanes 0..3, then Q
    xwr16    two lanes: chirp by chirp, receiver by receiver, two samples at a time as I I Q Q
    iqiq     receiver by receiver, each sample as I Q
    iqiq-interleaved   for each sample, I Q of every receiver

Shapes: chirps in the order they were sent, (chirps, receivers, samples); after `deinterleave`
(loops, transmitters, receivers, samples).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from saccade.errors import ConfigError, DataError, did_you_mean
from saccade.radar.packets import Stream

LAYOUTS = ("xwr14", "xwr16", "iqiq", "iqiq-interleaved")
"""Ways to order words."""
_ALIASES = {"xwr12": "xwr14", "xwr22": "xwr14", "xwr18": "xwr16", "xwr64": "xwr16", "xwr68": "xwr16"}
LANES = 4
"""Of an xWR12xx or xWR14xx; those of receivers that are off hold zeros."""
PIECE = 32 << 20
"""Bytes decoded at a time."""


@dataclass(frozen=True)
class Format:
    """What a capture's bytes mean."""

    layout: str
    """One of `LAYOUTS`, or a device family such as "xwr18"."""
    samples: int
    """A chirp."""
    receivers: tuple[int, ...]
    """Those that are on, from 0, ascending."""
    chirps: int
    """A frame."""
    real: bool = False
    """Whether words are real samples, with no Q."""
    swap: bool = False
    """Whether Q comes where the layout says I."""
    bits: int = 16
    """Of the converter, 12, 14 or 16; the sign of fewer than 16 is carried up."""

    def __post_init__(self) -> None:
        """Check names and sizes."""
        object.__setattr__(self, "layout", _ALIASES.get(self.layout, self.layout))
        if self.layout not in LAYOUTS:
            raise ConfigError(
                f"no capture layout {self.layout!r}{did_you_mean(self.layout, [*LAYOUTS, *_ALIASES])}"
            )
        if self.bits not in (12, 14, 16):
            raise ConfigError(f"capture: bits is {self.bits}; expected 12, 14 or 16")
        if min(self.samples, self.chirps, len(self.receivers)) < 1:
            raise ConfigError(
                f"capture: {self.samples} samples, {len(self.receivers)} receivers and {self.chirps} chirps a frame; "
                "expected at least one of each"
            )
        if len(set(self.receivers)) < len(self.receivers) or min(self.receivers) < 0:
            raise ConfigError(f"capture: receivers are {self.receivers}; expected different numbers from 0")
        if self.layout == "xwr14" and max(self.receivers) >= LANES:
            raise ConfigError(f"capture: layout xwr14 has no receiver {max(self.receivers)}; it has {LANES}")
        if self.layout == "xwr16" and self.words % 4 and not self.real:
            raise ConfigError(
                f"capture: layout xwr16 stores samples in pairs and a frame has {self.words // 2}; expected an even "
                "number"
            )

    @property
    def words(self) -> int:
        """16-bit words of a frame."""
        stored = LANES if self.layout == "xwr14" else len(self.receivers)
        return self.chirps * stored * self.samples * (1 if self.real else 2)

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame."""
        return 2 * self.words

    def explain(self) -> str:
        """Say where the size of a frame comes from."""
        stored = LANES if self.layout == "xwr14" else len(self.receivers)
        return (
            f"{self.chirps} chirps x {stored} {'lanes' if self.layout == 'xwr14' else 'receivers'} x {self.samples} "
            f"samples x {2 if self.real else 4} bytes"
        )


def decode(data: np.ndarray, form: Format) -> np.ndarray:
    """Turn the bytes of whole frames into samples.

    Args:
        data: (frames * form.frame_bytes,) uint8.
        form: What they mean.

    Returns:
        (frames * chirps, receivers, samples): complex64, or float32 for real samples. 16-bit words are exact in both.

    Raises:
        DataError: The bytes are not whole frames.
    """
    if data.size % form.frame_bytes:
        raise DataError(
            f"capture: {data.size} bytes; expected frames of {form.frame_bytes} bytes ({form.explain()})"
        )
    words = np.ascontiguousarray(data).view("<i2")
    if form.bits < 16:
        sign = 1 << (form.bits - 1)
        words = ((words & ((sign << 1) - 1)) ^ sign) - sign
    count, samples = len(form.receivers), form.samples
    chirps = data.size // form.frame_bytes * form.chirps
    if form.real:
        if form.layout == "xwr14":
            found = words.reshape(chirps, samples, LANES)[..., list(form.receivers)].swapaxes(1, 2)
        elif form.layout == "iqiq-interleaved":
            found = words.reshape(chirps, samples, count).swapaxes(1, 2)
        else:
            found = words.reshape(chirps, count, samples)
        return found.astype(np.float32)
    if form.layout == "xwr14":
        pairs = words.reshape(chirps, samples, 2, LANES)[..., list(form.receivers)].transpose(2, 0, 3, 1)
    elif form.layout == "xwr16":
        pairs = words.reshape(-1, 2, 2).swapaxes(0, 1).reshape(2, chirps, count, samples)
    elif form.layout == "iqiq":
        pairs = words.reshape(chirps, count, samples, 2).transpose(3, 0, 1, 2)
    else:
        pairs = words.reshape(chirps, samples, count, 2).transpose(3, 0, 2, 1)
    out = np.empty((chirps, count, samples), np.complex64)
    out.real, out.imag = pairs[::-1] if form.swap else pairs
    return out


def count_frames(stream: Stream, form: Format, *, declared: int = 0, wanted: int | None = None) -> int:
    """Find out how many frames a capture holds and whether profile and file agree.

    Args:
        stream: The capture.
        form: What its bytes mean.
        declared: Frames that the profile asks for; 0 where it runs until stopped.
        wanted: Frames that the user asks for, the first ones; the rest of the file is then left unread.

    Raises:
        DataError: A truncated file, a profile that contradicts it, or fewer frames than wanted.
    """
    size = form.frame_bytes
    whole, rest = divmod(stream.size, size)
    if wanted is not None:
        if not 1 <= wanted <= whole:
            raise DataError(
                f"{stream.name}: holds {whole} whole frames of {size} bytes; expected at least the {wanted} asked "
                "for (--frames), and at least 1"
            )
        return wanted
    way = f"check the profile and --layout, or take the whole frames with --frames {whole}"
    if rest or not whole:
        raise DataError(
            f"{stream.name}: holds {stream.size} bytes, {whole} frames of {size} bytes ({form.explain()}) and {rest} "
            f"bytes over; expected whole frames, so the file is cut short or the profile is another's: "
            f"{way if whole else 'check the profile and --layout'}"
        )
    if declared and declared != whole:
        raise DataError(
            f"{stream.name}: holds {whole} frames of {size} bytes ({form.explain()}) and the profile asks for "
            f"{declared}; {way}"
        )
    return whole


def read_frames(stream: Stream, form: Format, frames: int) -> Iterator[np.ndarray]:
    """Decode the first frames in pieces of about `PIECE` bytes, each (chirps, receivers, samples)."""
    step = max(1, PIECE // form.frame_bytes)
    for first in range(0, frames, step):
        last = min(frames, first + step)
        yield decode(stream.read(first * form.frame_bytes, last * form.frame_bytes), form)


def deinterleave(chirps: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """Sort chirps that transmitters sent in turn.

    Args:
        chirps: (loops * transmitters, receivers, samples) in the order they were sent.
        order: Transmitter of each chirp of a loop, all different.

    Returns:
        (loops, transmitters, receivers, samples), transmitters ascending.

    Raises:
        DataError: Chirps that are not whole loops.
    """
    if len(chirps) % len(order):
        raise DataError(f"capture: {len(chirps)} chirps; expected whole loops of {len(order)}")
    loops = chirps.reshape(-1, len(order), *chirps.shape[1:])
    return loops[:, np.argsort(order)]


def analytic(samples: np.ndarray) -> np.ndarray:
    """Make complex samples of real ones: positive beat frequencies doubled, negative ones dropped.

    Exact for an echo whose beat has whole turns in a chirp; elsewhere the ends of the chirp differ a little.

    Args:
        samples: (..., N) real.

    Returns:
        (..., N) complex64.
    """
    count = samples.shape[-1]
    spectrum = np.fft.fft(samples, axis=-1)
    weight = np.zeros(count)
    weight[0] = 1
    weight[1 : (count + 1) // 2] = 2
    if count % 2 == 0:
        weight[count // 2] = 1
    return np.fft.ifft(spectrum * weight, axis=-1).astype(np.complex64)
