"""Built-in data `shapes`: 16000 drawn pictures of 56 x 56 pixels in which one figure has to be found.

A picture holds one large figure: an outline of one colour and, inside it, a smaller copy of itself in another. Four
colours in order make twelve classes ("red around blue" is not "blue around red"). Place, size, rotation, outline
(disc, square, triangle, cross), share of the inner part and the exact hues are drawn freely. Smaller figures of other
classes lie around it, a grey bar crosses it, the ground is uneven and noisy. So neither a patch nor the picture's
average tells the class: the large figure has to be told from the small ones, and its inside from its outside.
Made for comparing networks at a size where a training takes minutes.

The pictures are a function of `SEED` and their number alone. They are drawn in blocks, when first asked for.

Shape legend: n pictures, S pixels a side (`SIDE`).
"""

import functools
from dataclasses import dataclass

import numpy as np
from PIL import Image

from saccade.data.source import PackedStrings, Source

SIDE = 56
COLOURS = {
    "red": (0.85, 0.2, 0.2),
    "green": (0.2, 0.75, 0.25),
    "blue": (0.2, 0.3, 0.9),
    "yellow": (0.9, 0.8, 0.2),
}
PAIRS = [(a, b) for a in range(len(COLOURS)) for b in range(len(COLOURS)) if a != b]
"""Outer and inner colour of each class, as places in `COLOURS`."""
LABELS = [f"{list(COLOURS)[a]} around {list(COLOURS)[b]}" for a, b in PAIRS]
COUNTS = {"train": 12_000, "val": 4_000}
SEED = 20_260
BLOCK = 200
"""Pictures drawn at a time."""
OUTLINES = 4
DISTRACTORS = 2
RADIUS = (12.0, 18.0)
"""Of the figure that counts, in pixels; distractors have 35 to 60 % of its radius."""
HUE_SPREAD = 0.09
"""Standard deviation of each channel of a figure's colours, of 1."""

Array = np.ndarray


