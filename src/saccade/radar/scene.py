"""What a simulated radar looks at: point scatterers, from lists, drawn shapes, silhouettes and meshes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from saccade.errors import ConfigError, DataError, did_you_mean
from saccade.extras import require
from saccade.files import read_text
from saccade.files.pictures import decoding, open_picture

MAX_POINTS = 1_000_000
"""More scatterers than this are refused: thin the silhouette or the mesh instead."""
DARK = 64
"""Pixels of a silhouette below this are metal."""
MAX_PIXELS = 64_000_000
BESIDE = 0.14
"""Reflectivity of a solid's points at a pitch of 1 mm, when points stand beside it."""


@dataclass(frozen=True, eq=False)
class Scene:
    """Scatterers: points (M, 3) in metres and their reflectivity (M,)."""

    points: np.ndarray
    reflectivity: np.ndarray

    def __post_init__(self) -> None:
        """Check shapes and numbers."""
        points = np.asarray(self.points, np.float64).reshape(-1, 3)
        strength = np.asarray(self.reflectivity, np.float64).reshape(-1)
        if len(points) != len(strength) or not len(points):
            raise DataError(
                f"scene: {len(points)} points and {len(strength)} reflectivities; expected as many, and some"
            )
        if len(points) > MAX_POINTS:
            raise DataError(
                f"scene: {len(points)} points; at most {MAX_POINTS}, use a larger pitch or spacing"
            )
        if not (np.isfinite(points).all() and np.isfinite(strength).all()):
            raise DataError("scene: a point or a reflectivity is not a finite number")
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "reflectivity", strength)

    def __add__(self, other: Scene) -> Scene:
        """Join two scenes."""
        return Scene(
            np.concatenate([self.points, other.points]),
            np.concatenate([self.reflectivity, other.reflectivity]),
        )

    def moved(self, offset: Sequence[float]) -> Scene:
        """Shift every point, metres."""
        return Scene(self.points + np.asarray(offset, np.float64), self.reflectivity)


def random_points(
    count: int,
    random: np.random.Generator,
    *,
    low: Sequence[float] = (-0.08, -0.08, 0.3),
    high: Sequence[float] = (0.08, 0.08, 0.3),
    strength: tuple[float, float] = (0.5, 1.0),
    apart: float = 0.0,
    away_from: np.ndarray | None = None,
) -> Scene:
    """Draw points in a box.

    Args:
        count: Wanted; fewer when there is no room for more.
        random: Source of randomness.
        low: Corner of the box, metres.
        high: Opposite corner.
        strength: Range of the reflectivity.
        apart: Least distance between two points, metres.
        away_from: (K, 3) further points to keep that distance from.
    """
    kept = np.zeros((0, 3)) if away_from is None else np.asarray(away_from, np.float64)
    fixed = len(kept)
    for _ in range(200):
        if len(kept) - fixed >= count:
            break
        point = random.uniform(low, high)
        if not len(kept) or np.linalg.norm(kept - point, axis=1).min() >= apart:
            kept = np.concatenate([kept, point[None]])
    points = kept[fixed:]
    if not len(points):
        raise ConfigError(f"no room for a point {apart:g} m from the others in the box {low} .. {high}")
    return Scene(points, random.uniform(*strength, len(points)))


