"""Files as everything here reads and writes them: whole or not at all, checked, one writer at a time."""

from saccade.files.atomic import replacing, sha256, write_text
from saccade.files.cache import cache_dir
from saccade.files.lock import writing
from saccade.files.stored import convert, parse_json, parse_yaml, read_json, read_yaml

__all__ = [
    "cache_dir",
    "convert",
    "parse_json",
    "parse_yaml",
    "read_json",
    "read_yaml",
    "replacing",
    "sha256",
    "write_text",
    "writing",
]
