"""Pictures of radar images in decibels with metres on the axes, of volumes, and of scan paths."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from saccade.errors import ConfigError
from saccade.extras import require
from saccade.files import replacing
from saccade.radar.grid import RadarImage
from saccade.radar.scan import Scan

COLOURS = "magma"


def check_name(path: Path | str | None, floor: float = -25.0) -> None:
    """Make sure that a picture of this name can be written, down to `floor` dB; None is no picture.

    Raises:
        ConfigError: Another ending, or a floor that leaves nothing to see.
        MissingExtraError: matplotlib (extra `plot`) is not installed.
    """
    if path is None:
        return
    if Path(path).suffix.lower() not in (".png", ".svg", ".pdf"):
        raise ConfigError(f"{path}: pictures are written as .png, .svg or .pdf; choose one of these endings")
    if not (np.isfinite(floor) and floor < 0):
        raise ConfigError(
            f"the darkest value of a picture is {floor} dB; expected a number below 0, such as -25"
        )
    require("matplotlib.figure", "plot", "to draw pictures")


def plot_image(image: RadarImage, path: Path | str, *, floor: float = -25.0, title: str = "") -> None:
    """Draw a picture, or three slices and three maximum projections of a volume.

    Args:
        image: Complex or magnitude.
        path: .png, .svg or .pdf to write.
        floor: Darkest value, dB under the maximum.
        title: Above the picture; the method when empty.
    """
    if image.values.ndim == 3:
        _plot_volume(image, path, floor, title or image.method)
        return
    figure, axes = _figure(1, 1, (5.6, 4.8))
    mesh = _draw(axes[0, 0], image.decibels(floor), image.grid.x, image.grid.y, floor, "x", "y")
    axes[0, 0].set_title(title or f"{image.method}, z = {image.grid.z[0]:.3f} m", fontsize=10)
    _bar(figure, mesh, axes)
    _save(figure, path)


def plot_panel(
    images: Sequence[RadarImage], titles: Sequence[str], path: Path | str, *, floor: float = -25.0
) -> None:
    """Draw pictures side by side, each scaled to its own maximum: before and after, or method beside method.

    Raises:
        ConfigError: A volume, or not as many titles as pictures.
    """
    if len(images) != len(titles) or any(image.values.ndim != 2 for image in images):
        raise ConfigError("a panel needs as many titles as pictures, and pictures of one depth")
    figure, axes = _figure(1, len(images), (4.4 * len(images) + 0.8, 4.4))
    mesh = None
    for axis, image, title in zip(axes[0], images, titles, strict=True):
        mesh = _draw(axis, image.decibels(floor), image.grid.x, image.grid.y, floor, "x", "y")
        axis.set_title(title, fontsize=10)
    _bar(figure, mesh, axes)
    _save(figure, path)


def plot_sharpened(before: RadarImage, after: RadarImage, path: Path | str, *, floor: float = -25.0) -> None:
    """Draw an image before and after it was sharpened; of a volume only after."""
    if before.values.ndim == 2:
        plot_panel([before, after], [before.method, "sharpened"], path, floor=floor)
    else:
        plot_image(after, path, floor=floor)


def plot_rows(rows: Sequence[Sequence[np.ndarray]], titles: Sequence[str], path: Path | str) -> None:
    """Draw magnitudes in [0, 1] as a table of pictures (each (nx, ny)), on a linear scale."""
    figure, axes = _figure(len(rows), len(titles), (3.2 * len(titles) + 0.8, 3.1 * len(rows)))
    mesh = None
    for line, row in zip(axes, rows, strict=True):
        for axis, values in zip(line, row, strict=True):
            mesh = axis.imshow(values.T, origin="lower", vmin=0, vmax=1, cmap=COLOURS)
            axis.set(xticks=[], yticks=[])
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=10)
    figure.colorbar(mesh, ax=axes.ravel().tolist(), label="magnitude", shrink=0.85)
    _save(figure, path)


def plot_scan(scan: Scan, path: Path | str) -> None:
    """Draw where the radar was, and how far that is from what is believed (or, when unknown, its depth by pose).

    Planar scans are seen from the front and coloured by depth, scans around a target from above, coloured by height.
    """
    middle = scan.virtual.mean(1)
    around = scan.geometry in ("cylindrical", "circular")
    up, colour, label = (2, 1, "y (mm)") if around else (1, 2, "z (mm)")
    figure, axes = _figure(1, 2, (10.4, 4.4))
    first, second = axes[0]
    dots = first.scatter(middle[:, 0], middle[:, up], c=1e3 * middle[:, colour], s=5, cmap="viridis")
    figure.colorbar(dots, ax=first, label=label, shrink=0.85)
    first.set(xlabel="x (m)", ylabel=f"{'xyz'[up]} (m)", title=f"{scan.geometry}, {len(middle)} poses")
    first.set_aspect("equal", adjustable="datalim")
    first.locator_params(axis="x", nbins=5)
    apart = None
    if scan.true_tx is not None and scan.true_rx is not None:
        apart = ((scan.true_tx + scan.true_rx) / 2).mean(1) - middle
    if apart is not None and np.abs(apart).max() > 0:
        for axis, name in enumerate("xyz"):
            second.plot(1e3 * apart[:, axis], ".", ms=2, label=name)
        second.legend(frameon=False, markerscale=4)
        second.set(xlabel="pose", ylabel="mm", title="where it really was, less what is believed")
    else:
        second.plot(1e3 * middle[:, 2], ".", ms=2)
        second.set(xlabel="pose", ylabel="z (mm)", title="depth by pose")
    for axis in (first, second):
        axis.title.set_fontsize(10)
    _save(figure, path)


def _plot_volume(image: RadarImage, path: Path | str, floor: float, title: str) -> None:
    """Draw slices through the brightest voxel above, maximum projections below; the one plane of a thin volume."""
    values, grid = image.decibels(floor), image.grid
    thin = [axis for axis in (0, 1) if values.shape[axis] == 1]
    if len(thin) == 1:
        axis, across, name = (0, grid.y, "y") if thin == [0] else (1, grid.x, "x")
        figure, axes = _figure(1, 1, (5.6, 4.8))
        mesh = _draw(axes[0, 0], np.take(values, 0, axis), across, grid.z, floor, name, "z")
        axes[0, 0].set_title(f"{title}, {'xy'[axis]} = {(grid.x, grid.y)[axis][0]:.3f} m", fontsize=10)
        _bar(figure, mesh, axes)
        _save(figure, path)
        return
    peak = np.unravel_index(int(values.argmax()), values.shape)
    views = (
        (2, grid.x, grid.y, "x", "y", f"z = {grid.z[peak[2]]:.3f} m"),
        (1, grid.x, grid.z, "x", "z", f"y = {grid.y[peak[1]]:.3f} m"),
        (0, grid.y, grid.z, "y", "z", f"x = {grid.x[peak[0]]:.3f} m"),
    )
    figure, axes = _figure(2, 3, (13.0, 8.0))
    mesh = None
    for column, (axis, across, up, name, other, where) in enumerate(views):
        for row, part in enumerate((np.take(values, peak[axis], axis), values.max(axis))):
            mesh = _draw(axes[row, column], part, across, up, floor, name, other)
            axes[row, column].set_title(where if row == 0 else f"maximum over {'xyz'[axis]}", fontsize=10)
    figure.suptitle(title, fontsize=11)
    _bar(figure, mesh, axes)
    _save(figure, path)


def _figure(rows: int, columns: int, size: tuple[float, float]) -> tuple[Any, Any]:
    """Make a figure without touching pyplot's global state."""
    matplotlib: Any = require("matplotlib.figure", "plot", "to draw pictures")
    figure = matplotlib.Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _draw(
    axis: Any, values: np.ndarray, across: np.ndarray, up: np.ndarray, floor: float, name: str, other: str
) -> Any:
    """Draw (across, up) values with pixel edges half a step outside the axes' ends."""
    mesh = axis.pcolormesh(
        _edges(across), _edges(up), values.T, vmin=floor, vmax=0, cmap=COLOURS, rasterized=True
    )
    axis.set(xlabel=f"{name} (m)", ylabel=f"{other} (m)", aspect="equal")
    axis.locator_params(axis="x", nbins=5)
    return mesh


def _edges(axis: np.ndarray) -> np.ndarray:
    """Return the borders between pixels."""
    if len(axis) == 1:
        return np.array([axis[0] - 5e-4, axis[0] + 5e-4])
    middle = (axis[1:] + axis[:-1]) / 2
    return np.concatenate([[2 * axis[0] - middle[0]], middle, [2 * axis[-1] - middle[-1]]])


def _bar(figure: Any, mesh: Any, axes: Any) -> None:
    """Add the colour bar."""
    figure.colorbar(mesh, ax=axes.ravel().tolist(), label="dB under the maximum", shrink=0.85)


def _save(figure: Any, path: Path | str) -> None:
    """Write the figure aside and rename it."""
    check_name(path)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)
