"""Names of strangers on a terminal, in one line, in Markdown and in pages: shown, never obeyed."""

import json
import os
import re

import numpy as np
import pytest
from PIL import Image

from saccade import create_model, save_weights
from saccade.cli import show
from saccade.cli.main import main
from saccade.shown import code, escape, escape_json, html, markdown, one_line
from saccade.weights import Card

NASTY = "\x1b[2J\x1b]0;x\x07c\x9bat\u202e\x7f"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2028]")


def test_escape_shows_what_a_terminal_obeys():
    assert escape("a\x1b[31m\r\n\tb") == "a\\x1b[31m\\r\\n\\tb"
    assert escape("\u202ecat\x9b\u2028") == "\\u202ecat\\x9b\\u2028"
    assert escape(b"caf\xe9.jpg".decode("utf-8", "surrogateescape")) == "caf\\xe9.jpg"
    assert escape("Käse 猫 \n\t", lines=True) == "Käse 猫 \n\t"
    assert one_line("first\n  second\x1b\nthird") == "first second\\x1b third"


def test_json_says_the_same():
    values = {"name": NASTY, "other": "Käse\n"}
    text = escape_json(json.dumps(values, ensure_ascii=False))
    assert json.loads(text) == values
    assert not OBEYED.search(text)


@pytest.mark.parametrize("terminal", [True, False])
def test_every_way_to_the_terminal_escapes(terminal, capsys, monkeypatch):
    if terminal:
        monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    show.note(NASTY)
    show.text(NASTY)
    show.result({NASTY: NASTY}, as_json=False)
    show.result({NASTY: NASTY}, as_json=True)
    show.rows([{NASTY: NASTY, "b": "[red]x[/red]\nz"}], as_json=False, title=NASTY)
    show.rows([{NASTY: NASTY}], as_json=True)
    found = capsys.readouterr()
    styled = re.sub(r"\x1b\[[0-9;]*m", "", found.out)  # the table's own bold and plain
    assert not OBEYED.search(styled + found.err)
    assert "[red]x[/red]\\nz" in styled


@pytest.mark.parametrize(
    "text",
    [
        "a|b",
        "[x](http://e.org)",
        "<img src=x onerror=1>",
        "`x`",
        "# x",
        "http://e.org",
        "a\n\n# b",
        "*x*",
        "_x_",
    ],
)
def test_markdown_shows_and_does_not_obey(text):
    shown = markdown(text)
    assert "\n" not in shown
    for mark in "|[]<>`*":
        assert not re.search(r"(?<!\\)" + re.escape(mark), shown)
    assert not re.search(r"(?<!\\)://|^#|^_", shown)
    assert shown.replace("\\", "") == escape(text).replace("\\", "")
    assert markdown("shvit_s1 on cats and dogs, 3.5") == "shvit_s1 on cats and dogs, 3.5"


def test_code_and_html_hold_what_they_are_given():
    assert code("plain") == "`plain`"
    assert code("a`b``c\n") == "``` a`b``c\\n ```"
    assert html('<b "x">\u202e') == "&lt;b &quot;x&quot;&gt;\\u202e"


@pytest.fixture
def pictures(tmp_path):
    """Two classes, one with a name that is markup in three languages, and a picture with a name that is no text."""
    label = "\x1b[2J|[cat](http:x)<b>"
    for folder in (label, "dog"):
        home = tmp_path / "photos" / folder
        home.mkdir(parents=True)
        for number in range(3):
            Image.fromarray(np.full((40, 40, 3), 50 * number, np.uint8)).save(home / f"{number}.png")
    (tmp_path / "photos" / "dog" / os.fsdecode(b"\xe9\x1b[31m.png")).write_bytes(b"no picture")
    return tmp_path / "photos", label


def test_eval_and_its_pages(pictures, tmp_path, capsys):
    photos, label = pictures
    model = create_model("shvit_s1", num_classes=2)
    file = tmp_path / "w.safetensors"
    save_weights(model, file, Card("shvit_s1", num_classes=2, labels=[label, "dog"]))
    out = tmp_path / "page; touch x.html"
    assert (
        main(["eval", "--weights", str(file), "--data", str(photos), "--out", str(out), "--size", "64"]) == 0
    )
    found = capsys.readouterr()
    assert not OBEYED.search(found.out + found.err)
    assert "\\xe9\\x1b[31m.png" in found.err
    summary, page = out.with_suffix(".md").read_text(), out.read_text()
    assert not OBEYED.search(summary + page)
    assert "[cat]" not in summary.replace("\\[", "")
    assert "<b>" not in summary.replace("\\<b\\>", "")
    assert "[cat](http:x)<b>" not in page
    assert "[cat](http:x)&lt;b&gt;" in page


def test_data_check(pictures, capsys):
    main(["data", "check", str(pictures[0])])
    found = capsys.readouterr()
    assert not OBEYED.search(found.out + found.err)
    assert "\\xe9\\x1b[31m.png" in found.out


def test_an_error_is_one_line(capsys):
    assert main(["eval", "--weights", "no\n\x1b[31mthing"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "\x1b" not in error


def test_a_sentence_of_any_length_is_bounded():
    assert one_line("a  b\nc") == "a b c"
    line = one_line("begin " + "x" * 10_000 + " end")
    assert len(line) < 2100
    assert line.startswith("begin ")
    assert line.endswith(" end")