def shape(
    name: str, *, size: float = 0.06, depth: float = 0.3, pitch: float = 1e-3, angle: float = 0.0
) -> Scene:
    """Make a flat metal shape in a plane of constant depth, centred.

    Args:
        name: One of `SHAPES`.
        size: Metres, of its longer side.
        depth: z of the plane, metres.
        pitch: Metres between scatterers.
        angle: Degrees, counter-clockwise in x-y.

    Raises:
        ConfigError: No such shape, or one that would have too many points.
    """
    if name not in SHAPES:
        raise ConfigError(f"no shape {name!r}{did_you_mean(name, SHAPES)}")
    if not (size > 0 and pitch > 0) or (size / pitch) ** 2 > MAX_POINTS:
        raise ConfigError(
            f"shape {name}: {size:g} m at a pitch of {pitch:g} m; expected at most a million points"
        )
    inside, holes = SHAPES[name]
    # Drawn at a fixed fine scale, then sampled: the outline does not depend on the pitch.
    fine = 512
    canvas = Image.new("L", (fine, fine), 0)
    draw = ImageDraw.Draw(canvas)
    for corners, value in ((inside, 255), *((hole, 0) for hole in holes)):
        draw.polygon([((x + 1) / 2 * (fine - 1), (1 - y) / 2 * (fine - 1)) for x, y in corners], fill=value)
    mask = np.asarray(canvas).T[:, ::-1] > 127  # [x, y], y upwards
    return _from_mask(mask, size, depth, pitch, angle)


def silhouette(
    path: Path | str,
    *,
    pixel: float = 5e-4,
    depth: float = 0.3,
    pitch: float = 1e-3,
    angle: float = 0.0,
    mirrored: bool = True,
) -> Scene:
    """Read a picture whose dark pixels are metal (first channel below 64), centred at x = y = 0.

    Args:
        path: Any picture file.
        pixel: Metres of a pixel's side.
        depth: z, metres.
        pitch: Metres between scatterers; at least a pixel.
        angle: Degrees, counter-clockwise.
        mirrored: Flip left and right, as the published simulator does: the radar looks at it from the front.

    Raises:
        DataError: No picture, too large, or nothing dark in it.
    """
    with decoding(str(path), "silhouette"), open_picture(path, max_pixels=MAX_PIXELS) as picture:
        first = np.asarray(picture.convert("RGB"))[..., 0]
    mask = first.T[:, ::-1] < DARK
    if mirrored:
        mask = mask[::-1]
    if not mask.any():
        raise DataError(f"{path}: no pixel is darker than {DARK}; metal has to be black on white")
    return _from_mask(mask, pixel * max(mask.shape), depth, max(pitch, pixel), angle)


def mesh(
    path: Path | str,
    *,
    unit: float = 1e-3,
    spacing: float = 1.5e-3,
    centre: Sequence[float] = (0.0, 0.0, 0.3),
    facing: bool = True,
    seed: int = 0,
) -> Scene:
    """Scatter points over the surface of a mesh file (STL, OBJ, PLY ...), evenly by area.

    Its axes become (x, z, y): up in the file is y here, as in the published simulator.

    Args:
        path: File.
        unit: Metres of one unit of the file (millimetres by default).
        spacing: Mean distance of points, metres.
        centre: Where the middle of its bounding box goes, metres.
        facing: Keep only surface whose normal faces the radar (towards smaller z).
        seed: Of the points.

    Raises:
        DataError: Not a mesh, or empty, or too many points.
        MissingExtraError: trimesh (extra `radar`) is not installed.
    """
    trimesh: Any = require("trimesh", "radar", "to read meshes")
    if not Path(path).is_file():
        raise DataError(f"{path}: no such file; expected a mesh such as target.stl")
    try:
        body = trimesh.load(str(path), force="mesh")
        corners = np.asarray(body.triangles, np.float64)[..., [0, 2, 1]] * unit
    except Exception as error:  # a parser of foreign files raises anything
        raise DataError(f"{path}: not a mesh that can be read ({type(error).__name__}: {error})") from None
    if not len(corners) or not np.isfinite(corners).all():
        raise DataError(f"{path}: holds no triangles, or one that is not finite")
    middle = (corners.min((0, 1)) + corners.max((0, 1))) / 2
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal = -normal  # two axes were exchanged, which turns every triangle around
    if facing:
        corners, normal = corners[normal[:, 2] < 0], normal[normal[:, 2] < 0]
        if not len(corners):
            raise DataError(f"{path}: no surface faces the radar; turn the mesh, or keep both sides")
    area = np.linalg.norm(normal, axis=1) / 2
    count = max(1, int(area.sum() / spacing**2))
    if count > MAX_POINTS:
        raise DataError(
            f"{path}: {count} points at a spacing of {spacing:g} m; at most {MAX_POINTS}, check the unit"
        )
    random = np.random.default_rng(seed)
    where = random.choice(len(area), count, p=area / area.sum())
    a, b = random.random((2, count, 1))
    fold = a + b > 1
    a, b = np.where(fold, 1 - a, a), np.where(fold, 1 - b, b)
    chosen = corners[where]
    points = chosen[:, 0] + a * (chosen[:, 1] - chosen[:, 0]) + b * (chosen[:, 2] - chosen[:, 0])
    return Scene(points - middle + np.asarray(centre, np.float64), np.ones(count))


