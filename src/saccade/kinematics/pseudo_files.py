"""Masks and depth that a user already has, in place of networks: one file of numbers a video.

For video `street/a.mp4` of the folder that is labelled, the file is `street/a.npz` of the folder of masks or depths:

    times_s   (n,) seconds from the video's first frame, rising
    masks     (n, h, w) whole numbers: 0 for none, k for thing k
    names     (k,) what each thing is, such as "car"

    times_s   (n,)
    depth     (n, h, w) metres along the axis; not finite or not above 0 where there is none
    focal_px  one number, optional: focal length in pixels of these maps

Maps may be of any size with the video's proportions. In place of a file of masks there may be, for each clip, what
`lift.given` reads: the folder `street/a/` of PNG files or the file `street/a.jsonl` of boxes, one entry for each
frame of the clip at the size at which the stages see it; a video of several clips has `street/a#000` and so on.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from saccade.errors import DataError
from saccade.kinematics.lift.given import given
from saccade.kinematics.lift.stages import MaskTrack
from saccade.kinematics.pseudo_clips import Frames

NEAR_S = 0.05
"""Farthest map from a frame that it is used for, seconds."""
MAX_BYTES = 1 << 33
"""Largest array, 8 GiB: twenty minutes at two frames a second and 1280 x 720 in float32."""


_KINDS = {"f": "floating-point numbers", "iu": "whole numbers", "fiu": "numbers", "U": "text"}
"""Letters of NumPy, as people call them."""


class GivenMasks:
    """Masks by file; what a detector and a tracker would find."""

    def __init__(self, folder: Path | str) -> None:
        """Remember the folder.

        Raises:
            DataError: No such folder.
        """
        self.folder = _folder(folder, "masks")

    def __call__(self, frames: Frames, names: Sequence[str]) -> list[MaskTrack]:
        """Read the masks of a clip.

        Args:
            frames: Clip.
            names: Kinds that are wanted; things of others are left out.

        Raises:
            DataError: No file, or one that does not say what it should.
        """
        path = _path(self.folder, frames)
        wanted = {name.lower() for name in names}
        own = next((place for place in self._of_clip(frames) if place.exists()), None)
        if own is not None and not path.is_file():
            found = given(own)(frames.images, names)
            return [track for track in found if track.category.lower() in wanted]
        with _Arrays(path) as arrays:
            called = arrays.take("names", 1, "U")
            maps = _at(arrays, "masks", "iu", frames, path)
        most = int(maps.max(initial=0))
        if most > len(called) or int(maps.min(initial=0)) < 0:
            raise DataError(
                f"{path}: masks hold thing {most} and there are {len(called)} names; expected one each"
            )
        tracks = []
        for number, name in enumerate(called.tolist(), 1):
            if name.lower() not in wanted:
                continue
            masks: list[np.ndarray | None] = [mask if mask.any() else None for mask in maps == number]
            if any(mask is not None for mask in masks):
                tracks.append(MaskTrack(f"{number:03d}", name, masks))
        return tracks

    def _of_clip(self, frames: Frames) -> list[Path]:
        """Where a clip's own masks or boxes may lie."""
        name = PurePosixPath(frames.piece.name)
        part = frames.piece.clip_id.removeprefix(frames.piece.name)
        home = self.folder / name.parent
        return [home / f"{name.stem}{part}", home / f"{name.stem}{part}.jsonl"]


