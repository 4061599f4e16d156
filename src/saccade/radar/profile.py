"""What a radar was told to do: the profile beside a capture.

Three kinds of file: the JSON that mmWave Studio writes, the text commands of TI's demos (.cfg), and a plain JSON of
our own for other radars. Numbers come in the units of their file; here everything is SI. Fields after Texas
Instruments' mmWave SDK user's guide and the files of mmWave Studio.

Our own JSON has the keys start_hz (of the first sample), slope_hz_per_s, sample_rate_hz, num_samples and
frame_period_s; and, when they differ from what stands here, tx_order [0] and rx [0] (antennas from 0), loops 1 (a
frame), frames 0 (any number), chirp_period_s (frame_period_s / chirps), centre_hz (of the antenna spacing), layout
"iqiq", real false, swap false, bits 16.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from saccade.errors import ConfigError, DataError, did_you_mean
from saccade.files import parse_json, read_text
from saccade.radar.settings import MAX_CHIRPS, Chirp, Profile, Raw, assemble, checked, make_waveform

MAX_BYTES = 16 << 20


def read_profile(path: Path | str) -> Profile:
    """Read a profile of any of the three kinds; what is inside decides, not the name.

    Raises:
        DataError: A file that is none of them, a missing or impossible field, or settings that imaging cannot use.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected a profile (.cfg, or JSON of mmWave Studio)")
    text = read_text(path, max_bytes=MAX_BYTES, what="a profile (.cfg, or JSON of mmWave Studio)")
    try:
        if not text.lstrip().startswith(("{", "[")):
            return _from_commands(path, text)
        found = parse_json(text, where=str(path))
        if isinstance(found, dict) and "mmWaveDevices" in found:
            return _from_studio(path, found)
        return _from_plain(path, found)
    except ConfigError as error:  # a waveform that cannot be
        raise DataError(f"{path}: {error}") from None


# --- text commands -------------------------------------------------------------------------------------------------

_LEAST = {
    "channelCfg": 2,
    "adcCfg": 2,
    "adcbufCfg": 4,
    "profileCfg": 11,
    "chirpCfg": 8,
    "frameCfg": 6,
    "lvdsStreamCfg": 4,
}
_BITS = {0: 12, 1: 14, 2: 16}


def _from_commands(path: Path, text: str) -> Profile:
    """Read the commands of TI's demos."""
    profiles: dict[int, Raw] = {}
    chirps: dict[int, Chirp] = {}
    frame: tuple[int, int, int, int, float] | None = None
    rx_mask = 0
    format_: dict[str, Any] = {}
    for line_number, line in enumerate(text.splitlines(), 1):
        words = line.split("%")[0].split("#")[0].split()
        if not words:
            continue
        where = f"{path}: line {line_number} ({words[0][:40]})"
        if words[0] in ("advFrameCfg", "subFrameCfg"):
            raise DataError(
                f"{where}: frames of several kinds; expected a plain frameCfg, so record with that"
            )
        if words[0] == "flushCfg":
            profiles, chirps, frame = {}, {}, None
        if words[0] not in _LEAST:
            continue
        if len(words) - 1 < _LEAST[words[0]]:
            raise DataError(f"{where}: {len(words) - 1} numbers; expected at least {_LEAST[words[0]]}")
        values = [_number(where, word) for word in words[1:]]
        if words[0] == "channelCfg":
            rx_mask = _whole(where, values[0])
        elif words[0] == "adcCfg":
            format_ |= _adc(where, _whole(where, values[0]), _whole(where, values[1]))
        elif words[0] == "adcbufCfg":
            # A subframe number comes first in later releases.
            kind, swap, separate = (
                _whole(where, value) for value in (values[1:4] if len(values) > 4 else values[:3])
            )
            format_ |= {"real": kind == 1, "swap": swap == 1, "layout": "xwr16" if separate else "xwr14"}
        elif words[0] == "lvdsStreamCfg":
            if values[1] or values[3] or values[2] not in (0, 1):
                raise DataError(
                    f"{where}: the stream has headers, chirp parameters or user data among its samples; expected "
                    "samples alone, so record with lvdsStreamCfg -1 0 1 0"
                )
        elif words[0] == "profileCfg":
            profiles[_whole(where, values[0])] = Raw(
                values[1], values[7], values[2], values[3], values[4], _whole(where, values[9]), values[10]
            )
        elif words[0] == "chirpCfg":
            low, high = _whole(where, values[0]), _whole(where, values[1])
            if not 0 <= low <= high < MAX_CHIRPS:
                raise DataError(
                    f"{where}: chirps {low} .. {high}; expected them within 0 .. {MAX_CHIRPS - 1}"
                )
            _no_variation(where, start=values[3], slope=values[4], adc_start=values[6])
            for number in range(low, high + 1):
                chirps[number] = Chirp(_whole(where, values[2]), values[5], _whole(where, values[7]))
        else:
            # Releases for later devices put the samples of a chirp before the period.
            period = values[5] if len(values) > 7 else values[4]
            first, last, loops, frames = (_whole(where, value) for value in values[:4])
            frame = (first, last, loops, frames, period)
    for name, value in (
        ("profileCfg", profiles),
        ("chirpCfg", chirps),
        ("frameCfg", frame),
        ("channelCfg", rx_mask),
    ):
        if not value:
            raise DataError(
                f"{path}: no {name} line; expected a profile of TI's demos, or JSON of mmWave Studio"
            )
    assert frame is not None
    _check_rates(path, profiles)
    return assemble(path, profiles, chirps, frame, rx_mask, **format_)