def parse_target(text: str, *, depth: float = 0.3, pitch: float = 1e-3, seed: int = 0) -> Scene:
    """Make a scene from a description: parts joined by "+".

    A part is a shape name, "points" or "points:N" (random), "x,y,z" or "x,y,z,reflectivity" in metres, or a file:
    a picture (silhouette), a mesh, or a CSV of such rows.

    Args:
        text: Such as "star+points" or "0,0,0.3+plate.png".
        depth: Of flat shapes and random points, metres.
        pitch: Between scatterers of shapes, metres.
        seed: Of random points and meshes.

    Raises:
        ConfigError: A part that is none of these.
    """
    random = np.random.default_rng(seed)
    parts = [part.strip() for part in text.split("+")]
    scenes: list[Scene] = []
    for part in sorted(parts, key=lambda p: p.split(":")[0] == "points"):  # random points keep off the rest
        name, _, count = part.partition(":")
        suffix = Path(part).suffix.lower()
        if name == "points" and (not count or count.isdecimal()):
            solid = np.concatenate([s.points for s in scenes]) if scenes else None
            number, box = int(count or 12), ((-0.08, -0.08, depth), (0.08, 0.08, depth))
            if number < 1:
                raise ConfigError(f"target {part!r}: expected at least one point")
            dots = random_points(number, random, low=box[0], high=box[1], apart=4.8e-3, away_from=solid)
            if len(dots.points) < number:
                raise ConfigError(
                    f"target {part!r}: {len(dots.points)} points found room, 4.8 mm apart in 160 x 160 mm; ask for "
                    "fewer, or give a CSV of points"
                )
            scenes.append(dots)
        elif part in SHAPES:
            # So strong that an ideal image shows it about as bright as the points beside it.
            scale = BESIDE * (pitch / 1e-3) ** 2 if len(parts) > 1 else 1.0
            flat = shape(part, depth=depth, pitch=pitch)
            scenes.append(Scene(flat.points, scale * flat.reflectivity))
        elif suffix in (".png", ".bmp", ".jpg", ".jpeg", ".gif", ".tif", ".tiff", ".webp"):
            scenes.append(silhouette(part, depth=depth, pitch=pitch))
        elif suffix in (".stl", ".obj", ".ply", ".off", ".glb"):
            scenes.append(mesh(part, centre=(0, 0, depth), seed=seed))
        elif suffix in (".csv", ".txt"):
            scenes.append(_read_points(Path(part)))
        else:
            scenes.append(_literal(part))
    whole = scenes[0]
    for scene in scenes[1:]:
        whole = whole + scene
    return whole


def _literal(text: str) -> Scene:
    """Read "x,y,z[,reflectivity]"."""
    try:
        row = [float(value) for value in text.split(",")]
    except ValueError:
        row = []
    if len(row) not in (3, 4):
        near, known = (
            did_you_mean(text, [*SHAPES, "points"]).partition(" choose")[0].rstrip(";"),
            ", ".join(SHAPES),
        )
        raise ConfigError(
            f"target {text!r} is no shape, file or x,y,z[,reflectivity] in metres{near}; shapes: points, {known}"
        )
    return Scene(np.array([row[:3]]), np.array([row[3] if len(row) == 4 else 1.0]))


