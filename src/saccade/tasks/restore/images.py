"""Radar images to sharpen: files in, the same files sharp out. Depths of a volume are sharpened one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from saccade.data.radar_pairs import to_peak
from saccade.errors import DataError
from saccade.files import within
from saccade.radar.files import read_image, write_image
from saccade.radar.grid import RadarImage
from saccade.radar.pictures import check_name, plot_sharpened
from saccade.radar.sharpening import pixel_notes, sharpened
from saccade.tasks.base import Batch, Net, PredictSettings

SUFFIXES = (".h5", ".hdf5")


@dataclass
class RestoreSettings(PredictSettings):
    """What a sharpener can be asked."""

    draw: bool = False
    """Draw each image before and after, in drawn/."""
    floor: Annotated[float, within(below=0)] = -25.0
    """Darkest value of a picture, dB."""


class RadarImages:
    """Images in files, in the order of their names."""

    def __init__(self, where: str, peak: float, settings: RestoreSettings) -> None:
        """Find the files.

        Args:
            where: A file written by `saccade radar image`, or a folder, searched to the bottom.
            peak: Largest value that every depth is brought to.
            settings: What will be asked.

        Raises:
            DataError: None there.
            MissingExtraError: Pictures are to be drawn and matplotlib is not installed.
        """
        place = Path(where)
        check_name("x.png" if settings.draw else None, settings.floor)
        root = place if place.is_dir() else place.parent
        found = place.rglob("*") if place.is_dir() else [place]
        self.paths = sorted(path for path in found if path.is_file() and path.suffix.lower() in SUFFIXES)
        if not self.paths:
            raise DataError(
                f"{where}: no radar image here; expected .h5 files that `saccade radar image` has written"
            )
        self.names: Sequence[str] = [path.relative_to(root).as_posix() for path in self.paths]
        self.peak = peak

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int, /) -> dict[str, Any]:
        """Read an image: `radar` as it is, `depths` as of `depths_of`."""
        image = read_image(self.paths[place])
        return {
            "radar": image, "depths": depths_of(image, self.peak), "index": place, "name": self.names[place],
            "skipped": [],
        }  # fmt: skip


def depths_of(image: RadarImage, peak: float) -> Tensor:
    """Return the magnitudes of an image, each depth brought to `peak`: (depths, nx, ny) float32.

    Raises:
        DataError: NaN or infinite values.
    """
    stack = _magnitudes(image)
    if not np.isfinite(stack).all():
        raise DataError("image: holds NaN or infinite values; form it again")
    return torch.stack([to_peak(torch.from_numpy(np.ascontiguousarray(part)), peak) for part in stack])


def sharpen(net: Net, image: RadarImage, depths: Tensor, device: torch.device) -> Tensor:
    """Run a network over every depth of an image and put each beside the brightest one.

    A network brings every image to full brightness; depths keep what they had relative to the brightest one.

    Returns:
        (depths, nx, ny) float32.
    """
    tops = _magnitudes(image).max((1, 2))
    shares = torch.from_numpy(tops / max(float(tops.max()), 1e-30))
    sharp = [
        net(depth[None, None].to(device))[0, 0].float().cpu() if top > 0 else torch.zeros_like(depth)
        for depth, top in zip(depths, tops, strict=True)
    ]
    return torch.stack(sharp) * shares[:, None, None]


def row_of(batch: Batch, number: int) -> dict[str, Any]:
    """Say what became of an image: voxels along x, y and z, its file, and what to know about its pixels."""
    image: RadarImage = batch["radar"][number]
    row = {"name": batch["name"][number], **dict(zip(("nx", "ny", "nz"), image.grid.shape, strict=True))}
    if "file" in batch:
        row["sharp"] = f"sharp/{batch['file'][number]}.h5"
    return {**row, "notes": "; ".join(pixel_notes(image))}


def write_sharp(
    image: RadarImage, values: np.ndarray, model: str, settings: RestoreSettings, folder: Path, name: str
) -> None:
    """Write an image sharpened, (depths, nx, ny), and draw it when asked."""
    after = sharpened(image, values, model)
    for part in ("sharp", *(("drawn",) if settings.draw else ())):
        (folder / part).mkdir(parents=True, exist_ok=True)
    write_image(after, folder / "sharp" / f"{name}.h5")
    if settings.draw:
        plot_sharpened(image, after, folder / "drawn" / f"{name}.png", floor=settings.floor)


def _magnitudes(image: RadarImage) -> np.ndarray:
    """Return (depths, nx, ny) float32."""
    size = np.abs(image.values).astype(np.float32)
    return size[None] if size.ndim == 2 else np.moveaxis(size, 2, 0)
