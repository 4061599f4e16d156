"""Data that needs no download: `digits`, 1797 scanned hand-written digits, and `shapes`, 16000 drawn pictures.

The digits are scikit-learn's copy of the UCI Optical Recognition of Handwritten Digits test set (E. Alpaydin and
C. Kaynak, 1998), enlarged to 64 x 64 grey pictures so that they go through the same pipeline as photographs.
The shapes are drawn by `saccade.data.shapes`.
"""

import functools

import numpy as np
from PIL import Image

from saccade.data.shapes import ShapesSource
from saccade.data.source import PackedStrings, Source
from saccade.data.split import stratified_split
from saccade.errors import DataError, did_you_mean
from saccade.extras import require

BUILTIN = {
    "digits": "1797 scanned hand-written digits, 10 classes (scikit-learn)",
    "shapes": "16000 drawn pictures of 56 x 56 pixels with a figure to be found, 12 classes",
}
SIDE = 64
VAL_FRACTION = 0.2
SPLIT_SEED = 0
"""The split of built-in data is part of the data: it does not move with the seed of a run."""


class DigitsSource(Source):
    """Scanned digits as 64 x 64 grey pictures, bicubically enlarged from 8 x 8."""

    def __init__(self, part: str = "all"):
        """Load the digits.

        Args:
            part: "all" (1797), "train" (1438) or "val" (359, stratified).
        """
        pixels, targets = _load()
        indices = np.arange(len(targets))
        if part != "all":
            indices = stratified_split(targets, VAL_FRACTION, seed=SPLIT_SEED)[part == "val"]
        self._pixels = pixels[indices]
        self.targets = targets[indices]
        numbered = zip(indices, self.targets, strict=True)
        self.names = PackedStrings(f"digits/{target}/{index:04d}" for index, target in numbered)
        self.labels = [str(digit) for digit in range(10)]
        self.notes = []
        self.where = "digits"

    def read(self, index: int) -> Image.Image:
        """Draw digit `index`: a grey picture of 64 x 64, ink bright on black."""
        return Image.fromarray(self._pixels[index]).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


@functools.cache
def _load() -> tuple[np.ndarray, np.ndarray]:
    """Pixels (1797, 8, 8) uint8, 0..255, and digits (1797,) int64."""
    datasets = require("sklearn.datasets", "digits", "for the built-in data 'digits'")
    digits = datasets.load_digits()
    return np.rint(digits.images * (255 / 16)).astype(np.uint8), digits.target.astype(np.int64)


def open_builtin(name: str, *, part: str = "all") -> Source:
    """Open built-in data by name.

    Raises:
        DataError: No such name.
        MissingExtraError: The package that holds it is not installed.
    """
    if name not in BUILTIN:
        raise DataError(f"no built-in data is called {name!r}{did_you_mean(name, BUILTIN)}")
    return DigitsSource(part) if name == "digits" else ShapesSource(part)
