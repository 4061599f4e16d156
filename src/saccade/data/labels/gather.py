"""Gather what another format says into COCO's form, which `data.coco` checks; what is left out is counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from saccade.files.pictures import open_picture


@dataclass
class Gathered:
    """Pictures and objects of one part, read from another format than COCO's."""

    names: list[str] = field(default_factory=list)
    """Class names by number, where the format fixes them; else they are numbered in alphabetical order."""
    images: list[dict[str, Any]] = field(default_factory=list)
    objects: list[dict[str, Any]] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)
    """What was left out, by reason."""

    def picture(self, name: str, size: tuple[Any, Any] = (None, None)) -> None:
        """Begin the next picture; size is height and width, None where the format does not say."""
        row = {"id": len(self.images) + 1, "file_name": name}
        self.images.append({**row, **({} if None in size else {"height": size[0], "width": size[1]})})

    def add(
        self,
        label: Any,
        *,
        corners: tuple[float, float, float, float] | None = None,
        outline: Any = None,
        crowd: bool = False,
    ) -> None:
        """Add an object to the picture: x0, y0, x1, y1 in pixels in any order, or an outline in COCO's form."""
        row: dict[str, Any] = {"image_id": len(self.images), "label": label, "iscrowd": int(crowd)}
        if corners is not None:
            xs, ys = sorted(corners[0::2]), sorted(corners[1::2])
            row["bbox"] = [xs[0], ys[0], xs[1] - xs[0], ys[1] - ys[0]]
        if outline is not None:
            row["segmentation"] = outline
        self.objects.append(row)

    def content(self) -> tuple[dict[str, Any], list[str]]:
        """Return images, annotations and categories in COCO's form, and notes on what was left out."""
        names = self.names or sorted({str(row["label"]) for row in self.objects})
        numbers = {name: number + 1 for number, name in enumerate(names)}
        annotations = []
        for number, row in enumerate(self.objects):
            label = row.pop("label")
            # A number beyond the names stays one: it points nowhere, and is counted there.
            category = label + 1 if isinstance(label, int) else numbers.get(str(label), 0)
            annotations.append({"id": number + 1, "category_id": category, **row})
        categories = [{"id": number, "name": name} for name, number in numbers.items()]
        notes = [f"{count} {reason}" for reason, count in self.left.items()]
        return {"images": self.images, "annotations": annotations, "categories": categories}, notes


def size_of(path: Path) -> tuple[int, int]:
    """Return height and width of a picture, upright.

    Raises:
        DataError: Not a picture.
    """
    picture = open_picture(path)
    turned = picture.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    return (picture.width, picture.height) if turned else (picture.height, picture.width)
