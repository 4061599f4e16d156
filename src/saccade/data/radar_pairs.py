"""Radar training pairs on disk: made in parallel, resumed where they stopped, checked when read.

A data set is a folder of safetensors shards and `manifest.json`, which holds the configuration, the seed and each
shard's SHA-256. Pair i depends on configuration, seed and i alone, so shards may be made in any order, on any number
of cores, and a data set may be enlarged later.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import Dataset

from saccade.data.dataset import SampleKey
from saccade.data.pool import writers
from saccade.errors import ConfigError, DataError, SaccadeError, did_you_mean
from saccade.files import read_json, replacing, sha256, within, write_text, writing
from saccade.files.tensors import open_tensors
from saccade.radar.dataset import PairConfig, make_pair

FORMAT = 1
MANIFEST = "manifest.json"
FACTS = ("depth", "position_error", "swing", "snr_db", "points")
MAX_PIXELS = 4096 * 4096


def make_pairs(
    folder: Path | str,
    config: PairConfig,
    count: int,
    *,
    seed: int = 0,
    shard_size: int = 32,
    workers: int = 1,
    done: Callable[[int], None] | None = None,
) -> int:
    """Make a data set, or what is missing of it.

    Args:
        folder: Made when absent. One that holds a data set of the same configuration and seed is completed.
        config: What pairs look like.
        count: Pairs wanted.
        seed: Of the data set.
        shard_size: Pairs of one file.
        workers: Processes.
        done: Called with the number of pairs of each shard that is there.

    Returns:
        Pairs that were made now.

    Raises:
        ConfigError: Counts out of range, the folder holds another data set, or another process is writing there.
    """
    folder = Path(folder)
    if count < 1 or shard_size < 1 or workers < 1:
        raise ConfigError(
            f"pairs: count {count}, shard size {shard_size}, workers {workers}; expected at least 1 each"
        )
    manifest = {"format": FORMAT, "config": _plain(config), "seed": seed, "shard_size": shard_size}
    if folder.is_file():
        raise ConfigError(f"{folder}: is a file; choose an empty or a new folder")
    with writing(folder, "making pairs", beside=True):
        return _make_held(folder, manifest, config, count, workers, done)


def _make_held(
    folder: Path,
    manifest: dict[str, Any],
    config: PairConfig,
    count: int,
    workers: int,
    done: Callable[[int], None] | None,
) -> int:
    """As `make_pairs`, in a folder whose lock is held."""
    seed, shard_size = manifest["seed"], manifest["shard_size"]
    shards: dict[str, str] = {}
    if (folder / MANIFEST).is_file():
        before = read_manifest(folder)
        for key, value in manifest.items():
            if before[key] != value:
                raise ConfigError(
                    f"{folder}: holds pairs made with another {key}; choose another folder, or the same settings"
                )
        shards = before["shards"]
        count = max(count, before["count"])
    elif folder.is_dir() and any(folder.iterdir()):
        raise ConfigError(f"{folder}: is not empty and holds no {MANIFEST}; choose an empty or a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    jobs = []
    for start in range(0, count, shard_size):
        name, size = f"pairs-{start // shard_size:05d}.safetensors", min(shard_size, count - start)
        path = folder / name
        if name in shards and path.is_file() and sha256(path) == shards[name] and _length(path) == size:
            if done:
                done(size)
        else:
            shards.pop(name, None)
            jobs.append((path, config, seed, start, size))
    _write_manifest(folder, manifest, count, shards)
    for path, digest, size in _run(jobs, workers):
        shards[path.name] = digest
        _write_manifest(folder, manifest, count, shards)
        if done:
            done(size)
    return sum(job[4] for job in jobs)


def _run(jobs: list[tuple], workers: int) -> Any:
    """Yield (path, digest, pairs) of shards as they are finished."""
    if workers == 1 or len(jobs) < 2:
        for job in jobs:
            yield _make_shard(*job)
        return
    with writers(workers) as pool:
        for future in concurrent.futures.as_completed([pool.submit(_make_shard, *job) for job in jobs]):
            yield future.result()


def _make_shard(path: Path, config: PairConfig, seed: int, start: int, size: int) -> tuple[Path, str, int]:
    """Make and write one shard."""
    pairs = [make_pair(config, seed, start + i) for i in range(size)]
    tensors = {
        name: torch.from_numpy(np.stack([pair[name] for pair in pairs]))
        for name in ("ideal", "empm", *config.methods)
    }
    tensors["facts"] = torch.tensor([[pair["facts"][name] for name in FACTS] for pair in pairs])
    with replacing(path) as temporary:
        save_file(tensors, str(temporary))
    return path, sha256(path), size


def _write_manifest(folder: Path, manifest: dict[str, Any], count: int, shards: dict[str, str]) -> None:
    """Write the manifest of what is there."""
    text = json.dumps({**manifest, "count": count, "shards": dict(sorted(shards.items()))}, indent=1)
    write_text(folder / MANIFEST, text + "\n")


def _plain(config: PairConfig) -> dict[str, Any]:
    """Return a configuration as JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def _length(path: Path) -> int:
    """Pairs of a shard; 0 when it cannot be read."""
    try:
        with open_tensors(path) as file:
            return file.get_slice("ideal").get_shape()[0]
    except SaccadeError:
        return 0


@dataclass
class Manifest:
    """What a folder of pairs says about itself."""

    format: int
    seed: int
    shard_size: Annotated[int, within(1, 1 << 32)]
    count: Annotated[int, within(0, 1 << 48)]
    config: dict[str, Any]
    shards: dict[str, str]
    """SHA-256 by file name."""


