"""Whose word counts: what a file says is data; what is run or fetched is the word of whoever makes this call.

A place read from a file (a run folder's recipe, a recipe file, a card) is a `Stored` text. Commands in it are always
refused, addresses need the caller's word, and paths that lie elsewhere are named before they are read.
"""

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from saccade.errors import ConfigError
from saccade.shown import escape

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(//)?")


@dataclass(frozen=True)
class Word:
    """What the caller allows."""

    pipe: bool = False
    """Places that are commands (`pipe:...`) may be run, when the caller named them in this call."""
    address: bool = False
    """Addresses and hub ids that stand in a file may be fetched."""
    code: bool = False
    """Code that comes with a model of transformers may be run."""
    named: set[str] = field(default_factory=set, compare=False)
    """Sentences that the user was told."""


_WORD: ContextVar[Word] = ContextVar("word")
_NOBODY = Word()


def given() -> Word:
    """Return what the caller of this call allowed; nothing when nobody said."""
    return _WORD.get(_NOBODY)


@contextlib.contextmanager
def trusting(*, pipe: bool = False, address: bool = False, code: bool = False) -> Iterator[None]:
    """Give one's word for what happens inside, on top of what is given already.

    Args:
        pipe: Run commands that this call names as data.
        address: Fetch addresses and hub ids that stand in stored files.
        code: Run code that comes with a model of transformers.
    """
    now = given()
    word = Word(pipe or now.pipe, address or now.address, code or now.code, set(now.named))
    token = _WORD.set(word)
    try:
        yield
    finally:
        _WORD.reset(token)


class Stored(str):
    """A place that a file names. Pickling and copying keep what it is; every text made of it is plain again.

    Attributes:
        where: The file.
        setting: What the place is called there.
        flag: How the user types it instead.
        way: What to do about it in place of typing it, where that would not help.
    """

    where: str
    setting: str
    flag: str
    way: str

    def __new__(
        cls, value: str, where: str | Path = "", setting: str = "", flag: str = "", way: str = ""
    ) -> "Stored":
        """Mark a text."""
        self = super().__new__(cls, value)
        self.where, self.setting, self.flag, self.way = str(where), setting, flag or f"--{setting}", way
        return self


def scheme_of(place: str) -> str:
    """Return "pipe" for a command, the scheme of an address (scheme://...), "" for a path on this machine.

    Read as generously as the libraries that open addresses do, which skip spaces and control characters.
    """
    found = _SCHEME.match(re.sub(r"[\x00-\x1f\x7f]", "", place).lstrip())
    if found is None:
        return ""
    scheme = found[1].lower()
    if scheme == "pipe":
        return scheme
    return scheme if found[2] and scheme != "file" else ""


def may_fetch(source: object) -> bool:
    """Whether a hub id may be fetched: it was typed, or the caller gave the word for stored ones."""
    return not isinstance(source, Stored) or given().address


def check_place(place: str, origin: str | None = None) -> None:
    """Refuse a command or an address that nobody gave the word for, and name a stored path that lies elsewhere.

    Args:
        place: A path, an address or a command; one of several that `origin` stands for.
        origin: The text that named it, `Stored` when a file did; None: `place` itself.

    Raises:
        ConfigError: A command of a file, or one without --allow-pipe; an address of a file without --allow-address.
    """
    origin = place if origin is None else origin
    scheme = scheme_of(place)
    if isinstance(origin, Stored):
        where = f"{origin.where}: {origin.setting} is {str(origin)!r}"
        if scheme == "pipe":
            raise ConfigError(
                f"{where}, a command, and commands are never run from a file; "
                + (
                    origin.way
                    or f"if you mean it, type it yourself as {origin.flag} together with --allow-pipe"
                )
            )
        if scheme and not given().address:
            raise ConfigError(
                f"{where}, an address, and addresses in files are not fetched without your word; "
                + (origin.way or f"type it yourself as {origin.flag}, or add --allow-address")
            )
        _name(origin, place)
    elif scheme == "pipe" and not given().pipe:
        raise ConfigError(
            f"{str(origin)!r} runs a command; add --allow-pipe (in Python allow_pipe=True) to let it"
        )


def _name(origin: Stored, place: str) -> None:
    """Say on stderr, once a command, which path outside its own folder a file sends us to."""
    path, home = Path(place.removeprefix("file://")).expanduser(), Path(origin.where)
    home = home if home.is_dir() else home.parent
    line = f"{origin.where} names {origin.setting} {str(origin)!r}, outside its own folder; it is read from there"
    if not scheme_of(place):
        try:
            if not path.exists() or path.resolve().is_relative_to(home.resolve()):
                return
        except (OSError, ValueError, RuntimeError):  # a name that no file can have, or a loop of links
            return
    say_once(line)


def say_once(line: str) -> None:
    """Say on stderr, once a command and by the first process, what was chosen for the user."""
    if line not in given().named and os.environ.get("RANK", "0") == "0":
        given().named.add(line)
        sys.stderr.write(escape(line) + "\n")
        sys.stderr.flush()
