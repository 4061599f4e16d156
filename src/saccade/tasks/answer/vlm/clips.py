"""What is put to a model: a clip's frames with their seconds, and what is said about them."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from saccade.errors import ConfigError, DataError, did_you_mean
from saccade.kinematics.draw import COLOURS, WIDTH_PX, draw_boxes, open_image
from saccade.kinematics.video import check_clip, read_frames, video_facts

STEP_S = 0.5
"""Between the frames of a clip, as between the points of a label."""
MOST_FRAMES = 40
BLANK = (127, 127, 127)
"""Colour of blank frames."""

Boxes = Mapping[str, Sequence[float] | None]


@dataclass(frozen=True)
class Exchange:
    """Frames and what is said about them, ready for any adapter."""

    turns: list[tuple[str, str]]
    """(question, answer); the last answer is empty when it is to be generated."""
    frames: list[Image.Image] = field(default_factory=list)
    """Of one clip, in order, as recorded; empty for text alone."""
    times_s: list[float] = field(default_factory=list)
    """Second of each frame from the start of the clip."""
    boxes: list[Boxes] = field(default_factory=list)
    """For each frame {colour: x0, y0, x1, y1 in its pixels}; empty when there is nothing to draw."""
    image: Image.Image | None = None
    """A single picture in place of a clip."""
    name: str = ""

    def __post_init__(self) -> None:
        if self.frames and len(self.frames) != len(self.times_s):
            raise DataError(
                f"{self.name or 'clip'}: {len(self.frames)} frames and {len(self.times_s)} times; expected one each"
            )
        if self.boxes and len(self.boxes) != len(self.frames):
            raise DataError(
                f"{self.name or 'clip'}: boxes for {len(self.boxes)} of {len(self.frames)} frames; expected one "
                "entry for each"
            )
        if any(later <= earlier for earlier, later in itertools.pairwise(self.times_s)):
            raise DataError(
                f"{self.name or 'clip'}: the times of the frames do not rise; expected seconds in order"
            )


def only_boxes(exchange: Exchange) -> Exchange:
    """Blank the frames and keep the boxes."""
    blank = [Image.new("RGB", frame.size, BLANK) for frame in exchange.frames]
    return dataclasses.replace(exchange, frames=blank)


def only_pixels(exchange: Exchange) -> Exchange:
    """Keep the frames and hide the boxes."""
    return dataclasses.replace(exchange, boxes=[])


def fit_frames(
    frames: Sequence[Image.Image],
    boxes: Sequence[Boxes],
    size: tuple[int, int],
    *,
    width: int = WIDTH_PX,
    blank: bool = False,
) -> list[Image.Image]:
    """Resize frames to what the model sees, then draw the boxes, so that lines keep their width and colour.

    Args:
        frames: Of one clip.
        boxes: One entry a frame, in the pixels of the frames as given; or empty.
        size: (width, height) that the model sees; the frame is squeezed into it, as the model's own processor does.
        width: Of the lines, pixels that the model sees.
        blank: Grey in place of the frames, and no boxes.
    """
    if blank:
        return [Image.new("RGB", size, BLANK) for _ in frames]
    fitted = []
    for frame, drawn in itertools.zip_longest(frames, boxes, fillvalue={}):
        assert isinstance(frame, Image.Image)
        across, down = size[0] / frame.width, size[1] / frame.height
        image = frame.convert("RGB")
        if image.size != size:
            image = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
        scaled = {
            colour: None if box is None else [box[0] * across, box[1] * down, box[2] * across, box[3] * down]
            for colour, box in drawn.items()
        }
        fitted.append(draw_boxes(image, scaled, width=width) if scaled else image)
    return fitted


def fill_boxes(
    boxes: Sequence[Boxes], frame: tuple[int, int], size: tuple[int, int], colours: Sequence[str]
) -> np.ndarray:
    """Make channels of boxes at the size that the model sees: of each pixel the share that is inside.

    Args:
        boxes: One entry a frame, in the pixels of the frames as given.
        frame: (width, height) of those.
        size: (width, height) that the model sees.
        colours: One channel each, in this order.

    Returns:
        (frames, channels, height, width), float32.

    Raises:
        DataError: A colour that has no channel.
    """
    corners = np.full((len(boxes), len(colours), 4), np.nan)
    scale = np.array([size[0] / frame[0], size[1] / frame[1]] * 2)
    for place, drawn in enumerate(boxes):
        for colour, box in drawn.items():
            if colour not in colours:
                raise DataError(
                    f"these eyes take boxes as channels and have none for {colour}; expected {' or '.join(colours)}"
                )
            if box is not None:
                corners[place, colours.index(colour)] = box * scale
    return cover_boxes(corners, size[1], size[0])


def cover_boxes(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Fill boxes in masks; of border pixels, the share that is covered.

    Args:
        boxes: (..., 4) x0, y0, x1, y1 in pixels; NaN: no box.
        height: Of the masks.
        width: Of the masks.

    Returns:
        (..., height, width) float32 in [0, 1].
    """
    x0, y0, x1, y1 = (np.nan_to_num(boxes[..., k])[..., None] for k in range(4))
    columns, rows = np.arange(width), np.arange(height)
    across = np.clip(np.minimum(x1, columns + 1) - np.maximum(x0, columns), 0, 1)
    down = np.clip(np.minimum(y1, rows + 1) - np.maximum(y0, rows), 0, 1)
    return (down[..., :, None] * across[..., None, :]).astype(np.float32)