def _number(where: str, word: str) -> float:
    """Read a number, decimal or hexadecimal."""
    try:
        value = float(int(word, 16)) if word.lower().startswith("0x") else float(word)
    except (ValueError, OverflowError):
        raise DataError(f"{where}: {word[:40]!r} is no number; expected one") from None
    if not math.isfinite(value) or abs(value) > 1e18:
        raise DataError(f"{where}: {word[:40]!r} is out of range; expected a finite number")
    return value


def _whole(where: str, value: float) -> int:
    """Turn a number into an integer."""
    if value != int(value):
        raise DataError(f"{where}: {value:g} where a whole number belongs; expected one")
    return int(value)


def _adc(where: str, bits: int, kind: int) -> dict[str, Any]:
    """Read the converter's settings."""
    if bits not in _BITS or kind not in (0, 1, 2, 3):
        raise DataError(
            f"{where}: converter settings {bits} and {kind}; expected 0 .. 2 (12, 14, 16 bits) and 0 .. 3 (real, "
            "complex, complex, real)"
        )
    return {"bits": _BITS[bits], "real": kind in (0, 3)}


def _no_variation(where: str, **values: float) -> None:
    """Refuse chirps that differ in their sweep."""
    for name, value in values.items():
        if value:
            raise DataError(
                f"{where}: the variation of {name.replace('_', ' ')} is {value:g}; expected 0, because one scan has "
                "one waveform"
            )


def _check_rates(path: Path, profiles: dict[int, Raw]) -> None:
    """Make sure that sampling is possible before anything is divided by its rate."""
    for number, raw in profiles.items():
        if not (raw.samples >= 1 and raw.rate_ksps > 0 and raw.slope_mhz_us > 0 and raw.start_ghz > 0):
            raise DataError(
                f"{path}: profile {number} starts at {raw.start_ghz:g} GHz with {raw.slope_mhz_us:g} MHz/us and "
                f"takes {raw.samples} samples at {raw.rate_ksps:g} ksps; expected positive numbers"
            )
        if min(raw.idle_us, raw.adc_start_us, raw.ramp_end_us) < 0:
            raise DataError(
                f"{path}: profile {number} has a negative time; expected idle, converter and ramp >= 0"
            )


# --- mmWave Studio -------------------------------------------------------------------------------------------------


