"""From recorded files to a scan: capture or array, profile, track, antenna array and calibration.

Every channel gets the pose of the moment at which its own transmitter sent, so that a radar that moves between the
chirps of its transmitters is imaged where it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from saccade.errors import ConfigError, DataError, did_you_mean
from saccade.files import read_json
from saccade.radar.array import Array
from saccade.radar.calibration import read_calibration
from saccade.radar.capture import Format, analytic, count_frames, deinterleave, read_frames
from saccade.radar.matlab import read_variables
from saccade.radar.packets import Stream, open_stream
from saccade.radar.poses import Track, read_track
from saccade.radar.profile import Profile, read_profile
from saccade.radar.scan import Scan
from saccade.radar.stored import find_positions, pick_samples
from saccade.radar.waveform import Waveform


def import_scan(
    source: Path | str | Sequence[Path | str],
    config: Path | str,
    poses: Path | str | None = None,
    *,
    array: Array | Path | str = "awr1x42",
    calibration: Path | str | None = None,
    layout: str = "auto",
    packets: str = "auto",
    frames: int | None = None,
    swap: bool | None = None,
    clock_offset: float = 0.0,
    lever_arm: Sequence[float] = (0.0, 0.0, 0.0),
    mount: Sequence[float] = (1.0, 0.0, 0.0, 0.0),
    max_gap: float | None = None,
    variable: str = "",
    axes: str = "",
    path_loss: bool = True,
) -> Scan:
    """Make a scan of recorded data.

    Args:
        source: A DCA1000 capture (or its parts in order), or one MATLAB or HDF5 file that holds an array of samples.
        config: Profile (`read_profile`).
        poses: Track (`read_track`). A MATLAB or HDF5 file may hold positions itself: `tx` and `rx`, (poses, channels,
            3) or (poses * channels, 3), or `positions`, (poses, 3), metres.
        array: An array, its published name, or a JSON file (`load_array`).
        calibration: Calibration file (`read_calibration`).
        layout: Capture layout; "auto" takes what the profile implies.
        packets: How packets are stored (`open_stream`).
        frames: Take the first so many frames only.
        swap: Whether Q comes before I; by default what the profile says.
        clock_offset: Seconds to add to the track's timestamps to get to the radar's clock (0 is the first frame).
        lever_arm: Origin of the array in the tracked body's frame, metres.
        mount: Quaternion w x y z that rotates vectors of the array's frame into the body's.
        max_gap: Longest gap in the track to interpolate over, seconds; ten times the median step by default.
        variable: Name of the array of samples in a MATLAB or HDF5 file; the only one that fits, by default.
        axes: Names of its axes, separated by commas, of `stored.AXES`; several axes of poses are joined, the
            first named slowest.
        path_loss: Whether imaging shall weigh up the fall with distance, as suits recorded echoes.

    Returns:
        The scan; `meta` holds where it comes from, and `meta["notes"]` sentences that the user should read.

    Raises:
        DataError: Files that are damaged, contradict each other, or do not cover the scan.
        ConfigError: An option that cannot be right.
    """
    profile = read_profile(config)
    antennas = pick_antennas(load_array(array, profile.waveform.wavelength), profile)
    parts = [source] if isinstance(source, (str, Path)) else list(source)
    notes: list[str] = []
    meta: dict[str, Any] = {"source": [Path(part).name for part in parts], "profile": Path(config).name}
    places: tuple[np.ndarray, np.ndarray] | None = None
    if len(parts) == 1 and _holds_arrays(Path(parts[0])):
        variables = read_variables(parts[0])
        samples = pick_samples(variables, profile, variable, axes)
        if poses is None:
            places = find_positions(variables, antennas, samples.shape[:2])
        if frames is not None:
            keep = _first_poses(str(parts[0]), len(samples), frames * profile.loops)
            samples, places = samples[keep], places and (places[0][keep], places[1][keep])
        if swap:
            samples = 1j * np.conj(samples)  # Q + jI
    else:
        if variable or axes:
            raise ConfigError(
                "a capture has no variables; leave out --variable and --axes, or name a .mat or .h5 file"
            )
        stream = open_stream(parts, packets)
        form = capture_format(profile, layout, swap)
        count = count_frames(stream, form, declared=profile.frames, wanted=frames)
        samples = read_capture(stream, form, profile, count)
        meta |= {"layout": form.layout, "frames": count}
        if stream.packets:
            meta |= {"packets": stream.packets, "lost_bytes": stream.lost}
        if hit := _hit_loops(stream, form, profile, count):
            notes.append(
                f"{stream.lost} bytes never arrived and are zeros, in {hit} of {len(samples)} loops of chirps"
            )
    channels = [(tx, rx) for tx in profile.transmitters for rx in profile.rx]
    if calibration is not None:
        samples = read_calibration(calibration).apply(samples, channels, profile.waveform)
        meta["calibration"] = Path(calibration).name
    if places is None:
        if poses is None:
            raise DataError(
                f"{parts[0]}: holds no positions of the radar; expected a track of them, so say --poses FILE"
            )
        track = read_track(poses, clock_offset=clock_offset)
        meta |= {"track": Path(poses).name, "clock_offset": clock_offset}
        places = place_channels(
            track, profile, antennas, samples, lever_arm=lever_arm, mount=mount, max_gap=max_gap
        )
    notes += _check_direction(samples, profile.waveform)
    meta["notes"] = notes
    return Scan(samples, *places, profile.waveform, path_loss, "recorded", meta=meta).check(str(parts[0]))


def load_array(source: Array | Path | str, wavelength: float) -> Array:
    """Return an array by its published name or from a JSON file.

    Args:
        source: An array, a name of `Array.named`, or a file {"tx": [[x, y, z], ...], "rx": [...], "unit": "m"}; unit
            is "m" (default), "mm" or "wavelength".
        wavelength: Metres.

    Raises:
        DataError: A file that is none.
        ConfigError: A name that is none.
    """
    if isinstance(source, Array):
        return source
    path = Path(source)
    if path.suffix.lower() != ".json":
        return Array.named(str(source), wavelength)
    if not path.is_file() or path.stat().st_size > 16 << 20:
        raise DataError(f"{path}: no such file, or too large; expected an array (tx and rx, lists of x y z)")
    try:
        found = read_json(path, _Positions, max_bytes=16 << 20, finite=True)
    except DataError as error:
        raise DataError(
            f"{error}; not an array: expected JSON with tx and rx, lists of [x, y, z], and unit m, mm or wavelength"
        ) from None
    units = {"m": 1.0, "mm": 1e-3, "wavelength": wavelength}
    if found.unit not in units:
        raise DataError(f"{path}: unit is {found.unit[:20]!r}{did_you_mean(found.unit[:20], units)}")
    if max(map(len, (found.tx, found.rx))) > 1024 or not found.tx or not found.rx:
        raise DataError(
            f"{path}: {len(found.tx)} and {len(found.rx)} antennas; expected 1 to 1024 on each side"
        )
    sides = [np.array(side, np.float64) * units[found.unit] for side in (found.tx, found.rx)]
    return Array(*sides)


@dataclass
class _Positions:
    """Antennas as a file gives them."""

    tx: list[tuple[float, float, float]]
    rx: list[tuple[float, float, float]]
    unit: str = "m"


def pick_antennas(array: Array, profile: Profile) -> Array:
    """Keep the antennas that a profile uses.

    An array with as many antennas as are in use is taken in ascending order; of a larger one the numbers count.

    Raises:
        DataError: The array has fewer.
    """
    sides = []
    for name, has, used in (
        ("transmitters", array.tx, profile.transmitters),
        ("receivers", array.rx, profile.rx),
    ):
        if len(has) == len(used):
            sides.append(has)
        elif max(used) < len(has):
            sides.append(has[list(used)])
        else:
            raise DataError(
                f"array: {len(has)} {name} and the profile uses {[number + 1 for number in used]} (from 1); expected "
                "a position for each, so name another --array, or a JSON file"
            )
    return Array(*sides)


def capture_format(profile: Profile, layout: str = "auto", swap: bool | None = None) -> Format:
    """Return what a capture's bytes mean, by its profile.

    Raises:
        ConfigError: The profile does not say the layout, or it cannot be.
    """
    chosen = profile.layout if layout == "auto" else layout
    if not chosen:
        raise ConfigError(
            "the profile does not say how the capture is laid out; say --layout xwr14 (four lanes: xWR12, xWR14) or "
            "xwr16 (two lanes: xWR16, xWR18, xWR68)"
        )
    return Format(
        chosen,
        profile.waveform.num_samples,
        profile.rx,
        profile.loops * len(profile.tx_order),
        profile.real,
        profile.swap if swap is None else swap,
        profile.bits,
    )


def read_capture(stream: Stream, form: Format, profile: Profile, frames: int) -> np.ndarray:
    """Read samples, (frames * loops, channels, samples) complex64, transmitters outer and receivers inner."""
    loops, count = profile.loops, len(profile.tx_order)
    out = np.empty((frames * loops, count * len(profile.rx), form.samples), np.complex64)
    at = 0
    for chirps in read_frames(stream, form, frames):
        found = deinterleave(analytic(chirps) if form.real else chirps, profile.tx_order)
        out[at : at + len(found)] = found.reshape(len(found), *out.shape[1:])
        at += len(found)
    return out


def place_channels(
    track: Track,
    profile: Profile,
    array: Array,
    samples: np.ndarray,
    *,
    lever_arm: Sequence[float] = (0.0, 0.0, 0.0),
    mount: Sequence[float] = (1.0, 0.0, 0.0, 0.0),
    max_gap: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Put the array at each transmitter's own moments.

    Args:
        track: On the radar's clock.
        profile: When chirps were sent.
        array: Antennas in use.
        samples: (P, C, N); P whole frames of loops.
        lever_arm: As in `Track.at`.
        mount: As in `Track.at`.
        max_gap: As in `Track.at`.

    Returns:
        Transmitter and receiver of each channel, (P, C, 3) each.

    Raises:
        DataError: The track does not cover the scan.
    """
    if len(samples) % profile.loops:
        raise DataError(
            f"samples: {len(samples)} poses and {profile.loops} loops a frame; expected whole frames, so "
            "check the profile"
        )
    times = profile.chirp_times(len(samples) // profile.loops)
    places, turns = track.at(times, lever_arm=lever_arm, mount=mount, max_gap=max_gap)
    count, num_rx = len(array.tx), len(array.rx)
    tx = np.broadcast_to(array.tx, (*times.shape, 3))
    rx = np.broadcast_to(array.rx, (*times.shape, num_rx, 3))
    if turns is not None:
        tx = np.einsum("ptij,tj->pti", turns, array.tx)
        rx = np.einsum("ptij,rj->ptri", turns, array.rx)
    tx = np.repeat((places + tx)[:, :, None], num_rx, 2)
    rx = places[:, :, None] + rx
    return tx.reshape(-1, count * num_rx, 3), rx.reshape(-1, count * num_rx, 3)


def _holds_arrays(path: Path) -> bool:
    """Whether a file is MATLAB's or HDF5."""
    if path.suffix.lower() in (".mat", ".h5", ".hdf5"):
        return True
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(8)
    return head == b"\x89HDF\r\n\x1a\n" or head.startswith(b"MATLAB 5")


def _first_poses(name: str, count: int, wanted: int) -> slice:
    """Choose the first poses of an array."""
    if not 1 <= wanted <= count:
        raise DataError(f"{name}: holds {count} poses; expected at least the {wanted} asked for (--frames)")
    return slice(wanted)


def _hit_loops(stream: Stream, form: Format, profile: Profile, frames: int) -> int:
    """Count loops that lost bytes."""
    size = form.frame_bytes // profile.loops
    hit: set[int] = set()
    for start, stop in stream.gaps():
        hit.update(range(start // size, min(-(-stop // size), frames * profile.loops)))
    return len(hit)


def _check_direction(samples: np.ndarray, waveform: Waveform) -> list[str]:
    """Say so when nearly all energy lies in the far half of the range axis, where swapped I and Q put it."""
    spectrum = np.abs(np.fft.fft(samples[:: max(1, len(samples) // 64)], axis=2)) ** 2
    power, half = spectrum.mean((0, 1)), waveform.num_samples // 2
    near, far = float(power[1:half].sum()), float(power[-half + 1 :].sum())
    if waveform.num_samples < 8 or far <= 4 * near:
        return []
    return [
        f"most energy lies beyond {waveform.max_range / 2:.3g} m; if the target is nearer, I and Q are swapped "
        "(--swap or --no-swap) or the layout is another (--layout)"
    ]
