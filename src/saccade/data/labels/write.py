"""Write objects of any format that is read as a COCO folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from saccade.data.coco import CocoIndex
from saccade.data.labels.formats import find_objects, read_objects
from saccade.errors import ConfigError
from saccade.files import replacing


def write_coco(
    spec: str, out: Path, *, link: bool = False, dry_run: bool = False
) -> tuple[dict[str, int], list[str]]:
    """Write annotations/instances_PART.json and the pictures in images/PART.

    Args:
        spec: As for `find_objects`.
        out: A new folder.
        link: Make links to the pictures instead of copies.
        dry_run: Only read and count.

    Returns:
        Pictures of each part, and notes on what was read and left out.

    Raises:
        ConfigError: The folder is there already.
        DataError: Labels that cannot be read.
    """
    if out.exists():
        raise ConfigError(f"{out}: is there already; name a new folder with --out")
    indices: dict[str, CocoIndex] = {}
    for side, part in find_objects(spec).items():
        labels = next(iter(indices.values())).labels if indices else None
        indices[side] = read_objects(part, labels)
    if not dry_run:
        with replacing(out) as folder:
            for side, index in indices.items():
                _write(index, folder, "" if side == "all" else side, link)
    counts = {side: len(index.files) for side, index in indices.items()}
    return counts, [note for index in indices.values() for note in index.notes]


def _write(index: CocoIndex, folder: Path, side: str, link: bool) -> None:
    """Write one part."""
    (folder / "images" / side).mkdir(parents=True)
    (folder / "annotations").mkdir(exist_ok=True)
    images: list[dict[str, Any]] = []
    objects: list[dict[str, Any]] = []
    taken: set[str] = set()
    for number, (file, size, found) in enumerate(
        zip(index.files, index.sizes.tolist(), index.annotations, strict=True), start=1
    ):
        name = file.name if file.name.lower() not in taken else f"{number}_{file.name}"
        taken.add(name.lower())
        target = folder / "images" / side / name
        if link:
            target.symlink_to(file.absolute())
        else:
            shutil.copyfile(file, target)
        images.append({"id": number, "file_name": name, "height": size[0], "width": size[1]})
        for place, (x0, y0, x1, y1) in enumerate(found.boxes.tolist()):
            row = {"id": len(objects) + 1, "image_id": number, "category_id": int(found.labels[place]) + 1}
            row |= {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": float(found.areas[place])}
            row |= {"iscrowd": int(found.crowd[place])}
            shape = found.shapes[place]
            objects.append(row if shape is None else {**row, "segmentation": shape})
    categories = [{"id": number + 1, "name": name} for number, name in enumerate(index.labels)]
    content = {"images": images, "annotations": objects, "categories": categories}
    text = json.dumps(content, ensure_ascii=False)
    (folder / "annotations" / f"instances_{side or 'all'}.json").write_text(text, encoding="utf-8")
