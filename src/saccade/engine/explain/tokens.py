"""Which pixels each semantic token of an STViT stands for: the attention maps as numbers and as a picture.

STViT's last generating block lets every semantic token query all image tokens (Chang et al., CVPR 2023, arXiv
2303.08685, Eq. 3). Its weights, averaged over heads, say how much of each patch a token took in. Between patches
the maps are interpolated; nothing finer than a patch was measured.

Shape legend: M semantic tokens, h and w height and width of the image-token map.
"""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from saccade import files
from saccade.data.decode import load_rgb
from saccade.data.preprocess import Preprocess
from saccade.engine.explain.draw import GAP, INK, PAPER, SOFT, dimmed, fit_text, font, overlay
from saccade.engine.explain.run import seen_box
from saccade.engine.source import open_for
from saccade.errors import ConfigError, ShapeError
from saccade.nn.origin import name_of

Box = tuple[float, float, float, float]
GOLDEN = 0.6180339887498949
"""Steps of the hue circle that never come back to the same place soon."""

FULL_HEAT = 3.0
"""So many times the even share at least is drawn as full heat: an even map stays faint."""


@dataclass
class TokenPicture:
    """What was drawn, as numbers."""

    rows: list[dict[str, Any]]
    """One a token: token (from 1), share (of the patches, that it is the strongest at, in [0, 1]), x and y (centre of
    its map in pixels of the photo), width (of the map, in pixels: two standard deviations), peak (how many times the
    even share its strongest patch gets)."""
    grid: tuple[int, int]
    """Height and width of the image-token map."""
    notes: list[str] = field(default_factory=list)


def draw_tokens(picture: Path | str, weights: Path | str, out: Path | str, *, size: int = 0) -> TokenPicture:
    """Draw which pixels each semantic token stands for, as a PNG.

    Args:
        picture: Any image file.
        weights: Run folder, weights file or model name of an STViT: `stvit_*`, or what `saccade sparsify` made.
        out: File to write, .png.
        size: Side of the square input; 0: that of the weights.

    Raises:
        ConfigError: A model without semantic tokens, or a bundle.
        DataError: The picture cannot be read.
    """
    if Path(out).suffix.lower() != ".png":
        raise ConfigError(f"{out}: drawings are written as .png; change --plot")
    if (Path(weights) / "manifest.json").is_file():
        raise ConfigError(
            f"{weights}: the maps inside a bundle cannot be read; give the run folder or weights file"
        )
    task, model, card = open_for(weights, "explain")
    photo = load_rgb(picture)
    preprocess = Preprocess.from_dict(task.sized(card, size).preprocess)
    maps = token_maps(model, preprocess.reference(photo)[None]).numpy()
    box = seen_box(preprocess, photo.width, photo.height)
    notes = []
    if card.origin == "fresh weights":
        notes.append(
            "These weights are fresh, not trained: the tokens stand for nothing yet; give --model a run folder."
        )
    title = f"{card.model}: {len(maps)} semantic tokens for {maps.shape[1]} x {maps.shape[2]} patches"
    drawing = draw_token_picture(photo, maps, box=box, title=title)
    with files.replacing(out) as temporary:
        drawing.save(temporary, "PNG", optimize=True)
    return TokenPicture(token_rows(maps, box), (maps.shape[1], maps.shape[2]), notes)


def token_maps(model: nn.Module, image: Tensor) -> Tensor:
    """Read the maps of a network's semantic tokens for one picture.

    Args:
        model: Anything with a method `token_maps`, in evaluation mode.
        image: (1, channels, height, width), normalised as the model expects, on its device.

    Returns:
        (M, h, w) float32 on the CPU, each map summing to 1.

    Raises:
        ShapeError: `image` is not one picture.
        ConfigError: The model has no semantic tokens.
    """
    if image.ndim != 4 or image.shape[0] != 1:
        raise ShapeError(f"image is {tuple(image.shape)}; expected one picture, (1, channels, height, width)")
    read: Any = getattr(model, "token_maps", None)
    if read is None:
        name = name_of(model)
        raise ConfigError(
            f"{name} has no semantic tokens; give one of the stvit_* models, or convert a vision transformer "
            f"with: saccade sparsify NAME"
        )
    with torch.no_grad():
        maps = read(image)[0].float().cpu()
    return maps / maps.sum((1, 2), keepdim=True).clamp(min=1e-12)


