"""Text of strangers as it is shown: on a terminal, in one line, in Markdown.

File names, class names and sentences of libraries can hold what moves the cursor, colours the screen, or begins a
line of its own; shown here, they cannot.
"""

import re
from html import escape as _html_escape

# Control characters (C0, DEL, C1), what changes the direction of text, line separators, and what stands for bytes
# that are no text. Line feeds and tabs are treated apart.
_UNSAFE = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff"
)
_INLINE = re.compile(f"[{_UNSAFE}\n\t]")
_LINES = re.compile(f"[{_UNSAFE}]")
_MARKDOWN = re.compile(
    r"[\\`*\[\]<>|~&]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|:(?=//)|(?<=[Ww][Ww][Ww])\.|@|^(?=[#+=-])|^\s+"
)


def escape(text: object, *, lines: bool = False) -> str:
    r"""Write what a terminal would obey, or could not print, as \x1b, \u202e and so on.

    Args:
        text: Anything; `str` is taken of it.
        lines: Leave line feeds and tabs as they are: of text that is meant to have several lines.
    """
    return (_LINES if lines else _INLINE).sub(lambda found: _code(found[0]), str(text))


def _code(character: str) -> str:
    place = ord(character)
    if 0xDC80 <= place <= 0xDCFF:  # a byte of a file name that is no text
        return f"\\x{place - 0xDC00:02x}"
    if character in "\n\r\t":
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}[character]
    return f"\\x{place:02x}" if place < 0x100 else f"\\u{place:04x}"


def escape_json(text: str) -> str:
    r"""Escape in a JSON text what JSON leaves as it is and a terminal obeys; it still says the same."""
    return _LINES.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def one_line(text: object, longest: int = 2000) -> str:
    """Write the sentences of a library, which may have several lines, in one; what is longer loses its middle."""
    line = escape(" ".join(str(text).split()))
    return line if len(line) <= longest else f"{line[: longest * 3 // 4]} ... {line[-longest // 4 :]}"


def html(text: object) -> str:
    """Write text so that a page shows it as it is, inside an element or a quoted attribute."""
    return _html_escape(escape(text))


def markdown(text: object) -> str:
    """Write text so that Markdown shows it as it is: no table cell, link, heading or HTML comes of it."""
    return _MARKDOWN.sub(
        lambda found: f"\\{found[0]}" if found[0].strip() or not found[0] else "", escape(text)
    )


def code(text: object) -> str:
    """Write text as inline code of Markdown, whatever it holds."""
    shown = escape(text)
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    pad = " " if "`" in shown else ""
    return f"{ticks}{pad}{shown}{pad}{ticks}"
