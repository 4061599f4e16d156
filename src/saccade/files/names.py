"""Names of files in results: valid UTF-8 whatever the bytes are, and the way back.

Bytes that are not UTF-8 come from the system as lone surrogates (Python's `surrogateescape`). JSON writes them as
escapes (backslash, udcXX), which its readers give back by themselves. Tables, which have no escapes, write the bytes
as %XX, and in such a name or any other a percent sign before two hexadecimal digits as %25; all else stays as it is.
"""

from __future__ import annotations

import json
import re
from typing import Any

_SURROGATE = re.compile("[\ud800-\udfff]")
_BYTE = re.compile("[\udc80-\udcff]")
_AMBIGUOUS = re.compile("%(?=[0-9A-Fa-f]{2})")
_WRITTEN = re.compile(b"%([0-9A-Fa-f]{2})")


def json_text(value: Any) -> str:
    """Write a value as JSON in one line, readable but for what is no text."""
    return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))


def to_cell(value: Any) -> Any:
    """Write a name for a table; what is no text stays as it is."""
    if not isinstance(value, str):
        return value
    marked = _BYTE.sub(lambda found: f"%{ord(found[0]) - 0xDC00:02X}", _AMBIGUOUS.sub("%25", value))
    return _SURROGATE.sub("\ufffd", marked)  # no file name holds one


def from_cell(text: str) -> str:
    """Return the name that `to_cell` wrote, as `open` and `Path` take it."""
    whole = _WRITTEN.sub(lambda found: bytes([int(found[1], 16)]), text.encode())
    return whole.decode("utf-8", "surrogateescape")