def assign(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give each place to the token that takes most of it.

    Args:
        maps: (M, h, w) non-negative.

    Returns:
        (h, w) int64 token numbers from 0 (the first among equals), and (h, w) how clearly, in [0, 1]: 0 when all
        tokens take the same, 1 when one takes everything.
    """
    total = np.maximum(maps.sum(0), 1e-12)
    winner, share = maps.argmax(0), maps.max(0) / total
    count = len(maps)
    return winner, ((share - 1 / count) / (1 - 1 / count)).clip(0, 1) if count > 1 else np.ones_like(share)


def token_rows(maps: np.ndarray, box: Box) -> list[dict[str, Any]]:
    """Describe each map by a few numbers, in pixels of the photo; see `TokenPicture.rows`.

    Args:
        maps: (M, h, w), each summing to 1.
        box: (left, top, right, bottom) of what the network saw, in pixels of the photo.
    """
    _, high, wide = maps.shape
    xs = box[0] + (np.arange(wide) + 0.5) / wide * (box[2] - box[0])
    ys = box[1] + (np.arange(high) + 0.5) / high * (box[3] - box[1])
    winner, _ = assign(maps)
    rows = []
    for i, one in enumerate(maps):
        x, y = float((one.sum(0) * xs).sum()), float((one.sum(1) * ys).sum())
        spread = (one * ((xs[None] - x) ** 2 + (ys[:, None] - y) ** 2) / 2).sum()
        rows.append(
            {
                "token": i + 1,
                "share": round(float((winner == i).mean()), 4),
                "x": round(x, 1),
                "y": round(y, 1),
                "width": round(2 * math.sqrt(float(spread)), 1),
                "peak": round(float(one.max()) * high * wide, 2),
            }
        )
    return rows


def palette(count: int) -> np.ndarray:
    """Make `count` colours that differ from their neighbours: (count, 3) RGB in [0, 255]."""
    colours = [
        colorsys.hls_to_rgb((0.02 + i * GOLDEN) % 1, (0.44, 0.64, 0.36, 0.54)[i % 4], 0.72)
        for i in range(count)
    ]
    return 255 * np.array(colours)


def draw_token_picture(
    photo: Image.Image, maps: np.ndarray, *, box: Box, title: str = "", panel_size: int = 520
) -> Image.Image:
    """Lay out the photo, the patches coloured by their strongest token, and one heat map a token.

    Args:
        photo: The whole picture, any mode.
        maps: (M, h, w) non-negative.
        box: (left, top, right, bottom) in pixels of `photo`: what the network saw. The rest is dimmed.
        title: A line above everything.
        panel_size: Longer side of each picture, and side of the square of heat maps, in pixels.

    Returns:
        An RGB picture.
    """
    photo = photo.convert("RGB")
    shrink = panel_size / max(photo.size)
    size = (max(1, round(photo.width * shrink)), max(1, round(photo.height * shrink)))
    small = photo.resize(size, Image.Resampling.LANCZOS if shrink < 1 else Image.Resampling.BICUBIC)
    place = (box[0] * shrink, box[1] * shrink, box[2] * shrink, box[3] * shrink)
    head, caption = 58 if title else GAP, 34
    canvas = Image.new("RGB", (4 * GAP + 2 * size[0] + panel_size, head + panel_size + caption), PAPER)
    pen = ImageDraw.Draw(canvas)
    if title:
        pen.text((GAP, 17), fit_text(pen, title, font(21), canvas.width - 2 * GAP), INK, font(21))
    panels = [
        (dimmed(small, place), "photo", GAP, head, size[1]),
        (_coloured(small, maps, place), "the strongest token at each place", 2 * GAP + size[0], head, size[1]),
        (_cells(photo, maps, box, panel_size), "what each token took in", 3 * GAP + 2 * size[0], head, panel_size),
    ]  # fmt: skip
    for picture, name, x, y, high in panels:
        canvas.paste(picture, (x, y))
        pen.text((x, y + high + 8), name, SOFT, font(14))
    return canvas


def _coloured(photo: Image.Image, maps: np.ndarray, box: Box) -> Image.Image:
    """Colour each place by its token, the stronger the clearer, with edges and numbers."""
    left, top, right, bottom = (round(v) for v in box)
    left, top = max(0, left), max(0, top)
    right, bottom = min(photo.width, max(left + 1, right)), min(photo.height, max(top + 1, bottom))
    fine = np.stack([_enlarged(one, right - left, bottom - top) for one in maps])
    winner, clear = assign(fine)
    colours = palette(len(maps))
    pixels = np.asarray(dimmed(photo, box)).astype(np.float32)
    inside = pixels[top:bottom, left:right]
    grey = (inside @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
    alpha = (0.34 + 0.4 * clear)[..., None]
    inside = (1 - alpha) * (0.3 * inside + 0.7 * grey) + alpha * colours[winner]
    edge = np.zeros(winner.shape, bool)
    edge[:, 1:] |= winner[:, 1:] != winner[:, :-1]
    edge[1:] |= winner[1:] != winner[:-1]
    inside[edge] = 0.25 * inside[edge] + 0.75 * 255
    pixels[top:bottom, left:right] = inside
    drawn = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(drawn)
    for i in range(len(maps)):
        mine = winner == i
        if mine.mean() < 0.25 / len(maps):  # too little to write on
            continue
        # Where its own map is strongest inside its region: always on the region, unlike the centre of mass.
        y, x = np.unravel_index(np.where(mine, fine[i], -1).argmax(), mine.shape)
        at = (min(max(left + int(x), left + 14), right - 15), min(max(top + int(y), top + 11), bottom - 12))
        _tag(pen, str(i + 1), at, colours[i])
    return drawn


def _cells(photo: Image.Image, maps: np.ndarray, box: Box, side: int) -> Image.Image:
    """Draw every token's map over what the network saw, in rows, framed in the token's colour."""
    columns = math.ceil(math.sqrt(len(maps)))
    rows, gap = math.ceil(len(maps) / columns), 6
    cell = (side - gap * (columns - 1)) // columns
    seen = photo.crop(tuple(round(v) for v in box)).resize((cell, cell), Image.Resampling.LANCZOS)  # pyright: ignore
    sheet = Image.new("RGB", (side, max(side, rows * (cell + gap))), PAPER)
    pen, colours = ImageDraw.Draw(sheet), palette(len(maps))
    for i, one in enumerate(maps):
        x, y = (i % columns) * (cell + gap), (i // columns) * (cell + gap)
        least = FULL_HEAT * float(one.mean())
        sheet.paste(overlay(seen, one, (0, 0, cell, cell), least=least), (x, y))
        pen.rectangle((x, y, x + cell - 1, y + cell - 1), outline=_rgb(colours[i]), width=3)
        if cell >= 40:
            _tag(pen, str(i + 1), (x + 14, y + 13), colours[i])
    return sheet


def _tag(pen: ImageDraw.ImageDraw, text: str, at: tuple[int, int], colour: np.ndarray) -> None:
    """Write a number on a spot of colour."""
    width = 5 + pen.textlength(text, font(13)) / 2
    pen.rounded_rectangle((at[0] - width, at[1] - 9, at[0] + width, at[1] + 9), 6, _rgb(colour), "#ffffff")
    dark = colour @ np.array([0.299, 0.587, 0.114]) > 150
    pen.text(at, text, INK if dark else "#ffffff", font(13), anchor="mm")


def _enlarged(one: np.ndarray, width: int, height: int) -> np.ndarray:
    """Interpolate a map bilinearly to a size in pixels."""
    picture = Image.fromarray(one.astype(np.float32))
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))


def _rgb(colour: np.ndarray) -> tuple[int, int, int]:
    red, green, blue = (int(v) for v in colour)
    return red, green, blue
