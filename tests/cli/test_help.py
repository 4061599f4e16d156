"""What `--help` shows is frozen in visible_flags.txt; every command documents itself with a runnable example.

To change it on purpose: SACCADE_UPDATE_FLAGS=1 python -m pytest tests/cli/test_help.py, and look at the difference.
"""

import inspect
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import cyclopts
import pytest

from saccade.cli.main import COMMANDS, build_app, main

FROZEN = Path(__file__).parent / "visible_flags.txt"
MOST = 12


def commands() -> Iterator[tuple[str, cyclopts.App]]:
    """Yield every command that runs something, "weights verify" like "train"."""
    for name in COMMANDS:
        command = build_app(name)[name]
        if command.default_command is not None:
            yield name, command
        for sub in command:
            if not sub.startswith("-") and command[sub] is not command:
                yield f"{name} {sub}", command[sub]


def visible_flags(command: cyclopts.App) -> list[str]:
    """Return the flags and positional names that a command's help shows, in order."""
    return [argument.names[0] for argument in command.assemble_argument_collection() if argument.show]


def test_visible_flags_are_frozen_and_few():
    found = {name: visible_flags(command) for name, command in commands()}
    for name, flags in found.items():
        assert len(flags) <= MOST, (
            f"{name} shows {len(flags)} flags; at most {MOST}, the rest belongs to the recipe"
        )
    text = "".join(f"{name}: {' '.join(flags)}\n" for name, flags in sorted(found.items()))
    if os.environ.get("SACCADE_UPDATE_FLAGS"):
        FROZEN.write_text(text, encoding="utf-8")
    assert text == FROZEN.read_text(encoding="utf-8"), (
        "the visible flags changed; see this file's first lines"
    )


def test_every_command_has_one_sentence_and_an_example_that_parses():
    for name, command in commands():
        text = inspect.getdoc(command.default_command) or ""
        first = text.splitlines()[0]
        assert first.endswith("."), f"{name}: {first!r}"
        examples = re.findall(r"^\s*Example: saccade (.+)$", text, flags=re.MULTILINE)
        assert len(examples) == 1, f"{name}: {len(examples)} examples"
        assert examples[0].startswith(name), f"{name}: the example is for {examples[0]!r}"
        build_app().parse_args(shlex.split(examples[0]), exit_on_error=False, print_error=False)


def test_every_flag_is_documented():
    for name, command in commands():
        for argument in command.assemble_argument_collection(parse_docstring=True):
            if argument.show:
                assert argument.parameter.help, f"{name} {argument.names[0]}"


@pytest.mark.parametrize(
    ("tokens", "sentence"),
    [
        (["trian"], "train"),
        (["models", "show"], "NAME"),
        (["weights", "verify", "x", "--modle", "y"], "--model"),
        (["doctor", "--jsn"], "--json"),
    ],
)
def test_a_slip_is_one_sentence_and_exit_code_2(tokens, sentence, capsys):
    assert main(tokens) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("saccade: ")
    assert err.count("\n") == 1
    assert sentence in err


def test_the_overview_has_a_sentence_for_each_command(capsys):
    assert main(["--help"]) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for name, (_, line) in COMMANDS.items():
        assert f"{name} {line}" in text
        assert line.endswith(".")


def test_help_of_a_command_shows_its_example(capsys):
    assert main(["doctor", "--help"]) == 0
    assert "Example: saccade doctor" in capsys.readouterr().out