def _read_points(path: Path) -> Scene:
    """Read rows x,y,z[,reflectivity] in metres; a first line of names is passed over."""
    lines = [line for line in read_text(path, what="lines of x,y,z").splitlines() if line.strip()]
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = [float(value) for value in line.replace(";", ",").split(",")]
        except ValueError:
            if number == 1:
                continue
            row = []
        if len(row) not in (3, 4):
            raise DataError(
                f"{path}: line {number} is {line[:60]!r}; expected x,y,z or x,y,z,reflectivity in metres"
            )
        rows.append([*row, 1.0][:4])
    if not rows:
        raise DataError(f"{path}: holds no points; expected lines of x,y,z or x,y,z,reflectivity in metres")
    table = np.array(rows)
    return Scene(table[:, :3], table[:, 3])


def _from_mask(mask: np.ndarray, size: float, depth: float, pitch: float, angle: float) -> Scene:
    """Sample a mask [x, y], whose longer side is `size`, at a pitch; centred."""
    pixel = size / max(mask.shape)
    axes = [np.arange(-n * pixel / 2 + pitch / 2, n * pixel / 2, pitch) for n in mask.shape]
    index = [
        np.clip(((axis / pixel) + n / 2).astype(int), 0, n - 1)
        for axis, n in zip(axes, mask.shape, strict=True)
    ]
    chosen = mask[np.ix_(*index)]
    if chosen.sum() > MAX_POINTS:
        raise DataError(f"scene: {int(chosen.sum())} points; at most {MAX_POINTS}, use a larger pitch")
    if not chosen.any():
        raise DataError(f"scene: a pitch of {pitch:g} m leaves no point of a shape of {size:g} m")
    x, y = (part[chosen] for part in np.meshgrid(*axes, indexing="ij"))
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    points = np.stack([cos * x - sin * y, sin * x + cos * y, np.full(len(x), depth)], 1)
    return Scene(points, np.ones(len(points)))


def _ring(
    count: int, outer: float, inner: float | None = None, start: float = 90.0
) -> list[tuple[float, float]]:
    """Corners on one circle, or in turn on two."""
    radii = [outer] if inner is None else [outer, inner]
    return [
        (radii[i % len(radii)] * math.cos(t), radii[i % len(radii)] * math.sin(t))
        for i in range(count)
        for t in [math.radians(start + 360 * i / count)]
    ]


def _box(x: float, y: float, wide: float, high: float) -> list[tuple[float, float]]:
    """Corners of a rectangle around (x, y)."""
    return [(x - wide, y - high), (x + wide, y - high), (x + wide, y + high), (x - wide, y + high)]


# Outlines in [-1, 1], and their holes.
SHAPES: dict[str, tuple[list, list]] = {
    "circle": (_ring(96, 1.0), []),
    "square": (_box(0, 0, 0.8, 0.8), []),
    "diamond": (_ring(4, 1.0), []),
    "triangle": (_ring(3, 1.0), []),
    "star": (_ring(10, 1.0, 0.42), []),
    "cutout": (_box(0, 0, 1.0, 2 / 3), [_box(-0.5, 0.25, 0.22, 0.18), _ring(48, 0.25), _box(0.55, -0.2, 0.2, 0.3)]),
    "slits": (_box(0, 0, 1.0, 2 / 3), [_box(x, 0, 0.05, 0.45) for x in (-0.7, -0.4, 0.0, 0.45, 0.75)]),
    "key": (
        [(-1, 0.4), (-0.3, 0.4), (-0.3, 0.12), (0.95, 0.12), (0.95, -0.35), (0.75, -0.35), (0.75, -0.12),
         (0.55, -0.12), (0.55, -0.3), (0.35, -0.3), (0.35, -0.12), (-0.3, -0.12), (-0.3, -0.4), (-1, -0.4)],
        [[(-0.85, 0.2), (-0.5, 0.2), (-0.5, -0.2), (-0.85, -0.2)]],
    ),
}  # fmt: skip
"""Shapes drawn here."""
