"""What a model file was made for, written into the file itself: labels, preprocessing and network as one digest.

A manifest says how to feed a file and what its outputs mean. Whoever edits it can sign it anew; the digest inside the
model file still says that this was not what the file was exported with. It does not guard against somebody who
rewrites the model file too: for that, compare the manifest's own digest with one that came another way.
"""

import hashlib
import json
import re
import zipfile
from pathlib import Path
from typing import BinaryIO

from saccade.errors import WeightsError
from saccade.weights.card import Card

KEY = "saccade_contract"
PLACES = {"onnx": "metadata_props", "openvino": "rt_info", "torch": "extra"}
"""Formats whose files take a note of ours; the others have no place for one."""
_HEX = re.compile(r"[0-9a-f]{64}")
_XML = re.compile(rb'<saccade_contract value="([0-9a-f]{64})"\s*/>')
_ONNX_METADATA, _LENGTH_DELIMITED = 14, 2


def contract(card: Card, form: str, precision: str) -> str:
    """Digest of all that decides what goes in and what the outputs mean.

    Args:
        card: Its origin, licence and metrics do not count.
        form: Format of the file.
        precision: Of the file.
    """
    facts = {
        "model": card.model,
        "options": card.options,
        "num_classes": card.num_classes,
        "in_chans": card.in_chans,
        "task": card.task,
        "labels": card.labels,
        "preprocess": card.preprocess,
        "head": card.head,
        "head_options": card.head_options,
        "format": form,
        "precision": precision,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def write_contract(path: Path, form: str, digest: str) -> None:
    """Add the digest to a model file that was just written."""
    if form == "onnx":
        entry = _field(1, KEY.encode()) + _field(2, digest.encode())
        with path.open("ab") as file:  # repeated fields of a message may stand anywhere in it
            file.write(_field(_ONNX_METADATA, entry))
    elif form == "openvino":
        head, end, tail = path.read_bytes().rpartition(b"</net>")
        head, note = head.rstrip(), f'<{KEY} value="{digest}" />'.encode()
        inner = head.endswith(b"</rt_info>")  # of the whole network; the reader takes one only
        head = (
            head.removesuffix(b"</rt_info>") + note + b"</rt_info>"
            if inner
            else head + b"<rt_info>" + note + b"</rt_info>"
        )
        path.write_bytes(head + b"\n" + end + tail)
    elif form == "torch":
        with zipfile.ZipFile(path, "a", zipfile.ZIP_STORED) as archive:
            root = archive.namelist()[0].partition("/")[0]
            archive.writestr(f"{root}/extra/{KEY}", digest)


def read_contract(path: Path, form: str) -> str | None:
    """Read the digest that a model file carries.

    Returns:
        Hex digits; None in a file without one: of an older Saccade, or of a format that has no place for it.

    Raises:
        WeightsError: A damaged file, or one with several digests.
    """
    try:
        if form == "onnx":
            with path.open("rb") as file:
                found = _onnx_notes(file, path.stat().st_size)
        elif form == "openvino":
            found = [match.decode() for match in _XML.findall(path.read_bytes())]
        elif form == "torch":
            found = _archive_notes(path)
        else:
            return None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise WeightsError(
            f"{path}: not a file of format {form} ({str(error)[:100]}); export it again"
        ) from None
    if len(found) > 1 or any(not _HEX.fullmatch(text) for text in found):
        raise WeightsError(
            f"{path}: holds several or odd notes of what it was exported with; export it again"
        )
    return found[0] if found else None


def _archive_notes(path: Path) -> list[str]:
    """Read the note of a `.pt2` archive."""
    with zipfile.ZipFile(path) as archive:
        members = [info for info in archive.infolist() if info.filename.endswith(f"/extra/{KEY}")]
        if any(info.file_size > 64 for info in members):
            raise ValueError("a note that is no digest")
        return [archive.read(info).decode("ascii", "replace") for info in members]


def _onnx_notes(file: BinaryIO, length: int) -> list[str]:
    """Collect our entries of `metadata_props` from the top level of an ONNX file, passing over all else unread."""
    found = []
    while file.tell() < length:
        tag = _varint(file)
        kind = tag & 7
        if kind == _LENGTH_DELIMITED:
            size = _varint(file)
            if file.tell() + size > length:
                raise ValueError("a part that is cut off")
            if tag >> 3 == _ONNX_METADATA and size < 1 << 10:
                entry = file.read(size)
                prefix = _field(1, KEY.encode())
                if entry.startswith(prefix):
                    found.append(entry.removeprefix(prefix)[2:].decode("ascii", "replace"))
            else:
                file.seek(size, 1)
        elif kind == 0:
            _varint(file)
        elif kind in (1, 5):
            file.seek(8 if kind == 1 else 4, 1)
        else:
            raise ValueError("an unknown kind of part")
    return found


def _varint(file: BinaryIO) -> int:
    """Read one number of variable length."""
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise EOFError("cut off")
        value |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return value
    raise ValueError("a number that does not end")


def _field(number: int, data: bytes) -> bytes:
    """Encode one field of bytes, shorter than 128 each."""
    assert len(data) < 128, data
    return bytes([number << 3 | _LENGTH_DELIMITED, len(data)]) + data
