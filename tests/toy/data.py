"""Pictures of dots, drawn from seeds that are listed in a file: a line `NAME SEED` a picture."""

from pathlib import Path
from typing import Any

import torch

from saccade.errors import DataError

MOST = 6
"""Dots of a picture, at most."""


class Dots:
    """The pictures of a list, drawn when asked for: higher than wide, so that no side passes for the other."""

    def __init__(self, where: str, size: int, share: tuple[float, float] = (0.0, 1.0)) -> None:
        path = Path(where)
        if not path.is_file():
            raise DataError(f"{where}: no such list; expected a file with a line NAME SEED a picture")
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        first, last = (round(part * len(lines)) for part in share)
        self.where, self.size = where, size
        self.names = [line[0] for line in lines[first:last]]
        self.seeds = [line[-1] for line in lines[first:last]]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, key: Any) -> dict[str, Any]:
        """Draw a picture; `key` is a place, or in training a place with a seed for what is random."""
        place, seed = key if isinstance(key, tuple) else (key, None)
        if not self.seeds[place].isdigit():
            raise DataError(
                f"{self.where}: {self.names[place]} has the seed {self.seeds[place]!r}; expected a number"
            )
        image, count = draw(int(self.seeds[place]), self.size)
        if seed is not None and seed % 2:
            image = image.flip(-1)
        return {"image": image, "target": count, "index": place, "name": self.names[place]}


def draw(seed: int, size: int) -> tuple[torch.Tensor, int]:
    """Draw up to `MOST` bright dots apart from each other: (1, 2 * size, size) and how many there are."""
    generator = torch.Generator().manual_seed(seed)
    count = int(torch.randint(0, MOST + 1, (), generator=generator))
    image = 0.1 * torch.rand(1, 2 * size, size, generator=generator)
    cells = torch.randperm((size // 2) * size, generator=generator)[:count]
    for cell in cells.tolist():
        row, column = 2 * (cell // (size // 2)), 2 * (cell % (size // 2))
        image[0, row : row + 2, column : column + 2] = 1.0
    return image, count
