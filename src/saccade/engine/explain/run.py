"""Explain one picture: open weights and photo, compute maps, draw them."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from saccade import files
from saccade.data.decode import load_rgb
from saccade.data.preprocess import Preprocess
from saccade.engine.explain.attention import attention_maps
from saccade.engine.explain.cam import class_map
from saccade.engine.explain.draw import Panel, draw_explanation
from saccade.engine.source import open_for
from saccade.errors import ConfigError, did_you_mean
from saccade.weights import Card

METHODS = ("cam", "attention", "both")
TOP = 5
"""Answers under the photo."""


@dataclass
class Explanation:
    """What was drawn."""

    target: str
    """The class explained; the first answer for attention, which knows no classes."""
    answers: list[tuple[str, float]]
    """(class, probability in [0, 1]), the most probable first."""
    maps: list[str]
    """Titles of the drawn maps."""
    notes: list[str] = field(default_factory=list)


def explain(
    picture: Path | str,
    weights: Path | str,
    out: Path | str,
    *,
    method: str = "cam",
    target: str = "",
    per_block: bool = False,
    size: int = 0,
) -> Explanation:
    """Draw where a model looked in one picture, as a PNG.

    Args:
        picture: Any image file.
        weights: Run folder, weights file or model name; not a bundle, whose insides cannot be read.
        out: File to write, .png.
        method: cam, attention or both.
        target: Name or number of a class for cam; empty: the first answer.
        per_block: One attention map a block.
        size: Side of the square input; 0: that of the weights.

    Raises:
        ConfigError: Unknown method or class, a bundle, or a model without the map that was asked for.
        DataError: The picture cannot be read.
    """
    if method not in METHODS:
        raise ConfigError(f"unknown method {method!r}{did_you_mean(method, METHODS)}")
    if Path(out).suffix.lower() != ".png":
        raise ConfigError(f"{out}: drawings are written as .png; change --out")
    if (Path(weights) / "manifest.json").is_file():
        raise ConfigError(
            f"{weights}: the maps inside a bundle cannot be read; give the run folder or weights file"
        )
    task, model, card = open_for(weights, "explain")
    photo = load_rgb(picture)
    preprocess = Preprocess.from_dict(task.sized(card, size).preprocess)
    image = preprocess.reference(photo)[None]
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    notes = (
        ["These weights are fresh, not trained: the maps mean nothing."]
        if card.origin == "fresh weights"
        else []
    )
    panels, logits, chosen = _panels(model, image, card, method, target, per_block, notes)
    answers = _answers(logits, card)
    title = f"{card.model}: {chosen}" if method == "attention" else f"{card.model}: what spoke for {chosen}"
    drawing = draw_explanation(
        photo,
        panels,
        box=seen_box(preprocess, photo.width, photo.height),
        answers=answers,
        chosen=chosen,
        title=title,
    )
    with files.replacing(out) as temporary:
        drawing.save(temporary, "PNG", optimize=True)
    return Explanation(chosen, answers, [panel.title for panel in panels], notes)


def seen_box(preprocess: Preprocess, width: int, height: int) -> tuple[float, float, float, float]:
    """Find the part of a picture that a transform keeps.

    Args:
        preprocess: The transform.
        width: Of the picture, in pixels.
        height: Likewise.

    Returns:
        (left, top, right, bottom) in pixels of the picture.
    """
    new_width, new_height = preprocess.resized(width, height)
    left, top = round((new_width - preprocess.size) / 2), round((new_height - preprocess.size) / 2)
    across, down = width / new_width, height / new_height
    side = preprocess.size
    return left * across, top * down, (left + side) * across, (top + side) * down


def _panels(
    model: nn.Module,
    image: torch.Tensor,
    card: Card,
    method: str,
    target: str,
    per_block: bool,
    notes: list[str],
) -> tuple[list[Panel], torch.Tensor, str]:
    """Compute the maps that were asked for, the logits, and the name of the explained class."""
    panels: list[Panel] = []
    place = _class_number(target, card) if target else None
    logits = torch.empty(0)
    if method in ("cam", "both"):
        found = class_map(model, image, place)
        logits, place = found.logits, found.target
        grid = f"{found.heat.shape[0]} x {found.heat.shape[1]}"
        panels.append(Panel(f"evidence for {_label(place, card)}, {grid}", found.heat.numpy()))
        if not bool(found.heat.max() > 0):
            notes.append(f"No place spoke for {_label(place, card)}: the whole map is evidence against it.")
    if method in ("attention", "both"):
        maps, logits = attention_maps(model, image, per_block=per_block)
        for one in maps:
            heat = one.heat.numpy()
            # How far the strongest place stands out: an even map is no finding, whatever its colours.
            panels.append(Panel(f"{one.name}, up to {heat.max() * heat.size:.1f} times even", heat))
    return panels, logits, _label(int(logits.argmax()) if place is None else place, card)


def _answers(logits: torch.Tensor, card: Card) -> list[tuple[str, float]]:
    shares, places = logits.softmax(0).topk(min(TOP, len(logits)))
    return [(_label(int(p), card), float(s)) for p, s in zip(places, np.asarray(shares), strict=True)]


def _label(place: int, card: Card) -> str:
    return card.labels[place] if place < len(card.labels) else f"class {place}"


def _class_number(target: str, card: Card) -> int:
    """Resolve a class by name, else by number."""
    if target in card.labels:
        return card.labels.index(target)
    if target.isdigit() and int(target) < card.num_classes:
        return int(target)
    choices = card.labels or [str(card.num_classes - 1)]
    raise ConfigError(f"{card.model} has no class {target!r}{did_you_mean(target, choices)}")
