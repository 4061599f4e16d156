"""Write recordings the way a capture card does, word by word, so that readers have something independent to meet."""

import contextlib
import json
import struct
from collections.abc import Iterator

import numpy as np

from saccade.errors import DataError

CFG = """% a comment
sensorStop
flushCfg
dfeDataOutputMode 1
channelCfg {rx_mask} 7 0
adcCfg 2 {kind}
adcbufCfg -1 {real} {swap} {separate} 1
profileCfg 0 77 7 6 60 0 0 60 1 {samples} 5000 0 0 30
{chirps}
frameCfg 0 {last} {loops} {frames} {period} 1 0
lvdsStreamCfg -1 0 1 0
sensorStart
"""


def cfg(
    *, samples=16, order=(0, 2), rx_mask=15, loops=3, frames=4, period=40, kind=1, swap=0, separate=1
) -> str:
    """A profile as text; chirps of 67 us, sampled from 13 us on."""
    chirps = "\n".join(f"chirpCfg {i} {i} 0 0 0 0 0 {1 << tx}" for i, tx in enumerate(order))
    return CFG.format(
        rx_mask=rx_mask, kind=kind, real=int(kind == 0), swap=swap, separate=separate, samples=samples, chirps=chirps,
        last=len(order) - 1, loops=loops, frames=frames, period=period,
    )  # fmt: skip


def studio(
    *, samples=16, order=(0, 2), rx_mask="0xF", loops=3, frames=4, period=40.0, swap=0, separate=1
) -> dict:
    """The same as mmWave Studio writes it."""
    chirps = [
        {"rlChirpCfg_t": {"chirpStartIdx": i, "chirpEndIdx": i, "profileId": 0, "startFreqVar_MHz": 0.0,
                          "freqSlopeVar_KHz_usec": 0.0, "idleTimeVar_usec": 0.0, "adcStartTimeVar_usec": 0.0,
                          "txEnable": hex(1 << tx)}}
        for i, tx in enumerate(order)
    ]  # fmt: skip
    profile = {
        "profileId": 0, "startFreqConst_GHz": 77.0, "idleTimeConst_usec": 7.0, "adcStartTimeConst_usec": 6.0,
        "rampEndTime_usec": 60.0, "freqSlopeConst_MHz_usec": 60.0, "numAdcSamples": samples,
        "digOutSampleRate": 5000.0, "rxGain_dB": "0x1E",
    }  # fmt: skip
    frame = {"chirpStartIdx": 0, "chirpEndIdx": len(order) - 1, "numLoops": loops, "numFrames": frames,
             "framePeriodicity_msec": period}  # fmt: skip
    return {
        "mmWaveDevices": [
            {
                "mmWaveDeviceId": 0,
                "rfConfig": {
                    "waveformType": "legacyFrameChirp",
                    "rlChanCfg_t": {"rxChannelEn": rx_mask, "txChannelEn": "0x7"},
                    "rlAdcOutCfg_t": {"fmt": {"b2AdcBits": 2, "b2AdcOutFmt": 1}},
                    "rlProfiles": [{"rlProfileCfg_t": profile}],
                    "rlChirps": chirps,
                    "rlFrameCfg_t": frame,
                },
                "rawDataCaptureConfig": {
                    "rlDevDataFmtCfg_t": {"iqSwapSel": swap, "chInterleave": separate},
                    "rlDevDataPathCfg_t": {"intfSel": 1, "transferFmtPkt0": "0x1", "transferFmtPkt1": "0x0"},
                },
            }
        ]
    }


def words(chirps: np.ndarray, layout: str, *, receivers=(0, 1, 2, 3), real=False, swap=False) -> bytes:
    """Write chirps (chirps, receivers, samples) of whole numbers, one 16-bit word after the other."""
    out: list[int] = []

    def parts(value: complex) -> tuple[int, int]:
        pair = (int(value.real), int(value.imag))
        return pair[::-1] if swap else pair

    if layout == "xwr16" and not real:
        flat = list(chirps.reshape(-1))  # pairs run on from one receiver to the next when a chirp is odd
        for one, two in zip(flat[::2], flat[1::2], strict=True):
            (i1, q1), (i2, q2) = parts(one), parts(two)
            out += [i1, i2, q1, q2]
        return struct.pack(f"<{len(out)}h", *out)
    for chirp in chirps:
        if layout == "xwr14":
            for n in range(chirp.shape[1]):
                lanes = [0j] * 4
                for row, receiver in enumerate(receivers):
                    lanes[receiver] = chirp[row, n]
                out += [parts(value)[0] for value in lanes]
                out += [] if real else [parts(value)[1] for value in lanes]
        elif layout == "iqiq-interleaved":
            for n in range(chirp.shape[1]):
                for row in chirp:
                    out += [int(row[n].real)] if real else list(parts(row[n]))
        else:
            for row in chirp:
                for value in row:
                    out += [int(value.real)] if real else list(parts(value))
    return struct.pack(f"<{len(out)}h", *out)


def datagrams(data: bytes, size: int = 1456) -> list[bytes]:
    """Cut data into the packets that a DCA1000 sends."""
    return [
        struct.pack("<I", number + 1) + start.to_bytes(6, "little") + data[start : start + size]
        for number, start in enumerate(range(0, len(data), size))
    ]


def with_length(packet: bytes) -> bytes:
    """Put the length of the data between sequence number and byte count."""
    return packet[:4] + struct.pack("<I", len(packet) - 10) + packet[4:]


def pcap(packets: list[bytes], *, port: int = 4098, order: str = "<") -> bytes:
    """Write packets as a network recorder does."""
    out = struct.pack(order + "IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    for packet in packets:
        udp = struct.pack(">HHHH", 4096, port, 8 + len(packet), 0) + packet
        ip = struct.pack(
            ">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, b"\xc0\xa8!\xb4", b"\xc0\xa8!\x1e"
        )
        frame = b"\x00" * 12 + b"\x08\x00" + ip + udp
        frame += b"\x00" * max(0, 60 - len(frame))  # as Ethernet does
        out += struct.pack(order + "IIII", 0, 0, len(frame), len(frame)) + frame
    return out


def whole(random: np.random.Generator, *shape: int) -> np.ndarray:
    """Draw complex numbers that 16 bits hold."""
    parts = random.integers(-32768, 32768, (2, *shape))
    return (parts[0] + 1j * parts[1]).astype(np.complex64)


def dump(value: dict) -> str:
    """Write JSON."""
    return json.dumps(value)


@contextlib.contextmanager
def refused_or_not() -> Iterator[None]:
    """Let a reader refuse, in one line; whatever else it raises is a failure."""
    try:
        yield
    except DataError as error:
        if "\n" in str(error):
            raise AssertionError(f"more than one line: {error}") from error
