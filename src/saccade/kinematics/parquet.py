"""Records as Parquet: numbers as nested lists, mixed values as JSON text."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from saccade.errors import DataError
from saccade.extras import require

_JSON = ("value", "options", "objects", "scale_info")
"""Fields whose kind differs from record to record."""
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


def _schema(arrow: Any, kind: str) -> Any:
    """Columns of one kind of record."""
    text, number, whole = arrow.string(), arrow.float64(), arrow.int64()
    numbers = arrow.list_(number)
    table, tensor = arrow.list_(numbers), arrow.list_(arrow.list_(numbers))
    if kind.startswith("saccade-track"):
        camera = arrow.struct(
            [("K", table), ("width", whole), ("height", whole), ("name", text), ("distortion", numbers)]
        )
        columns = {
            "format": text, "clip_id": text, "group": text, "source": text, "split": text, "track_id": text,
            "category": text, "timestamps_s": numbers, "xyz_world": table, "size_lwh": numbers, "yaw": numbers,
            "boxes_2d": table, "camera": camera, "T_world_cam": tensor, "up": numbers, "label_origin": text,
            "scale_info": text, "image_paths": arrow.list_(text), "image_times_s": numbers, "visibility": numbers,
            "num_points": numbers,
        }  # fmt: skip
    else:
        columns = {
            "format": text, "id": text, "clip_id": text, "group": text, "task": text, "question": text,
            "answer": text, "value": text, "unit": text, "objects": text, "window_s": numbers, "options": text,
            "polarity": text, "clock": whole, "template_id": text, "source": text, "split": text,
            "config_hash": text, "duration_s": number, "frame_times_s": numbers, "camera_name": text,
        }  # fmt: skip
    return arrow.schema(list(columns.items()), metadata={"saccade.format": kind})
