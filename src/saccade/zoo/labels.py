"""The names of a network's outputs, as people keep them: lines, JSON, or a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from saccade.errors import WeightsError
from saccade.files import parse_json, read_text


def read_labels(path: Path | str, count: int) -> list[str]:
    """Read the names of a network's outputs, in their order.

    Args:
        path: One name a line; a JSON list, or object from number to name (or with such an `id2label`); or a CSV
            table: of its columns number (id, index, class_id, ...) and name (name, label, class, ...), the second
            otherwise. "imagenet" stands for the thousand classes of ImageNet-1K.
        count: Outputs of the network.

    Raises:
        WeightsError: An unreadable file, or another number of names than outputs.
    """
    if str(path) == "imagenet" and not Path(path).exists():
        from timm.data.imagenet_info import ImageNetInfo

        names = list(ImageNetInfo().label_descriptions())
    else:
        path = Path(path)
        text = read_text(path, error=WeightsError)
        reader = {".json": _from_json, ".csv": _from_table, ".tsv": _from_table}.get(
            path.suffix.lower(), _from_lines
        )
        names = [name.strip() for name in reader(text, str(path))]
    if not all(names):
        raise WeightsError(f"{path}: entry {names.index('') + 1} is empty; expected one name for each output")
    if len(names) != count:
        raise WeightsError(
            f"{path}: {len(names)} labels for {count} outputs of the network; expected one label for each output"
        )
    return names


def numbered(values: Mapping[Any, Any], where: str) -> list[str]:
    """Put names by number in order.

    Raises:
        WeightsError: Numbers that are none, leave gaps, or names that are no text.
    """
    try:
        table = {int(key): value for key, value in values.items()}
    except (TypeError, ValueError):
        try:
            table = {int(value): key for key, value in values.items()}  # name -> number
        except (TypeError, ValueError):
            raise WeightsError(
                f'{where}: expected an object from number to name, such as {{"0": "cat"}}'
            ) from None
    if len(table) != len(values) or sorted(table) != list(range(len(table))):
        raise WeightsError(f"{where}: expected each number from 0 to {len(values) - 1} once")
    # The list of Keras has pairs of WordNet id and name.
    names = [value[-1] if isinstance(value, list) and value else value for _, value in sorted(table.items())]
    if not all(isinstance(name, str) for name in names):
        raise WeightsError(f"{where}: expected names that are text")
    return [str(name) for name in names]


def _from_lines(text: str, _: str) -> list[str]:
    return text.removeprefix("\ufeff").rstrip().splitlines()


def _from_json(text: str, where: str) -> list[str]:
    values = parse_json(text, where=where, error=WeightsError)
    if isinstance(values, dict):
        return numbered(values["id2label"] if isinstance(values.get("id2label"), dict) else values, where)
    if not isinstance(values, list) or not all(isinstance(name, str) for name in values):
        raise WeightsError(f"{where}: expected a JSON list of names, or an object from number to name")
    return values


def _from_table(text: str, where: str) -> list[str]:
    text = text.removeprefix("\ufeff")
    dialect = "excel-tab" if where.lower().endswith(".tsv") else "excel"
    rows = [row for row in csv.reader(io.StringIO(text), dialect) if row]
    if not rows:
        raise WeightsError(f"{where}: empty; expected one row for each output")
    head = [cell.strip().lower() for cell in rows[0]]
    names = [n for n in ("name", "label", "class_name", "class", "category") if n in head]
    numbers = [n for n in ("id", "index", "number", "class_id", "label_id", "class_index") if n in head]
    width = len(head)
    name, number = (
        (head.index(names[0]) if names else width - 1),
        (head.index(numbers[0]) if numbers else None),
    )
    body = rows[1:] if names or numbers else rows
    if number is None and not names and width > 1 and body[0][0].strip().isdigit():
        number = 0
    if any(len(row) != width for row in body):
        raise WeightsError(f"{where}: rows of different lengths; expected {width} columns in each")
    if number is None:
        return [row[name] for row in body]
    return numbered({row[number].strip(): row[name] for row in body}, where)
