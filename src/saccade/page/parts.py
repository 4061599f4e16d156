"""Pieces of a page: the document around it, tables and tiles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from saccade.page.style import CSS
from saccade.shown import html

NAMES = {
    "images_per_s": "images/s",
    "images/s": "images/s",
    "latency_ms": "latency (ms)",
    "top1": "top-1",
    "top5": "top-5",
}
"""Columns that pages call something else."""


class Markup(str):
    """Text that is HTML already."""


def document(title: str, sections: Sequence[str], footer: str) -> str:
    """Join sections into a page that stands alone.

    Args:
        title: Of the window, plain text.
        sections: HTML; empty ones are left out.
        footer: The last line, HTML.
    """
    body = "\n".join(section for section in sections if section)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{CSS}</style></head><body><main>\n{body}\n<footer>{footer} This page needs no network.</footer>"
        "</main></body></html>\n"
    )


def readable(name: str) -> str:
    """Write the name of a column or setting as people say it."""
    return NAMES.get(name, name.replace("_", " ").replace("/", " "))


def plain(value: Any) -> str:
    """Write a value as people read it, as plain text."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {plain(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(plain(item) for item in value)
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"
    return "" if value is None else str(value)


def table(
    rows: Sequence[Mapping[str, Any]],
    text: Sequence[str] = (),
    *,
    kind: str = "",
    show: Callable[[Any], str] = plain,
) -> str:
    """Write rows as an HTML table over the union of their columns.

    Args:
        rows: Values by column; `Markup` is taken as it is, everything else escaped.
        text: Columns of sentences, which wrap.
        kind: A class of the style sheet.
        show: Turns a value into plain text.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))

    def cell(tag: str, name: str, value: str) -> str:
        wrap = ' class="text"' if name in text else ""
        return f"<{tag}{wrap}>{value}</{tag}>"

    def shown(value: Any) -> str:
        return value if isinstance(value, Markup) else html(show(value))

    head = "".join(cell("th", name, html(readable(name))) for name in names)
    body = "".join(
        "<tr>" + "".join(cell("td", name, shown(row.get(name, ""))) for name in names) + "</tr>"
        for row in rows
    )
    css = f' class="{kind}"' if kind else ""
    return f'<div class="scroll"><table{css}><tr>{head}</tr>{body}</table></div>'


def tiles(values: Mapping[str, Any], show: Callable[[Any], str] = plain) -> str:
    """Write a few large numbers."""
    found = (
        f'<dl class="tile"><dt>{html(name)}</dt><dd>{html(show(value))}</dd></dl>'
        for name, value in values.items()
    )
    return f'<div class="tiles fit">{"".join(found)}</div>'