def read_manifest(folder: Path | str) -> dict[str, Any]:
    """Read and check the manifest of a data set.

    Raises:
        DataError: No data set here, or one that this version cannot read.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise DataError(
            f"{folder}: no {MANIFEST}; expected a folder made by `saccade radar dataset --out {folder}`"
        )
    try:
        found = read_json(path, Manifest)
    except DataError as error:
        raise DataError(f"{error}; not a manifest of radar pairs, so make the data set again") from None
    known = {field.name for field in dataclasses.fields(PairConfig)}
    inside = all(name and Path(name).name == name for name in found.shards)
    if found.format != FORMAT or not found.config.keys() <= known or not inside:
        raise DataError(f"{path}: not a manifest of radar pairs of format {FORMAT}; make the data set again")
    return dataclasses.asdict(found)


def to_peak(image: Tensor, peak: float) -> Tensor:
    """Scale a magnitude image to the largest value `peak`; a black one, or a peak of 0, changes nothing."""
    top = float(image.max())
    return image / top * peak if peak and top > 0 else image


class RadarPairs(Dataset):
    """Pairs as samples.

    A sample is a dictionary:

        image   (1, size, size) float32: magnitude of the image as formed, brought to `peak`
        target  (1, size, size) float32 in [0, 1]: the ideal image
        index   int
        name    str
        skipped  empty list (a shard that cannot be read ends the run: it was checked before)
    """

    def __init__(
        self,
        folder: Path | str,
        part: tuple[float, float] = (0.0, 1.0),
        *,
        method: str = "empm",
        flip: bool = False,
        peak: float = 0.0,
    ):
        """Open a data set.

        Args:
            folder: Made by `make_pairs`.
            part: Which share of it, in file order, such as (0, 0.9).
            method: Which images go in.
            flip: Mirror along x and y by the seed of the sample key (training).
            peak: Largest value that every image is brought to; 0: as it is stored.

        Raises:
            DataError: Not a whole data set, a damaged shard, or images that it does not hold.
        """
        self.folder, self.method, self.flip, self.peak = Path(folder), method, flip, peak
        manifest = read_manifest(folder)
        held = ("empm", *manifest["config"].get("methods", ()))
        if method not in (*held, "ideal"):
            raise DataError(
                f"{folder}: holds no images by {method!r}{did_you_mean(method, held)}; it has {', '.join(held)}"
            )
        places: list[tuple[str, int]] = []
        for name in sorted(manifest["shards"]):
            path = self.folder / name
            if not path.is_file():
                raise DataError(
                    f"{path}: listed in {MANIFEST} and absent; run `saccade radar dataset` again to make it"
                )
            shape = self._shape(path)
            places += [(name, row) for row in range(shape[0])]
        count = len(places)
        first, last = (round(share * count) for share in part)
        self.offset, self.places = first, places[first:last]
        if not self.places:
            raise DataError(
                f"{folder}: the part {part[0]:g} to {part[1]:g} of its {count} pairs holds none; make more with "
                "`saccade radar dataset`, or name others to validate on with --val"
            )

    def _shape(self, path: Path) -> list[int]:
        """Read the shape of a shard's images, bounded."""
        try:
            with open_tensors(path, error=DataError) as file:
                shape = file.get_slice("ideal").get_shape()
                other = file.get_slice(self.method).get_shape()
        except DataError as error:
            raise DataError(f"{error}; delete it and run `saccade radar dataset` again") from None
        if len(shape) != 3 or shape != other or shape[1] * shape[2] > MAX_PIXELS:
            raise DataError(
                f"{path}: images have shapes {shape} and {other}; expected (pairs, size, size) twice"
            )
        return shape

    def check(self) -> None:
        """Compare every shard with its checksum.

        Raises:
            DataError: Names the shard that differs.
        """
        shards = read_manifest(self.folder)["shards"]
        for name in sorted({name for name, _ in self.places}):
            if sha256(self.folder / name) != shards[name]:
                raise DataError(
                    f"{self.folder / name}: differs from its checksum in {MANIFEST}; delete it and make it again"
                )

    def __len__(self) -> int:
        return len(self.places)

    def images(self, index: int, method: str) -> Tensor:
        """Return one image as it is stored, (size, size), complex or (for "ideal") real."""
        name, row = self.places[index]
        with open_tensors(self.folder / name, error=DataError) as file:
            return file.get_slice(method)[row]

    def facts(self, index: int) -> dict[str, float]:
        """Return what was drawn for a pair."""
        name, row = self.places[index]
        with open_tensors(self.folder / name, error=DataError) as file:
            return dict(zip(FACTS, file.get_slice("facts")[row].tolist(), strict=True))

    def __getitem__(self, key: int | SampleKey) -> dict[str, Any]:
        index, seed = (key.index, key.seed) if isinstance(key, SampleKey) else (key, 0)
        image = to_peak(self.images(index, self.method).abs().float()[None], self.peak)
        target = self.images(index, "ideal").float()[None]
        if self.flip:
            # The scan is alike from both ends of each axis, but not across: antennas lie along y.
            axes = [axis for bit, axis in ((1, 1), (2, 2)) if seed & bit]
            image, target = image.flip(axes), target.flip(axes)
        return {
            "image": image,
            "target": target,
            "index": index,
            "name": f"pair-{index + self.offset:06d}",
            "skipped": [],
        }
