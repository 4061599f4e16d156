"""Write files and folders so that a reader sees all of them or none, whenever the power goes."""

import contextlib
import csv
import hashlib
import io
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from saccade.errors import ConfigError
from saccade.files.names import to_cell


@contextlib.contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success flush it to disk and rename it over `path`.

    The temporary may be written as a file or made as a folder. A folder at `path` is replaced by a new folder only:
    it is removed just before the rename, so the guarantee there is "old, none or new", never a mixture. A file never
    takes the place of a folder, whose contents would go with it.
    When the block raises (a full disk, an interrupt) the temporary is removed and `path` is untouched.

    Args:
        path: Where the result shall be; its folder is made when absent.

    Yields:
        A path in the same folder that does not exist yet, with the same suffix as `path`.

    Raises:
        ConfigError: The folder around `path` cannot be made or written to, or a file is to replace a folder.
    """
    path = Path(path)
    if not path.name:
        raise ConfigError(f"{path}: is a folder; give the name of a file in it")
    # The name is chosen before the folder is made, so that a signal between the two leaves nothing behind.
    folder = path.parent / f".{path.stem}-{secrets.token_hex(4)}"
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(0o700)
        except OSError as error:
            raise ConfigError(
                f"{path}: cannot be written there ({error.strerror}); choose another folder"
            ) from None
        temporary = folder / path.name
        yield temporary
        if temporary.is_file():
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        if path.is_dir():
            if not temporary.is_dir():
                raise ConfigError(f"{path}: is a folder; give the name of a file in it, or another name")
            shutil.rmtree(path)
        temporary.replace(path)
    finally:
        try:
            _remove(folder)
        except BaseException:  # a signal in the middle of it
            _remove(folder)
            raise


def _remove(folder: Path) -> None:
    """Remove a folder, most often the empty one after a rename."""
    try:
        folder.rmdir()
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)


def write_text(path: Path | str, text: str) -> None:
    """Write a text file atomically, as UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_rows(path: Path | str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> None:
    """Write rows as a CSV file, or nothing of it; text as `saccade.files.names.to_cell` has it.

    Args:
        path: The file.
        rows: All with the same columns.
        columns: Of a table without rows.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: to_cell(value) for name, value in row.items()} for row in rows)
    write_text(path, text.getvalue())


def sha256(path: Path | str) -> str:
    """Hex digest of a file, read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def keep_input(source: Path, out: Path) -> None:
    """Refuse to write a result over what it is made of.

    Raises:
        ConfigError: The two are one file.
    """
    if source.exists() and out.exists() and source.samefile(out):
        raise ConfigError(f"--out {out}: is the file to read; choose another name")
