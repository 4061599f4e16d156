"""Samples and positions that somebody stored as arrays in a MATLAB or HDF5 file."""

from __future__ import annotations

import numpy as np

from saccade.errors import ConfigError, DataError, did_you_mean
from saccade.radar.array import Array
from saccade.radar.capture import analytic
from saccade.radar.matlab import Variables
from saccade.radar.profile import Profile

POSE_AXES = ("pose", "frame", "loop", "x", "y", "z", "angle")
AXES = (*POSE_AXES, "channel", "tx", "rx", "sample")
"""Names of the axes of an array of samples."""
_DEFAULT_AXES = {
    2: "pose,sample",
    3: "pose,channel,sample",
    4: "pose,tx,rx,sample",
    5: "rx,tx,y,x,sample",  # rectilinear scans of the authors' toolbox
}


def pick_samples(variables: Variables, profile: Profile, variable: str = "", axes: str = "") -> np.ndarray:
    """Find the array of samples and bring it into order.

    Returns:
        (poses, channels, samples) complex.

    Raises:
        DataError: None fits, or several do.
        ConfigError: Axes that cannot be.
    """
    count = profile.waveform.num_samples
    if not variable:
        fitting = [
            name
            for name, value in variables.arrays.items()
            if np.iscomplexobj(value) and value.ndim in _DEFAULT_AXES and count in value.shape
        ]
        if len(fitting) != 1:
            raise DataError(
                f"{variables.name}: {len(fitting)} complex arrays have an axis of {count} samples"
                f"{': ' + ', '.join(fitting[:8]) if fitting else ''}; expected one, so say --variable NAME (there "
                f"are {', '.join(sorted(variables.arrays)[:8]) or 'no arrays'})"
            )
        variable = fitting[0]
    value = variables[variable]
    where = f"{variables.name}: {variable}"
    names = [name.strip() for name in (axes or _DEFAULT_AXES.get(value.ndim, "")).split(",") if name.strip()]
    for name in names:
        if name not in AXES:
            raise ConfigError(f"no axis {name!r}{did_you_mean(name, AXES)}")
    if len(names) != value.ndim or len(set(names)) < len(names) or "sample" not in names:
        raise DataError(
            f"{where}: shape {value.shape} and axes {','.join(names) or 'unknown'}; expected a name for "
            f"each axis, sample among them, so say --axes of {', '.join(AXES)}"
        )
    sizes = dict(zip(names, value.shape, strict=True))
    num_tx, num_rx = len(profile.tx_order), len(profile.rx)
    expected = {"sample": count, "tx": num_tx, "rx": num_rx, "channel": num_tx * num_rx}
    for name, size in expected.items():
        if sizes.get(name, size) != size:
            raise DataError(
                f"{where}: axis {name} has {sizes[name]} entries (shape {value.shape}, axes {','.join(names)}) and "
                f"the profile says {size}; check --axes and the profile"
            )
    inner = ["channel"] if "channel" in names else [name for name in ("tx", "rx") if name in names]
    if "channel" not in names and np.prod([sizes[name] for name in inner], dtype=int) != num_tx * num_rx:
        raise DataError(
            f"{where}: axes {','.join(names)} have no channels and the profile has {num_tx * num_rx}; say --axes "
            "with tx and rx, or channel"
        )
    outer = [name for name in names if name in POSE_AXES]
    order = [names.index(name) for name in (*outer, *inner, "sample")]
    found = value.transpose(order).reshape(-1, num_tx * num_rx, count)
    if not found.size:
        raise DataError(f"{where}: shape {value.shape}; expected at least one sample")
    if not np.iscomplexobj(found):
        return analytic(found)
    return np.ascontiguousarray(found)


def find_positions(
    variables: Variables, array: Array, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Take positions of transmitters and receivers, (P, C, 3) each, from a file, or None where it has none.

    Raises:
        DataError: Positions of another number than the samples.
    """
    poses, channels = shape
    found = variables.arrays
    if "tx" in found and "rx" in found:
        sides = []
        for name in ("tx", "rx"):
            if found[name].shape not in ((poses, channels, 3), (poses * channels, 3)) or np.iscomplexobj(
                found[name]
            ):
                raise DataError(
                    f"{variables.name}: {name} has shape {found[name].shape}; expected {(poses, channels, 3)} or "
                    f"{(poses * channels, 3)}, metres"
                )
            sides.append(found[name].reshape(poses, channels, 3).astype(np.float64))
        return sides[0], sides[1]
    if "positions" in found:
        if found["positions"].shape != (poses, 3) or np.iscomplexobj(found["positions"]):
            raise DataError(
                f"{variables.name}: positions has shape {found['positions'].shape}; expected {(poses, 3)}, metres"
            )
        tx, rx = array.pairs()
        places = found["positions"].astype(np.float64)[:, None]
        return places + tx, places + rx
    return None
