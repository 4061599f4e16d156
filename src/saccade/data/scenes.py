"""Built-in data `scenes`: stills of the synthetic world with boxes, masks and class maps, as an ordinary COCO folder.

2400 pictures of 128 x 128 pixels, a few hundred objects of four classes (box, ball, cylinder, cone) per hundred
pictures, and class maps of eight classes. They are drawn once, a function of `SEED` and the picture's number alone,
into the user's cache folder, in the layout that data of one's own has: images/, annotations/instances_*.json,
semantic/*, classes.txt.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from saccade.data.outlines import pack_mask
from saccade.files import cache_dir, replacing, usable_cores
from saccade.worlds import CLASSES, SURFACES, Clip, make_world, render

COUNTS = {"train": 2000, "val": 400}
SIDE = 128
SEED = 41_000
LEAST_AREA = 12
"""Objects of which fewer pixels are seen are in no list."""
VERSION = 1
"""Part of the folder's name; rises when the pictures change."""
BLOCK = 50
"""Pictures between two calls of `progress`."""


def scenes_folder(
    progress: Callable[[int, int], None] | None = None,
    *,
    counts: dict[str, int] | None = None,
    home: Path | None = None,
) -> Path:
    """Return the folder of the built-in scenes, drawing them first when they are not there.

    Args:
        progress: Called with (pictures drawn, pictures in all).
        counts: Pictures of each part; the built-in data's own when left out.
        home: Folder to make; in the user's cache when left out.

    Raises:
        MissingExtraError: numba or faster-coco-eval (extra `dense`) is not installed.
        OSError: The folder cannot be written.
    """
    counts = counts or COUNTS
    home = home or cache_dir() / "data" / f"scenes-{VERSION}"
    if (home / "annotations").is_dir():
        return home
    total, done = sum(counts.values()), 0
    with replacing(home) as folder:
        for side, count in counts.items():
            for name in ("images", "semantic"):
                (folder / name / side).mkdir(parents=True)
            first = SEED + (10_000_000 if side == "val" else 0)
            images: list[dict[str, Any]] = []
            objects: list[dict[str, Any]] = []
            with ThreadPoolExecutor(min(8, usable_cores())) as pool:
                for begin in range(0, count, BLOCK):
                    numbers = range(begin, min(begin + BLOCK, count))
                    for number, clip in zip(
                        numbers, pool.map(_draw, [first + n for n in numbers]), strict=True
                    ):
                        _keep(clip, number, folder, side, images, objects)
                    done += len(numbers)
                    if progress is not None:
                        progress(done, total)
            content = {
                "info": {"description": "Saccade scenes", "version": VERSION},
                "images": images,
                "annotations": objects,
                "categories": [{"id": place + 1, "name": name} for place, name in enumerate(CLASSES)],
            }
            (folder / "annotations").mkdir(exist_ok=True)
            (folder / "annotations" / f"instances_{side}.json").write_text(
                json.dumps(content), encoding="utf-8"
            )
        (folder / "classes.txt").write_text("\n".join(SURFACES) + "\n", encoding="utf-8")
    return home


def _draw(seed: int) -> Clip:
    """Look at one world."""
    world = make_world(seed, seconds=0.0, objects=(2, 6), distance_m=(3.5, 16.0))
    return render(world, [0.0], (SIDE, SIDE))


def _keep(
    clip: Clip,
    number: int,
    folder: Path,
    side: str,
    images: list[dict[str, Any]],
    objects: list[dict[str, Any]],
) -> None:
    """Write a picture and its class map, and list its objects."""
    name = f"{number:05d}.png"
    Image.fromarray(clip.images[0]).save(folder / "images" / side / name, compress_level=1)
    Image.fromarray(clip.classes[0]).save(folder / "semantic" / side / name, compress_level=6)
    images.append({"id": number + 1, "file_name": name, "height": SIDE, "width": SIDE})
    boxes, areas = clip.boxes()
    for place, thing in enumerate(clip.world.objects):
        if areas[0, place] < LEAST_AREA:
            continue
        x0, y0, x1, y1 = (float(edge) for edge in boxes[0, place])
        mask = clip.instances[0] == place + 1
        objects.append(
            {
                "id": len(objects) + 1,
                "image_id": number + 1,
                "category_id": CLASSES.index(thing.name) + 1,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": float(areas[0, place]),
                "iscrowd": 0,
                "segmentation": pack_mask(np.asarray(mask)),
            }
        )
