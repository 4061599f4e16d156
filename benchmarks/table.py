"""The tables that benchmarks append to."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def append(path: Path, rows: Sequence[Mapping[str, Any]], fields: Sequence[str] = ()) -> None:
    """Append rows to a CSV file, with a heading when it is new; columns are those of the first row by default."""
    fresh = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fields or list(rows[0]), lineterminator="\n")
        if fresh:
            writer.writeheader()
        writer.writerows(rows)
