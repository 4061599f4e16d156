"""Print results on stdout and everything else on stderr: a table, plain lines, or one JSON object."""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
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
from rich.text import Text

from saccade.shown import escape, escape_json


def note(text: str) -> None:
    """Say something about the work (not a result) on stderr."""
    print(escape(text), file=sys.stderr, flush=True)


def text(words: str) -> None:
    """Print a result that is words, with its line feeds."""
    _say(escape(words, lines=True))


def result(value: Mapping[str, Any], *, as_json: bool) -> None:
    """Print one result: a JSON object, or `name: value` lines."""
    if as_json:
        _say(_json(value))
        return
    for name, item in value.items():
        _say(f"{escape(name)}: {_plain(item)}")


def rows(values: Sequence[Mapping[str, Any]], *, as_json: bool, title: str = "") -> None:
    """Print rows with the same keys: a table on a terminal, tab-separated lines elsewhere.

    With `as_json` they become one object {"rows": [...]}.
    """
    if as_json:
        _say(_json({"rows": list(values)}))
        return
    if not values:
        return
    names = list(values[0])
    if not sys.stdout.isatty():
        _say("\t".join(escape(name) for name in names))
        for row in values:
            _say("\t".join(_plain(row.get(name)) for name in names))
        return
    table = Table(title=Text(escape(title)) if title else None, header_style="bold", box=None)
    for name in names:
        numeric = all(isinstance(row.get(name), int | float) for row in values)
        table.add_column(Text(escape(name)), justify="right" if numeric else "left")
    for row in values:
        table.add_row(*[Text(_plain(row.get(name))) for name in names])  # Text: no [markup] in names
    Console().print(table)


def progress() -> Progress:
    """Make the one progress bar we use: what, how far, rate, elapsed, left; on stderr, only on a terminal."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[info]}", markup=False),
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
    """Write a value for people: floats with five significant digits, and nothing that a terminal obeys."""
    if isinstance(value, float):
        return f"{value:.5g}"
    return "" if value is None else escape(value)


def _json(value: Any) -> str:
    """Write one JSON object in one line."""
    return escape_json(json.dumps(value, ensure_ascii=False, default=str))


def rate_of(bar: Any, task: Any, unit: str) -> Callable[[int, int], None]:
    """Return what moves a bar along and says how many there are a second.

    Args:
        bar: Of `progress`.
        task: Of the bar.
        unit: What is counted.
    """
    began = time.monotonic()

    def update(done: int, total: int) -> None:
        rate = done / max(time.monotonic() - began, 1e-6)
        bar.update(task, completed=done, total=total, info=f"{rate:.3g} {unit}/s")

    return update