class GivenDepth:
    """Depth by file; what a network of metric depth would measure."""

    def __init__(self, folder: Path | str) -> None:
        """Remember the folder.

        Raises:
            DataError: No such folder.
        """
        self.folder = _folder(folder, "depth maps")

    def __call__(self, frames: Frames) -> tuple[np.ndarray, float | None]:
        """Read the depth of a clip.

        Returns:
            (T, H, W) float32 metres, NaN where there is none; and the focal length in pixels of the frames.

        Raises:
            DataError: No file, or one that does not say what it should.
        """
        path = _path(self.folder, frames)
        with _Arrays(path) as arrays:
            depth = _at(arrays, "depth", "f", frames, path).astype(np.float32)
            focal = None
            if "focal_px" in arrays.names:
                wide = arrays.shape("depth")[2]
                focal = float(arrays.take("focal_px", 0, "fiu")) * frames.images.shape[2] / wide
                if not 0 < focal < float("inf"):
                    raise DataError(f"{path}: focal_px is {focal}; expected pixels above 0")
        depth[~(np.isfinite(depth) & (depth > 0))] = np.nan
        return depth, focal


class _Arrays:
    """The arrays of a file, read one by one; nothing in it is run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> _Arrays:
        if not self.path.is_file():
            raise DataError(f"{self.path}: no such file; expected what goes with the video of that name")
        try:
            self._file: Any = np.load(self.path, allow_pickle=False)
            self.names = set(self._file.files)
            sizes = {info.filename: info.file_size for info in self._file.zip.infolist()}
        except (OSError, ValueError, zipfile.BadZipFile, AttributeError) as error:
            raise DataError(f"{self.path}: cannot be read as .npz ({str(error)[:80]})") from None
        if sizes and max(sizes.values()) > MAX_BYTES:
            raise DataError(
                f"{self.path}: an array of {max(sizes.values())} bytes; expected at most {MAX_BYTES}"
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def take(self, name: str, dimensions: int, kinds: str) -> np.ndarray:
        """Read an array of a kind, by the letters of NumPy."""
        if name not in self.names:
            raise DataError(
                f"{self.path}: no array {name}; there are {', '.join(sorted(self.names)) or 'none'}"
            )
        try:
            values = self._file[name]
        except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise DataError(f"{self.path}: array {name} cannot be read ({str(error)[:80]})") from None
        if values.ndim != dimensions or values.dtype.kind not in kinds:
            raise DataError(
                f"{self.path}: array {name} has {values.ndim} dimensions of {values.dtype}; expected {dimensions} of "
                f"{_KINDS[kinds]}"
            )
        return values

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of an array."""
        return self._file[name].shape


def _folder(folder: Path | str, what: str) -> Path:
    path = Path(folder)
    if not path.is_dir():
        raise DataError(f"{path}: no such folder; expected a folder of {what}, one .npz a video")
    return path


def _path(folder: Path, frames: Frames) -> Path:
    """File that goes with a clip's video."""
    return folder / PurePosixPath(frames.piece.name).with_suffix(".npz")


def _at(arrays: _Arrays, name: str, kinds: str, frames: Frames, path: Path) -> np.ndarray:
    """Read the maps of a clip's frames, drawn to their size by the nearest pixel."""
    times = arrays.take("times_s", 1, "fiu").astype(np.float64)
    values = arrays.take(name, 3, kinds)
    if len(times) != len(values) or not len(times) or not (np.diff(times) > 0).all():
        raise DataError(f"{path}: {len(times)} times for {len(values)} {name}; expected one each, rising")
    nearest = np.abs(times[None] - frames.video_times_s[:, None]).argmin(1)
    far = np.abs(times[nearest] - frames.video_times_s)
    if far.max() > NEAR_S:
        at = float(frames.video_times_s[int(far.argmax())])
        raise DataError(
            f"{path}: no {name} within {NEAR_S:g} s of the frame at {at:.3f} s; expected one for each frame"
        )
    high, wide = frames.images.shape[1:3]
    if abs(values.shape[1] * wide - values.shape[2] * high) > max(wide, high, *values.shape[1:]):
        raise DataError(
            f"{path}: {name} are {values.shape[2]} x {values.shape[1]} and the frames {wide} x {high}; expected the "
            "same proportions"
        )
    rows = ((np.arange(high) + 0.5) * values.shape[1] / high).astype(int)
    columns = ((np.arange(wide) + 0.5) * values.shape[2] / wide).astype(int)
    return values[nearest][:, rows][:, :, columns]
