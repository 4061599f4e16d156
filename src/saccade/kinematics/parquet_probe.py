"""Try a Parquet file in a process of its own first: pyarrow ends the whole process on some damaged files.

Run as a script it is that process: one path a line on stdin, one line of JSON back for each.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import subprocess
import sys
import threading
from pathlib import Path

from saccade.errors import DataError
from saccade.extras import require
from saccade.files import parse_json

WHOLE = 32 << 20
"""Files up to so many bytes are decoded whole; of larger ones only what they say of themselves is looked at, and the
checksums of their pages guard the rest."""
_LOCK = threading.Lock()
_CHILD: list[subprocess.Popen[str]] = []


def try_parquet(path: Path) -> None:
    """Let another process open a Parquet file.

    Raises:
        DataError: It cannot be read, or reading it ends the process.
    """
    with _LOCK:
        child = _child()
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(json.dumps(str(path.absolute())) + "\n")
            child.stdin.flush()
            answer = child.stdout.readline()
        except OSError:
            answer = ""
        if not answer:
            _end()
    if not answer:
        raise DataError(f"{path}: cannot be read as Parquet (it is damaged); write the file again")
    reason = parse_json(answer, str, where="the answer about a Parquet file")
    if reason:
        raise DataError(f"{path}: cannot be read as Parquet ({reason}); write the file again")


def _child() -> subprocess.Popen[str]:
    """Return the process, started on first use; it ends with this one, whose death closes its stdin."""
    if not _CHILD or _CHILD[0].poll() is not None:
        _end()
        pipe = subprocess.PIPE
        command = [sys.executable, "-P", "-m", "saccade.kinematics.parquet_probe"]
        _CHILD.append(
            subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
        )
    return _CHILD[0]


@atexit.register
def _end() -> None:
    while _CHILD:
        child = _CHILD.pop()
        child.kill()
        child.wait()
        for stream in (child.stdin, child.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def _reason(path: str) -> str:
    """Say why a file cannot be read; "" where it can."""
    parquet = require("pyarrow.parquet", "kinematics", "to read Parquet files")
    try:
        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            facts = file.metadata
            for number in range(facts.num_row_groups):
                group = facts.row_group(number)
                for column in range(group.num_columns):
                    group.column(column).to_dict()
            if Path(path).stat().st_size <= WHOLE:
                for _ in file.iter_batches(batch_size=256):
                    pass
    except Exception as error:  # whatever pyarrow has to say
        return " ".join(str(error).split())[:100] or type(error).__name__
    return ""


if __name__ == "__main__":
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_reason(json.loads(line))) + "\n")
        sys.stdout.flush()
