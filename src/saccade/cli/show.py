"""Print results on stdout and everything else on stderr: a table, plain lines, or one JSON object."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table


def note(text: str) -> None:
    """Say something about the work (not a result) on stderr."""
    print(text, file=sys.stderr, flush=True)


def text(words: str) -> None:
    """Print a result that is words."""
    _say(words)


def result(value: Mapping[str, Any], *, as_json: bool) -> None:
    """Print one result: a JSON object, or `name: value` lines."""
    if as_json:
        _say(json.dumps(value, ensure_ascii=False, default=str))
        return
    for name, item in value.items():
        _say(f"{name}: {_plain(item)}")


def rows(values: Sequence[Mapping[str, Any]], *, as_json: bool, title: str = "") -> None:
    """Print rows with the same keys: a table on a terminal, tab-separated lines elsewhere.

    With `as_json` they become one object {"rows": [...]}.
    """
    if as_json:
        _say(json.dumps({"rows": list(values)}, ensure_ascii=False, default=str))
        return
    if not values:
        return
    names = list(values[0])
    if not sys.stdout.isatty():
        _say("\t".join(names))
        for row in values:
            _say("\t".join(_plain(row.get(name)) for name in names))
        return
    table = Table(title=title or None, header_style="bold", box=None)
    for name in names:
        numeric = all(isinstance(row.get(name), int | float) for row in values)
        table.add_column(name, justify="right" if numeric else "left")
    for row in values:
        table.add_row(*[_plain(row.get(name)) for name in names])
    Console().print(table)


def progress() -> Progress:
    """Make the one progress bar we use: what, how far, rate, elapsed, left; on stderr, only on a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[info]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )


def _say(text: str) -> None:
    """Print on stdout, with escapes for what its encoding lacks: names from files may hold halves of characters."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))


def _plain(value: Any) -> str:
    """Write a value for people: floats with five significant digits."""
    if isinstance(value, float):
        return f"{value:.5g}"
    return "" if value is None else str(value)