class _Tree:
    """A JSON value that knows its place, for messages."""

    def __init__(self, value: Any, where: str) -> None:
        self.value, self.where = value, where

    def has(self, key: str) -> bool:
        return isinstance(self.value, dict) and key in self.value

    def __getitem__(self, key: str) -> _Tree:
        if not isinstance(self.value, dict) or key not in self.value:
            raise DataError(f"{self.where}: no field {key}; expected one, so export the profile again")
        return _Tree(self.value[key], f"{self.where}.{key}" if ": " in self.where else f"{self.where}: {key}")

    def items(self) -> list[_Tree]:
        if not isinstance(self.value, list):
            raise DataError(f"{self.where}: expected a list; export the profile again")
        return [_Tree(value, f"{self.where}[{i}]") for i, value in enumerate(self.value)]

    def number(self) -> float:
        if isinstance(self.value, str):
            return _number(self.where, self.value)
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise DataError(f"{self.where}: {str(self.value)[:40]!r} is no number; expected one")
        if not abs(self.value) < 1e18:
            raise DataError(f"{self.where}: out of range; expected a finite number")
        return float(self.value)

    def whole(self) -> int:
        return _whole(self.where, self.number())


def _from_studio(path: Path, found: Any) -> Profile:
    """Read the JSON of mmWave Studio."""
    devices = _Tree(found, str(path))["mmWaveDevices"].items()
    if len(devices) != 1:
        raise DataError(f"{path}: {len(devices)} devices; expected one, because cascades are not read")
    rf = devices[0]["rfConfig"]
    if rf.has("waveformType") and "advanced" in str(rf["waveformType"].value).lower():
        raise DataError(f"{rf.where}.waveformType: frames of several kinds; expected legacyFrameChirp")
    profiles = {}
    for entry in rf["rlProfiles"].items():
        one = entry["rlProfileCfg_t"]
        profiles[one["profileId"].whole()] = Raw(
            one["startFreqConst_GHz"].number(),
            one["freqSlopeConst_MHz_usec"].number(),
            one["idleTimeConst_usec"].number(),
            one["adcStartTimeConst_usec"].number(),
            one["rampEndTime_usec"].number(),
            one["numAdcSamples"].whole(),
            one["digOutSampleRate"].number(),
        )
    _check_rates(path, profiles)
    chirps = {}
    for entry in rf["rlChirps"].items():
        one = entry["rlChirpCfg_t"]
        low, high = one["chirpStartIdx"].whole(), one["chirpEndIdx"].whole()
        if not 0 <= low <= high < MAX_CHIRPS:
            raise DataError(
                f"{one.where}: chirps {low} .. {high}; expected them within 0 .. {MAX_CHIRPS - 1}"
            )
        _no_variation(
            one.where,
            start=one["startFreqVar_MHz"].number() if one.has("startFreqVar_MHz") else 0,
            slope=one["freqSlopeVar_KHz_usec"].number() if one.has("freqSlopeVar_KHz_usec") else 0,
            adc_start=one["adcStartTimeVar_usec"].number() if one.has("adcStartTimeVar_usec") else 0,
        )
        idle = one["idleTimeVar_usec"].number() if one.has("idleTimeVar_usec") else 0.0
        for number in range(low, high + 1):
            chirps[number] = Chirp(one["profileId"].whole(), idle, one["txEnable"].whole())
    frame = rf["rlFrameCfg_t"]
    sizes = (
        frame["chirpStartIdx"].whole(),
        frame["chirpEndIdx"].whole(),
        frame["numLoops"].whole(),
        frame["numFrames"].whole(),
        frame["framePeriodicity_msec"].number(),
    )
    mask = rf["rlChanCfg_t"]["rxChannelEn"].whole()
    return assemble(path, profiles, chirps, sizes, mask, **_studio_format(devices[0]))


