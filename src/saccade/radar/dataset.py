"""Training pairs: an image as a hand-held radar forms it, and the image it should have been.

After the published data set (Smith et al., arXiv 2305.02074 and the files beside their code): random points and one
random solid at one depth, scanned freehand with a position that is believed a little wrong, imaged by EMPM. Ours
differs in that the radar is rigid (one displacement a pose, not one a channel), the depth varies, and there is noise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np

from saccade.errors import ConfigError
from saccade.files import within
from saccade.radar.array import Array
from saccade.radar.echo import simulate
from saccade.radar.files import single
from saccade.radar.grid import Grid
from saccade.radar.imaging import reconstruct
from saccade.radar.path import freehand
from saccade.radar.scan import Scan
from saccade.radar.scene import SHAPES, Scene, random_points, shape
from saccade.radar.waveform import Waveform
from saccade.settings import check

WIDTH = 1.2e-3
"""o of the ideal image's Gaussians exp(-(x / o)^2), metres: 2.0 mm at half maximum."""
PIECE = 4_000_000


@dataclass(frozen=True)
class PairConfig:
    """What pairs look like. Lengths in metres; (low, high) is drawn uniformly for each pair."""

    waveform: str = "fmcw_v2"
    array: str = "awr1x42"
    nx: Annotated[int, within(2, 4096)] = 200
    """Poses along x, a quarter wavelength apart."""
    ny: Annotated[int, within(2, 4096)] = 25
    """Poses along y, one array apart."""
    size: Annotated[int, within(2, 4096)] = 200
    """Pixels of each side."""
    pixel: Annotated[float, within(above=0)] = 1e-3
    depth: tuple[float, float] = (0.27, 0.33)
    swing: tuple[float, float] = (0.0, 0.03)
    """From the nearest to the farthest point of the hand's smooth wander in depth."""
    position_error: tuple[float, float] = (0.0, 5e-4)
    """Standard deviation of the believed position, each pose and axis."""
    snr_db: tuple[float, float] = (10.0, 40.0)
    """Of the raw samples."""
    points: tuple[int, int] = (1, 25)
    solid_share: Annotated[float, within(0, 1)] = 0.8
    """Of pairs that show a solid."""
    solid_size: tuple[float, float] = (0.03, 0.08)
    solid_level: tuple[float, float] = (0.35, 0.9)
    """Height of the solid's plateau in the ideal image (published samples: 0.61 to 0.63), before each point is scaled
    to its own maximum on the grid, which lifts it by about an eighth."""
    solid_range: Annotated[float, within(0)] = 0.03
    """How far the solid's middle may lie from the centre along each axis."""
    pitch: Annotated[float, within(above=0)] = 1.2e-3
    """Between the scatterers of a solid."""
    methods: tuple[str, ...] = field(default=())
    """Further imaging methods to store beside EMPM, such as backprojection and rma, to compare with."""

    def __post_init__(self) -> None:
        """Check ranges."""
        check(self, "pairs")
        for name in ("depth", "swing", "position_error", "snr_db", "points", "solid_size", "solid_level"):
            low, high = getattr(self, name)
            if not low <= high:
                raise ConfigError(f"pairs: {name} is {low} .. {high}; expected the smaller number first")

    def axis(self) -> np.ndarray:
        """Return x (and y) of the pixels, metres: from -size / 2 pixels up, the last short of +size / 2."""
        return (np.arange(self.size) - self.size // 2) * self.pixel


def ideal_image(scene: Scene, x: np.ndarray, y: np.ndarray, width: float = WIDTH) -> np.ndarray:
    """Draw the image that a perfect radar would form.

    For each point a Gaussian a exp(-((x - xp)^2 + (y - yp)^2) / width^2), divided by its own maximum on the grid;
    their sum clipped to [0, 1].

    Args:
        scene: Points; z is not used.
        x: (nx,) metres.
        y: (ny,) metres.
        width: Metres.

    Returns:
        (nx, ny) float64.
    """
    out = np.zeros((len(x), len(y)))
    step = max(1, PIECE // (len(x) * max(len(y), 1)))
    for start in range(0, len(scene.points), step):
        points = scene.points[start : start + step]
        rows, columns = (
            np.exp(-(((axis[:, None] - points[:, place]) / width) ** 2)) for place, axis in ((0, x), (1, y))
        )
        # The largest value of a product of two functions is the product of their largest. A point so far outside
        # that nothing of it is left on the grid adds nothing.
        peaks = rows.max(0) * columns.max(0)
        weight = np.divide(
            scene.reflectivity[start : start + step], peaks, out=np.zeros(len(points)), where=peaks > 1e-200
        )
        out += (rows * weight) @ columns.T
    return np.clip(out, 0, 1)


def draw_scene(config: PairConfig, random: np.random.Generator) -> tuple[Scene, Scene, float]:
    """Draw points and a solid.

    Returns:
        The scene to scan, the scene whose ideal image is the truth (solids sampled finely), and their depth.
    """
    depth = random.uniform(*config.depth)
    half = config.size * config.pixel / 2 * 0.9
    echoes: list[Scene] = []
    truths: list[Scene] = []
    if random.random() < config.solid_share:
        name = str(random.choice(list(SHAPES)))
        size, angle = random.uniform(*config.solid_size), random.uniform(0, 360)
        offset = (*random.uniform(-config.solid_range, config.solid_range, 2), 0.0)
        level = random.uniform(*config.solid_level)
        for kept, pitch in ((echoes, config.pitch), (truths, 0.5 * WIDTH)):
            flat = shape(name, size=size, depth=depth, pitch=pitch, angle=angle).moved(offset)
            # A plane of Gaussians at this pitch adds up to strength * pi * WIDTH^2 / pitch^2.
            kept.append(Scene(flat.points, flat.reflectivity * level * pitch**2 / (np.pi * WIDTH**2)))
    count = int(random.integers(config.points[0], config.points[1] + 1))
    if count or not echoes:
        away = echoes[0].points if echoes else None
        low, high = (-half, -half, depth), (half, half, depth)
        dots = random_points(max(1, count), random, low=low, high=high, apart=4 * WIDTH, away_from=away)
        echoes.append(dots)
        truths.append(dots)
    return _joined(echoes), _joined(truths), depth


def make_pair(config: PairConfig, seed: int, index: int) -> dict[str, Any]:
    """Make one pair; it depends on the configuration, seed and index only.

    Args:
        config: What it looks like.
        seed: Of the data set.
        index: Of the pair.

    Returns:
        "empm" and each further method: (size, size) complex64; "ideal": (size, size) float32 in [0, 1]; "facts":
        depth, position_error, swing, snr_db, points.
    """
    random = np.random.default_rng([seed, index])
    scene, truth, depth = draw_scene(config, random)
    scan, facts = scan_scene(config, scene, random)
    axis = config.axis()
    grid = Grid.plane(axis, axis, depth)
    pair: dict[str, Any] = {"ideal": ideal_image(truth, axis, axis).astype(np.float32)}
    for method in ("empm", *config.methods):
        values = reconstruct(scan, grid, method, threads=1).values
        pair[method] = np.ascontiguousarray(single(values, f"pair {index}, {method}"))
    pair["facts"] = {"depth": depth, **facts, "points": float(len(scene.points))}
    return pair


def scan_scene(
    config: PairConfig, scene: Scene, random: np.random.Generator
) -> tuple[Scan, dict[str, float]]:
    """Scan a scene freehand, with what is random about it drawn from `random`."""
    wave = Waveform.named(config.waveform)
    array = Array.named(config.array, wave.wavelength)
    facts = {name: random.uniform(*getattr(config, name)) for name in ("swing", "position_error", "snr_db")}
    path = freehand(
        array,
        wave.wavelength,
        nx=config.nx,
        ny=config.ny,
        swing=facts["swing"],
        seed=int(random.integers(2**31)),
    )
    scan = simulate(
        scene.points,
        scene.reflectivity,
        wave,
        array,
        path.positions,
        snr_db=facts["snr_db"],
        position_error=facts["position_error"],
        fast=True,
        threads=1,
        geometry="freehand",
        seed=int(random.integers(2**31)),
    )
    return scan, facts


def _joined(scenes: list[Scene]) -> Scene:
    """Add scenes up."""
    whole = scenes[0]
    for scene in scenes[1:]:
        whole = whole + scene
    return whole
