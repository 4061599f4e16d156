"""Draw heat over a photograph as a PNG: photo, maps, a colour bar and the first answers. Pillow only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

PAPER, INK, SOFT, LINE, ACCENT = "#fbfaf7", "#1d2129", "#6b7280", "#e3e0d8", "#2563c9"
RAMP = (
    (12, 7, 44),
    (66, 15, 110),
    (136, 34, 106),
    (203, 65, 72),
    (245, 125, 21),
    (252, 190, 60),
    (252, 253, 180),
)
"""Colours from no heat to full heat, of steadily rising lightness so that they also read in grey."""
GAP = 24


@dataclass
class Panel:
    """One heat map to draw over the photo."""

    title: str
    heat: np.ndarray
    """(height, width) non-negative; scaled by its maximum."""


def draw_explanation(
    photo: Image.Image,
    panels: Sequence[Panel],
    *,
    box: tuple[float, float, float, float],
    answers: Sequence[tuple[str, float]] = (),
    chosen: str = "",
    title: str = "",
    scale: str = "strongest",
    panel_size: int = 360,
) -> Image.Image:
    """Lay out the photo, the maps over it, the answers and a colour bar.

    Args:
        photo: The whole picture, any mode.
        panels: The maps, each drawn over the part of the photo inside `box`.
        box: (left, top, right, bottom) in pixels of `photo`: what the network saw. The rest is dimmed.
        answers: (class name, probability in [0, 1]), the most probable first; drawn under the photo.
        chosen: Name among `answers` to set off.
        title: A line above everything.
        scale: What the upper end of the colour bar means.
        panel_size: Longer side of each picture, in pixels.

    Returns:
        An RGB picture.
    """
    photo = photo.convert("RGB")
    shrink = panel_size / max(photo.size)
    size = (max(1, round(photo.width * shrink)), max(1, round(photo.height * shrink)))
    small = photo.resize(size, Image.Resampling.LANCZOS if shrink < 1 else Image.Resampling.BICUBIC)
    place = (box[0] * shrink, box[1] * shrink, box[2] * shrink, box[3] * shrink)
    columns = min(len(panels) + 1, 4)
    rows = -(-(len(panels) + 1) // columns)
    head, caption = (58 if title else GAP), 30
    foot = max(26 * len(answers) + 18, 66)
    cell_w, cell_h = max(size[0], 200), size[1] + caption
    width = GAP + columns * (cell_w + GAP)
    height = head + rows * (cell_h + 10) + foot + GAP
    canvas = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(canvas)
    if title:
        pen.text((GAP, 17), fit_text(pen, title, font(21), width - 2 * GAP), INK, font(21))
    pictures = [("photo", dimmed(small, place))] + [(p.title, overlay(small, p.heat, place)) for p in panels]
    for i, (name, picture) in enumerate(pictures):
        x, y = GAP + (i % columns) * (cell_w + GAP), head + (i // columns) * (cell_h + 10)
        canvas.paste(picture, (x, y))
        pen.text((x, y + size[1] + 7), fit_text(pen, name, font(14), cell_w), SOFT, font(14))
    base = head + rows * (cell_h + 10) + 4
    _answers(pen, answers, chosen, (GAP, base), max(cell_w, 330) if columns > 1 else cell_w)
    left = GAP + cell_w + GAP if columns > 1 else GAP
    if columns > 1 and (columns > 2 or cell_w >= 330):
        _colour_bar(canvas, pen, (left, base + 3), min(cell_w, 280), scale)
    return canvas


def overlay(
    photo: Image.Image,
    heat: np.ndarray,
    box: tuple[float, float, float, float],
    *,
    strength: float = 0.72,
    least: float = 0.0,
) -> Image.Image:
    """Blend a heat map over the part of a photo inside `box`, weak heat fainter, and dim the rest.

    Args:
        photo: RGB.
        heat: (height, width) non-negative, any scale; resized bicubically to the box.
        box: (left, top, right, bottom) in pixels of `photo`.
        strength: Opacity of full heat, in [0, 1].
        least: Full heat is the maximum, but at least this: so that an even map stays faint.
    """
    left, top, right, bottom = (round(v) for v in box)
    left, top = max(0, left), max(0, top)
    right, bottom = min(photo.width, max(left + 1, right)), min(photo.height, max(top + 1, bottom))
    peak = max(float(heat.max()), least)
    scaled = Image.fromarray((heat / peak if peak > 0 else heat).astype(np.float32))
    warm = np.asarray(scaled.resize((right - left, bottom - top), Image.Resampling.BICUBIC)).clip(0, 1)
    alpha = (strength * (0.35 + 0.65 * warm))[..., None]
    pixels = np.asarray(dimmed(photo, box)).astype(np.float32)
    # Heat needs a quiet ground: the photo under it keeps its light and loses most of its colour.
    inside = pixels[top:bottom, left:right]
    grey = inside @ np.array([0.299, 0.587, 0.114], np.float32)
    inside = 0.35 * inside + 0.65 * grey[..., None]
    pixels[top:bottom, left:right] = (1 - alpha) * inside + alpha * colours(warm)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def colours(values: np.ndarray) -> np.ndarray:
    """Map values in [0, 1], any shape, to RGB in [0, 255], shape + (3,), along the ramp."""
    stops = np.linspace(0, 1, len(RAMP))
    ramp = np.array(RAMP, np.float32)
    return np.stack([np.interp(values, stops, ramp[:, c]) for c in range(3)], -1).astype(np.float32)


def dimmed(photo: Image.Image, box: tuple[float, float, float, float]) -> Image.Image:
    """Fade what the network did not see, outside `box` in pixels, towards the paper."""
    left, top, right, bottom = (round(v) for v in box)
    faded = Image.blend(photo, Image.new("RGB", photo.size, PAPER), 0.62)
    faded.paste(photo.crop((left, top, right, bottom)), (left, top))
    return faded


def _answers(
    pen: ImageDraw.ImageDraw,
    answers: Sequence[tuple[str, float]],
    chosen: str,
    at: tuple[int, int],
    width: int,
) -> None:
    """Draw one bar an answer."""
    x, y = at
    name_width = int(width * 0.44)
    for i, (name, probability) in enumerate(answers):
        top = y + 26 * i
        colour = ACCENT if name == chosen else "#9aa3b2"
        pen.text(
            (x, top),
            fit_text(pen, name, font(15), name_width - 10),
            INK if name == chosen else SOFT,
            font(15),
        )
        full = width - name_width - 62
        pen.rounded_rectangle((x + name_width, top + 4, x + name_width + full, top + 14), 5, LINE)
        if (length := probability * full) >= 1:
            end = x + name_width + length
            pen.rounded_rectangle((x + name_width, top + 4, end, top + 14), min(5, int(length / 2)), colour)
        pen.text((x + width - 54, top), f"{100 * probability:.1f} %", SOFT, font(14))


def _colour_bar(
    canvas: Image.Image, pen: ImageDraw.ImageDraw, at: tuple[int, int], width: int, scale: str
) -> None:
    """Draw the ramp with its ends named."""
    x, y = at
    strip = colours(np.linspace(0, 1, width))[None].repeat(12, 0).astype(np.uint8)
    canvas.paste(Image.fromarray(strip), (x, y))
    pen.text((x, y + 17), "none", SOFT, font(13))
    end = pen.textlength(scale, font(13))
    pen.text((x + width - end, y + 17), scale, SOFT, font(13))


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's built-in typeface, so that pictures look the same everywhere."""
    return ImageFont.load_default(size)


def fit_text(
    pen: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float
) -> str:
    """Cut a text that is wider than `width`, with an ellipsis."""
    if pen.textlength(text, font) <= width:
        return text
    while text and pen.textlength(text + "…", font) > width:
        text = text[:-1]
    return text + "…"