class ShapesSource(Source):
    """Figures of two colours among smaller ones, 56 x 56 pixels."""

    def __init__(self, part: str = "all"):
        """List the pictures; none is drawn yet.

        Args:
            part: "train" (12000), "val" (4000) or "all" (both, in this order). Classes are equally frequent.
        """
        self._parts = [part] if part in COUNTS else list(COUNTS)
        self.targets = np.concatenate([targets_of(name) for name in self._parts])
        self.labels = list(LABELS)
        self.names = PackedStrings(
            f"shapes/{LABELS[target].replace(' ', '-')}/{name}-{index:05d}"
            for name in self._parts
            for index, target in enumerate(targets_of(name))
        )
        self.notes = []
        self.where = "shapes"

    def read(self, index: int) -> Image.Image:
        """Draw picture `index`: RGB, 56 x 56."""
        for name in self._parts:
            if index < COUNTS[name]:
                return Image.fromarray(_block(name, index // BLOCK)[index % BLOCK])
            index -= COUNTS[name]
        raise IndexError(index)


@functools.cache
def targets_of(part: str) -> Array:
    """Return the classes of "train" or "val", (count,) int64, equally frequent and shuffled."""
    order = np.random.default_rng([SEED, part == "val"]).permutation(COUNTS[part])
    return (order % len(LABELS)).astype(np.int64)


@functools.cache
def _block(part: str, number: int) -> Array:
    """Draw one block, (up to `BLOCK`, S, S, 3) uint8."""
    rng = np.random.default_rng([SEED, part == "val", 1 + number])
    return draw_shapes(targets_of(part)[number * BLOCK : (number + 1) * BLOCK], rng)


def draw_shapes(targets: Array, rng: np.random.Generator) -> Array:
    """Draw pictures of given classes.

    Args:
        targets: (n,) classes, 0 to 11, as in `LABELS`.
        rng: Everything else is drawn from it.

    Returns:
        (n, S, S, 3) uint8.
    """
    count = len(targets)
    picture = _ground(count, rng)
    radius = rng.uniform(*RADIUS, count)
    # The figure stays inside the picture except for its corners.
    place = rng.uniform(0.9 * radius, SIDE - 0.9 * radius, (2, count))
    for _ in range(DISTRACTORS):
        others = (targets + rng.integers(1, len(LABELS), count)) % len(LABELS)
        small = radius * rng.uniform(0.35, 0.6, count)
        _paint(picture, _Figures(others, small, rng.uniform(0, SIDE, (2, count))), rng)
    _paint(picture, _Figures(targets, radius, place), rng)
    _bar(picture, radius, place, rng)
    grain = _column(rng.uniform(0.02, 0.10, count))[..., None]
    picture += grain * rng.standard_normal(picture.shape, dtype=np.float32)
    return np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8)


@dataclass(frozen=True)
class _Figures:
    """One figure in each of n pictures."""

    classes: Array
    """(n,) place in `LABELS`."""
    radius: Array
    """(n,) pixels."""
    place: Array
    """(2, n) column and row of the centre, pixels."""


def _column(values: Array) -> Array:
    """Give (n,) the shape (n, 1, 1), float32."""
    return values.astype(np.float32)[:, None, None]


def _turned(place: Array, angle: Array) -> tuple[Array, Array]:
    """Return the pixels' coordinates from `place` (2, n) in axes turned by `angle` (n,), each (n, S, S)."""
    pixels = np.arange(SIDE, dtype=np.float32) + 0.5
    x, y = pixels[None, None, :] - _column(place[0]), pixels[None, :, None] - _column(place[1])
    cosine, sine = _column(np.cos(angle)), _column(np.sin(angle))
    return x * cosine + y * sine, y * cosine - x * sine


def _ground(count: int, rng: np.random.Generator) -> Array:
    """Make uneven grounds of dull colours: values on a coarse grid, bilinear between; (n, S, S, 3)."""
    knots = 5
    mean, coarse = rng.uniform(0.25, 0.75, (count, 1, 1, 3)), rng.normal(0, 0.12, (count, knots, knots, 3))
    coarse = mean + coarse
    coarse = (0.5 * coarse + 0.5 * coarse.mean(-1, keepdims=True)).astype(np.float32)
    at = np.linspace(0, knots - 1, SIDE)
    weights = np.clip(1 - np.abs(at[:, None] - np.arange(knots)), 0, 1).astype(np.float32)
    rows = np.tensordot(weights, coarse, (1, 1))  # (S, n, knots, 3)
    return np.ascontiguousarray(np.tensordot(weights, rows, (1, 2)).transpose(2, 1, 0, 3))


def _paint(picture: Array, figures: _Figures, rng: np.random.Generator) -> None:
    """Paint one figure into each picture, in place."""
    count = len(picture)
    u, v = _turned(figures.place, rng.uniform(0, 2 * np.pi, count))
    outline = rng.integers(0, OUTLINES, count)
    inside = figures.radius * rng.uniform(0.5, 0.75, count)
    palette = np.array(list(COLOURS.values()))[np.array(PAIRS)[figures.classes]]  # (n, 2, 3)
    colours = (palette + rng.normal(0, HUE_SPREAD, palette.shape)).astype(np.float32)
    for number, radius in enumerate((figures.radius, inside)):
        cover = np.clip(0.5 - _distance(u, v, outline, radius), 0, 1)[..., None]  # one pixel of transition
        picture += cover * (colours[:, number, None, None] - picture)


def _distance(u: Array, v: Array, outline: Array, radius: Array) -> Array:
    """Return about how many pixels (n, S, S) each point is outside its figure; negative inside.

    Outlines of one radius cover about the same area: 0 disc, 1 square, 2 triangle, 3 cross.
    """
    size, far = _column(radius), np.empty_like(u)
    for number in range(OUTLINES):
        chosen = outline == number
        a, b, r = u[chosen], v[chosen], size[chosen]
        if number == 0:
            far[chosen] = np.hypot(a, b) - 0.85 * r
        elif number == 1:
            far[chosen] = np.maximum(np.abs(a), np.abs(b)) - 0.75 * r
        elif number == 2:
            far[chosen] = np.maximum(-b, 0.5 * b + 0.866 * np.abs(a)) - 0.62 * r
        else:
            a, b = np.abs(a), np.abs(b)
            far[chosen] = np.maximum(np.maximum(a, b) - 1.1 * r, np.minimum(a, b) - 0.36 * r)
    return far


def _bar(picture: Array, radius: Array, place: Array, rng: np.random.Generator) -> None:
    """Lay a flat grey bar over each picture that crosses the figure, in place."""
    count = len(picture)
    offset = rng.uniform(-0.6, 0.6, (2, count)) * radius
    _, v = _turned(place + offset, rng.uniform(0, np.pi, count))
    cover = np.clip(0.5 + _column(rng.uniform(1.0, 3.0, count)) - np.abs(v), 0, 1)[..., None]
    picture += cover * (rng.uniform(0, 1, (count, 1, 1, 1)).astype(np.float32) - picture)
