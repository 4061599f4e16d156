"""Draw what a dense network found onto the picture: boxes with names, tinted masks, tinted class maps with a key."""

from __future__ import annotations

import colorsys

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

MASK_SHARE = 0.45
MAP_SHARE = 0.55
"""How much of the colour lies over the picture."""
SMALLEST = 480
"""Shorter pictures are enlarged to this, so that names can be read."""


def colour_of(number: int) -> tuple[int, int, int]:
    """Return the colour of a class: hues by the golden ratio, so that neighbours differ."""
    red, green, blue = colorsys.hsv_to_rgb(
        (number * 0.618034 + 0.05) % 1, 0.8 - 0.25 * (number % 3 == 2), 0.95
    )
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_detections(
    picture: Image.Image, found: dict[str, Tensor], labels: list[str], *, threshold: float = 0.3
) -> Image.Image:
    """Draw boxes, names and masks.

    Args:
        picture: Upright RGB.
        found: In the picture's pixels, from `to_file`: boxes, labels, scores, perhaps masks.
        labels: Class names.
        threshold: Detections below this score are not drawn.

    Returns:
        A new picture, enlarged when the given one is small.
    """
    chosen = (found["scores"] >= threshold).nonzero()[:, 0].tolist()
    pixels = np.asarray(picture.convert("RGB")).astype(np.float32)
    for number in reversed(chosen) if "masks" in found else []:
        mask = found["masks"][number].numpy()
        tint = np.array(colour_of(int(found["labels"][number])), np.float32)
        pixels[mask] += MASK_SHARE * (tint - pixels[mask])
    canvas, scale = _enlarge(Image.fromarray(pixels.round().astype(np.uint8)))
    pen = ImageDraw.Draw(canvas)
    stroke = max(2, round(min(canvas.size) / 300))
    font = ImageFont.load_default(size=max(11, round(min(canvas.size) / 40)))
    for number in reversed(chosen):
        label = int(found["labels"][number])
        x0, y0, x1, y1 = (float(edge) * scale for edge in found["boxes"][number])
        colour = colour_of(label)
        pen.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=colour, width=stroke)
        _name(pen, canvas, (x0, y0), f"{labels[label]} {float(found['scores'][number]):.2f}", colour, font)
    return canvas


def draw_map(picture: Image.Image, classes: Tensor, labels: list[str]) -> Image.Image:
    """Tint a picture by its class map (height, width) and name the classes that cover most of it."""
    numbers = classes.numpy()
    table = np.array([colour_of(number) for number in range(len(labels))], np.float32)
    pixels = np.asarray(picture.convert("RGB")).astype(np.float32)
    pixels += MAP_SHARE * (table[numbers] - pixels)
    canvas, _ = _enlarge(Image.fromarray(pixels.round().astype(np.uint8)))
    pen = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=max(11, round(min(canvas.size) / 40)))
    counts = np.bincount(numbers.ravel(), minlength=len(labels))
    y = 2.0
    for label in np.argsort(-counts)[:8]:
        if counts[label] < 0.001 * numbers.size:
            break
        text = f"{labels[label]} {100 * counts[label] / numbers.size:.0f} %"
        y = _name(pen, canvas, (2.0, y), text, colour_of(int(label)), font)
    return canvas


def _enlarge(picture: Image.Image) -> tuple[Image.Image, float]:
    """Enlarge a small picture by a whole factor."""
    factor = max(1, -(-SMALLEST // max(1, min(picture.size))))
    if factor == 1:
        return picture, 1.0
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST), float(
        factor
    )


def _name(
    pen: ImageDraw.ImageDraw,
    canvas: Image.Image,
    at: tuple[float, float],
    text: str,
    colour: tuple[int, int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> float:
    """Write a name on its colour inside the picture; returns where the next line begins."""
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    width, height = right - left + 6, bottom - top + 5
    x = min(max(0.0, at[0]), max(0.0, canvas.width - width))
    y = min(max(0.0, at[1]), max(0.0, canvas.height - height))
    pen.rectangle((x, y, x + width, y + height), fill=colour)
    dark = sum(share * value for share, value in zip((0.3, 0.59, 0.11), colour, strict=True)) > 140
    pen.text((x + 3 - left, y + 2 - top), text, fill=(0, 0, 0) if dark else (255, 255, 255), font=font)
    return y + height + 1
