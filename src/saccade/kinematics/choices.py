"""Read which of two things an answer names, and whether it says same or different."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from saccade.errors import ConfigError

_MORE = (
    r"more|most|farther|farthest|further|furthest|faster|fastest|quicker|quickest|longer|longest|greater|greatest|"
    r"larger|largest|higher|highest|bigger|biggest|exceeds?|outpaces?|outruns?|swifter|swiftest"
)
_LESS = (
    r"less|least|slower|slowest|shorter|shortest|smaller|smallest|lower|lowest|fewer|fewest|"
    r"(?:more|most) slow(?:ly)?|not (?:\w+ ){0,4}?as|n't (?:\w+ ){0,4}?as|"
    rf"(?:not|n't|never|no)(?: \w+){{0,3}}? (?:{_MORE})"
)
_SENSE = re.compile(rf"(?P<less>(?:\b|(?=n't))(?:{_LESS})\b)|(?P<more>\b(?:{_MORE})\b)")
_EQUAL = re.compile(
    r"\b(?:same(?!\s+(?:\w+\s+)?(?:time|period|clip|interval|video|lane|road|direction|way|frames?|scene|window)\b)"
    r"(?!\s+amount\s+of\s+time\b)|equal(?:ly)?|identical(?:ly)?|tied?)\b"
)
_NEGATED = re.compile(r"(?:\bnot|n't|\bnever|\bhardly|\bno longer)(?: \w+){0,4} $")
_DENIED = re.compile(
    r"(?:\bnot|n't|\brather than)\s+(?:(?:the|that|in|of|object|one|thing|car|vehicle|person|box|marked|it)\s+){0,5}$"
)
_COMPARED = re.compile(
    r"\b(?:compared (?:to|with)|than|relative to|unlike|versus|vs\.?|against|as)\s+(?:\w+\s+){0,5}$"
)
_CONCLUDES = re.compile(
    r"\b(?:therefore|thus|hence|answer is|in conclusion)\b|(?:^|[.,;:!]\s*)(?:and )?so\b(?! (?:much|far|fast|that)\b)"
)


def check_options(options: Any) -> dict[str, list[str]]:
    """Return the options as {name: aliases}; names stand for themselves.

    Raises:
        ConfigError: Fewer than two, or aliases that are no texts.
    """
    if isinstance(options, list | tuple):
        options = {name: [name] for name in options if isinstance(name, str)}
    if not isinstance(options, Mapping) or len(options) < 2:
        raise ConfigError(
            f"options is {options!r}; expected at least two, such as {{'red': ['red'], 'blue': ['blue']}}"
        )
    found = {}
    for name, aliases in options.items():
        aliases = [aliases] if isinstance(aliases, str) else aliases
        texts = isinstance(aliases, list | tuple) and all(isinstance(alias, str) for alias in aliases)
        if not texts or not aliases or not all(alias.strip() for alias in aliases):
            raise ConfigError(
                f"options: {name!r} has the aliases {aliases!r}; expected texts that are not empty"
            )
        found[str(name)] = [alias.lower() for alias in aliases]
    return found


def read_choice(text: str, options: Mapping[str, list[str]], asks: str = "more") -> str | None:
    """Read which option is the answer.

    With one option named, that one. With both, the first, unless it is what the other is compared to; then the
    comparison's word is held against the question: "red is slower" answers "which is faster" with the other one.

    Args:
        text: Plain text.
        options: {name: [aliases]}.
        asks: "more" or "less": what the question looks for.

    Returns:
        A name, "tie" where the answer calls them equal, or None.
    """
    marks = list(_CONCLUDES.finditer(text))
    if marks and _mentions(tail := text[marks[-1].end() :], options):
        text = tail
    mentions = _mentions(text, options)
    if any(not _NEGATED.search(text[: match.start()]) for match in _EQUAL.finditer(text)):
        return "tie"
    denied = {name for name, start in mentions if _DENIED.search(text[:start])}
    stated = [(name, start) for name, start in mentions if name not in denied] or mentions
    if not mentions:
        return None
    names = {name for name, _ in mentions}
    if len(names) == 1:
        name = mentions[0][0]
        others = [other for other in options if other != name]
        return others[0] if name in denied and len(options) == 2 else name
    subject, at = stated[0]
    if len({name for name, _ in stated}) > 1:
        for name, start in stated:
            if not _COMPARED.search(_since(text, start)):
                subject, at = name, start
                break
    if denied and subject not in denied:
        # "Blue, not red": the denial has already said which.
        return subject
    sense = _sense_of(text, at)
    if sense and (sense.lastgroup == "less") != (asks == "less"):
        others = [name for name, _ in mentions if name != subject]
        return others[0]
    return subject


def _sense_of(text: str, at: int) -> re.Match[str] | None:
    """Find the comparing word that belongs to a place: in its clause, after it or before it, or else anywhere."""
    senses = list(_SENSE.finditer(text))
    ends = [match.start() for match in re.finditer(r"[.,;:!?](?!\d)", text)]
    first = max((end for end in ends if end < at), default=-1)
    last = min((end for end in ends if end > at), default=len(text))
    after = [sense for sense in senses if sense.start() > at]
    near = [sense for sense in after if sense.start() < last]
    before = [sense for sense in senses if first < sense.start() < at]
    return next(iter(near or before[-1:] or after or senses), None)


def read_relation(text: str, polarity: str = "same") -> tuple[str, bool] | None:
    """Read same or different.

    An explicit word beats yes or no; those are read with the question's polarity.

    Args:
        text: Plain text.
        polarity: "same" for "do they head the same way?", "different" for "do they head different ways?".

    Returns:
        same or different, and whether only a yes or no said it; None where nothing does.
    """
    found = []
    for match in re.finditer(
        r"\b(?P<same>same|identical(?:ly)?|similar(?:ly)?|alike|parallel|no difference|aligned)\b|"
        r"\b(?P<different>different(?:ly)?|opposite|opposing|differs?|diverg\w+|dissimilar|unlike|distinct)\b",
        text,
    ):
        word = "same" if match["same"] else "different"
        if _NEGATED.search(text[: match.start()]) or re.search(
            r"\bnot $|\bneither .{0,30}$", text[: match.start()]
        ):
            word = "different" if word == "same" else "same"
        headed = re.match(r"\s+(?:\w+\s+)?(?:direction|way|heading|course|route)", text[match.end() :])
        found.append((not headed, match.start(), word))
    if found:
        return min(found)[2], False
    match = re.search(
        r"(?:^|[.,;:!?]\s*)\W*(yes|yeah|yep|correct|true|no|nope|false|incorrect)\b(?! (?:way|idea|information))",
        text,
    )
    if not match:
        return None
    agrees = match[1] in ("yes", "yeah", "yep", "correct", "true")
    other = "different" if polarity == "same" else "same"
    return (polarity if agrees else other), True


def _mentions(text: str, options: Mapping[str, list[str]]) -> list[tuple[str, int]]:
    """Where options are named, in order, by whole words; longer aliases before shorter ones."""
    names = {alias: name for name, aliases in options.items() for alias in aliases}
    pattern = "|".join(re.escape(alias) for alias in sorted(names, key=len, reverse=True))
    return [(names[match[0]], match.start()) for match in re.finditer(rf"(?<!\w)(?:{pattern})(?!\w)", text)]


def _since(text: str, stop: int) -> str:
    """Return the clause before a place."""
    return re.split(r"[.,;:!?]\s*", text[:stop])[-1]
