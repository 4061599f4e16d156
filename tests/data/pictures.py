"""Pictures made on the spot: photo-like, and every odd kind of file."""

import io

import numpy as np
from PIL import Image, ImageDraw


def photo(width: int = 500, height: int = 375, seed: int = 0) -> Image.Image:
    """Smooth colours at three scales, fine noise, and sharp-edged boxes."""
    rng = np.random.default_rng(seed)
    array = np.full((height, width, 3), 120.0)
    for cells, strength in ((4, 60), (16, 30), (60, 15)):
        coarse = rng.standard_normal((max(2, cells * height // width), cells, 3)) * strength
        for channel in range(3):
            plane = Image.fromarray(coarse[..., channel].astype(np.float32))
            array[..., channel] += np.asarray(plane.resize((width, height), Image.Resampling.BICUBIC))
    array += rng.standard_normal(array.shape) * 4
    picture = Image.fromarray(array.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for _ in range(8):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        colour = tuple(int(value) for value in rng.integers(0, 255, 3))
        draw.rectangle((x, y, x + width // 8, y + height // 8), fill=colour)
    return picture


def encode(picture: Image.Image, kind: str = "JPEG", **options) -> bytes:
    """File contents of a picture."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **({"quality": 85} if kind == "JPEG" else {}) | options)
    return buffer.getvalue()
