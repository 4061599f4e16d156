"""Files as everything here reads and writes them: whole or not at all, checked, one writer at a time."""

from saccade.files.atomic import keep_input, replacing, sha256, write_rows, write_text
from saccade.files.cache import cache_dir
from saccade.files.cores import count_threads, logical_cores, usable_cores
from saccade.files.lock import writing
from saccade.files.regular import open_regular
from saccade.files.stored import (
    convert,
    parse_json,
    parse_yaml,
    read_json,
    read_lines,
    read_text,
    read_yaml,
    within,
)

__all__ = [
    "cache_dir",
    "convert",
    "count_threads",
    "keep_input",
    "logical_cores",
    "open_regular",
    "parse_json",
    "parse_yaml",
    "read_json",
    "read_lines",
    "read_text",
    "read_yaml",
    "replacing",
    "sha256",
    "usable_cores",
    "within",
    "write_rows",
    "write_text",
    "writing",
]
