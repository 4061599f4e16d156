"""Scans and images on disk: HDF5, with axes and units, written whole or not at all.

A file says what it is in the attributes `saccade` ("scan" or "image") and `version` of its root. Datasets hold plain
numbers; the waveform and further facts are JSON. Files come from anywhere: only numbers of the expected kind and
shape are read, nothing outside the file, and not more than `MAX_VALUES` of them.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from saccade.errors import ConfigError, DataError, SaccadeError
from saccade.extras import require
from saccade.files import parse_json, replacing
from saccade.radar.grid import Grid, RadarImage
from saccade.radar.scan import Scan
from saccade.radar.waveform import Waveform

VERSION = 1
MAX_VALUES = 2**31
"""Numbers of one dataset; a larger one is refused before it is read."""
MAX_TEXT = 1 << 20
LARGEST = 1.7e38
"""Largest real or imaginary part that a file may hold: half of what single precision can, so that magnitudes fit."""
SMALLEST = 1e-30
"""A file whose largest number is smaller would lose digits, and then everything."""
_WRITTEN_BY = {
    "scan": "`saccade radar simulate` or `saccade radar import`",
    "image": "`saccade radar image`",
}


def write_scan(scan: Scan, path: Path | str) -> None:
    """Write a scan (samples as complex64, positions as float64 metres).

    Raises:
        DataError: An inconsistent scan, or samples that single precision cannot hold.
        MissingExtraError: h5py (extra `radar`) is not installed.
    """
    scan.check()
    arrays = {"samples": single(scan.samples, f"{path}: samples"), "tx": scan.tx, "rx": scan.rx}
    arrays |= {name: value for name in ("true_tx", "true_rx") if (value := getattr(scan, name)) is not None}
    facts = {
        "waveform": dataclasses.asdict(scan.waveform),
        "path_loss": bool(scan.path_loss),
        "geometry": scan.geometry,
        "meta": scan.meta,
    }
    _write(path, "scan", arrays, facts)


def read_scan(path: Path | str) -> Scan:
    """Read a scan.

    Raises:
        DataError: No such file, not a scan of ours, or a field that is missing or wrong.
        MissingExtraError: h5py (extra `radar`) is not installed.
    """
    arrays, facts = _read(
        path, "scan", {"samples": "c", "tx": "f", "rx": "f"}, {"true_tx": "f", "true_rx": "f"}
    )
    try:
        waveform = Waveform(**facts["waveform"])
    except (KeyError, TypeError, ConfigError) as error:
        raise DataError(
            f"{path}: field waveform cannot be used ({error}); expected the fields of a waveform"
        ) from None
    return Scan(
        arrays["samples"],
        arrays["tx"],
        arrays["rx"],
        waveform,
        bool(facts.get("path_loss", False)),
        str(facts.get("geometry", "free")),
        arrays.get("true_tx"),
        arrays.get("true_rx"),
        facts.get("meta") if isinstance(facts.get("meta"), dict) else {},  # pyright: ignore[reportArgumentType]
    ).check(str(path))


def write_image(image: RadarImage, path: Path | str) -> None:
    """Write an image with its axes in metres.

    Raises:
        DataError: Values that single precision cannot hold.
        MissingExtraError: h5py (extra `radar`) is not installed.
    """
    grid = image.grid
    arrays = {"values": single(image.values, f"{path}: values"), "x": grid.x, "y": grid.y, "z": grid.z}
    _write(path, "image", arrays, {"method": image.method, "meta": image.meta})


def read_image(path: Path | str) -> RadarImage:
    """Read an image.

    Raises:
        DataError: No such file, not an image of ours, or a field that is missing or wrong.
        MissingExtraError: h5py (extra `radar`) is not installed.
    """
    arrays, facts = _read(path, "image", {"values": "cf", "x": "f", "y": "f", "z": "f"}, {})
    try:
        grid = Grid(arrays["x"], arrays["y"], arrays["z"])
    except ConfigError as error:
        raise DataError(f"{path}: {error}") from None
    if arrays["values"].shape != grid.image_shape:
        raise DataError(
            f"{path}: values have shape {arrays['values'].shape} and the axes say {grid.image_shape}; "
            "the file is damaged"
        )
    if not np.isfinite(arrays["values"]).all():
        raise DataError(f"{path}: values hold NaN or infinite numbers; form the image again")
    meta = facts.get("meta")
    return RadarImage(
        arrays["values"], grid, str(facts.get("method", "")), meta if isinstance(meta, dict) else {}
    )


def single(values: np.ndarray, where: str) -> np.ndarray:
    """Round to single precision, complex64 or float32, as files hold them.

    Args:
        values: Real or complex.
        where: Names them in the message.

    Raises:
        DataError: Numbers that are not finite, that would become infinite (their magnitudes, too), or that would all
            become zero.
    """
    values = np.asarray(values)
    kind = np.complex64 if np.iscomplexobj(values) else np.float32
    parts = (np.real(values), np.imag(values)) if kind is np.complex64 else (values,)
    largest = max((float(np.abs(part).max()) for part in parts if part.size), default=0.0)
    if not largest <= LARGEST or 0 < largest < SMALLEST:
        raise DataError(
            f"{where}: the largest number is {largest:.3g} and files hold single precision, {SMALLEST:.0e} to "
            f"{LARGEST:.1e}; scale the echoes first"
        )
    return values.astype(kind)


def _write(path: Path | str, kind: str, arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> None:
    """Write a file aside and rename it."""
    h5py: Any = require("h5py", "radar", "to write HDF5 files")
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["saccade"], file.attrs["version"] = kind, VERSION
        file.attrs["facts"] = json.dumps(facts, default=_plain)
        for name, value in arrays.items():
            file.create_dataset(name, data=value)


def _plain(value: Any) -> Any:
    """Turn NumPy numbers and arrays into JSON values."""
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else str(value)


def _read(
    path: Path | str, kind: str, needed: dict[str, str], optional: dict[str, str]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read the datasets of a file; `needed` and `optional` map names to the allowed NumPy kinds."""
    h5py: Any = require("h5py", "radar", "to read HDF5 files")
    if not Path(path).is_file():
        raise DataError(f"{path}: no such file; expected one written by {_WRITTEN_BY[kind]}")
    try:
        with h5py.File(path, "r") as file:
            found, version = file.attrs.get("saccade"), file.attrs.get("version")
            if not isinstance(found, str) or found not in _WRITTEN_BY:
                raise DataError(
                    f"{path}: an HDF5 file from elsewhere (no attribute saccade); expected one written by "
                    f"{_WRITTEN_BY[kind]}, or bring it in with `saccade radar import`"
                )
            if found != kind:
                raise DataError(
                    f"{path}: this is a radar {found}, and a radar {kind} is expected, written by {_WRITTEN_BY[kind]}"
                )
            if version != VERSION:
                raise DataError(
                    f"{path}: version {version}; this Saccade reads version {VERSION}, upgrade it"
                )
            arrays = {}
            for name, kinds in {**needed, **optional}.items():
                if name in file:
                    arrays[name] = _read_array(h5py, file, name, kinds, path)
                elif name in needed:
                    raise DataError(f"{path}: field {name} is missing; the file is not a whole radar {kind}")
            facts = _read_facts(file, path)
    except SaccadeError:
        raise
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(
            f"{path}: cannot be read as HDF5 ({reason}); it is damaged or of another kind (recorded data comes in "
            "with `saccade radar import`)"
        ) from None
    return arrays, facts


def _read_array(h5py: Any, file: Any, name: str, kinds: str, path: Path | str) -> np.ndarray:
    """Read one dataset of numbers that lie in the file itself."""
    link = file.get(name, getlink=True)
    data: Any = file[name] if isinstance(link, h5py.HardLink) else None
    if not isinstance(data, h5py.Dataset) or data.external or data.is_virtual:
        raise DataError(f"{path}: field {name} is no dataset of its own; the file points somewhere else")
    if data.dtype.kind not in kinds or data.size > MAX_VALUES:
        raise DataError(
            f"{path}: field {name} holds {data.size} values of type {data.dtype}; expected at most {MAX_VALUES} "
            f"{'complex' if 'c' in kinds else 'real'} numbers"
        )
    return np.asarray(data[()])


def _read_facts(file: Any, path: Path | str) -> dict[str, Any]:
    """Read the JSON beside the datasets."""
    text = file.attrs.get("facts", "{}")
    try:
        where = f"{path}: attribute facts"
        facts = parse_json(text, where=where, max_bytes=MAX_TEXT) if isinstance(text, str) else None
    except DataError:
        facts = None
    if not isinstance(facts, dict):
        raise DataError(f"{path}: attribute facts is not a JSON object; the file is damaged")
    return facts
