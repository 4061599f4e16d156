"""Records as Parquet: numbers as nested lists, mixed values as JSON text."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from saccade.errors import DataError
from saccade.extras import require
from saccade.kinematics.schema import QUESTION_SCHEMA, TRACK_FORMAT, TRACK_SCHEMA, question_schema

_BATCH = 256
"""Records of a row group; a track of a long clip takes some 100 kB."""


def read_parquet(path: Path) -> Iterator[dict[str, Any]]:
    """Yield plain records.

    Raises:
        DataError: Not a Parquet file, or a JSON field that is none.
        MissingExtraError: pyarrow is not installed.
    """
    parquet = require("pyarrow.parquet", "kinematics", "to read Parquet files")
    arrow = require("pyarrow", "kinematics", "to read Parquet files")
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_BATCH):
                for row in batch.to_pylist():
                    # Parquet has a column where JSON has no field.
                    record = {name: value for name, value in row.items() if value is not None}
                    if isinstance(record.get("camera"), dict):
                        record["camera"] = {
                            name: item for name, item in record["camera"].items() if item is not None
                        }
                    for name in _JSON:
                        if isinstance(record.get(name), str):
                            record[name] = json.loads(record[name])
                    yield record
    except (arrow.ArrowException, OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{path}: cannot be read as Parquet ({str(error)[:100]}); write the file again"
        ) from None


def write_parquet(records: Iterable[Any], path: Path, metadata: Mapping[str, str] | None = None) -> int:
    """Write tracks or questions, and a few texts about the file; returns how many records."""
    arrow = require("pyarrow", "kinematics", "to write Parquet files")
    parquet = require("pyarrow.parquet", "kinematics", "to write Parquet files")
    records = iter(records)
    first = next(records, None)
    if first is None:
        empty = arrow.table({"format": arrow.array([], arrow.string())})
        parquet.write_table(empty.replace_schema_metadata(metadata), path)
        return 0
    schema = _schema(arrow, first.to_dict()["format"])
    schema = schema.with_metadata({**schema.metadata, **(metadata or {})})
    count = 0
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        records = itertools.chain([first], records)
        while batch := list(itertools.islice(records, _BATCH)):
            rows = [record.to_dict() for record in batch]
            for row in rows:
                row.update({name: json.dumps(row[name], allow_nan=False) for name in _JSON if name in row})
            writer.write_table(arrow.Table.from_pylist(rows, schema=schema))
            count += len(rows)
    return count


def _schema(arrow: Any, title: str) -> Any:
    """Columns of one kind of record, from its JSON schema."""
    schema = TRACK_SCHEMA if title == TRACK_FORMAT else question_schema()
    simple = {"string": arrow.string(), "number": arrow.float64(), "integer": arrow.int64()}

    def column(inner: Mapping[str, Any]) -> Any:
        if _is_mixed(inner):
            return arrow.string()
        (name,) = _types(inner)
        if name == "array":
            return arrow.list_(column(inner["items"]))
        if name == "object":
            return arrow.struct([(part, column(value)) for part, value in inner["properties"].items()])
        return simple[name]

    columns = [(name, column(inner)) for name, inner in schema["properties"].items()]
    return arrow.schema(columns, metadata={"saccade.format": title})


def _types(schema: Mapping[str, Any]) -> list[str]:
    """Types of a field, without null."""
    names = schema["type"]
    return [name for name in ([names] if isinstance(names, str) else names) if name != "null"]


def _is_mixed(schema: Mapping[str, Any]) -> bool:
    """Whether what a field holds differs from record to record, so that it is written as JSON text."""
    names = _types(schema)
    if names == ["array"]:
        return "items" not in schema or _types(schema["items"]) == ["object"]
    return len(names) > 1 or (names == ["object"] and "properties" not in schema)


_JSON = tuple(
    name
    for schema in (TRACK_SCHEMA, QUESTION_SCHEMA)
    for name, inner in schema["properties"].items()
    if _is_mixed(inner)
)
"""Fields that are JSON text."""