def clip_frames(
    path: Path | str, times_s: Sequence[float] | None = None
) -> tuple[list[Image.Image], list[float]]:
    """Read frames of a video, or all pictures of a folder.

    Args:
        path: A video, or a folder of pictures that are half a second apart, in the order of their names.
        times_s: Seconds; by default every half second from the start, at most 40.

    Returns:
        Frames and their seconds.

    Raises:
        DataError: No such clip, or one that is too short.
    """
    path = Path(path)
    if path.is_dir():
        names = sorted(
            p for p in path.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp", ".bmp")
        )
        found = [round(STEP_S * k, 6) for k in range(min(len(names), MOST_FRAMES))]
        wanted = found if times_s is None else list(times_s)
        _long_enough(path, len(found))
        places = [round(second / STEP_S) if math.isfinite(second) else -1 for second in wanted]
        if any(
            not 0 <= place < len(names) or abs(place * STEP_S - second) > 1e-6
            for place, second in zip(places, wanted, strict=True)
        ):
            raise DataError(
                f"{path}: {len(names)} pictures half a second apart; expected one at each of the asked seconds, the "
                f"last at {wanted[-1]:g}"
            )
        frames = []
        for place in places:
            frames.append(open_image(names[place]))
            check_clip(path, len(places), *frames[-1].size)
        return frames, wanted
    if times_s is None:
        length = video_facts(path).duration_s
        # A clip of 2 s whose last frame begins at 1.97 s has frames at 0, 0.5, 1 and 1.5.
        times_s = [
            round(STEP_S * k, 6) for k in range(min(MOST_FRAMES, max(0, math.ceil(length / STEP_S - 1e-3))))
        ]
        _long_enough(path, len(times_s))
    pictures = []
    for _, frame in read_frames(path, times_s):
        pictures.append(Image.fromarray(frame))
        check_clip(path, len(times_s), *pictures[-1].size)
    return pictures, list(times_s)


def _long_enough(path: Path, count: int) -> None:
    if count < 2:
        raise DataError(
            f"{path}: has {count} of the frames that are taken every {STEP_S:g} s; expected at least 2, so a clip "
            f"longer than {STEP_S:g} s"
        )


def parse_box(text: str) -> tuple[str, float, list[float]]:
    """Read `[colour:]x0,y0,x1,y1@seconds`.

    Returns:
        Colour (red when none is named), second, and box.

    Raises:
        ConfigError: Another form, a colour that is not known, or an empty box.
    """
    colour, colon, rest = text.rpartition(":")
    colour = colour if colon else "red"
    place, _, second = rest.partition("@")
    try:
        box = [float(part) for part in place.split(",")]
        time = float(second)
    except ValueError:
        box, time = [], 0.0
    if len(box) != 4 or not all(math.isfinite(value) for value in [*box, time]):
        raise ConfigError(
            f"--box is {text!r}; expected x0,y0,x1,y1@seconds in pixels, such as 120,80,180,140@0.0 or "
            "blue:120,80,180,140@0.0"
        )
    if colour not in COLOURS:
        raise ConfigError(f"--box {text!r}: no colour {colour!r}{did_you_mean(colour, COLOURS)}")
    if box[2] <= box[0] or box[3] <= box[1]:
        raise ConfigError(f"--box {text!r}: expected x0 < x1 and y0 < y1")
    return colour, time, box


def spread_boxes(
    given: Sequence[tuple[str, float, list[float]]],
    times_s: Sequence[float],
    size: tuple[int, int],
    where: str = "--box",
) -> list[Boxes]:
    """Give every frame its boxes: between two given seconds of a colour by straight lines, outside of them none.

    Args:
        given: (colour, second, box) in pixels of the clip.
        times_s: Of the frames.
        size: (width, height) of the clip.
        where: For errors.

    Raises:
        ConfigError: A box outside the frame, or at a second that no frame is near.
    """
    for colour, time, box in given:
        if box[0] < 0 or box[1] < 0 or box[2] > size[0] or box[3] > size[1]:
            raise ConfigError(
                f"{where}: the {colour} box {','.join(f'{v:g}' for v in box)} at {time:g} s leaves the frame; "
                f"expected x up to {size[0]} and y up to {size[1]}"
            )
        if min(abs(time - second) for second in times_s) > STEP_S / 2 + 1e-6:
            raise ConfigError(
                f"{where}: there is no frame near {time:g} s; the frames lie from {times_s[0]:g} to {times_s[-1]:g} s"
            )
    spread: list[dict[str, Sequence[float] | None]] = [{} for _ in times_s]
    for colour in dict.fromkeys(entry[0] for entry in given):
        known = sorted((time, box) for name, time, box in given if name == colour)
        seconds = np.array([time for time, _ in known])
        corners = np.array([box for _, box in known])
        for place, second in enumerate(times_s):
            if seconds[0] - STEP_S / 2 - 1e-6 <= second <= seconds[-1] + STEP_S / 2 + 1e-6:
                spread[place][colour] = [float(np.interp(second, seconds, corners[:, k])) for k in range(4)]
    return list(spread)