def _studio_format(device: _Tree) -> dict[str, Any]:
    """Read what mmWave Studio says about the capture's format, as far as it does."""
    found: dict[str, Any] = {}
    rf = device["rfConfig"]
    if rf.has("rlAdcOutCfg_t"):
        fmt = rf["rlAdcOutCfg_t"]["fmt"]
        found |= _adc(fmt.where, fmt["b2AdcBits"].whole(), fmt["b2AdcOutFmt"].whole())
    if device.has("rawDataCaptureConfig"):
        raw = device["rawDataCaptureConfig"]
        if raw.has("rlDevDataFmtCfg_t"):
            data = raw["rlDevDataFmtCfg_t"]
            found["swap"] = data["iqSwapSel"].whole() == 1
            found["layout"] = "xwr16" if data["chInterleave"].whole() else "xwr14"
        if raw.has("rlDevDataPathCfg_t"):
            path = raw["rlDevDataPathCfg_t"]
            packets = [path[f"transferFmtPkt{i}"].whole() for i in (0, 1)]
            if packets != [1, 0]:
                raise DataError(
                    f"{path.where}: packets of formats {packets[0]:#x} and {packets[1]:#x}; expected 0x1 and 0x0 "
                    "(samples alone), so record with the packet content ADC_ONLY"
                )
    return found


# --- our own -------------------------------------------------------------------------------------------------------


def _from_plain(path: Path, found: Any) -> Profile:
    """Read our own JSON."""
    tree = _Tree(found, str(path))
    if not isinstance(found, dict):
        raise DataError(f"{path}: a list; expected an object of profile fields, or JSON of mmWave Studio")
    for key in found:
        if key not in _PLAIN:
            raise DataError(f"{path}: {key[:40]}: not a field of a profile{did_you_mean(key[:40], _PLAIN)}")

    def get(key: str, default: Any, read: Callable[[_Tree], Any]) -> Any:
        return read(tree[key]) if default is None or key in found else default

    order = tuple(get("tx_order", (0,), lambda t: [item.whole() for item in t.items()]))
    rx = tuple(get("rx", (0,), lambda t: [item.whole() for item in t.items()]))
    for key, value in (("tx_order", order), ("rx", rx)):
        if not 1 <= len(value) <= MAX_CHIRPS or len(set(value)) < len(value) or min(value) < 0:
            raise DataError(f"{path}: {key} is {value[:8]}; expected different numbers from 0")
    loops, frames = get("loops", 1, _Tree.whole), get("frames", 0, _Tree.whole)
    if not (1 <= loops <= 1 << 24 and 0 <= frames <= 1 << 24):
        raise DataError(f"{path}: {loops} loops and {frames} frames; expected at least one loop")
    period = get("frame_period_s", None, _Tree.number)
    chirp = get("chirp_period_s", period / (loops * len(order)), _Tree.number)
    bits = get("bits", 16, _Tree.whole)
    if bits not in _BITS.values():
        raise DataError(f"{path}: bits is {bits}; expected 12, 14 or 16")
    for key, kind in (("real", bool), ("swap", bool), ("layout", str)):
        if not isinstance(found.get(key, kind()), kind):
            raise DataError(f"{path}: {key} is {str(found[key])[:40]!r}; expected {_KINDS[kind]}")
    wave = make_waveform(
        start_hz=get("start_hz", None, _Tree.number),
        slope=get("slope_hz_per_s", None, _Tree.number),
        sample_rate=get("sample_rate_hz", None, _Tree.number),
        num_samples=get("num_samples", None, _Tree.whole),
    )
    if "centre_hz" in found:
        wave = dataclasses.replace(wave, centre_hz=tree["centre_hz"].number())
    return checked(
        path,
        waveform=wave,
        tx_order=order,
        rx=tuple(sorted(rx)),
        loops=loops,
        frames=frames,
        frame_period=period,
        chirp_starts=tuple(i * chirp for i in range(len(order))),
        loop_period=len(order) * chirp,
        layout=found.get("layout", "iqiq"),
        real=found.get("real", False),
        swap=found.get("swap", False),
        bits=bits,
    )


_KINDS = {bool: "true or false", str: "a name"}
_PLAIN = (
    "start_hz", "slope_hz_per_s", "sample_rate_hz", "num_samples", "centre_hz", "tx_order", "rx", "loops", "frames",
    "frame_period_s", "chirp_period_s", "layout", "real", "swap", "bits",
)  # fmt: skip
