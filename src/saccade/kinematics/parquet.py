"""Records as Parquet: numbers as nested lists, mixed values as JSON text."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from saccade.errors import DataError, SaccadeError
from saccade.extras import require
from saccade.files import open_regular, parse_json
from saccade.kinematics.parquet_probe import try_parquet
from saccade.kinematics.schema import QUESTION_SCHEMA, TRACK_FORMAT, TRACK_SCHEMA, question_schema

_MAX_COLUMNS = 4096
_MAX_GROUPS = 100_000
_MAX_GROUP = 2 << 30
"""Bytes of a group of rows when unpacked."""
_MAX_TEXT = 64 << 20

_BATCH = 256
"""Records of a row group; a track of a long clip takes some 100 kB."""


def read_parquet(path: Path) -> Iterator[dict[str, Any]]:
    """Yield plain records.

    Raises:
        DataError: Not a Parquet file, or a JSON field that is none.
        MissingExtraError: pyarrow is not installed.
    """
    with opened_parquet(path) as file:
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
                        record[name] = parse_json(record[name], where=f"{path}: field {name}")
                yield record


@contextlib.contextmanager
def opened_parquet(path: Path) -> Iterator[Any]:
    """Open a Parquet file (`pyarrow.parquet.ParquetFile`) whose own numbers are within bounds.

    Raises:
        DataError: Not a Parquet file, damaged (also where that shows only while it is open), or with columns or
            groups of rows beyond anything of ours.
        MissingExtraError: pyarrow is not installed.
    """
    parquet = require("pyarrow.parquet", "kinematics", "to read Parquet files")
    with opened_arrow(path, "Parquet"):
        with open_regular(path):
            pass
        try_parquet(path)
        with parquet.ParquetFile(
            path,
            page_checksum_verification=True,
            thrift_string_size_limit=_MAX_TEXT,
            thrift_container_size_limit=_MAX_COLUMNS * 64,
        ) as file:
            facts = file.metadata
            if facts.num_columns > _MAX_COLUMNS or facts.num_row_groups > _MAX_GROUPS:
                raise DataError(
                    f"{path}: {facts.num_columns} columns and {facts.num_row_groups} groups of rows; expected at "
                    f"most {_MAX_COLUMNS} and {_MAX_GROUPS}"
                )
            for number in range(facts.num_row_groups):
                group = facts.row_group(number)
                values = max((group.column(at).num_values for at in range(group.num_columns)), default=0)
                if not (0 <= group.total_byte_size <= _MAX_GROUP and values <= _MAX_GROUP // 8):
                    raise DataError(
                        f"{path}: group {number} of rows says it takes {group.total_byte_size} bytes and {values} "
                        f"values; expected at most {_MAX_GROUP} bytes, so write smaller groups"
                    )
            yield file


@contextlib.contextmanager
def opened_arrow(path: Path, form: str) -> Iterator[None]:
    """Turn what pyarrow raises on damaged files into one sentence.

    Raises:
        DataError: In its place.
    """
    arrow = require("pyarrow", "kinematics", f"to read {form} files")
    try:
        yield
    except SaccadeError:
        raise
    except (arrow.ArrowException, OSError, ValueError, TypeError, LookupError, MemoryError) as error:
        reason = " ".join(str(error).split())[:100]
        raise DataError(f"{path}: cannot be read as {form} ({reason}); write the file again") from None


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
    with parquet.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True) as writer:
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
